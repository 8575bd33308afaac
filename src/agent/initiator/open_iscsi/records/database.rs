//! The files of open-iscsi's node database, as far as they are read.
//!
//! Reading them costs no fork and says more than `iscsiadm -o show`, which reads every record of the host and leaves out
//! those that it cannot read. They are written by iscsiadm alone; a record of ours that it cannot read is removed here,
//! because it refuses to delete or overwrite one.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::agent::initiator::open_iscsi::iscsiadm::command::{InterfaceRecord, Record};

/// Where distributions keep the database, below the root.
const PLACES: [&str; 2] = ["etc/iscsi", "var/lib/iscsi"];

/// The settings of a record by name; unset ones are absent.
pub type Settings = BTreeMap<String, String>;

/// A host's node database.
#[derive(Clone, Debug)]
pub struct Database {
    places: Vec<PathBuf>,
}

/// What is found of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// Something that is no record of this target, portal and interface.
    Unreadable,
    /// Its settings.
    Settings(Settings),
}

impl Database {
    /// That of the host with this root directory.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Database { places: PLACES.iter().map(|place| root.join(place)).collect() }
    }

    /// Whether an interface record binds to its device, and to nothing else.
    #[must_use]
    pub fn is_bound(&self, record: &InterfaceRecord) -> bool {
        let settings = self.first(&interface_file(record)).and_then(|file| settings(&file));
        settings.is_some_and(|settings| binds(&settings, record))
    }

    /// What is found of a node record.
    #[must_use]
    pub fn node(&self, record: &Record) -> Found {
        let Some(file) = self.first(&node_file(record)) else { return Found::Nothing };
        let is = |settings: &Settings, name: &str, value: &str| settings.get(name).is_some_and(|found| found == value);
        let is_it = |settings: &Settings| {
            is(settings, "node.name", &record.target)
                && is(settings, "node.conn[0].address", &record.address)
                && is(settings, "node.conn[0].port", &record.port.to_string())
                && binds(settings, &record.interface)
        };
        settings(&file).filter(is_it).map_or(Found::Unreadable, Found::Settings)
    }

    /// Our interface records.
    #[must_use]
    pub fn interfaces(&self) -> Vec<InterfaceRecord> {
        let ifaces = self.places.iter().flat_map(|place| names(&place.join("ifaces")));
        let mut records: Vec<_> = ifaces.filter_map(|name| InterfaceRecord::named(&name)).collect();
        records.sort();
        records.dedup();
        records
    }

    /// Our node records, readable or not.
    #[must_use]
    pub fn nodes(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for nodes in self.places.iter().map(|place| place.join("nodes")) {
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

    /// Removes a node record of ours that iscsiadm cannot read.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, record: &Record) -> io::Result<()> {
        let Some(file) = self.first(&node_file(record)) else { return Ok(()) };
        match fs::remove_file(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display()))),
        }
    }

    fn first(&self, file: &str) -> Option<PathBuf> {
        self.places.iter().map(|place| place.join(file)).find(|file| file.symlink_metadata().is_ok())
    }
}

fn interface_file(record: &InterfaceRecord) -> String {
    format!("ifaces/{}", record.name())
}

fn node_file(record: &Record) -> String {
    let Record { interface, target, address, port, tpgt } = record;
    format!("nodes/{target}/{address},{port},{tpgt}/{}", interface.name())
}

/// A node record by the names of its directories and its file, if it is ours.
fn node(target: &str, portal: &str, name: &str) -> Option<Record> {
    let interface = InterfaceRecord::named(name)?;
    let mut parts = portal.rsplitn(3, ',');
    let (tpgt, port) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(Record { interface, target: target.to_owned(), address: parts.next()?.to_owned(), port, tpgt })
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

/// `name = value` on each line; none when the file is none or has nothing of the kind.
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
    fn a20_only_records_of_ours_are_found_in_whatever_place_the_distribution_keeps_them() {
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
        assert_eq!(database.node(&database.nodes()[1]), Found::Unreadable);
        database.remove(&database.nodes()[1]).unwrap();
        assert_eq!(database.nodes().len(), 1);
    }
}
