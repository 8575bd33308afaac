//! The Hosts by the node that they name, from a watch.
//!
//! A Host that cannot be read is not a deleted one. While the API server is away, a verb is forbidden or the CRD is
//! missing, the store keeps what it has. A Host that cannot be decoded stays as it was last decoded.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _, pin_mut};
use kube::{
    Api, Client, Resource as _,
    api::ObjectMeta,
    runtime::{
        reflector::ObjectRef,
        watcher::{self, Event},
    },
};
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use crate::{
    agent::metrics::{AgentMetrics, WatchGauge},
    api::{Host, NodeName, Readable},
    ops::{
        backoff::Backoff,
        errors::brief,
        log_once::{LastErrors, LogOnce},
        watch_from_list,
    },
};

/// The pauses before a watch that has failed is started again: thousands of agents may do it at once.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// The Hosts that name one node; None until they have been listed for the first time.
pub type NodeHosts = Option<HostsOfNode>;

/// The Hosts that name one node, as a watch shows them.
#[derive(Clone, Debug)]
pub struct HostsOfNode {
    /// The Hosts.
    pub hosts: Arc<[Arc<Host>]>,
    /// The time before the watch's last list was requested.
    pub list_began: Instant,
}

/// What the last request for Hosts has shown of the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contact {
    /// None has ended yet.
    #[default]
    Untried,
    /// It answers what was asked.
    Answers,
    /// It answers that it does not: the agent may not, or nobody can read the answer.
    Refuses,
    /// It answers that it has no Hosts at all, not even their kind.
    NoHosts,
    /// Nobody has answered for it: the request has failed without an HTTP answer, or with one of those that a load balancer
    /// gives in its place, and an API server whose etcd is away. After a power cut both mean the same.
    Silent,
}

impl From<&watcher::Error> for Contact {
    fn from(error: &watcher::Error) -> Self {
        use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
        match error {
            InitialListFailed(kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::Auth(_))
            | WatchStartFailed(kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::Auth(_)) => {
                Contact::Silent
            }
            InitialListFailed(kube::Error::Api(status)) if status.code == 404 => Contact::NoHosts,
            InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status))
                if status.code >= 500 =>
            {
                Contact::Silent
            }
            // The connection of a watch that had begun was lost: the next list shows whether anybody answers.
            WatchFailed(_) => Contact::Untried,
            _ => Contact::Refuses,
        }
    }
}

/// All Hosts of a watch, by node.
///
/// kube's reflector is not used: its store has no index by node, and an object that cannot be decoded would replace the
/// last version that could.
#[derive(Debug, Default)]
pub struct HostStore {
    by_node: HashMap<NodeName, Vec<Arc<Host>>>,
    nodes: HashMap<ObjectRef<Host>, NodeName>,
    /// The list in progress, if one is being read.
    listing: Option<Listing>,
    /// The nodes that the list in progress, or one that has failed, has touched.
    touched: BTreeSet<NodeName>,
    /// The time before the last complete list was requested.
    list_began: Option<Instant>,
    /// What could not be decoded of Hosts, by their names, so that it is logged once.
    errors: LastErrors<String>,
}

/// A list that is being read.
#[derive(Debug)]
struct Listing {
    began: Instant,
    hosts: HashSet<ObjectRef<Host>>,
}

impl HostStore {
    /// Applies an event that was received at this time, and returns the nodes whose Hosts have to be looked at: none
    /// while a list is being read, and all once it is complete. What was known before counts no more then, whatever its
    /// version: after a restore of etcd from a backup, the versions of a list are smaller than the known ones.
    pub fn apply(&mut self, event: Event<Readable<Host>>, now: Instant) -> BTreeSet<NodeName> {
        let mut changed = BTreeSet::new();
        match event {
            Event::Init => self.listing = Some(Listing { began: now, hosts: HashSet::new() }),
            Event::InitApply(host) => {
                if let Some(listing) = &mut self.listing {
                    listing.hosts.insert(object_ref(host.meta()));
                }
                let touched = self.put(host);
                self.touched.extend(touched);
            }
            Event::Apply(host) => changed = self.put(host),
            Event::Delete(host) => {
                let key = object_ref(host.meta());
                let _ = self.errors.recovered(&key.to_string());
                changed.extend(self.remove(&key));
            }
            Event::InitDone => {
                let Some(Listing { began, hosts }) = self.listing.take() else { return changed };
                self.list_began = Some(began);
                let gone: Vec<_> = self.nodes.keys().filter(|host| !hosts.contains(*host)).cloned().collect();
                changed.extend(gone.iter().filter_map(|host| self.remove(host)));
                let listed: HashSet<String> = hosts.iter().map(ToString::to_string).collect();
                self.errors.forget(|host| listed.contains(host));
                changed.append(&mut self.touched);
                changed.extend(self.by_node.keys().cloned());
            }
        }
        changed
    }

    /// The Hosts that name a node; None until a complete list was read. Before that, a Host that is not in the store may
    /// exist.
    #[must_use]
    pub fn of(&self, node: &str) -> NodeHosts {
        let hosts = self.by_node.get(node).map(|hosts| hosts.as_slice().into()).unwrap_or_default();
        Some(HostsOfNode { hosts, list_began: self.list_began? })
    }

    fn put(&mut self, host: Readable<Host>) -> BTreeSet<NodeName> {
        let key = object_ref(host.meta());
        let name = || key.to_string();
        let Readable { object, status_error } = host;
        let host = match object {
            Ok(host) => Arc::new(trimmed(host)),
            Err(invalid) => {
                if self.errors.failed(name(), &invalid.error) {
                    let error = invalid.error;
                    warn!(error, "cannot decode the Host {}; it stays as it was last decoded", name());
                }
                return BTreeSet::new();
            }
        };
        match status_error {
            Some(error) if self.errors.failed(name(), &error) => {
                warn!(error, "cannot decode a part of the status of the Host {}; it counts as absent", name());
            }
            Some(_) => {}
            None => {
                let _ = self.errors.recovered(&name());
            }
        }
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

/// A watch of Hosts that never ends. An error is logged once, and shown in `gauge` and `contact`.
pub fn events(
    client: Client,
    config: watcher::Config,
    mut gauge: WatchGauge,
    contact: watch::Sender<Contact>,
) -> impl Stream<Item = Event<Readable<Host>>> + Send {
    let mut log = LogOnce::new("watch Hosts");
    watch_from_list(Api::<Readable<Host>>::all(client), config, RETRY).filter_map(move |event| {
        let event = match event {
            Ok(event) => {
                // An Init is the start of an attempt, not its success.
                if !matches!(event, Event::Init) {
                    log.recovered();
                    gauge.set(true);
                    show(&contact, Contact::Answers);
                }
                Some(event)
            }
            Err(error) => {
                log.failed(brief(&error));
                gauge.set(false);
                show(&contact, Contact::from(&error));
                None
            }
        };
        std::future::ready(event)
    })
}

fn show(contact: &watch::Sender<Contact>, new: Contact) {
    contact.send_if_modified(|known| std::mem::replace(known, new) != new);
}

/// Watches the Hosts of one node, for as long as there is a receiver of them.
pub async fn watch_node(
    client: Client,
    node: NodeName,
    hosts: watch::Sender<NodeHosts>,
    contact: watch::Sender<Contact>,
    metrics: AgentMetrics,
) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let events = events(client, config, WatchGauge::new(metrics), contact);
    pin_mut!(events);
    let mut store = HostStore::default();
    loop {
        let event = tokio::select! {
            () = hosts.closed() => return,
            event = events.next() => event,
        };
        let Some(event) = event else { return };
        let list_ends = matches!(event, Event::InitDone);
        let changed = store.apply(event, Instant::now());
        if list_ends || !changed.is_empty() {
            hosts.send_replace(store.of(&node));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn host(name: &str, node: &str) -> Readable<Host> {
        decode(json!({"metadata": {"namespace": "n", "name": name}, "spec": {"dataCenter": "d", "nodeName": node}}))
    }

    fn undecodable(name: &str) -> Readable<Host> {
        decode(json!({"metadata": {"namespace": "n", "name": name}, "spec": {"nodeName": 7}}))
    }

    fn decode(mut object: serde_json::Value) -> Readable<Host> {
        object["apiVersion"] = "multibond.dev/v1alpha1".into();
        object["kind"] = "Host".into();
        serde_json::from_value(object).unwrap()
    }

    fn nodes(changed: &BTreeSet<NodeName>) -> Vec<String> {
        changed.iter().map(ToString::to_string).collect()
    }

    fn names(store: &HostStore, node: &str) -> Vec<String> {
        let hosts = store.of(node).map(|seen| seen.hosts).unwrap_or_default();
        hosts.iter().filter_map(|host| host.metadata.name.clone()).collect()
    }

    fn listed(hosts: Vec<Readable<Host>>) -> HostStore {
        let mut store = HostStore::default();
        list(&mut store, hosts);
        store
    }

    fn list(store: &mut HostStore, hosts: Vec<Readable<Host>>) -> Vec<String> {
        let events = [Event::Init].into_iter().chain(hosts.into_iter().map(Event::InitApply)).chain([Event::InitDone]);
        events.flat_map(|event| nodes(&apply(store, event))).collect()
    }

    fn apply(store: &mut HostStore, event: Event<Readable<Host>>) -> BTreeSet<NodeName> {
        store.apply(event, Instant::now())
    }

    #[test]
    fn a67_only_a_request_without_any_answer_shows_an_api_server_that_is_silent() {
        use kube::core::Status;
        let answer = |code| kube::Error::Api(Status::failure("no", "No").with_code(code).boxed());
        let nobody = || kube::Error::Service("connection refused".into());
        let list = |error| Contact::from(&watcher::Error::InitialListFailed(error));
        assert_eq!(list(nobody()), Contact::Silent);
        assert_eq!(Contact::from(&watcher::Error::WatchStartFailed(nobody())), Contact::Silent);
        let no_token = kube::client::AuthError::AuthExec("no token".into());
        assert_eq!(list(kube::Error::Auth(no_token)), Contact::Silent, "nobody was asked");
        assert_eq!(list(answer(404)), Contact::NoHosts);
        for code in [401, 403, 410, 429] {
            assert_eq!(list(answer(code)), Contact::Refuses, "{code}");
        }
        for code in [500, 502, 503, 504] {
            assert_eq!(list(answer(code)), Contact::Silent, "{code} of a load balancer, or without etcd");
        }
        assert_eq!(Contact::from(&watcher::Error::WatchStartFailed(answer(404))), Contact::Refuses);
        assert_eq!(Contact::from(&watcher::Error::WatchFailed(nobody())), Contact::Untried);
    }

    #[test]
    fn no_node_changes_before_the_first_list_is_complete() {
        let mut store = HostStore::default();
        apply(&mut store, Event::Init);
        assert!(apply(&mut store, Event::InitApply(host("a", "w1"))).is_empty() && store.of("w1").is_none());
        assert_eq!(nodes(&apply(&mut store, Event::InitDone)), ["w1"]);
    }

    #[test]
    fn every_new_list_has_its_time_and_shows_all_hosts_again() {
        let (early, late) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let mut store = HostStore::default();
        for began in [early, late] {
            store.apply(Event::Init, began);
            store.apply(Event::InitApply(host("a", "w1")), late + Duration::from_secs(1));
            assert_eq!(nodes(&store.apply(Event::InitDone, late + Duration::from_secs(2))), ["w1"]);
            assert_eq!(store.of("w1").map(|seen| seen.list_began), Some(began));
        }
    }

    #[test]
    fn several_hosts_may_name_a_node() {
        let mut store = listed(vec![host("a", "w1"), host("b", "w2")]);
        assert_eq!(nodes(&apply(&mut store, Event::Apply(host("c", "w1")))), ["w1"]);
        assert_eq!(names(&store, "w1"), ["a", "c"]);
        assert_eq!(nodes(&apply(&mut store, Event::Delete(host("a", "w1")))), ["w1"]);
        assert_eq!(names(&store, "w1"), ["c"]);
    }

    #[test]
    fn a_host_that_names_another_node_leaves_the_old_one() {
        let mut store = listed(vec![host("a", "w1")]);
        assert_eq!(nodes(&apply(&mut store, Event::Apply(host("a", "w2")))), ["w1", "w2"]);
        assert_eq!((names(&store, "w1"), names(&store, "w2")), (vec![], vec!["a".to_owned()]));
    }

    #[test]
    fn a_host_missing_in_a_new_list_is_removed_when_the_list_is_complete() {
        let mut store = listed(vec![host("a", "w1"), host("b", "w2")]);
        apply(&mut store, Event::Init);
        assert_eq!(names(&store, "w2"), ["b"]);
        assert_eq!(list(&mut store, vec![host("a", "w1")]), ["w1", "w2"]);
        assert!(names(&store, "w2").is_empty());
    }

    #[test]
    fn a30_a_host_that_cannot_be_decoded_stays_as_it_was() {
        let mut store = listed(vec![host("a", "w1")]);
        assert!(apply(&mut store, Event::Apply(undecodable("a"))).is_empty());
        list(&mut store, vec![undecodable("a"), undecodable("b")]);
        assert_eq!(names(&store, "w1"), ["a"]);
        assert_eq!(nodes(&apply(&mut store, Event::Delete(undecodable("a")))), ["w1"]);
        assert!(names(&store, "w1").is_empty());
    }

    #[test]
    fn the_error_of_a_host_that_could_not_be_decoded_goes_with_it() {
        let mut store = listed(vec![undecodable("a"), undecodable("b"), undecodable("c")]);
        apply(&mut store, Event::Delete(undecodable("a")));
        assert_eq!(store.errors.iter().count(), 2);
        list(&mut store, vec![undecodable("c")]);
        assert_eq!(store.errors.iter().count(), 1);
    }
}
