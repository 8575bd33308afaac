//! The files of open-iscsi's database.
//!
//! To read them starts no process, and returns more than `iscsiadm -o show`, which reads all records of the host and
//! leaves out those it cannot read. Only iscsiadm makes and deletes records, with three exceptions for those of the agent:
//! settings are changed here, because iscsiadm takes secrets only as arguments; a record that iscsiadm cannot read, that
//! another version has made, or that an upgrade has left where iscsiadm does not look, is removed here, because iscsiadm
//! does not delete it; and interface records are hidden here.
//!
//! A discovery without `-I` goes through every interface record of the host, and uses `default` only if there is none
//! (`idbm_bind_ifaces_to_nodes`). One without a transport does not count (`iface_is_valid`), and is used as before by a
//! command with its `-I`. iscsiadm cannot write such a record. Node records need a transport, and get it like any setting.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{fd::AsFd, unix::fs::MetadataExt as _},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, unlinkat},
    io::Errno,
};

use super::settings::{Setting, Settings, Value, changed, parse};
use crate::agent::{
    host::host_root::HostRoot,
    initiator::open_iscsi::record::{InterfaceRecord, NodeRecord},
    types::{FileName, IscsiPath},
};

/// The directories of the database on different distributions, relative to the root directory. Distributions move it from
/// the second to the first, and an upgrade may leave old records behind, which no tool reads any more: Debian 13 moves only
/// the node records, and these only if there are none yet.
pub(in super::super) const DIRECTORIES: [&str; 2] = ["var/lib/iscsi", "etc/iscsi"];

/// The transport of a record. An interface record without one is hidden.
pub(super) const TRANSPORT: &str = "iface.transport_name";
/// The transport of every session of the agent.
pub(super) const TCP: &str = "tcp";
const INTERFACE_NAME: &str = "iface.iscsi_ifacename";
const DEVICE: &str = "iface.net_ifacename";
const HARDWARE_ADDRESS: &str = "iface.hwaddress";

/// The name of a record that is being written, in the directory above that of the record: of its target, or of all
/// interface records. iscsiadm takes every file in the directory of a portal, and of interface records, for a record; in
/// the directory of a target it looks only at names with a comma.
const UNFINISHED: &str = ".multibond";

/// A record without settings.
const EMPTY_RECORD: &[u8] = b"# BEGIN RECORD\n# END RECORD\n";

/// A host's node database.
#[derive(Clone, Debug)]
pub struct Database {
    root: HostRoot,
}

/// What changes when the content of a file does, except within a tick of the file system's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    size: u64,
    changed: (i64, i64),
    written: (i64, i64),
}

impl Stamp {
    /// Whether the file was last changed longer ago than this.
    pub(super) fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        let (seconds, _) = self.changed;
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        // One second more, for the part of a second that is left out.
        u64::try_from(seconds).unwrap_or_default().saturating_add(age.as_secs() + 1) <= now
    }

    /// When the content was written, in seconds and nanoseconds.
    pub(super) fn written(&self) -> (i64, i64) {
        self.written
    }
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

    /// Whether an interface record exists, in whatever form.
    #[must_use]
    pub fn has_interface(&self, record: &InterfaceRecord) -> bool {
        self.first(&interface_file(record)).is_some()
    }

    /// Whether an interface record binds to exactly its interface, and is hidden from others: only the agent makes such
    /// records.
    #[must_use]
    pub fn is_hidden(&self, record: &InterfaceRecord) -> bool {
        let is_hidden = |file: String| {
            let settings = self.settings(&file);
            settings.is_some_and(|settings| binds(&settings, record) && !settings.contains_key(TRANSPORT))
        };
        self.has_interface(record) && self.files(&interface_file(record)).all(is_hidden)
    }

    /// Hides an interface record that exists, and binds it to its interface. Its other settings stay. The caller holds
    /// open-iscsi's lock.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn hide(&self, record: &InterfaceRecord) -> io::Result<()> {
        let name = record.name();
        let plain = |name, value: &str| Setting { name, value: Value::Plain(value.to_owned()) };
        let settings = [
            plain(INTERFACE_NAME, &name),
            plain(DEVICE, record.device.as_deref().unwrap_or_default()),
            plain(HARDWARE_ADDRESS, ""),
            plain(TRANSPORT, ""),
        ];
        for file in self.files(&interface_file(record)) {
            let is_readable = |text: &Vec<u8>| parse(text).get(INTERFACE_NAME) == Some(&name);
            let old = self.root.read(&file).ok().filter(is_readable).unwrap_or_else(|| EMPTY_RECORD.to_vec());
            self.replace(&file, &name, &changed(&old, &settings).map_err(not_kept)?)?;
        }
        Ok(())
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
        self.each_node(|_, target, portal, name| records.extend(node(target, portal, name)), |_| ());
        records.sort();
        records.dedup();
        records
    }

    /// The directory of the node records that open-iscsi uses. An upgrade may have left another one behind.
    pub(super) fn in_use(&self) -> Option<String> {
        let mut directories = DIRECTORIES.iter().map(|directory| format!("{directory}/nodes"));
        directories.find(|nodes| self.root.names(nodes).is_ok())
    }

    /// Calls `visit` for each file of a node record, with the directory of node records and the names below it: of the
    /// target, of the portal, and of the file. Calls `misplaced` for each file where open-iscsi expects a directory: over it
    /// fails every command about all records. Returns whether there is any directory of node records.
    pub(super) fn each_node(
        &self,
        mut visit: impl FnMut(&str, &str, &str, &str),
        mut misplaced: impl FnMut(String),
    ) -> bool {
        let mut is_seen = false;
        let mut entries = |directory: String| match self.root.names(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                misplaced(directory);
                Vec::new()
            }
            names => names.unwrap_or_default(),
        };
        for nodes in DIRECTORIES.map(|directory| format!("{directory}/nodes")) {
            let targets = self.root.names(&nodes);
            is_seen |= targets.is_ok();
            for target in targets.unwrap_or_default() {
                for portal in entries(format!("{nodes}/{target}")) {
                    // A portal without a tag is a record of the old form; anything else is passed over by open-iscsi.
                    if portal.split(',').count() < 3 {
                        continue;
                    }
                    for name in entries(format!("{nodes}/{target}/{portal}")) {
                        visit(&nodes, &target, &portal, &name);
                    }
                }
            }
        }
        is_seen
    }

    /// The node records of a path, including unreadable ones: one, or several that differ in their portal group tags.
    #[must_use]
    pub fn nodes_of(&self, path: &IscsiPath) -> Vec<NodeRecord> {
        let Ok(wanted) = NodeRecord::of(path, 0) else { return Vec::new() };
        let (target, name) = (&wanted.target, wanted.interface.name());
        let mut records = Vec::new();
        for directory in DIRECTORIES {
            let portals = self.names(&format!("{directory}/nodes/{target}"));
            records.extend(portals.iter().filter_map(|portal| node(target, portal, &name)));
        }
        records.retain(|record| record.path() == *path && self.first(&node_file(record)).is_some());
        records.sort();
        records.dedup();
        records
    }

    /// Removes a node record of the agent that iscsiadm does not delete. The caller holds open-iscsi's lock.
    ///
    /// # Errors
    /// If it exists and cannot be removed.
    pub fn remove(&self, record: &NodeRecord) -> io::Result<()> {
        let files: Vec<String> = self.files(&node_file(record)).collect();
        self.remove_files(&node_file(record))?;
        for (portal, _) in files.iter().filter_map(|file| file.rsplit_once('/')) {
            self.remove_if_empty(portal)?;
        }
        Ok(())
    }

    /// Removes the directory of a portal, if no record is left in it.
    fn remove_if_empty(&self, portal: &str) -> io::Result<()> {
        let name = portal.rsplit_once('/').map_or(portal, |(_, name)| name);
        match unlinkat(self.root.open_parent(portal)?, name, AtFlags::REMOVEDIR) {
            // With a record of another interface.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a hidden interface record that iscsiadm does not delete. The caller holds open-iscsi's lock.
    ///
    /// # Errors
    /// If it exists and cannot be removed.
    pub fn remove_interface(&self, record: &InterfaceRecord) -> io::Result<()> {
        self.remove_files(&interface_file(record))
    }

    fn remove_files(&self, file: &str) -> io::Result<()> {
        for file in self.files(file) {
            match self.root.remove_file(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", self.root.shown(&file).display()))
                })?,
            }
        }
        Ok(())
    }

    /// Changes settings of a node record. A reader sees the old record or the new one, never a part. The caller holds
    /// open-iscsi's lock.
    ///
    /// # Errors
    /// If there is no such record, or it cannot be written, or open-iscsi would read a setting otherwise; the old record
    /// stays.
    pub fn change(&self, record: &NodeRecord, changes: &[Setting]) -> io::Result<()> {
        let file = self.first(&node_file(record)).ok_or(io::ErrorKind::NotFound)?;
        let text = changed(&self.root.read(&file)?, changes).map_err(not_kept)?;
        self.replace(&file, &record.interface.name(), &text)
    }

    /// Replaces a file, which has this name, as a whole.
    fn replace(&self, file: &str, name: &str, text: &[u8]) -> io::Result<()> {
        let directory = self.root.open_parent(file)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = openat(&directory, "..", flags, Mode::empty())?;
        remove_if_exists(&above, UNFINISHED)?;
        let result = write(&above, UNFINISHED, text).and_then(|()| Ok(renameat(&above, UNFINISHED, &directory, name)?));
        if result.is_err() {
            remove_if_exists(&above, UNFINISHED)?;
        }
        result
    }

    /// Moves a node record to another portal group tag: a record of the tag that the target has answered is the one that
    /// iscsid finds when it is restarted. The caller holds open-iscsi's lock.
    ///
    /// # Errors
    /// If there is no such record, or it cannot be written or removed.
    pub fn retag(&self, record: &NodeRecord, tpgt: u16) -> io::Result<()> {
        let old = self.first(&node_file(record)).ok_or(io::ErrorKind::NotFound)?;
        let wanted = NodeRecord { tpgt, ..record.clone() };
        let tag = Setting { name: "node.tpgt", value: Value::Plain(tpgt.to_string()) };
        let text = changed(&self.root.read(&old)?, &[tag]).map_err(not_kept)?;
        let new = old.replace(&node_file(record), &node_file(&wanted));
        let old_directory = old.rsplit_once('/').map_or("", |(directory, _)| directory);
        let target = self.root.open_parent(old_directory)?;
        match mkdirat(&target, portal_directory(&wanted), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.replace(&new, &record.interface.name(), &text)?;
        self.root.remove_file(&old)?;
        self.remove_if_empty(old_directory)
    }

    /// What changes when the content of a file does; none if there is no such file.
    pub(super) fn stamp(&self, file: &str) -> Option<Stamp> {
        let metadata = self.root.metadata(file).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let written = (metadata.mtime(), metadata.mtime_nsec());
        Some(Stamp { inode: (metadata.dev(), metadata.ino()), size: metadata.len(), changed, written })
    }

    /// Removes what an agent that was killed in a change has left.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn remove_unfinished(&self) -> io::Result<()> {
        for directory in DIRECTORIES {
            let nodes = format!("{directory}/nodes");
            let targets = self.names(&nodes).into_iter().map(|target| format!("{nodes}/{target}"));
            for above in targets.chain([directory.to_owned()]) {
                match self.root.remove_file(format!("{above}/{UNFINISHED}")) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    result => result?,
                }
            }
        }
        Ok(())
    }

    fn first(&self, file: &str) -> Option<String> {
        self.files(file).next()
    }

    /// The file in each directory of the database that has it. Another version of open-iscsi may have left one behind.
    fn files(&self, file: &str) -> impl Iterator<Item = String> {
        let files = DIRECTORIES.map(|directory| format!("{directory}/{file}"));
        files.into_iter().filter(|file| self.root.link_metadata(file).is_ok())
    }

    fn names(&self, directory: &str) -> Vec<String> {
        self.root.names(directory).unwrap_or_default()
    }

    /// None if the file cannot be read.
    fn settings(&self, file: &str) -> Option<Settings> {
        Some(parse(&self.text(file)?))
    }

    /// None if the file cannot be read.
    pub(super) fn text(&self, file: &str) -> Option<Vec<u8>> {
        self.root.read(file).ok()
    }
}

fn not_kept(name: &str) -> io::Error {
    let message = format!("open-iscsi would not keep the value of {name} as it is");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Writes a whole file with this text into a directory.
fn write(directory: impl AsFd, name: &str, text: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(text)?;
    file.sync_data()
}

fn remove_if_exists(directory: impl AsFd, name: &str) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn interface_file(record: &InterfaceRecord) -> String {
    format!("ifaces/{}", record.name())
}

fn node_file(record: &NodeRecord) -> String {
    format!("nodes/{}/{}/{}", record.target, portal_directory(record), record.interface.name())
}

/// A node record from the names of its directories and its file; none if it is not the agent's.
pub(super) fn node(target: &str, portal: &str, name: &str) -> Option<NodeRecord> {
    let interface = InterfaceRecord::from_name(name)?;
    let mut parts = portal.rsplitn(3, ',');
    let (tpgt, port) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let (target, address) = (FileName::new(target).ok()?, FileName::new(parts.next()?).ok()?);
    let record = NodeRecord { interface, target, address, port, tpgt };
    // Numbers have other forms too, such as 03260: they would lead to another file.
    (portal_directory(&record) == portal).then_some(record)
}

fn portal_directory(NodeRecord { address, port, tpgt, .. }: &NodeRecord) -> String {
    format!("{address},{port},{tpgt}")
}

pub(super) fn describes(settings: &Settings, record: &NodeRecord) -> bool {
    settings.get("node.name").is_some_and(|target| record.target == *target)
        && settings.get("node.conn[0].address").is_some_and(|address| record.address == *address)
        && settings.get("node.conn[0].port") == Some(&record.port.to_string())
        && binds(settings, &record.interface)
}

fn binds(settings: &Settings, record: &InterfaceRecord) -> bool {
    settings.get(INTERFACE_NAME).is_some_and(|name| *name == record.name())
        && settings.get(TRANSPORT).is_none_or(|transport| transport == TCP)
        && settings.get(DEVICE).map(String::as_str) == record.device.as_deref()
        && !settings.contains_key(HARDWARE_ADDRESS)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::PathBuf};

    use super::*;
    use crate::agent::{initiator::open_iscsi::records::settings::Value, types::credentials::Password};
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
    fn a54_an_interface_record_is_hidden_and_keeps_its_other_settings() {
        let root = tempfile::tempdir().unwrap();
        let ifaces = root.path().join("etc/iscsi/ifaces");
        fs::create_dir_all(&ifaces).unwrap();
        let old = "# BEGIN RECORD 2.1.8\niface.iscsi_ifacename = mb.ens1\niface.net_ifacename = ens1\n\
                   iface.transport_name = tcp\niface.initiatorname = iqn.me\n# END RECORD\n";
        fs::write(ifaces.join("mb.ens1"), old).unwrap();
        fs::write(ifaces.join("mb.ens2"), [0xff, 0x00, 0x3d]).unwrap();
        let (bound, damaged, unbound) = (Some("ens1".into()), Some("ens2".into()), None);
        let [bound, damaged, unbound] = [bound, damaged, unbound].map(|device| InterfaceRecord { device });
        let database = Database::new(HostRoot::open(root.path()).unwrap());
        assert!(database.has_interface(&bound) && !database.is_hidden(&bound));
        database.hide(&bound).unwrap();
        let new = "# BEGIN RECORD 2.1.8\niface.initiatorname = iqn.me\niface.iscsi_ifacename = mb.ens1\n\
                   iface.net_ifacename = ens1\n# END RECORD\n";
        assert_eq!(fs::read_to_string(ifaces.join("mb.ens1")).unwrap(), new);
        database.hide(&damaged).unwrap();
        let text = fs::read_to_string(ifaces.join("mb.ens2")).unwrap();
        assert_eq!(text, "# BEGIN RECORD\niface.iscsi_ifacename = mb.ens2\niface.net_ifacename = ens2\n# END RECORD\n");
        assert!(database.is_hidden(&bound) && database.is_hidden(&damaged));
        database.hide(&unbound).unwrap();
        assert!(!database.has_interface(&unbound), "iscsiadm knows where records are, and makes them");
        assert_eq!(fs::read_dir(&ifaces).unwrap().count(), 2, "no unfinished file among them");
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

    #[test]
    fn a_record_that_an_upgrade_has_left_behind_is_not_taken_for_the_one_in_use() {
        let root = tempfile::tempdir().unwrap();
        let file = |directory: &str| root.path().join(directory).join("iscsi/nodes/iqn.a/10.0.1.10,3260,1/mb.ens1");
        let [old, new] = [file("etc"), file("var/lib")];
        let text = "node.name = iqn.a\nnode.conn[0].address = 10.0.1.10\nnode.conn[0].port = 3260\n\
                    iface.iscsi_ifacename = mb.ens1\niface.net_ifacename = ens1\n# END RECORD\n";
        for file in [&old, &new] {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let database = Database::new(HostRoot::open(root.path()).unwrap());
        let record = database.nodes().pop().unwrap();
        database.change(&record, &password("hunter2")).unwrap();
        let StoredRecord::Settings(settings) = database.node(&record) else { panic!("{record}") };
        assert_eq!(settings.get("node.session.auth.password").map(String::as_str), Some("hunter2"));
        assert_eq!(fs::read_to_string(old).unwrap(), text);
        assert!(fs::read_to_string(new).unwrap().contains("hunter2"));
    }

    fuzz! {
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

    fn with_record(text: &str) -> (tempfile::TempDir, Database, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("etc/iscsi/nodes/iqn.a/10.0.1.10,3260,1/mb.ens1");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        let database = Database::new(HostRoot::open(root.path()).unwrap());
        (root, database, file)
    }

    fn password(text: &str) -> [Setting; 1] {
        let value = Value::Secret(Password::from(text.to_owned()));
        [Setting { name: "node.session.auth.password", value }]
    }

    #[test]
    fn a23_a_changed_record_is_replaced_as_a_whole_and_only_root_can_read_it() {
        let (_root, database, file) = with_record("node.name = iqn.a\n# END RECORD\n");
        let (record, old) = (database.nodes().pop().unwrap(), fs::metadata(&file).unwrap().ino());
        let unfinished = file.parent().unwrap().with_file_name(".multibond");
        fs::write(&unfinished, "what another agent has left").unwrap();
        database.change(&record, &password("hunter2")).unwrap();
        let expected = "node.name = iqn.a\nnode.session.auth.password = hunter2\n# END RECORD\n";
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
        let new = fs::metadata(&file).unwrap();
        assert_eq!((new.mode() & 0o777, new.ino() == old, unfinished.exists()), (0o600, false, false));
        assert_eq!(database.nodes(), [record]);
    }

    #[test]
    fn a_change_that_fails_leaves_the_old_record_and_nothing_else() {
        let (_root, database, file) = with_record("node.name = iqn.a\n");
        let record = database.nodes().pop().unwrap();
        let target = file.parent().unwrap().parent().unwrap();
        assert!(database.change(&record, &password("hunter2 ")).is_err(), "open-iscsi would strip it");
        let unwritable = target.join(".multibond");
        fs::create_dir(&unwritable).unwrap();
        assert!(database.change(&record, &password("hunter2")).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "node.name = iqn.a\n");
        fs::remove_dir(&unwritable).unwrap();
        let other = NodeRecord { tpgt: 2, ..record };
        assert_eq!(database.change(&other, &password("x")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(target).unwrap().count(), 1);
    }

    #[test]
    fn a26_what_a_killed_agent_has_left_is_removed() {
        let (_root, database, file) = with_record("node.name = iqn.a\n");
        let unfinished = file.parent().unwrap().with_file_name(".multibond");
        fs::write(&unfinished, "node.session.auth.password = hunter2").unwrap();
        database.remove_unfinished().unwrap();
        assert!(!unfinished.exists() && file.exists());
    }
}
