//! What controllers of the control plane do in the background: the garbage collector and the namespace controller. Each
//! step is one write, so that the caller draws their order and their delay.

use std::{cell::LazyCell, collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    ApiServer, Key,
    delete::delete_object,
    metadata::{self, text},
};

/// One write that a controller of the control plane has to do. It does nothing if the object has changed its uid meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GarbageStep {
    /// Delete an object: none of its owners exists, or its namespace is being deleted.
    Delete(Key, String),
    /// Remove the owners that do not exist from an object.
    DropOwners(Key, String),
    /// Remove a namespace that is being deleted and empty.
    EndNamespace(Key, String),
}

impl ApiServer {
    /// The steps that are to be done now, in the order of their keys.
    pub fn garbage(&self) -> Vec<GarbageStep> {
        // Few objects have owners.
        let uids: LazyCell<BTreeSet<&str>, _> =
            LazyCell::new(|| self.store.objects().map(|(_, object)| text(object, "uid")).collect());
        let is_ending = |namespace: &str| {
            let key = Key { plural: "namespaces", namespace: String::new(), name: namespace.to_owned() };
            self.store.get(&key).is_some_and(|namespace| metadata::is_being_deleted(namespace))
        };
        let mut steps = Vec::new();
        for (key, object) in self.store.objects() {
            let id = || (key.clone(), text(object, "uid").to_owned());
            if key.plural == "namespaces" {
                let is_empty = || self.store.objects().all(|(other, _)| other.namespace != key.name);
                if metadata::is_being_deleted(object) && is_empty() {
                    let (key, uid) = id();
                    steps.push(GarbageStep::EndNamespace(key, uid));
                }
                continue;
            }
            let owners = metadata::list(&object["metadata"], "ownerReferences");
            let gone = owners.iter().filter(|owner| !owner_exists(owner, &uids)).count();
            let deleted = metadata::is_being_deleted(object);
            if !deleted && (!owners.is_empty() && gone == owners.len() || is_ending(&key.namespace)) {
                let (key, uid) = id();
                steps.push(GarbageStep::Delete(key, uid));
            } else if !deleted && gone > 0 {
                let (key, uid) = id();
                steps.push(GarbageStep::DropOwners(key, uid));
            }
        }
        steps
    }

    /// Does one step.
    pub fn collect(&mut self, now: Timestamp, step: &GarbageStep) {
        let (GarbageStep::Delete(key, uid) | GarbageStep::DropOwners(key, uid) | GarbageStep::EndNamespace(key, uid)) =
            step;
        let Some(object) = self.store.get(key).filter(|object| text(object, "uid") == uid).cloned() else { return };
        match step {
            GarbageStep::Delete(..) => {
                if let Some(kind) = self.kinds.by_plural(key.plural) {
                    delete_object(&mut self.store, now, kind, key, &object);
                }
            }
            GarbageStep::DropOwners(..) => {
                let uids: BTreeSet<&str> = self.store.objects().map(|(_, object)| text(object, "uid")).collect();
                let owners = metadata::list(&object["metadata"], "ownerReferences");
                let left: Vec<_> = owners.iter().filter(|owner| owner_exists(owner, &uids)).cloned().collect();
                let mut object = Arc::unwrap_or_clone(object);
                object["metadata"]["ownerReferences"] = left.into();
                self.store.put(key.clone(), object);
            }
            GarbageStep::EndNamespace(..) => self.store.remove(key),
        }
    }
}

fn owner_exists(owner: &Value, uids: &BTreeSet<&str>) -> bool {
    owner["uid"].as_str().is_some_and(|uid| uids.contains(uid))
}
