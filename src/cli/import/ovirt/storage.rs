//! Imports storage. The engine has connections, one for each portal; Multibond has targets with their portals.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    engine::{OvirtBond, OvirtEngine, StorageConnection},
    names::UniqueNames,
};
use crate::api::{Chap, PortalSpec, SecretReference, Storage, Target};

/// The storage of a data center.
#[derive(Debug)]
pub struct ImportedStorage {
    pub list: Vec<Storage>,
    /// The ids of the connections of each target.
    pub targets: BTreeMap<String, BTreeSet<String>>,
}

/// Connections by the name of their storage domain; without one, a storage is named after its target.
type ByStorage<'a> = BTreeMap<Option<&'a str>, Vec<&'a StorageConnection>>;

/// The storage of a data center, and remarks on what cannot be imported.
pub fn import(
    engine: &OvirtEngine,
    data_center: &str,
    bonds: &[&OvirtBond],
    namespace: &str,
) -> (ImportedStorage, Vec<String>) {
    let mut remarks = Vec::new();
    let (mut list, mut targets) = (Vec::new(), BTreeMap::<String, BTreeSet<String>>::new());
    let (mut names, mut seen) = (UniqueNames::default(), BTreeSet::new());
    for (domain, connections) in connections_of(engine, data_center, bonds, &mut remarks) {
        let mut by_target: BTreeMap<&str, Vec<&StorageConnection>> = BTreeMap::new();
        for connection in connections {
            let Some(target) = connection.target.as_deref() else { continue };
            by_target.entry(target).or_default().push(connection);
            if let Some(id) = &connection.id {
                targets.entry(target.to_owned()).or_default().insert(id.clone());
            }
        }
        by_target.retain(|target, _| seen.insert((*target).to_owned()));
        let imported = by_target.iter().map(|(iqn, found)| (*iqn, target(iqn, found, namespace, &mut remarks)));
        match domain {
            Some(name) => {
                let targets: Vec<Target> = imported.map(|(_, target)| target).collect();
                if !targets.is_empty() {
                    list.push(Storage { name: names.give(name, name), targets });
                }
            }
            None => list.extend(
                imported
                    .map(|(iqn, target)| Storage { name: names.give(iqn, unqualified(iqn)), targets: vec![target] }),
            ),
        }
    }
    (ImportedStorage { list, targets }, remarks)
}

/// The iSCSI connections of a data center: the connections of its storage domains and of its bonds, or all connections
/// if it is the only data center.
fn connections_of<'a>(
    engine: &'a OvirtEngine,
    data_center: &str,
    bonds: &[&'a OvirtBond],
    remarks: &mut Vec<String>,
) -> ByStorage<'a> {
    // A reference may have only the id; the list of connections has the other fields.
    let whole = |reference: &'a StorageConnection| {
        let of_id = |known: &&StorageConnection| known.id.is_some() && known.id == reference.id;
        if reference.target.is_some() { Some(reference) } else { engine.connections.iter().find(of_id) }
    };
    let is_iscsi = |connection: &&StorageConnection| {
        connection.target.is_some() && connection.kind.as_deref().is_none_or(|kind| kind == "iscsi")
    };
    let mut found = ByStorage::new();
    for domain in &engine.domains {
        if domain.data_centers.data_center.iter().any(|link| link.is(data_center)) {
            let connections = domain.storage_connections.storage_connection.iter().filter_map(whole);
            found.entry(Some(&domain.name)).or_default().extend(connections.filter(is_iscsi));
        }
    }
    let known = |found: &ByStorage, connection: &StorageConnection| {
        let same = |other: &&StorageConnection| other.id.is_some() && other.id == connection.id;
        found.values().flatten().any(same)
    };
    for bond in bonds {
        for reference in &bond.storage_connections.storage_connection {
            match whole(reference) {
                Some(connection) if !known(&found, connection) => found.entry(None).or_default().push(connection),
                Some(_) => {}
                None => remarks.push(format!(
                    "iSCSI bond {}: its storage connection {} is not in the input: add /api/storageconnections",
                    bond.name,
                    reference.id.as_deref().unwrap_or("without an id")
                )),
            }
        }
    }
    let others: Vec<&StorageConnection> = engine.connections.iter().filter(|found| is_iscsi(found)).collect();
    if engine.data_centers.len() == 1 {
        for connection in others {
            if !known(&found, connection) {
                found.entry(None).or_default().push(connection);
            }
        }
    }
    found
}

fn target(iqn: &str, connections: &[&StorageConnection], namespace: &str, remarks: &mut Vec<String>) -> Target {
    let mut portals: Vec<PortalSpec> = Vec::new();
    for connection in connections {
        let Some(address) = connection.address.as_deref() else { continue };
        let usual = PortalSpec::default();
        let portal = PortalSpec {
            address: address.trim_matches(['[', ']']).to_owned(),
            port: connection.port.unwrap_or(usual.port),
            tpgt: connection.portal.as_deref().and_then(group_tag).unwrap_or(usual.tpgt),
            network: None,
        };
        if !portals.iter().any(|known| known.address == portal.address && known.port == portal.port) {
            portals.push(portal);
        }
    }
    portals.sort_by(|a, b| (&a.address, a.port).cmp(&(&b.address, b.port)));
    let users: BTreeSet<&str> = connections.iter().filter_map(|connection| connection.username.as_deref()).collect();
    let chap = users.first().map(|user| {
        let secret = format!("{}-chap", UniqueNames::default().give(iqn, unqualified(iqn)));
        remarks.push(format!(
            "target {iqn}: the engine does not return its CHAP password; create the Secret: kubectl create secret generic \
             {secret} -n {namespace} --type=kubernetes.io/iscsi-chap \
             --from-literal=node.session.auth.username={} --from-literal=node.session.auth.password=...",
            for_shell(user)
        ));
        Chap { secret_ref: SecretReference { name: secret } }
    });
    if users.len() > 1 {
        remarks
            .push(format!("target {iqn}: its portals have {} CHAP users; in Multibond a target has one", users.len()));
    }
    Target { iqn: iqn.to_owned(), portals, chap }
}

/// The group tag of a portal: `1`, or the part after the comma of `10.0.0.1:3260,1`.
fn group_tag(portal: &str) -> Option<u16> {
    portal.rsplit(',').next()?.trim().parse().ok()
}

/// The part of an iSCSI name after the naming authority, or the whole name if there is no such part.
fn unqualified(iqn: &str) -> &str {
    iqn.split_once(':').map_or(iqn, |(_, own)| own)
}

/// A word of a command that people copy into a shell: in quotes, unless it has only harmless letters.
fn for_shell(word: &str) -> String {
    let is_harmless = |letter: char| letter.is_ascii_alphanumeric() || "._@%+=:,/-".contains(letter);
    if !word.is_empty() && word.chars().all(is_harmless) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_in_a_command_to_copy_is_quoted_for_the_shell() {
        for (name, expected) in [
            ("iqn.2026-11.com.example:host-1", "iqn.2026-11.com.example:host-1"),
            ("ann; id", "'ann; id'"),
            ("$(id)", "'$(id)'"),
            ("o'neill", r"'o'\''neill'"),
            ("", "''"),
        ] {
            assert_eq!(for_shell(name), expected);
        }
    }
}
