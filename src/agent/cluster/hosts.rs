//! The Hosts by the node that they name, from a watch.
//!
//! A Host that cannot be read is not a deleted one. While the API server is away, a verb is forbidden or the CRD is
//! missing, the store keeps what it has. A Host that cannot be decoded stays as it was last decoded.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use futures::{Stream, StreamExt as _, pin_mut};
use kube::{
    Api, Client,
    api::ObjectMeta,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{
        WatchStreamExt as _,
        reflector::ObjectRef,
        watcher::{self, Event},
    },
};
use tokio::sync::watch;
use tracing::warn;

use crate::{
    agent::metrics::{AgentMetrics, WatchGauge},
    api::{Host, NodeName},
    ops::{errors::brief, log_once::LogOnce},
};

/// The Hosts that name one node; None until they have been listed for the first time.
pub type NodeHosts = Option<Arc<[Arc<Host>]>>;

/// All Hosts of a watch, by node.
///
/// kube's reflector is not used: its store has no index by node, and an object that cannot be decoded would replace the
/// last version that could.
#[derive(Debug, Default)]
pub struct HostStore {
    by_node: HashMap<NodeName, Vec<Arc<Host>>>,
    nodes: HashMap<ObjectRef<Host>, NodeName>,
    /// The Hosts of the list in progress, if one is being read.
    listing: Option<HashSet<ObjectRef<Host>>>,
    /// A complete list was read.
    complete: bool,
}

impl HostStore {
    /// Applies an event, and returns the nodes whose Hosts have changed. It returns none until the first list is
    /// complete, and then all.
    pub fn apply(&mut self, event: Event<DeserializeGuard<Host>>) -> BTreeSet<NodeName> {
        let mut changed = BTreeSet::new();
        match event {
            Event::Init => self.listing = Some(HashSet::new()),
            Event::InitApply(DeserializeGuard(host)) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(object_ref(metadata(&host)));
                }
                changed = self.put(host);
            }
            Event::Apply(DeserializeGuard(host)) => changed = self.put(host),
            Event::Delete(DeserializeGuard(host)) => changed.extend(self.remove(&object_ref(metadata(&host)))),
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                let gone: Vec<_> = self.nodes.keys().filter(|host| !listed.contains(*host)).cloned().collect();
                changed.extend(gone.iter().filter_map(|host| self.remove(host)));
                if !std::mem::replace(&mut self.complete, true) {
                    changed.extend(self.by_node.keys().cloned());
                }
            }
        }
        if self.complete { changed } else { BTreeSet::new() }
    }

    /// The Hosts that name a node.
    #[must_use]
    pub fn of(&self, node: &str) -> Arc<[Arc<Host>]> {
        self.by_node.get(node).map(|hosts| hosts.as_slice().into()).unwrap_or_default()
    }

    /// Whether a complete list was read. Before that, a Host that is not in the store may exist.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    fn put(&mut self, host: Result<Host, InvalidObject>) -> BTreeSet<NodeName> {
        let host = match host {
            Ok(host) => Arc::new(trimmed(host)),
            Err(invalid) => {
                let namespace = invalid.metadata.namespace.as_deref().unwrap_or_default();
                let name = invalid.metadata.name.as_deref().unwrap_or_default();
                warn!(
                    error = %invalid.error,
                    "cannot decode the Host {namespace}/{name}; it stays as it was last decoded"
                );
                return BTreeSet::new();
            }
        };
        let key = object_ref(&host.metadata);
        let node: NodeName = match self.by_node.get_key_value(host.spec.node_name.as_str()) {
            Some((node, _)) => node.clone(),
            None => host.spec.node_name.as_str().into(),
        };
        let mut changed: BTreeSet<_> = self.remove(&key).into_iter().collect();
        self.nodes.insert(key, node.clone());
        self.by_node.entry(node.clone()).or_default().push(host);
        changed.insert(node);
        changed
    }

    fn remove(&mut self, key: &ObjectRef<Host>) -> Option<NodeName> {
        let node = self.nodes.remove(key)?;
        if let Some(hosts) = self.by_node.get_mut(&node) {
            hosts.retain(|host| object_ref(&host.metadata) != *key);
            if hosts.is_empty() {
                self.by_node.remove(&node);
            }
        }
        Some(node)
    }
}

fn metadata(host: &Result<Host, InvalidObject>) -> &ObjectMeta {
    match host {
        Ok(host) => &host.metadata,
        Err(invalid) => &invalid.metadata,
    }
}

fn object_ref(metadata: &ObjectMeta) -> ObjectRef<Host> {
    let name = metadata.name.as_deref().unwrap_or_default();
    ObjectRef::new(name).within(metadata.namespace.as_deref().unwrap_or_default())
}

/// The Host without the fields that an agent does not need, which are most of its bytes.
#[must_use]
pub fn trimmed(mut host: Host) -> Host {
    host.metadata.managed_fields = None;
    host.metadata.annotations = None;
    host.metadata.labels = None;
    host.metadata.owner_references = None;
    if let Some(status) = &mut host.status {
        status.conditions = Vec::new();
        status.networks = Arc::default();
        status.targets = Vec::new();
        status.summary = None;
    }
    host
}

/// A watch of Hosts that never ends. An error is logged once, and shown in `gauge`.
pub fn events(
    client: Client,
    config: watcher::Config,
    mut gauge: WatchGauge,
) -> impl Stream<Item = Event<DeserializeGuard<Host>>> + Send {
    let mut log = LogOnce::new("watch Hosts");
    watcher::watcher(Api::<DeserializeGuard<Host>>::all(client), config).default_backoff().filter_map(move |event| {
        let event = match event {
            Ok(event) => {
                // An Init is the start of an attempt, not its success.
                if !matches!(event, Event::Init) {
                    log.recovered();
                    gauge.set(true);
                }
                Some(event)
            }
            Err(error) => {
                log.failed(brief(&error));
                gauge.set(false);
                None
            }
        };
        std::future::ready(event)
    })
}

/// Watches the Hosts of one node, for as long as there is a receiver.
pub async fn watch_node(client: Client, node: NodeName, hosts: watch::Sender<NodeHosts>, metrics: AgentMetrics) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let events = events(client, config, WatchGauge::new(metrics));
    pin_mut!(events);
    let mut store = HostStore::default();
    loop {
        let event = tokio::select! {
            () = hosts.closed() => return,
            event = events.next() => event,
        };
        let Some(event) = event else { return };
        let changed = store.apply(event);
        let is_first = store.is_complete() && hosts.borrow().is_none();
        if is_first || !changed.is_empty() {
            hosts.send_replace(Some(store.of(&node)));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn host(name: &str, node: &str) -> DeserializeGuard<Host> {
        decode(json!({"metadata": {"namespace": "n", "name": name}, "spec": {"dataCenter": "d", "nodeName": node}}))
    }

    fn undecodable(name: &str) -> DeserializeGuard<Host> {
        decode(json!({"metadata": {"namespace": "n", "name": name}, "spec": {"nodeName": 7}}))
    }

    fn decode(mut object: serde_json::Value) -> DeserializeGuard<Host> {
        object["apiVersion"] = "multibond.dev/v1alpha1".into();
        object["kind"] = "Host".into();
        serde_json::from_value(object).unwrap()
    }

    fn nodes(changed: &BTreeSet<NodeName>) -> Vec<String> {
        changed.iter().map(ToString::to_string).collect()
    }

    fn names(store: &HostStore, node: &str) -> Vec<String> {
        store.of(node).iter().filter_map(|host| host.metadata.name.clone()).collect()
    }

    fn listed(hosts: Vec<DeserializeGuard<Host>>) -> HostStore {
        let mut store = HostStore::default();
        list(&mut store, hosts);
        store
    }

    fn list(store: &mut HostStore, hosts: Vec<DeserializeGuard<Host>>) -> Vec<String> {
        let events = [Event::Init].into_iter().chain(hosts.into_iter().map(Event::InitApply)).chain([Event::InitDone]);
        events.flat_map(|event| nodes(&store.apply(event))).collect()
    }

    #[test]
    fn no_node_changes_before_the_first_list_is_complete() {
        let mut store = HostStore::default();
        store.apply(Event::Init);
        assert!(store.apply(Event::InitApply(host("a", "w1"))).is_empty() && !store.is_complete());
        assert_eq!(nodes(&store.apply(Event::InitDone)), ["w1"]);
    }

    #[test]
    fn several_hosts_may_name_a_node() {
        let mut store = listed(vec![host("a", "w1"), host("b", "w2")]);
        assert_eq!(nodes(&store.apply(Event::Apply(host("c", "w1")))), ["w1"]);
        assert_eq!(names(&store, "w1"), ["a", "c"]);
        assert_eq!(nodes(&store.apply(Event::Delete(host("a", "w1")))), ["w1"]);
        assert_eq!(names(&store, "w1"), ["c"]);
    }

    #[test]
    fn a_host_that_names_another_node_leaves_the_old_one() {
        let mut store = listed(vec![host("a", "w1")]);
        assert_eq!(nodes(&store.apply(Event::Apply(host("a", "w2")))), ["w1", "w2"]);
        assert_eq!((names(&store, "w1"), names(&store, "w2")), (vec![], vec!["a".to_owned()]));
    }

    #[test]
    fn a_host_missing_in_a_new_list_is_removed_when_the_list_is_complete() {
        let mut store = listed(vec![host("a", "w1"), host("b", "w2")]);
        store.apply(Event::Init);
        assert_eq!(names(&store, "w2"), ["b"]);
        assert_eq!(list(&mut store, vec![host("a", "w1")]), ["w1", "w2"]);
        assert!(names(&store, "w2").is_empty());
    }

    #[test]
    fn a30_a_host_that_cannot_be_decoded_stays_as_it_was() {
        let mut store = listed(vec![host("a", "w1")]);
        assert!(store.apply(Event::Apply(undecodable("a"))).is_empty());
        assert!(list(&mut store, vec![undecodable("a"), undecodable("b")]).is_empty());
        assert_eq!(names(&store, "w1"), ["a"]);
        assert_eq!(nodes(&store.apply(Event::Delete(undecodable("a")))), ["w1"]);
        assert!(names(&store, "w1").is_empty());
    }
}
