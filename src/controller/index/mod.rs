//! The knowledge of the controller: the objects as last seen, the references between them, and the last decisions.
//!
//! A change of a watch goes in through [`Index::apply`]; it updates the indexes and marks the objects that have to be
//! reconciled because of it, which [`Index::take_pending`] hands out. No client, no clock, no async.
//!
//! ```text
//!   watch -> apply -> ObjectCache per kind         the newest version of each object
//!                  -> DataCenterIndex              networks, bonds and hosts by the data center that they name
//!                  -> hosts_of_node                hosts by the Node that they name
//!                  -> Agents                       whether the agent of a Node is alive, from its lease
//!                  -> PendingWork                  which objects to reconcile
//!   decision -> remember -> HostState, ...         what later decisions need of it
//! ```

pub(crate) mod agents;
mod changes;
mod frozen;
mod initiators;
pub(crate) mod state;
mod storms;

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::Resource;

use crate::{
    api::{
        AGENT_LEASE_PREFIX, DataCenter, Host, IscsiBond, LeasePart, NamespacePart, Network, NodeName, NodePart,
        ObjectKey, ObjectKind, ObjectName, node_owner::OwnerRank,
    },
    controller::store::{Change, Written, cache::ObjectCache, key::Key, watched::Event},
    ops::{Instant, Now},
    planner::{AgentState, Planner, View},
};
use agents::Agents;
use initiators::Initiators;
use state::{Aggregates, HostState, Memo};
use storms::Storms;

/// The objects that name one data center, and values computed from them. The data center itself need not exist.
#[derive(Debug, Default)]
pub(crate) struct DataCenterIndex {
    pub networks: BTreeSet<ObjectName>,
    pub bonds: BTreeSet<ObjectName>,
    pub hosts: BTreeSet<ObjectName>,
    /// Compiled when it is first needed after a change.
    planner: OnceCell<Option<Arc<Planner>>>,
    /// The number of the last change that plans of this data center depend on. Each number is used once in the
    /// controller, so a plan of another data center never has this one.
    pub plan_epoch: u64,
    /// The last decision for the data center: the storage has failed, and not its hosts.
    storage_at_fault: bool,
    /// Computed when they are first needed after a change. While they are missing, all objects whose status shows them
    /// are pending.
    aggregates: OnceCell<Arc<Aggregates>>,
}

/// Objects that have to be reconciled.
#[derive(Debug, Default)]
pub(crate) struct PendingWork {
    /// To be reconciled now.
    pub now: Vec<Key>,
    /// Hosts whose plans may have changed, to be reconciled now.
    pub hosts: Vec<ObjectKey>,
    /// Objects whose status shows aggregates, to be reconciled after the debounce time.
    pub debounced: Vec<Key>,
}

/// The index; see the documentation of the module.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub data_centers: ObjectCache<DataCenter>,
    pub networks: ObjectCache<Network>,
    pub hosts: ObjectCache<Host>,
    pub bonds: ObjectCache<IscsiBond>,
    pub nodes: ObjectCache<NodePart>,
    namespaces: ObjectCache<NamespacePart>,
    leases: ObjectCache<LeasePart>,
    agents: Agents,
    by_data_center: HashMap<ObjectKey, DataCenterIndex>,
    /// The last plan epoch that was given out.
    last_epoch: u64,
    /// Sorted. There is nearly always one, for which a tree would need ten times the memory.
    hosts_of_node: HashMap<String, Vec<ObjectKey>>,
    host_states: HashMap<ObjectKey, HostState>,
    initiators: Initiators,
    pub(crate) storms: Storms,
    /// Hosts that the API server refused to create at the last attempt, with its answer, by data center.
    create_errors: HashMap<ObjectKey, BTreeMap<ObjectKey, String>>,
    pending: PendingWork,
    /// Data centers whose hosts have to be replanned.
    to_replan: BTreeSet<ObjectKey>,
    /// The time at which the last taint that evicts was decided. It may not be on its Node yet.
    evicted_at: Option<Timestamp>,
    /// The last second in which the loss of a host was shown on its Node, and the number of such Nodes.
    losses_shown: (i64, u32),
    /// The time of the first decision about the deletion of an object, on the monotonic clock: clocks of machines
    /// differ.
    deletions: HashMap<Key, Duration>,
}

impl Index {
    /// Applies a change that a watch has reported.
    pub(crate) fn apply(&mut self, change: Change, now: Now) {
        match change {
            Change::DataCenter(event) => {
                for difference in self.data_centers.apply(event) {
                    self.data_center_changed(&difference);
                }
            }
            Change::Network(event) => {
                for difference in self.networks.apply(event) {
                    self.network_changed(&difference);
                }
            }
            Change::Bond(event) => {
                for difference in self.bonds.apply(event) {
                    self.bond_changed(&difference);
                }
            }
            Change::Host(event) => {
                for difference in self.hosts.apply(event) {
                    self.host_changed(&difference);
                }
            }
            Change::Node(event) => {
                for difference in self.nodes.apply(event) {
                    self.node_changed(&difference);
                }
            }
            Change::Namespace(event) => {
                for difference in self.namespaces.apply(event) {
                    self.namespace_changed(&difference);
                }
            }
            Change::Lease(event) => {
                let ends = matches!(event, Event::ListEnds);
                if matches!(event, Event::Fails { .. }) {
                    self.agents.watch_lost();
                }
                for difference in self.leases.apply(event) {
                    self.lease_changed(&difference, now);
                }
                if ends {
                    self.agents.watch_regained(now);
                }
            }
        }
    }

    /// Applies the answer to a write, which came at this time, so that the write is not repeated before the watch has
    /// reported it.
    pub(crate) fn apply_written(&mut self, written: Written, at: Instant) {
        match written {
            Written::DataCenter(object) => {
                if let Some(difference) = self.data_centers.apply_written(object, at) {
                    self.data_center_changed(&difference);
                }
            }
            Written::Network(object) => {
                if let Some(difference) = self.networks.apply_written(object, at) {
                    self.network_changed(&difference);
                }
            }
            Written::Bond(object) => {
                if let Some(difference) = self.bonds.apply_written(object, at) {
                    self.bond_changed(&difference);
                }
            }
            Written::Host(object) => {
                if let Some(difference) = self.hosts.apply_written(object, at) {
                    self.host_changed(&difference);
                }
            }
            Written::Node(object) => {
                if let Some(difference) = self.nodes.apply_written(object, at) {
                    self.node_changed(&difference);
                }
            }
        }
    }

    /// Finds agents whose leases have expired, and forgets what is over.
    pub(crate) fn tick(&mut self, now: Now) {
        self.storms.forget(now.monotonic);
        for node in self.agents.expire(now) {
            self.agent_changed(&node);
        }
    }

    /// How many entries there are of everything that is remembered.
    pub(crate) fn memory(&self) -> [(&'static str, usize); 12] {
        let objects = [self.data_centers.len(), self.networks.len(), self.hosts.len(), self.bonds.len()];
        let answers = [
            self.data_centers.answered(),
            self.networks.answered(),
            self.hosts.answered(),
            self.bonds.answered(),
            self.nodes.answered(),
        ];
        [
            ("objects", objects.iter().sum()),
            ("nodes", self.nodes.len()),
            ("namespaces", self.namespaces.len()),
            ("leases", self.leases.len()),
            ("answers", answers.iter().sum()),
            ("data_centers", self.by_data_center.len()),
            ("host_states", self.host_states.len()),
            ("initiators", self.initiators.len()),
            ("agents", self.agents.nodes().count()),
            ("storms", self.storms.len()),
            ("refused_hosts", self.create_errors.len()),
            ("deletions", self.deletions.len()),
        ]
    }

    /// The memory of the plans that are cached, in bytes.
    pub(crate) fn plan_bytes(&self) -> usize {
        let planners = self.by_data_center.values().filter_map(|center| center.planner.get()?.as_ref());
        planners.map(|planner| planner.cached_bytes()).sum()
    }

    /// The objects that have to be reconciled because of changes since the last call.
    pub(crate) fn take_pending(&mut self) -> PendingWork {
        for key in std::mem::take(&mut self.to_replan) {
            let names = self.by_data_center.get(&key).into_iter().flat_map(|center| &center.hosts);
            self.pending.hosts.extend(names.map(|name| key.beside(name.clone())));
        }
        std::mem::take(&mut self.pending)
    }

    /// This replica leads now: everything has to be reconciled.
    pub(crate) fn resume(&mut self, now: Now) {
        // Deletion timeouts start again: without a leader the hosts had no new plans.
        self.deletions.clear();
        self.agents.resumed(now);
        self.wake_all();
    }

    /// This replica does not lead any more.
    pub(crate) fn pause(&mut self) {
        self.agents.paused();
    }

    /// Everything has to be reconciled.
    pub(crate) fn wake_all(&mut self) {
        fn keys<K: Resource<DynamicType = ()>>(kind: ObjectKind, cache: &ObjectCache<K>) -> impl Iterator<Item = Key> {
            let bad = cache.undecodable().map(|(key, _)| key).filter(|key| cache.get(key).is_none());
            cache.iter().map(|(key, _)| key).chain(bad).map(move |key| Key::Object(kind, key.clone()))
        }
        let nodes = self.nodes.iter().map(|(key, _)| NodeName::from(key.name.clone()));
        let nodes: BTreeSet<NodeName> = nodes.chain(self.agents.nodes().cloned()).collect();
        let all: Vec<Key> = keys(ObjectKind::Host, &self.hosts)
            .chain(keys(ObjectKind::Network, &self.networks))
            .chain(keys(ObjectKind::IscsiBond, &self.bonds))
            .chain(keys(ObjectKind::DataCenter, &self.data_centers))
            .chain(nodes.into_iter().map(Key::Node))
            .collect();
        self.pending.now.extend(all);
    }

    /// The objects that name a data center.
    pub(crate) fn data_center(&self, key: &ObjectKey) -> Option<&DataCenterIndex> {
        self.by_data_center.get(key)
    }

    /// A data center as the planner needs it; `None` if it does not exist.
    pub(crate) fn view(&self, key: &ObjectKey) -> Option<Arc<View>> {
        Some(self.planner(key)?.view().clone())
    }

    /// The planner of a data center; `None` if that does not exist.
    pub(crate) fn planner(&self, key: &ObjectKey) -> Option<Arc<Planner>> {
        let center = self.by_data_center.get(key)?;
        center.planner.get_or_init(|| self.compile(key, center)).clone()
    }

    fn compile(&self, key: &ObjectKey, center: &DataCenterIndex) -> Option<Arc<Planner>> {
        let data_center = self.data_centers.get(key)?;
        let networks: Vec<&Network> =
            center.networks.iter().filter_map(|name| self.networks.get(&key.beside(name.clone()))).collect();
        let bonds: Vec<&IscsiBond> =
            center.bonds.iter().filter_map(|name| self.bonds.get(&key.beside(name.clone()))).collect();
        let view = View::compile(data_center, &networks, &bonds, self.terminating(&key.namespace));
        Some(Arc::new(Planner::new(Arc::new(view))))
    }

    /// Whether a namespace is being deleted.
    pub(crate) fn terminating(&self, namespace: &str) -> bool {
        let namespace = self.namespaces.get(&ObjectKey::new("", namespace));
        namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    /// The Host that owns a node. If several Hosts name the node, one of them owns it.
    pub(crate) fn owner_of_node(&self, node: &str) -> Option<&ObjectKey> {
        let hosts = self.hosts_of_node.get(node)?;
        let rank = |key: &&ObjectKey| self.hosts.get(key).and_then(OwnerRank::of);
        hosts.iter().filter(|key| rank(key).is_some()).min_by_key(rank)
    }

    /// Hosts that name a node.
    pub(crate) fn hosts_of_node(&self, node: &str) -> impl Iterator<Item = &ObjectKey> {
        self.hosts_of_node.get(node).into_iter().flatten()
    }

    /// The first host on another node that reports the same initiator name; one of the same namespace, if there is one.
    pub(crate) fn other_host_with_initiator(&self, key: &ObjectKey, initiator: &str) -> Option<&ObjectKey> {
        let node = &self.hosts.get(key)?.spec.node_name;
        let on_another_node =
            |other: &&ObjectKey| self.hosts.get(other).is_some_and(|host| host.spec.node_name != *node);
        let mut others = self.initiators.with(initiator).iter().filter(on_another_node);
        let first = others.next()?;
        let is_near = |other: &&ObjectKey| other.namespace == key.namespace;
        if is_near(&first) { Some(first) } else { others.find(is_near).or(Some(first)) }
    }

    /// The time of the first decision about the deletion of an object, on the monotonic clock; `None` before it.
    pub(crate) fn deletion_since(&self, kind: ObjectKind, key: &ObjectKey) -> Option<Duration> {
        self.deletions.get(&Key::Object(kind, key.clone())).copied()
    }

    /// The time at which the last taint that evicts was decided.
    pub(crate) fn evicted_at(&self) -> Option<Timestamp> {
        self.evicted_at
    }

    /// On how many Nodes the loss of their host was shown in this second.
    pub(crate) fn losses_shown(&self, now: Timestamp) -> u32 {
        let (second, count) = self.losses_shown;
        if second == now.as_second() { count } else { 0 }
    }

    /// Whether the agent of a node is alive.
    pub(crate) fn agent(&self, node: &str) -> AgentState {
        self.agents.state(node)
    }

    /// The lease of the agent of a node.
    pub(crate) fn lease(&self, node: &str) -> Option<(&ObjectKey, &LeasePart)> {
        self.leases.iter().find(|(key, _)| key.name.strip_prefix(AGENT_LEASE_PREFIX) == Some(node))
    }

    /// The last decision for a host.
    pub(crate) fn host_state(&self, key: &ObjectKey) -> Option<&HostState> {
        self.host_states.get(key)
    }

    /// Why the API server refused to create a Host for a data center at the last attempt.
    pub(crate) fn create_error(&self, dc_key: &ObjectKey, host: &ObjectKey) -> Option<&str> {
        self.create_errors.get(dc_key)?.get(host).map(String::as_str)
    }

    /// Stores which Hosts the API server refused to create for a data center, whose status shows it.
    pub(crate) fn set_create_errors(&mut self, dc_key: &ObjectKey, create_errors: BTreeMap<ObjectKey, String>) {
        // The data center may have gone while its Hosts were refused.
        let before = if create_errors.is_empty() || self.data_centers.get(dc_key).is_none() {
            self.create_errors.remove(dc_key)
        } else {
            self.create_errors.insert(dc_key.clone(), create_errors)
        };
        if before.as_ref() != self.create_errors.get(dc_key) {
            self.pending.debounced.push(Key::Object(ObjectKind::DataCenter, dc_key.clone()));
        }
    }

    /// Stores the part of a decision that later decisions need.
    pub(crate) fn remember(&mut self, key: &Key, memo: Memo, now: Now) {
        let Memo { host, deletion, evicted_at, loss_shown_at, storage_at_fault, phase_change } = memo;
        if deletion {
            self.deletions.entry(key.clone()).or_insert(now.monotonic);
        }
        if evicted_at.is_some() {
            self.evicted_at = evicted_at;
        }
        if let Some(at) = loss_shown_at {
            self.losses_shown = (at.as_second(), self.losses_shown(at) + 1);
        }
        match key {
            Key::Object(ObjectKind::Host, key) => {
                if let Some(change) = phase_change {
                    let data_center = Key::Object(ObjectKind::DataCenter, change.data_center.clone());
                    if self.storms.note(change, &key.name, now.monotonic) {
                        self.pending.debounced.push(data_center);
                    }
                }
                if let Some(state) = host {
                    self.remember_host(key, state);
                }
            }
            Key::Object(ObjectKind::DataCenter, key) => {
                if let Some(at_fault) = storage_at_fault {
                    self.remember_fault(key, at_fault);
                }
            }
            Key::Object(..) | Key::Node(_) => {}
        }
    }

    /// The taints of hosts that have failed depend on whether the storage is at fault.
    fn remember_fault(&mut self, key: &ObjectKey, at_fault: bool) {
        let Some(center) = self.by_data_center.get_mut(key) else { return };
        if std::mem::replace(&mut center.storage_at_fault, at_fault) != at_fault {
            self.wake_nodes_of(key);
        }
    }

    fn remember_host(&mut self, key: &ObjectKey, state: HostState) {
        let Some(host) = self.hosts.get_mut(key) else { return };
        if let Some(status) = &mut host.status {
            state.intern(status);
        }
        let dc_key = key.beside(host.spec.data_center.as_str());
        let node = Key::Node(host.spec.node_name.as_str().into());
        let before = self.host_states.get(key);
        let differs = before.is_none_or(|before| before.differs_beyond_epoch(&state));
        let replanned = before.is_none_or(|before| before.plan_epoch != state.plan_epoch);
        if differs {
            self.pending.now.push(node);
        }
        if differs || replanned {
            self.invalidate_aggregates(&dc_key);
        }
        self.host_states.insert(key.clone(), state);
    }
}

impl DataCenterIndex {
    /// The aggregates over the hosts of the data center. They are computed if they are missing since the last change.
    pub(crate) fn aggregates(&self, compute: impl FnOnce() -> Aggregates) -> Arc<Aggregates> {
        self.aggregates.get_or_init(|| Arc::new(compute())).clone()
    }
}

#[cfg(test)]
mod tests;
