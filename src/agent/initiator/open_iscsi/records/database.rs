//! Reads the files of open-iscsi's database.
//!
//! This starts no process, and it returns more than `iscsiadm -o show`, which reads all records of the host and leaves
//! out those it cannot read. Only iscsiadm writes the files. One exception: a record of the agent that iscsiadm cannot
//! read is removed here, because iscsiadm refuses to delete or overwrite it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::agent::initiator::open_iscsi::record::{InterfaceRecord, NodeRecord};

/// The directories of the database on different distributions, relative to the root directory.
const DIRECTORIES: [&str; 2] = ["etc/iscsi", "var/lib/iscsi"];

/// The settings of a record, by name; without those that are not set.
pub type Settings = BTreeMap<String, String>;

/// A host's node database.
#[derive(Clone, Debug)]
pub struct Database {
    directories: Vec<PathBuf>,
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredRecord {
    /// There is no file.
    Missing,
    /// The file is not a record of this target, portal and interface.
    Unreadable,
    /// The settings of the record.
    Settings(Settings),
}

impl Database {
    /// The database of the host with this root directory.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Database { directories: DIRECTORIES.iter().map(|directory| root.join(directory)).collect() }
    }

    /// Whether an interface record exists and binds to exactly its interface.
    #[must_use]
    pub fn is_bound(&self, record: &InterfaceRecord) -> bool {
        let settings = self.first(&interface_file(record)).and_then(|file| settings(&file));
        settings.is_some_and(|settings| binds(&settings, record))
    }

    /// A node record as it is stored.
    #[must_use]
    pub fn node(&self, record: &NodeRecord) -> StoredRecord {
        let Some(file) = self.first(&node_file(record)) else { return StoredRecord::Missing };
        match settings(&file) {
            Some(settings) if describes(&settings, record) => StoredRecord::Settings(settings),
            _ => StoredRecord::Unreadable,
        }
    }

    /// The interface records of the agent.
    #[must_use]
    pub fn interfaces(&self) -> Vec<InterfaceRecord> {
        let ifaces = self.directories.iter().flat_map(|directory| names(&directory.join("ifaces")));
        let mut records: Vec<_> = ifaces.filter_map(|name| InterfaceRecord::from_name(&name)).collect();
        records.sort();
        records.dedup();
        records
    }

    /// The node records of the agent, including unreadable ones.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeRecord> {
        let mut records = Vec::new();
        for nodes in self.directories.iter().map(|directory| directory.join("nodes")) {
            for target in names(&nodes) {
                for portal in names(&nodes.join(&target)) {
                    let found = names(&nodes.join(&target).join(&portal)).into_iter();
                    records.extend(found.filter_map(|name| node(&target, &portal, &name)));
                }
            }
        }
        records.sort();
        records.dedup();
        records
    }

    /// Removes a node record of the agent that iscsiadm cannot read.
    ///
    /// # Errors
    /// If it exists and cannot be removed.
    pub fn remove(&self, record: &NodeRecord) -> io::Result<()> {
        let Some(file) = self.first(&node_file(record)) else { return Ok(()) };
        match fs::remove_file(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display()))),
        }
    }

    fn first(&self, file: &str) -> Option<PathBuf> {
        self.directories.iter().map(|directory| directory.join(file)).find(|file| file.symlink_metadata().is_ok())
    }
}

fn interface_file(record: &InterfaceRecord) -> String {
    format!("ifaces/{}", record.name())
}

fn node_file(record: &NodeRecord) -> String {
    let NodeRecord { interface, target, address, port, tpgt } = record;
    format!("nodes/{target}/{address},{port},{tpgt}/{}", interface.name())
}

/// A node record from the names of its directories and its file; none if it is not the agent's.
fn node(target: &str, portal: &str, name: &str) -> Option<NodeRecord> {
    let interface = InterfaceRecord::from_name(name)?;
    let mut parts = portal.rsplitn(3, ',');
    let (tpgt, port) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(NodeRecord { interface, target: target.into(), address: parts.next()?.to_owned(), port, tpgt })
}

fn describes(settings: &Settings, record: &NodeRecord) -> bool {
    settings.get("node.name").is_some_and(|target| record.target == *target)
        && settings.get("node.conn[0].address") == Some(&record.address)
        && settings.get("node.conn[0].port") == Some(&record.port.to_string())
        && binds(settings, &record.interface)
}

fn binds(settings: &Settings, record: &InterfaceRecord) -> bool {
    settings.get("iface.iscsi_ifacename").is_some_and(|name| *name == record.name())
        && settings.get("iface.transport_name").is_none_or(|transport| transport == "tcp")
        && settings.get("iface.net_ifacename").map(String::as_str) == record.device.as_deref()
        && !settings.contains_key("iface.hwaddress")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// Parses lines of the form `name = value`; none if the file cannot be read.
fn settings(file: &Path) -> Option<Settings> {
    let bytes = fs::read(file).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.trim(), value.trim()));
    let set = pairs.filter(|(_, value)| !["", "<empty>", "<NULL>"].contains(value));
    Some(set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a20_only_the_agents_records_are_found_in_every_directory() {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "etc/iscsi/ifaces/mb.ens1",
            "etc/iscsi/ifaces/iface0",
            "etc/iscsi/nodes/iqn.a/10.0.1.10,3260,1/mb.ens1",
            "etc/iscsi/nodes/iqn.a/10.0.1.10,3260,1/default",
            "etc/iscsi/nodes/iqn.a/10.0.9.10,3260",
            "var/lib/iscsi/nodes/eui.02004567A425678D/fd00::10,3261,2/mb.default",
        ] {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "x").unwrap();
        }
        let database = Database::new(root.path());
        let names: Vec<_> = database.nodes().iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "eui.02004567A425678D at [fd00::10]:3261,2 through mb.default",
                "iqn.a at 10.0.1.10:3260,1 through mb.ens1"
            ]
        );
        assert_eq!(database.interfaces(), [InterfaceRecord { device: Some("ens1".into()) }]);
        assert_eq!(database.node(&database.nodes()[1]), StoredRecord::Unreadable);
        database.remove(&database.nodes()[1]).unwrap();
        assert_eq!(database.nodes().len(), 1);
    }
}
