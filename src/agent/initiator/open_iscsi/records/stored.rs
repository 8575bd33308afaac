//! The node records of a host, read at one time.
//!
//! A host may have thousands of records of other tools. So a file that has not changed is not read again, and of each only
//! what the agent looks at is remembered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use super::{
    database::{Database, Stamp, describes, node},
    desired::{PORTAL_NAME, automatic, credentials, has_mark, identity, portal_name, settings_to_change, stored_name},
    settings::Settings,
};
use crate::{
    agent::{
        initiator::AutomaticRecord,
        types::{IscsiPath, credentials::Credentials},
    },
    api::Portal,
};

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
    content: Content,
}

/// What a file of a node record has.
#[derive(Clone, Debug)]
struct Content {
    /// The record, if it has a name of the agent's and belongs where it is.
    node: Option<StoredNode>,
    automatic: Option<AutomaticRecord>,
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
}

/// The node records of a host.
#[derive(Debug, Default)]
pub struct Stored {
    /// By the path by address. Of several that differ in their portal group tags, the first.
    nodes: BTreeMap<IscsiPath, StoredNode>,
    /// Paths with a file that is no record of theirs, perhaps because it is just being written.
    unreadable: BTreeSet<IscsiPath>,
    /// The records, of whomever, by which open-iscsi logs in by itself; sorted.
    pub automatic: Vec<AutomaticRecord>,
    /// Whether the records could be looked for.
    is_known: bool,
}

impl KnownRecords {
    /// Walks through all node records.
    pub(super) fn read(&self, database: &Database) -> Stored {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *files);
        let mut stored = Stored::default();
        // Where several directories have a record, the first counts.
        let mut seen = BTreeSet::new();
        let mut nodes = BTreeMap::new();
        // Without any directory of records the host's database is not seen, as where open-iscsi runs in a container that is
        // just restarting: then no record is known to be missing.
        stored.is_known = database.each_node(|directory, target, portal, name| {
            let file = format!("{directory}/{target}/{portal}/{name}");
            let Some(stamp) = database.stamp(&file) else { return };
            let known = before.remove(&file).filter(|known| known.stamp == stamp);
            let content = if let Some(known) = known {
                known.content
            } else {
                #[cfg(test)]
                self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                content(database, &file, (target, portal, name))
            };
            stored.automatic.extend(content.automatic.clone());
            if let Some(record) = node(target, portal, name)
                && seen.insert(record.clone())
            {
                nodes.insert(record, content.node.clone());
            }
            files.insert(file, Known { stamp, content });
        });
        for (record, content) in nodes {
            match content {
                Some(content) => _ = stored.nodes.entry(record.path()).or_insert(content),
                None => _ = stored.unreadable.insert(record.path()),
            }
        }
        stored.automatic.sort();
        stored
    }

    /// The number of files that were read.
    #[cfg(test)]
    pub(super) fn reads(&self) -> usize {
        self.reads.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn content(database: &Database, file: &str, (target, portal, name): (&str, &str, &str)) -> Content {
    let Some(settings) = database.settings(file) else { return Content { node: None, automatic: None } };
    let record = node(target, portal, name).filter(|record| describes(&settings, record));
    Content { node: record.map(|record| StoredNode::new(record.port, &settings)), automatic: automatic(&settings) }
}

impl StoredNode {
    fn new(port: u16, settings: &Settings) -> Self {
        StoredNode {
            port,
            name: stored_name(settings).cloned(),
            written_name: settings.get(PORTAL_NAME).cloned().unwrap_or_default(),
            is_marked: has_mark(settings),
            is_kept: settings_to_change(&identity(), settings).is_empty(),
            credentials: credentials(settings),
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

impl Stored {
    /// The record of a path by address.
    #[must_use]
    pub fn of(&self, by_address: &IscsiPath) -> Option<&StoredNode> {
        self.nodes.get(by_address)
    }

    /// Whether the record of a path by address is as the agent keeps it. None if that is not known.
    #[must_use]
    pub fn is_kept(&self, by_address: &IscsiPath, requested: &IscsiPath) -> Option<bool> {
        match self.of(by_address) {
            Some(record) => Some(record.is_kept(requested)),
            None if !self.is_known || self.unreadable.contains(by_address) => None,
            None => Some(false),
        }
    }
}
