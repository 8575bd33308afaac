//! Hosts, by the node that they name: what a watch tells, kept through everything that can go wrong with a watch.
//!
//! What cannot be read is not gone. While the API server is away, a verb is forbidden or the CRD is missing, the agents
//! keep what they knew; a Host that cannot be decoded stays as it was last understood.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use futures::{Stream, StreamExt as _, pin_mut};
use kube::{
    Api, Client,
    api::ObjectMeta,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use tokio::sync::watch;
use tracing::warn;

use crate::{
    agent::metrics::{AgentMetrics, WatchShare},
    api::Host,
    ops::{errors::brief, log_once::LogOnce},
};

/// The Hosts that name a node; none until they have been read for the first time.
pub type Seen = Option<Arc<[Arc<Host>]>>;

type Key = (String, String);

/// Every known Host.
#[derive(Debug, Default)]
pub struct Roster {
    by_node: HashMap<Arc<str>, Vec<Arc<Host>>>,
    nodes: HashMap<Key, Arc<str>>,
    /// While the watch begins anew: what it has told of so far.
    listing: Option<BTreeSet<Key>>,
    /// Whether a list was ever complete.
    complete: bool,
}

impl Roster {
    /// Takes in an event, and returns the nodes that have other Hosts now; nothing until the first list is complete.
    pub fn apply(&mut self, event: Event<DeserializeGuard<Host>>) -> BTreeSet<Arc<str>> {
        let mut changed = BTreeSet::new();
        match event {
            Event::Init => self.listing = Some(BTreeSet::new()),
            Event::InitApply(DeserializeGuard(host)) => {
                let key = match &host {
                    Ok(host) => key(&host.metadata),
                    Err(invalid) => key(&invalid.metadata),
                };
                if let Some(listing) = &mut self.listing {
                    listing.insert(key);
                }
                changed = self.put(host);
            }
            Event::Apply(DeserializeGuard(host)) => changed = self.put(host),
            Event::Delete(DeserializeGuard(Ok(host))) => changed.extend(self.take(&key(&host.metadata))),
            Event::Delete(DeserializeGuard(Err(invalid))) => changed.extend(self.take(&key(&invalid.metadata))),
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                let gone: Vec<Key> = self.nodes.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                changed.extend(gone.iter().filter_map(|key| self.take(key)));
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

    /// Whether a list was ever complete: before that, what is not known may exist.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    fn put(&mut self, host: Result<Host, InvalidObject>) -> BTreeSet<Arc<str>> {
        let host = match host {
            Ok(host) => Arc::new(trimmed(host)),
            Err(invalid) => {
                let (namespace, name) = key(&invalid.metadata);
                warn!(error = %invalid.error, "cannot decode the Host {namespace}/{name}; it stays as it was last understood");
                return BTreeSet::new();
            }
        };
        let key = key(&host.metadata);
        let node: Arc<str> = match self.by_node.get_key_value(host.spec.node_name.as_str()) {
            Some((node, _)) => node.clone(),
            None => host.spec.node_name.as_str().into(),
        };
        let mut changed: BTreeSet<_> = self.take(&key).into_iter().collect();
        self.nodes.insert(key, node.clone());
        self.by_node.entry(node.clone()).or_default().push(host);
        changed.insert(node);
        changed
    }

    fn take(&mut self, of: &Key) -> Option<Arc<str>> {
        let node = self.nodes.remove(of)?;
        if let Some(hosts) = self.by_node.get_mut(&node) {
            hosts.retain(|host| key(&host.metadata) != *of);
            if hosts.is_empty() {
                self.by_node.remove(&node);
            }
        }
        Some(node)
    }
}

fn key(metadata: &ObjectMeta) -> Key {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// Without what an agent never looks at, which is most of a Host's bytes.
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

/// A watch of Hosts that never ends; errors are logged once each, and tell in `share` that it fails.
pub fn events(
    client: Client,
    config: watcher::Config,
    mut share: WatchShare,
) -> impl Stream<Item = Event<DeserializeGuard<Host>>> + Send {
    let mut log = LogOnce::new("watch Hosts");
    watcher::watcher(Api::<DeserializeGuard<Host>>::all(client), config).default_backoff().filter_map(move |event| {
        let event = match event {
            Ok(event) => {
                // A watch that only begins to begin again has not succeeded yet.
                if !matches!(event, Event::Init) {
                    log.recovered();
                    share.set(true);
                }
                Some(event)
            }
            Err(error) => {
                log.failed(brief(&error));
                share.set(false);
                None
            }
        };
        std::future::ready(event)
    })
}

/// Watches the Hosts of one node, for as long as somebody wants to know.
pub async fn watch_node(client: Client, node: Arc<str>, seen: watch::Sender<Seen>, metrics: AgentMetrics) {
    let of_node = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let events = events(client, of_node, WatchShare::of(metrics));
    pin_mut!(events);
    let mut roster = Roster::default();
    loop {
        let event = tokio::select! {
            () = seen.closed() => return,
            event = events.next() => event,
        };
        let Some(event) = event else { return };
        let changed = roster.apply(event);
        let first = roster.is_complete() && seen.borrow().is_none();
        if first || !changed.is_empty() {
            seen.send_replace(Some(roster.of(&node)));
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

    fn nodes(changed: &BTreeSet<Arc<str>>) -> Vec<String> {
        changed.iter().map(ToString::to_string).collect()
    }

    fn names(roster: &Roster, node: &str) -> Vec<String> {
        roster.of(node).iter().filter_map(|host| host.metadata.name.clone()).collect()
    }

    fn listed(hosts: Vec<DeserializeGuard<Host>>) -> Roster {
        let mut roster = Roster::default();
        list(&mut roster, hosts);
        roster
    }

    fn list(roster: &mut Roster, hosts: Vec<DeserializeGuard<Host>>) -> Vec<String> {
        let events = [Event::Init].into_iter().chain(hosts.into_iter().map(Event::InitApply)).chain([Event::InitDone]);
        events.flat_map(|event| nodes(&roster.apply(event))).collect()
    }

    #[test]
    fn nothing_is_told_before_the_first_list_is_complete() {
        let mut roster = Roster::default();
        roster.apply(Event::Init);
        assert!(roster.apply(Event::InitApply(host("a", "w1"))).is_empty() && !roster.is_complete());
        assert_eq!(nodes(&roster.apply(Event::InitDone)), ["w1"]);
    }

    #[test]
    fn hosts_come_and_go_and_several_may_name_a_node() {
        let mut roster = listed(vec![host("a", "w1"), host("b", "w2")]);
        assert_eq!(nodes(&roster.apply(Event::Apply(host("c", "w1")))), ["w1"]);
        assert_eq!(names(&roster, "w1"), ["a", "c"]);
        assert_eq!(nodes(&roster.apply(Event::Delete(host("a", "w1")))), ["w1"]);
        assert_eq!(names(&roster, "w1"), ["c"]);
    }

    #[test]
    fn a_host_made_anew_for_another_node_leaves_the_old_one() {
        let mut roster = listed(vec![host("a", "w1")]);
        assert_eq!(nodes(&roster.apply(Event::Apply(host("a", "w2")))), ["w1", "w2"]);
        assert_eq!((names(&roster, "w1"), names(&roster, "w2")), (vec![], vec!["a".to_owned()]));
    }

    #[test]
    fn what_a_new_list_lacks_is_gone_only_when_that_list_is_complete() {
        let mut roster = listed(vec![host("a", "w1"), host("b", "w2")]);
        roster.apply(Event::Init);
        assert_eq!(names(&roster, "w2"), ["b"]);
        assert_eq!(list(&mut roster, vec![host("a", "w1")]), ["w1", "w2"]);
        assert!(names(&roster, "w2").is_empty());
    }

    #[test]
    fn a30_a_host_that_cannot_be_decoded_stays_as_it_was_last_understood() {
        let mut roster = listed(vec![host("a", "w1")]);
        assert!(roster.apply(Event::Apply(undecodable("a"))).is_empty());
        assert!(list(&mut roster, vec![undecodable("a"), undecodable("b")]).is_empty());
        assert_eq!(names(&roster, "w1"), ["a"]);
        assert_eq!(nodes(&roster.apply(Event::Delete(undecodable("a")))), ["w1"]);
        assert!(names(&roster, "w1").is_empty());
    }
}
