//! The objects, and the history of their changes: what etcd is to the API server.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Key;

/// How long Events are kept.
const EVENTS_LAST: SignedDuration = SignedDuration::from_hours(1);

/// One change of one object.
pub struct Change {
    /// The version that it made.
    pub version: u64,
    /// Which object.
    pub key: Key,
    /// What it was, unless it is new.
    pub before: Option<Arc<Value>>,
    /// What it is, unless it is gone.
    pub after: Option<Arc<Value>>,
}

/// The objects and their history.
#[derive(Default)]
pub struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    version: u64,
    history: VecDeque<Change>,
    /// The history up to this version is forgotten.
    compacted: u64,
    /// When which Event ends.
    expiries: VecDeque<(Timestamp, Key)>,
    /// Objects that are in etcd without their defaults.
    without_defaults: BTreeSet<Key>,
}

impl Store {
    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The version up to which the history is forgotten.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// All objects.
    pub fn objects(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// Stores an object, and returns it with its new version.
    pub fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        self.without_defaults.remove(&key);
        let before = self.objects.insert(key.clone(), object.clone());
        self.history.push_back(Change { version: self.version, key, before, after: Some(object.clone()) });
        object
    }

    /// Remembers that an object is in etcd without its defaults, which the API server adds at each reading: its next
    /// update is a write and gets a new version, even if it changes nothing.
    pub fn lacks_defaults(&mut self, key: Key) {
        self.without_defaults.insert(key);
    }

    /// Whether an object is in etcd with its defaults.
    pub fn has_defaults(&self, key: &Key) -> bool {
        !self.without_defaults.contains(key)
    }

    /// Removes an object.
    pub fn remove(&mut self, key: &Key) {
        self.without_defaults.remove(key);
        if let Some(before) = self.objects.remove(key) {
            self.version += 1;
            self.history.push_back(Change {
                version: self.version,
                key: key.clone(),
                before: Some(before),
                after: None,
            });
        }
    }

    /// Remembers when an Event ends.
    pub fn expires(&mut self, now: Timestamp, key: Key) {
        self.expiries.push_back((now.saturating_add(EVENTS_LAST).unwrap_or(Timestamp::MAX), key));
    }

    /// Removes the Events that are too old.
    pub fn expire(&mut self, now: Timestamp) {
        while self.expiries.front().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, key)) = self.expiries.pop_front() {
                self.remove(&key);
            }
        }
    }

    /// The changes after a version.
    pub fn changes_after(&self, version: u64) -> impl Iterator<Item = &Change> {
        let first = self.history.partition_point(|change| change.version <= version);
        self.history.range(first..)
    }

    /// The objects as they were at a version, which must not be compacted.
    pub fn objects_at(&self, version: u64) -> BTreeMap<Key, Arc<Value>> {
        let mut objects = self.objects.clone();
        let first = self.history.partition_point(|change| change.version <= version);
        for change in self.history.range(first..).rev() {
            match &change.before {
                Some(before) => drop(objects.insert(change.key.clone(), before.clone())),
                None => drop(objects.remove(&change.key)),
            }
        }
        objects
    }

    /// Forgets the history up to a version.
    pub fn compact(&mut self, version: u64) {
        let version = version.min(self.version);
        self.compacted = self.compacted.max(version);
        while self.history.front().is_some_and(|change| change.version <= version) {
            self.history.pop_front();
        }
    }
}
