//! Helpers of the controller's unit tests: objects as JSON, an index with these objects, and the writes of a decision.

use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    index::Index,
    reconcile::{
        Settings,
        action::{Action, Outcome, StatusFields},
        reconcile,
    },
    store::{Change, key::Key, watched::Event},
};
use crate::{
    api::{ObjectKey, ObjectKind},
    ops::Now,
};

pub(crate) const NOW: Now = Now { wall: Timestamp::UNIX_EPOCH, monotonic: Duration::ZERO };
pub(crate) const SETTINGS: Settings = Settings { deletion_timeout: Duration::from_secs(120) };
/// The target of [`storage`].
pub(crate) const TARGET: &str = "iqn.2026-11.com.example:array";

/// This many seconds after [`NOW`], on the monotonic clock.
pub(crate) fn at(seconds: u64) -> Now {
    Now { monotonic: Duration::from_secs(seconds), ..NOW }
}

pub(crate) fn read<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

/// An object of namespace `ns`, with its name as uid.
pub(crate) fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "multibond.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "ns", "uid": name, "generation": 1}, "spec": spec})
}

/// A Node.
pub(crate) fn node(name: &str) -> Value {
    json!({"kind": "Node", "metadata": {"name": name, "uid": name, "resourceVersion": "1"}})
}

/// The lease of a node's agent, renewed at [`NOW`].
pub(crate) fn lease(node: &str, seconds: u32) -> Value {
    json!({"kind": "Lease", "metadata": {"name": format!("agent-{node}"), "namespace": "system"},
        "spec": {"holderIdentity": node, "renewTime": "1970-01-01T00:00:00.000000Z", "leaseDurationSeconds": seconds}})
}

/// `spec.storage` with one target, at this portal.
pub(crate) fn storage(portal: &str) -> Value {
    json!([{"name": "array", "targets": [{"iqn": TARGET, "portals": [{"address": portal}]}]}])
}

/// Marks an object for deletion, with Multibond's finalizer.
pub(crate) fn deleting(mut object: Value) -> Value {
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    object["metadata"]["finalizers"] = json!([crate::api::FINALIZER]);
    object
}

/// The event of a watch that an object was added or changed.
pub(crate) fn applied(object: Value) -> Change {
    match object["kind"].as_str() {
        Some("DataCenter") => Change::DataCenter(Event::Applied(read(object))),
        Some("Network") => Change::Network(Event::Applied(read(object))),
        Some("Host") => Change::Host(Event::Applied(read(object))),
        Some("IscsiBond") => Change::Bond(Event::Applied(read(object))),
        Some("Node") => Change::Node(Event::Applied(read(object))),
        Some("Lease") => Change::Lease(Event::Applied(read(object))),
        kind => panic!("{kind:?}"),
    }
}

impl Index {
    /// An index of an empty cluster, whose lists have been read: until then every data center is frozen.
    pub(crate) fn listed(now: Now) -> Self {
        let (mut index, began) = (Index::default(), Instant::now());
        for change in [Event::ListBegins(began), Event::ListEnds].map(Change::DataCenter) {
            index.apply(change, now);
        }
        for change in [Event::ListBegins(began), Event::ListEnds].map(Change::Network) {
            index.apply(change, now);
        }
        for change in [Event::ListBegins(began), Event::ListEnds].map(Change::Host) {
            index.apply(change, now);
        }
        for change in [Event::ListBegins(began), Event::ListEnds].map(Change::Bond) {
            index.apply(change, now);
        }
        for change in [Event::ListBegins(began), Event::ListEnds].map(Change::Node) {
            index.apply(change, now);
        }
        index
    }
}

/// An index of a cluster with these objects, whose lists have been read.
pub(crate) fn cluster(objects: impl IntoIterator<Item = Value>) -> Index {
    let mut index = Index::listed(NOW);
    objects.into_iter().for_each(|object| index.apply(applied(object), NOW));
    index
}

/// The key of an object of namespace `ns`.
pub(crate) fn key(kind: ObjectKind, name: &str) -> Key {
    Key::Object(kind, ObjectKey::new("ns", name))
}

/// Decides for an object, and stores the decision in the index.
pub(crate) fn decide(index: &mut Index, key: &Key, now: Now) -> Outcome {
    let mut outcome = reconcile(index, key, &SETTINGS, now);
    index.remember(key, std::mem::take(&mut outcome.memo), now);
    outcome
}

/// The names of the actions of an outcome, in order.
pub(crate) fn actions(outcome: &Outcome) -> Vec<&'static str> {
    outcome.steps.iter().map(|step| step.action.name()).collect()
}

/// The status that an outcome writes, if it writes one.
pub(crate) fn status(outcome: Outcome) -> Option<Value> {
    outcome.steps.into_iter().find_map(|step| match step.action {
        Action::WriteStatus { fields: StatusFields(fields), .. } => Some(Value::Object(fields)),
        _ => None,
    })
}

/// Status and reason of a condition.
pub(crate) fn condition<'a>(status: &'a Value, kind: &str) -> (&'a str, &'a str) {
    let conditions = status["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
    (found["status"].as_str().unwrap(), found["reason"].as_str().unwrap())
}

/// The message of a condition.
pub(crate) fn message<'a>(status: &'a Value, kind: &str) -> &'a str {
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap()["message"].as_str().unwrap()
}
