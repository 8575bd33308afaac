//! Everything that the controller knows: the objects as last seen, and what follows from them.
//!
//! No client, no clock, no async: events go in, and the keys of objects to look at come out.

pub(crate) mod agents;
mod changes;
mod unread;

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::Resource;

use crate::{
    api::{
        AGENT_LEASE_PREFIX, DataCenter, Host, IscsiBond, LeasePart, NamespacePart, Network, NodePart, ObjectKey,
        node_owner::OwnerRank,
    },
    controller::{
        index::agents::Agents,
        reconcile::{aggregate::Sums, host::HostState},
        store::{Change, Written, cache::Cache, key::Key, watched::Event},
    },
    ops::Now,
    planner::{Kind, Planner, View},
};

/// What names one data center, whether that exists or not.
#[derive(Debug, Default)]
pub(crate) struct Center {
    pub networks: BTreeSet<Arc<str>>,
    pub bonds: BTreeSet<Arc<str>>,
    pub hosts: BTreeSet<Arc<str>>,
    /// Made when first needed after a change.
    planner: OnceCell<Option<Arc<Planner>>>,
    /// Which change of what plans are made from was the last: no other has this number, of whatever data center.
    pub stamp: u64,
    /// Whether the storage, and not the hosts, was at fault when that was last looked at.
    at_fault: bool,
    /// Made when first needed after a change: while there are none, all that is made from them waits to be looked at.
    sums: OnceCell<Arc<Sums>>,
}

/// Keys of objects that something has happened to.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// To be looked at now.
    pub now: Vec<Key>,
    /// Hosts of data centers whose plans may have changed, to be looked at now.
    pub hosts: Vec<ObjectKey>,
    /// Sums over hosts, to be looked at when the dust settles.
    pub sums: Vec<Key>,
}

/// Everything that the controller knows.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub data_centers: Cache<DataCenter>,
    pub networks: Cache<Network>,
    pub hosts: Cache<Host>,
    pub bonds: Cache<IscsiBond>,
    pub nodes: Cache<NodePart>,
    namespaces: Cache<NamespacePart>,
    leases: Cache<LeasePart>,
    agents: Agents,
    centers: HashMap<ObjectKey, Center>,
    /// Counts the changes of what plans are made from.
    stamps: u64,
    /// Sorted. Nearly always one, for which a tree would take ten times the room.
    hosts_of_node: HashMap<String, Vec<ObjectKey>>,
    states: HashMap<ObjectKey, HostState>,
    /// Hosts that the API server refused to create when that was last tried, with what it said, by data center.
    refusals: HashMap<ObjectKey, BTreeMap<ObjectKey, String>>,
    dirty: Dirty,
    /// Data centers whose hosts have to be planned anew.
    replanned: BTreeSet<ObjectKey>,
    /// When the last eviction was decided: its taint may still be on its way.
    pub evicted_at: Cell<Option<Timestamp>>,
    /// Since when deletions have waited for hosts, by this process's own clock: clocks of machines differ.
    waits: RefCell<HashMap<Key, Duration>>,
}

impl World {
    /// Takes a step of a watch in.
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
                    self.agents.lost();
                }
                for difference in self.leases.apply(event) {
                    self.lease_changed(&difference, now);
                }
                if ends {
                    self.agents.regained(now);
                }
            }
        }
    }

    /// Takes the answer to a write in, so that what was written is not written again.
    pub(crate) fn wrote(&mut self, written: Written) {
        match written {
            Written::DataCenter(object) => {
                if let Some(difference) = self.data_centers.wrote(object) {
                    self.data_center_changed(&difference);
                }
            }
            Written::Network(object) => {
                if let Some(difference) = self.networks.wrote(object) {
                    self.network_changed(&difference);
                }
            }
            Written::Bond(object) => {
                if let Some(difference) = self.bonds.wrote(object) {
                    self.bond_changed(&difference);
                }
            }
            Written::Host(object) => {
                if let Some(difference) = self.hosts.wrote(object) {
                    self.host_changed(&difference);
                }
            }
            Written::Node(object) => {
                if let Some(difference) = self.nodes.wrote(object) {
                    self.node_changed(&difference);
                }
            }
        }
    }

    /// Lets time pass: agents fall silent.
    pub(crate) fn tick(&mut self, now: Now) {
        for node in self.agents.expire(now) {
            self.agent_changed(&node);
        }
    }

    /// The keys of objects that something has happened to since the last call.
    pub(crate) fn take_dirty(&mut self) -> Dirty {
        for key in std::mem::take(&mut self.replanned) {
            let names = self.centers.get(&key).into_iter().flat_map(|center| &center.hosts);
            self.dirty.hosts.extend(names.map(|name| key.beside(name.clone())));
        }
        std::mem::take(&mut self.dirty)
    }

    /// Everything has to be looked at: this process has just begun to act.
    pub(crate) fn begin_to_act(&mut self, now: Now) {
        // While nobody acted nobody told the hosts.
        self.waits.get_mut().clear();
        self.agents.took_office(now);
        self.everything();
    }

    /// This process does not act any more.
    pub(crate) fn cease_to_act(&mut self) {
        self.agents.left_office();
    }

    /// Everything has to be looked at.
    pub(crate) fn everything(&mut self) {
        fn keys<K: Resource<DynamicType = ()>>(kind: Kind, cache: &Cache<K>) -> impl Iterator<Item = Key> {
            cache.iter().map(move |(key, _)| Key::Object(kind, key.clone()))
        }
        let nodes = self.nodes.iter().map(|(key, _)| key.name.clone());
        let nodes: BTreeSet<Arc<str>> = nodes.chain(self.agents.nodes().cloned()).collect();
        let all: Vec<Key> = keys(Kind::Host, &self.hosts)
            .chain(keys(Kind::Network, &self.networks))
            .chain(keys(Kind::IscsiBond, &self.bonds))
            .chain(keys(Kind::DataCenter, &self.data_centers))
            .chain(nodes.into_iter().map(Key::Node))
            .collect();
        self.dirty.now.extend(all);
    }

    /// What names a data center.
    pub(crate) fn center(&self, key: &ObjectKey) -> Option<&Center> {
        self.centers.get(key)
    }

    /// A data center as the planner needs it, if it exists.
    pub(crate) fn view(&self, key: &ObjectKey) -> Option<Arc<View>> {
        Some(self.planner(key)?.view().clone())
    }

    /// The planner of a data center, if that exists.
    pub(crate) fn planner(&self, key: &ObjectKey) -> Option<Arc<Planner>> {
        let center = self.centers.get(key)?;
        center.planner.get_or_init(|| self.compile(key, center)).clone()
    }

    /// Sums over the hosts of a data center, if anything names it.
    pub(crate) fn sums(&self, key: &ObjectKey) -> Option<Arc<Sums>> {
        let center = self.centers.get(key)?;
        Some(center.sums.get_or_init(|| Arc::new(Sums::new(self, key, center))).clone())
    }

    fn compile(&self, key: &ObjectKey, center: &Center) -> Option<Arc<Planner>> {
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

    /// The Host that has a node.
    pub(crate) fn claimant(&self, node: &str) -> Option<&ObjectKey> {
        let hosts = self.hosts_of_node.get(node)?;
        let rank = |key: &&ObjectKey| self.hosts.get(key).and_then(OwnerRank::of);
        hosts.iter().filter(|key| rank(key).is_some()).min_by_key(rank)
    }

    /// Hosts that name a node.
    pub(crate) fn hosts_of_node(&self, node: &str) -> impl Iterator<Item = &ObjectKey> {
        self.hosts_of_node.get(node).into_iter().flatten()
    }

    /// Since when the deletion of an object has waited for hosts: since it was first asked for, while this process acts.
    pub(crate) fn waits_since(&self, kind: Kind, key: &ObjectKey, now: Now) -> Duration {
        *self.waits.borrow_mut().entry(Key::Object(kind, key.clone())).or_insert(now.monotonic)
    }

    /// Whether the agent of a node is heard of.
    pub(crate) fn agent(&self, node: &str) -> crate::planner::AgentState {
        self.agents.state(node)
    }

    /// The lease of the agent of a node.
    pub(crate) fn lease(&self, node: &str) -> Option<(&ObjectKey, &LeasePart)> {
        self.leases.iter().find(|(key, _)| key.name.strip_prefix(AGENT_LEASE_PREFIX) == Some(node))
    }

    /// What was last decided for a host.
    pub(crate) fn state(&self, key: &ObjectKey) -> Option<&HostState> {
        self.states.get(key)
    }

    /// What the API server said when it was last asked for a Host for a data center, and refused it.
    pub(crate) fn refusal(&self, center: &ObjectKey, host: &ObjectKey) -> Option<&str> {
        self.refusals.get(center)?.get(host).map(String::as_str)
    }

    /// Keeps which Hosts the API server has just refused to create for a data center; it says so.
    pub(crate) fn refused(&mut self, center: &ObjectKey, refusals: BTreeMap<ObjectKey, String>) {
        let before = if refusals.is_empty() {
            self.refusals.remove(center)
        } else {
            self.refusals.insert(center.clone(), refusals)
        };
        if before.as_ref() != self.refusals.get(center) {
            self.dirty.sums.push(Key::Object(Kind::DataCenter, center.clone()));
        }
    }

    /// Compares whether the storage is at fault with what it was. The Nodes of hosts that have failed depend on it.
    pub(crate) fn look_for_fault(&mut self, key: &ObjectKey) {
        let at_fault = self.sums(key).is_some_and(|sums| sums.storage_at_fault().is_some());
        let Some(center) = self.centers.get_mut(key) else { return };
        if std::mem::replace(&mut center.at_fault, at_fault) != at_fault {
            self.nodes_of(key);
        }
    }

    /// Keeps what was decided for a host.
    pub(crate) fn decided(&mut self, key: ObjectKey, state: HostState) {
        if self.hosts.get(&key).is_none() {
            return;
        }
        // Equal texts are kept once: with thousands of hosts that is most of the memory.
        if let Some(status) = self.hosts.get_mut(&key).and_then(|host| host.status.as_mut()) {
            state.share(status);
        }
        let before = self.states.get(&key);
        let differs = before.is_none_or(|before| before.differs_beyond_stamp(&state));
        let made_anew = before.is_none_or(|before| before.stamp != state.stamp);
        if (differs || made_anew)
            && let Some(host) = self.hosts.get(&key)
        {
            let center = key.beside(host.spec.data_center.as_str());
            if differs {
                self.dirty.now.push(Key::Node(host.spec.node_name.as_str().into()));
            }
            self.sums_of(&center);
        }
        self.states.insert(key, state);
    }
}

#[cfg(test)]
impl World {
    /// A world that has read its lists, in which there was nothing: a data center stands still until then.
    pub(crate) fn listed(now: Now) -> Self {
        let mut world = World::default();
        for change in [Event::ListBegins, Event::ListEnds].map(Change::DataCenter) {
            world.apply(change, now);
        }
        for change in [Event::ListBegins, Event::ListEnds].map(Change::Network) {
            world.apply(change, now);
        }
        for change in [Event::ListBegins, Event::ListEnds].map(Change::Host) {
            world.apply(change, now);
        }
        for change in [Event::ListBegins, Event::ListEnds].map(Change::Bond) {
            world.apply(change, now);
        }
        for change in [Event::ListBegins, Event::ListEnds].map(Change::Node) {
            world.apply(change, now);
        }
        world
    }
}

#[cfg(test)]
mod tests;
