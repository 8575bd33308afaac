//! The node records of a host, read at one time, and which of them counts for a path.
//!
//! A host may have thousands of records of other tools. So a file that has not changed is not read again, and of each only
//! what the agent looks at is remembered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use super::{
    database::{Database, Stamp, describes, node},
    desired::{PORTAL_NAME, automatic, credentials, has_mark, identity, portal_name, settings_to_change, stored_name},
    settings::{Settings, is_usable, parse},
};
use crate::{
    agent::{
        initiator::{AutomaticRecord, open_iscsi::record::NodeRecord},
        types::{IscsiPath, credentials::Credentials},
    },
    api::Portal,
};

/// The coarsest time stamps of file systems. Two changes within this time may leave the same stamp.
const TICK: Duration = Duration::from_secs(2);
/// A file that is no record is said when it has been there for this long: it may be one that is just being written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

/// What is known of the files of the node records.
#[derive(Debug, Default)]
pub(super) struct KnownRecords {
    files: Mutex<BTreeMap<String, Known>>,
    #[cfg(test)]
    reads: std::sync::atomic::AtomicUsize,
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    /// The file was old enough when it was read: another change since then shows in its stamp.
    is_settled: bool,
    content: Content,
}

/// What a file of a node record has.
#[derive(Clone, Debug)]
struct Content {
    /// The record, if it has a name of the agent's and belongs where it is.
    node: Option<StoredNode>,
    automatic: Option<AutomaticRecord>,
    /// Whether open-iscsi can use it.
    is_usable: bool,
}

/// A node record with a name of the agent's.
#[derive(Clone, Debug)]
pub struct StoredNode {
    port: u16,
    /// The DNS name that it was made for.
    name: Option<String>,
    /// The name as it is written, whatever it means.
    written_name: String,
    is_marked: bool,
    is_kept: bool,
    credentials: Option<Credentials>,
    /// When it was written.
    written: (i64, i64),
}

/// The node records of a host.
#[derive(Debug, Default)]
pub struct Stored {
    /// The records with names of the agent's, by the path by address: several may differ in their portal group tags. None for
    /// a file that is no record of its place, perhaps because it is just being written.
    nodes: BTreeMap<IscsiPath, BTreeMap<NodeRecord, Option<StoredNode>>>,
    /// The records, of whomever, by which open-iscsi logs in by itself; sorted.
    pub automatic: Vec<AutomaticRecord>,
    /// Files among the records, of whomever, that open-iscsi cannot use as such; relative to the root directory.
    pub unusable: Vec<String>,
    /// Whether the records could be looked for.
    is_known: bool,
}

impl KnownRecords {
    /// Walks through all node records, at this time.
    pub(super) fn read(&self, database: &Database, now: SystemTime) -> Stored {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *files);
        let mut stored = Stored::default();
        let (mut unusable, mut misplaced) = (Vec::new(), Vec::new());
        // Where several directories have a record, the first counts.
        let mut seen = BTreeSet::new();
        let visit = |directory: &str, target: &str, portal: &str, name: &str| {
            let file = format!("{directory}/{target}/{portal}/{name}");
            let Some(stamp) = database.stamp(&file) else { return };
            let known = before.remove(&file).filter(|known| known.is_settled && known.stamp == stamp);
            let content = if let Some(known) = known {
                known.content
            } else {
                #[cfg(test)]
                self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                content(database, &file, (target, portal, name), stamp)
            };
            stored.automatic.extend(content.automatic.clone());
            if let Some(record) = node(target, portal, name)
                && seen.insert(record.clone())
            {
                stored.nodes.entry(record.path()).or_default().insert(record, content.node.clone());
            }
            if !content.is_usable && stamp.is_older_than(WRITTEN_WITHIN, now) {
                unusable.push(file.clone());
            }
            files.insert(file, Known { stamp, is_settled: stamp.is_older_than(TICK, now), content });
        };
        // Without any directory of records the host's database is not seen, as where open-iscsi runs in a container that is
        // just restarting: then no record is known to be missing.
        stored.is_known = database.each_node(visit, |file| misplaced.push(file));
        misplaced.retain(|file| database.stamp(file).is_some_and(|stamp| stamp.is_older_than(WRITTEN_WITHIN, now)));
        stored.unusable = misplaced;
        stored.unusable.append(&mut unusable);
        let in_use = database.in_use();
        stored.unusable.retain(|file| in_use.as_ref().is_some_and(|nodes| file.starts_with(nodes.as_str())));
        stored.unusable.sort();
        stored.automatic.sort();
        stored
    }

    /// The number of files that were read.
    #[cfg(test)]
    pub(super) fn reads(&self) -> usize {
        self.reads.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn content(database: &Database, file: &str, (target, portal, name): (&str, &str, &str), stamp: Stamp) -> Content {
    let Some(text) = database.text(file) else { return Content { node: None, automatic: None, is_usable: false } };
    let settings = parse(&text);
    let record = node(target, portal, name).filter(|record| describes(&settings, record));
    Content {
        node: record.map(|record| StoredNode::new(record.port, &settings, stamp)),
        automatic: automatic(&settings),
        is_usable: is_usable(&text),
    }
}

impl StoredNode {
    fn new(port: u16, settings: &Settings, stamp: Stamp) -> Self {
        StoredNode {
            port,
            name: stored_name(settings).cloned(),
            written_name: settings.get(PORTAL_NAME).cloned().unwrap_or_default(),
            is_marked: has_mark(settings),
            is_kept: settings_to_change(&identity(), settings).is_empty(),
            credentials: credentials(settings),
            written: stamp.written(),
        }
    }

    /// The path that it was made for: with the DNS name, if it has one.
    #[must_use]
    pub fn requested(&self, by_address: &IscsiPath) -> IscsiPath {
        match &self.name {
            Some(name) => IscsiPath { portal: Portal::new(name, self.port), ..by_address.clone() },
            None => by_address.clone(),
        }
    }

    /// Whether it has the agent's mark.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.is_marked
    }

    /// Whether it has what every record of the agent has, and the name that it was made for.
    #[must_use]
    pub fn is_kept(&self, requested: &IscsiPath) -> bool {
        self.is_kept && self.written_name == portal_name(requested).value.reveal()
    }

    /// The credentials for the next login; none without CHAP.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }
}

/// Of records for the same path, the one that was written last: each login writes the record that it uses.
fn last_written<'a>(records: impl Iterator<Item = &'a StoredNode>) -> Option<&'a StoredNode> {
    records.max_by_key(|record| record.written)
}

impl Stored {
    /// The record of a path by address. Of several, the one with the portal group tag that the target has answered counts,
    /// because iscsid finds a session's record by it; otherwise the one that was written last.
    #[must_use]
    pub fn of(&self, by_address: &IscsiPath, answered: Option<u16>) -> Option<&StoredNode> {
        let records = self.nodes.get(by_address)?;
        let with_tag = records.iter().find(|(record, node)| Some(record.tpgt) == answered && node.is_some());
        with_tag.and_then(|(_, node)| node.as_ref()).or_else(|| last_written(records.values().flatten()))
    }

    /// The credentials that are stored for the next login of a path of a plan; none without CHAP. If its portal has a DNS
    /// name, they are those of a record that was made for it, by an address.
    #[must_use]
    pub fn credentials_for_login(&self, path: &IscsiPath) -> Option<&Credentials> {
        let of_pair =
            self.nodes.iter().filter(|(found, _)| (&found.target, &found.interface) == (&path.target, &path.interface));
        let of_path = of_pair.flat_map(|(found, records)| {
            records.values().flatten().filter(move |record| found == path || record.requested(found) == *path)
        });
        last_written(of_path)?.credentials()
    }

    /// The records with names of the agent's, and what each has.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeRecord, Option<&StoredNode>)> {
        self.nodes.values().flatten().map(|(record, node)| (record, node.as_ref()))
    }

    /// Whether another record of the same path is the one that counts for a session with this portal group tag.
    #[must_use]
    pub fn is_superseded(&self, record: &NodeRecord, answered: Option<u16>) -> bool {
        let is_answered =
            |(other, node): (&NodeRecord, &Option<StoredNode>)| Some(other.tpgt) == answered && node.is_some();
        Some(record.tpgt) != answered
            && self.nodes.get(&record.path()).is_some_and(|records| records.iter().any(is_answered))
    }

    /// Whether the record of a session is as the agent keeps it. None if that is not known.
    #[must_use]
    pub fn is_kept(&self, by_address: &IscsiPath, answered: u16, requested: &IscsiPath) -> Option<bool> {
        match self.of(by_address, Some(answered)) {
            Some(record) => Some(record.is_kept(requested)),
            None if !self.is_known || self.nodes.contains_key(by_address) => None,
            None => Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::agent::{fixtures::path, host::host_root::HostRoot};

    const HOUR: Duration = Duration::from_secs(3600);

    /// A host with node records.
    struct Records {
        root: tempfile::TempDir,
        known: KnownRecords,
    }

    impl Records {
        fn new() -> Self {
            Records { root: tempfile::tempdir().unwrap(), known: KnownRecords::default() }
        }

        fn read(&self, after: Duration) -> Stored {
            let database = Database::new(HostRoot::open(self.root.path()).unwrap());
            self.known.read(&database, SystemTime::now() + after)
        }

        fn file(&self, name: &str) -> PathBuf {
            let file = self.root.path().join("etc/iscsi/nodes").join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            file
        }

        /// Writes the record of target `a` through `ens1` at an address and portal group tag.
        fn record(&self, address: &str, tag: u16, more: &str) -> PathBuf {
            let file = self.file(&format!("iqn.2003-01.org.example:a/{address},3260,{tag}/mb.ens1"));
            let text = format!(
                "node.name = iqn.2003-01.org.example:a\nnode.conn[0].address = {address}\nnode.conn[0].port = 3260\n\
                 iface.iscsi_ifacename = mb.ens1\niface.net_ifacename = ens1\n{more}"
            );
            fs::write(&file, text).unwrap();
            file
        }
    }

    fn chap(password: &str) -> String {
        format!(
            "node.session.auth.authmethod = CHAP\nnode.session.auth.username = ann\n\
             node.session.auth.password = {password}\n"
        )
    }

    fn set_written(file: &PathBuf, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::open(file).unwrap().set_modified(time).unwrap();
    }

    fn password(credentials: Option<&Credentials>) -> &str {
        credentials.map_or("none", |credentials| credentials.outgoing.password.reveal())
    }

    #[test]
    fn a_turn_reads_only_the_records_that_have_changed() {
        let records = Records::new();
        records.record("10.0.1.10", 1, "");
        let theirs: Vec<PathBuf> = ["default", "iface0", "10.0.9.10:3260:pv-1"]
            .map(|name| records.file(&format!("iqn.b/10.0.9.10,3260,1/{name}")))
            .into();
        let text = "node.name = iqn.b\nnode.conn[0].address = 10.0.9.10\nnode.conn[0].port = 3260\n";
        for file in &theirs {
            fs::write(file, text).unwrap();
        }
        for _ in 0..2 {
            records.read(HOUR);
            assert_eq!(records.known.reads(), 4);
        }
        fs::write(&theirs[0], format!("{text}node.startup = automatic\n")).unwrap();
        assert_eq!((records.read(HOUR).automatic.len(), records.known.reads()), (1, 5));
    }

    #[test]
    fn a_record_that_was_just_written_is_read_again() {
        let records = Records::new();
        let file = records.record("10.0.1.10", 1, &chap("hunter2"));
        records.read(Duration::ZERO);
        records.read(Duration::ZERO);
        // Within a tick of the file system, another change leaves size, inode and time as they are.
        assert_eq!(records.known.reads(), 2);
        fs::write(&file, fs::read_to_string(&file).unwrap().replace("hunter2", "hunter3")).unwrap();
        let stored = records.read(Duration::ZERO);
        assert_eq!(
            (password(stored.credentials_for_login(&path("a", "1", "ens1"))), records.known.reads()),
            ("hunter3", 3)
        );
    }

    #[test]
    fn a64_the_record_with_the_answered_tag_counts_and_else_the_last_one() {
        let records = Records::new();
        let one = path("a", "1", "ens1");
        let first = records.record("10.0.1.10", 1, &chap("first"));
        let last = records.record("10.0.1.10", 2, &chap("last"));
        set_written(&first, 1000);
        set_written(&last, 2000);
        let stored = records.read(HOUR);
        let of = |tag| password(stored.of(&one, tag).and_then(StoredNode::credentials));
        assert_eq!([of(Some(1)), of(Some(2)), of(Some(9)), of(None)], ["first", "last", "last", "last"]);
        assert_eq!(password(stored.credentials_for_login(&one)), "last");
        let superseded = |answered| -> Vec<u16> {
            let found = stored.nodes().filter(|(record, _)| stored.is_superseded(record, answered));
            found.map(|(record, _)| record.tpgt).collect()
        };
        assert_eq!([superseded(Some(2)), superseded(Some(9)), superseded(None)], [vec![1], vec![], vec![]]);
        fs::write(&last, "x").unwrap();
        let stored = records.read(HOUR);
        assert_eq!(password(stored.of(&one, Some(2)).and_then(StoredNode::credentials)), "first", "it can be read");
    }

    #[test]
    fn a67_after_a_move_of_a_name_the_record_of_its_last_login_has_the_credentials() {
        let records = Records::new();
        let san = IscsiPath { portal: Portal::new("san.example.com", 3260), ..path("a", "1", "ens1") };
        let name = "node.discovery_address = san.example.com\n";
        let old = records.record("10.0.1.10", 1, &(chap("old") + name));
        let new = records.record("10.0.2.10", 1, &(chap("new") + name));
        for (written, expected) in [((1000, 2000), "new"), ((2000, 1000), "old")] {
            set_written(&old, written.0);
            set_written(&new, written.1);
            assert_eq!(password(records.read(HOUR).credentials_for_login(&san)), expected);
        }
        let elsewhere = IscsiPath { interface: Some("ens2".into()), ..san };
        assert_eq!(password(records.read(HOUR).credentials_for_login(&elsewhere)), "none");
    }

    #[test]
    fn a55_files_that_open_iscsi_cannot_use_as_records_are_found() {
        let records = Records::new();
        records.record("10.0.1.10", 1, "");
        let record = "node.name = iqn.b\nnode.conn[0].address = 10.0.9.10\n";
        for (name, text) in [
            ("iqn.b/10.0.9.10,3260,1/default", record.to_owned()),
            ("iqn.b/10.0.9.10,3260,1/unknown", format!("{record}node.unknown = 1\nnode.discovery_type = slp\n")),
            ("iqn.b/10.0.9.10,3260", "an old record has no directory of its own".to_owned()),
            ("iqn.b/.multibond", String::new()),
            ("iqn.b/10.0.9.10,3260,2", String::new()),
            ("iqn.b/10.0.9.10,3260,3/default", String::new()),
            ("iqn.b/10.0.9.10,3260,4/default", format!("{record}node.session.auth.username = {}\n", "x".repeat(256))),
            ("stray", String::new()),
        ] {
            fs::write(records.file(name), text).unwrap();
        }
        assert_eq!(records.read(Duration::ZERO).unusable, [""; 0], "they may just be being written");
        let expected =
            ["iqn.b/10.0.9.10,3260,2", "iqn.b/10.0.9.10,3260,3/default", "iqn.b/10.0.9.10,3260,4/default", "stray"];
        assert_eq!(records.read(HOUR).unusable, expected.map(|name| format!("etc/iscsi/nodes/{name}")));
        let newer = records.root.path().join("var/lib/iscsi/nodes");
        fs::create_dir_all(&newer).unwrap();
        assert_eq!(records.read(HOUR).unusable, [""; 0], "open-iscsi uses the other directory");
        fs::remove_dir(&newer).unwrap();
        fs::remove_dir_all(records.root.path().join("etc")).unwrap();
        assert_eq!(records.read(HOUR).unusable, [""; 0]);
    }
}
