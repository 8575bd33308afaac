//! Reads the files of open-iscsi's database.
//!
//! This starts no process, and it returns more than `iscsiadm -o show`, which reads all records of the host and leaves
//! out those it cannot read. Only iscsiadm writes the files. One exception: a record of the agent that iscsiadm cannot
//! read is removed here, because iscsiadm refuses to delete or overwrite it.

use std::{collections::BTreeMap, io};

use crate::agent::{
    host::host_root::HostRoot,
    initiator::open_iscsi::record::{InterfaceRecord, NodeRecord},
};

/// The directories of the database on different distributions, relative to the root directory.
const DIRECTORIES: [&str; 2] = ["etc/iscsi", "var/lib/iscsi"];

/// The settings of a record, by name; without those that are not set.
pub type Settings = BTreeMap<String, String>;

/// A host's node database.
#[derive(Clone, Debug)]
pub struct Database {
    root: HostRoot,
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
    pub fn new(root: HostRoot) -> Self {
        Database { root }
    }

    /// Whether an interface record exists and binds to exactly its interface.
    #[must_use]
    pub fn is_bound(&self, record: &InterfaceRecord) -> bool {
        let settings = self.first(&interface_file(record)).and_then(|file| self.settings(&file));
        settings.is_some_and(|settings| binds(&settings, record))
    }

    /// A node record as it is stored.
    #[must_use]
    pub fn node(&self, record: &NodeRecord) -> StoredRecord {
        let Some(file) = self.first(&node_file(record)) else { return StoredRecord::Missing };
        match self.settings(&file) {
            Some(settings) if describes(&settings, record) => StoredRecord::Settings(settings),
            _ => StoredRecord::Unreadable,
        }
    }

    /// The interface records of the agent.
    #[must_use]
    pub fn interfaces(&self) -> Vec<InterfaceRecord> {
        let ifaces = DIRECTORIES.iter().flat_map(|directory| self.names(&format!("{directory}/ifaces")));
        let mut records: Vec<_> = ifaces.filter_map(|name| InterfaceRecord::from_name(&name)).collect();
        records.sort();
        records.dedup();
        records
    }

    /// The node records of the agent, including unreadable ones.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeRecord> {
        let mut records = Vec::new();
        for nodes in DIRECTORIES.map(|directory| format!("{directory}/nodes")) {
            for target in self.names(&nodes) {
                for portal in self.names(&format!("{nodes}/{target}")) {
                    let found = self.names(&format!("{nodes}/{target}/{portal}")).into_iter();
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
        match self.root.remove_file(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", self.root.shown(&file).display()))
            }),
        }
    }

    fn first(&self, file: &str) -> Option<String> {
        let mut files = DIRECTORIES.iter().map(|directory| format!("{directory}/{file}"));
        files.find(|file| self.root.link_metadata(file).is_ok())
    }

    fn names(&self, directory: &str) -> Vec<String> {
        self.root.names(directory).unwrap_or_default()
    }

    /// The settings in a file; none if it cannot be read.
    fn settings(&self, file: &str) -> Option<Settings> {
        Some(settings(&String::from_utf8_lossy(&self.root.read(file).ok()?)))
    }
}

/// Parses lines of the form `name = value`.
fn settings(text: &str) -> Settings {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.trim(), value.trim()));
    let set = pairs.filter(|(_, value)| !["", "<empty>", "<NULL>"].contains(value));
    set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn interface_file(record: &InterfaceRecord) -> String {
    format!("ifaces/{}", record.name())
}

fn node_file(record: &NodeRecord) -> String {
    format!("nodes/{}/{}/{}", record.target, portal_directory(record), record.interface.name())
}

/// A node record from the names of its directories and its file; none if it is not the agent's.
fn node(target: &str, portal: &str, name: &str) -> Option<NodeRecord> {
    let interface = InterfaceRecord::from_name(name)?;
    let mut parts = portal.rsplitn(3, ',');
    let (tpgt, port) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let record = NodeRecord { interface, target: target.into(), address: parts.next()?.to_owned(), port, tpgt };
    // Numbers have other forms too, such as 03260: they would lead to another file.
    (portal_directory(&record) == portal).then_some(record)
}

fn portal_directory(NodeRecord { address, port, tpgt, .. }: &NodeRecord) -> String {
    format!("{address},{port},{tpgt}")
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

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
        let database = Database::new(HostRoot::open(root.path()).unwrap());
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

    #[test]
    fn records_behind_an_absolute_link_of_the_host_are_found_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let nodes = root.path().join("persistent/iscsi/nodes/iqn.a/10.0.1.10,3260,1");
        fs::create_dir_all(&nodes).unwrap();
        fs::write(nodes.join("mb.ens1"), "x").unwrap();
        fs::create_dir_all(root.path().join("etc/iscsi")).unwrap();
        symlink("/persistent/iscsi/nodes", root.path().join("etc/iscsi/nodes")).unwrap();
        let database = Database::new(HostRoot::open(root.path()).unwrap());
        let record = database.nodes().pop().unwrap();
        assert_eq!(record.to_string(), "iqn.a at 10.0.1.10:3260,1 through mb.ens1");
        assert_eq!(database.node(&record), StoredRecord::Unreadable, "it is not missing");
        database.remove(&record).unwrap();
        assert!(!nodes.join("mb.ens1").exists());
    }

    fuzz! {
        any_record_is_read: "node-record" => |input| {
            let found = settings(&lossy(input));
            let written: Vec<String> = found.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
            assert_eq!(settings(&written.concat()), found, "a round trip");
            Parsed::new().texts(found.into_iter().flat_map(|(name, value)| [name, value]))
        };
        any_name_of_a_record_leads_back_to_its_file: "record-names" => |input| {
            let text = lossy(input);
            let is_name = |name: &&str| !["", ".", ".."].contains(name) && !name.contains(['/', '\0']);
            let names: Vec<&str> = text.lines().filter(is_name).collect();
            let [target, portal, name] = names[..] else { return Parsed::new() };
            let Some(record) = node(target, portal, name) else { return Parsed::new() };
            assert_eq!(node_file(&record), format!("nodes/{target}/{portal}/{name}"), "another file would be removed");
            Parsed::new().path_parts([record.target.to_string(), record.interface.name()])
        };
    }
}
