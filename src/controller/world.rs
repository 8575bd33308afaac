//! Everything that the controller knows: the objects as last seen, and what follows from them.
//!
//! No client, no clock, no async: events go in, and the keys of objects to look at come out.

mod unread;

use std::{
    cell::{Cell, OnceCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use kube::{Resource, api::ObjectMeta};

use super::{
    Moment,
    agents::Agents,
    cache::{Cache, Difference},
    host::HostState,
    key::{Key, ObjectKey},
    sums::Sums,
    watched::{Event, LeasePart, NamespacePart, NodePart, Watched, labels},
};
use crate::{
    api::{DataCenter, Host, IscsiBond, MADE_FOR_LABEL, NODE_GONE_ANNOTATION, Network},
    planner::{Kind, Precedence, View},
};

/// A step of one of the watches.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    DataCenter(Event<Watched<DataCenter>>),
    Network(Event<Watched<Network>>),
    Host(Event<Watched<Host>>),
    Bond(Event<Watched<IscsiBond>>),
    Node(Event<Watched<NodePart>>),
    Namespace(Event<Watched<NamespacePart>>),
    Lease(Event<Watched<LeasePart>>),
}

/// The answer to a write.
#[derive(Debug)]
pub(crate) enum Written {
    DataCenter(Watched<DataCenter>),
    Network(Watched<Network>),
    Host(Watched<Host>),
    Bond(Watched<IscsiBond>),
    Node(Watched<NodePart>),
}

/// What names one data center, whether that exists or not.
#[derive(Debug, Default)]
pub(crate) struct Center {
    pub networks: BTreeSet<Arc<str>>,
    pub bonds: BTreeSet<Arc<str>>,
    pub hosts: BTreeSet<Arc<str>>,
    /// Made when first needed after a change.
    view: OnceCell<Option<Arc<View>>>,
    /// Which change of what plans are made from was the last: no other has this number, of whatever data center.
    pub stamp: u64,
    /// Whether the storage, and not the hosts, was at fault when that was last looked at.
    at_fault: bool,
    /// Made when first needed after a change.
    sums: OnceCell<Arc<Sums>>,
}

/// Keys of objects that something has happened to.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// To be looked at now.
    pub now: Vec<Key>,
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
    hosts_of_node: HashMap<String, BTreeSet<ObjectKey>>,
    states: HashMap<ObjectKey, HostState>,
    /// Hosts that the API server refused to create when that was last tried, with what it said, by data center.
    refusals: HashMap<ObjectKey, BTreeMap<ObjectKey, String>>,
    dirty: Dirty,
    /// When the last eviction was decided: its taint may still be on its way.
    pub evicted_at: Cell<Option<Timestamp>>,
    /// Since when this process acts: nothing was waited for before.
    pub acting_since: Timestamp,
}

/// A kind whose objects name a data center.
trait Member: Resource<DynamicType = ()> + Sized {
    fn center(&self) -> &str;
    /// What others depend on has changed: anything but the status.
    fn differs(&self, other: &Self) -> bool;
    fn names(center: &mut Center) -> &mut BTreeSet<Arc<str>>;
}

macro_rules! member {
    ($kind:ident, $field:ident) => {
        impl Member for $kind {
            fn center(&self) -> &str {
                &self.spec.data_center
            }
            fn differs(&self, other: &Self) -> bool {
                self.spec != other.spec || marked(&self.metadata) != marked(&other.metadata)
            }
            fn names(center: &mut Center) -> &mut BTreeSet<Arc<str>> {
                &mut center.$field
            }
        }
    };
}
member!(Network, networks);
member!(Host, hosts);
member!(IscsiBond, bonds);

fn marked(metadata: &ObjectMeta) -> (bool, Option<&str>) {
    (metadata.deletion_timestamp.is_some(), metadata.uid.as_deref())
}

impl World {
    /// Takes a step of a watch in.
    pub(crate) fn apply(&mut self, change: Change, now: Moment) {
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
    pub(crate) fn tick(&mut self, now: Moment) {
        for node in self.agents.expire(now) {
            self.agent_changed(&node);
        }
    }

    /// The keys of objects that something has happened to since the last call.
    pub(crate) fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Everything has to be looked at: this process has just begun to act.
    pub(crate) fn begin_to_act(&mut self, now: Moment) {
        self.acting_since = now.wall;
        self.everything();
    }

    /// Everything has to be looked at.
    pub(crate) fn everything(&mut self) {
        fn keys<K: Resource<DynamicType = ()>>(kind: Kind, cache: &Cache<K>) -> impl Iterator<Item = Key> {
            cache.iter().map(move |(key, _)| Key::Object(kind, key.clone()))
        }
        let nodes = self.nodes.iter().map(|(key, _)| Key::Node(key.name.clone()));
        let all: Vec<Key> = keys(Kind::Host, &self.hosts)
            .chain(keys(Kind::Network, &self.networks))
            .chain(keys(Kind::IscsiBond, &self.bonds))
            .chain(keys(Kind::DataCenter, &self.data_centers))
            .chain(nodes)
            .collect();
        self.dirty.now.extend(all);
    }

    /// What names a data center.
    pub(crate) fn center(&self, key: &ObjectKey) -> Option<&Center> {
        self.centers.get(key)
    }

    /// A data center as the planner needs it, if it exists.
    pub(crate) fn view(&self, key: &ObjectKey) -> Option<Arc<View>> {
        let center = self.centers.get(key)?;
        center.view.get_or_init(|| self.compile(key, center)).clone()
    }

    /// Sums over the hosts of a data center, if anything names it.
    pub(crate) fn sums(&self, key: &ObjectKey) -> Option<Arc<Sums>> {
        let center = self.centers.get(key)?;
        Some(center.sums.get_or_init(|| Arc::new(Sums::new(self, key, center))).clone())
    }

    fn compile(&self, key: &ObjectKey, center: &Center) -> Option<Arc<View>> {
        let data_center = self.data_centers.get(key)?;
        let networks: Vec<&Network> =
            center.networks.iter().filter_map(|name| self.networks.get(&key.beside(name))).collect();
        let bonds: Vec<&IscsiBond> = center.bonds.iter().filter_map(|name| self.bonds.get(&key.beside(name))).collect();
        Some(Arc::new(View::compile(data_center, &networks, &bonds, self.terminating(&key.namespace))))
    }

    /// Whether a namespace is being deleted.
    pub(crate) fn terminating(&self, namespace: &str) -> bool {
        let namespace = self.namespaces.get(&ObjectKey::new("", namespace));
        namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    /// The Host that has a node.
    pub(crate) fn claimant(&self, node: &str) -> Option<&ObjectKey> {
        let hosts = self.hosts_of_node.get(node)?;
        let rank = |key: &&ObjectKey| self.hosts.get(key).and_then(Precedence::of);
        hosts.iter().filter(|key| rank(key).is_some()).min_by_key(rank)
    }

    /// Hosts that name a node.
    pub(crate) fn hosts_of_node(&self, node: &str) -> impl Iterator<Item = &ObjectKey> {
        self.hosts_of_node.get(node).into_iter().flatten()
    }

    /// Whether the agent of a node is heard of.
    pub(crate) fn agent(&self, node: &str) -> crate::planner::AgentState {
        self.agents.state(node)
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
        if std::mem::replace(&mut center.at_fault, at_fault) == at_fault {
            return;
        }
        let hosts = center.hosts.iter().filter_map(|name| self.hosts.get(&key.beside(name)));
        self.dirty.now.extend(hosts.map(|host| Key::Node(host.spec.node_name.as_str().into())));
    }

    /// Keeps what was decided for a host.
    pub(crate) fn decided(&mut self, key: ObjectKey, state: HostState) {
        if self.hosts.get(&key).is_none() {
            return;
        }
        // Equal texts are kept once: with thousands of hosts that is most of the memory.
        if let Some(status) = self.hosts.get_mut(&key).and_then(|host| host.status.as_mut()) {
            state.share_texts(status);
        }
        let sums_changed = self.states.get(&key).is_none_or(|before| before.sums_differ(&state));
        if sums_changed && let Some(host) = self.hosts.get(&key) {
            let center = key.beside(&host.spec.data_center);
            self.dirty.now.push(Key::Node(host.spec.node_name.as_str().into()));
            self.sums_of(&center);
        }
        self.states.insert(key, state);
    }

    fn data_center_changed(&mut self, difference: &Difference<DataCenter>) {
        let key = difference.key.clone();
        self.dirty.now.push(Key::Object(Kind::DataCenter, key.clone()));
        let now = self.data_centers.get(&key);
        let same = matches!((&difference.before, now), (Some(before), Some(now))
            if before.spec == now.spec && marked(&before.metadata) == marked(&now.metadata));
        if !same || !difference.undecodable.is_empty() {
            self.plans_change(&key);
            self.hosts_may_be_made(&key.namespace);
        }
        if self.data_centers.get(&key).is_none() {
            self.refusals.remove(&key);
        }
    }

    /// Which Hosts a namespace's data centers can make, may have changed.
    fn hosts_may_be_made(&mut self, namespace: &str) {
        let making = self.data_centers.iter().filter(|(center, _)| *center.namespace == *namespace);
        let making: Vec<Key> = making.map(|(center, _)| Key::Object(Kind::DataCenter, center.clone())).collect();
        self.dirty.sums.extend(making);
    }

    fn network_changed(&mut self, difference: &Difference<Network>) {
        let key = &difference.key;
        let now = self.networks.get(key);
        let concerned = centers_of(difference, now);
        let changed = member_changed(difference, now);
        self.index::<Network>(key, difference.before.as_ref().map(|n| n.spec.data_center.clone()), now_center(now));
        self.dirty.now.push(Key::Object(Kind::Network, key.clone()));
        if changed {
            for center in &concerned {
                self.plans_change(center);
            }
            // Bonds of other data centers may name it: they say so.
            let bonds = self.bonds.iter().filter(|(bond, spec)| {
                bond.namespace == key.namespace && spec.spec.networks.iter().any(|name| *name == *key.name)
            });
            let bonds: Vec<Key> = bonds.map(|(bond, _)| Key::Object(Kind::IscsiBond, bond.clone())).collect();
            self.dirty.now.extend(bonds);
        }
        self.thaw(difference);
    }

    fn bond_changed(&mut self, difference: &Difference<IscsiBond>) {
        let key = &difference.key;
        let now = self.bonds.get(key);
        let concerned = centers_of(difference, now);
        let changed = member_changed(difference, now);
        self.index::<IscsiBond>(key, difference.before.as_ref().map(|b| b.spec.data_center.clone()), now_center(now));
        self.dirty.now.push(Key::Object(Kind::IscsiBond, key.clone()));
        if changed {
            for center in &concerned {
                self.plans_change(center);
            }
        }
        self.thaw(difference);
    }

    fn host_changed(&mut self, difference: &Difference<Host>) {
        let key = &difference.key;
        let now = self.hosts.get(key);
        let concerned = centers_of(difference, now);
        let changed = member_changed(difference, now);
        let nodes: BTreeSet<String> =
            difference.before.iter().chain(now).map(|host| host.spec.node_name.clone()).collect();
        let present = now.is_some();
        // What was written and what was acknowledged decides whether a bond is Ready and a network may go.
        let progress = difference.before.as_ref().map(revisions) != now.map(revisions);
        self.index::<Host>(key, difference.before.as_ref().map(|h| h.spec.data_center.clone()), now_center(now));
        for node in &nodes {
            let hosts = self.hosts_of_node.entry(node.clone()).or_default();
            if present {
                hosts.insert(key.clone());
            } else {
                hosts.remove(key);
            }
            if hosts.is_empty() {
                self.hosts_of_node.remove(node);
            }
        }
        self.dirty.now.push(Key::Object(Kind::Host, key.clone()));
        self.dirty.now.extend(nodes.iter().map(|node| Key::Node(node.as_str().into())));
        if changed {
            for node in nodes {
                let others = self.hosts_of_node.get(&node).into_iter().flatten().filter(|other| *other != key);
                self.dirty.now.extend(others.map(|other| Key::Object(Kind::Host, other.clone())));
            }
        }
        if !present {
            self.states.remove(key);
        }
        if changed || progress {
            for center in &concerned {
                self.sums_of(center);
                self.forget_if_vanished(center);
            }
        }
        if difference.before.as_ref().map(made) != self.hosts.get(key).map(made) {
            // Its name is taken or free, or the time since when its Node is gone has changed.
            self.hosts_may_be_made(&key.namespace);
        }
        self.thaw(difference);
    }

    fn node_changed(&mut self, difference: &Difference<NodePart>) {
        let name = difference.key.name.clone();
        let now = self.nodes.get(&difference.key);
        let same_labels = matches!((&difference.before, now), (Some(before), Some(now))
            if labels(&before.metadata) == labels(&now.metadata) && marked(&before.metadata) == marked(&now.metadata));
        self.dirty.now.push(Key::Node(name));
        if !same_labels {
            // Which Nodes get a Host, may have changed.
            let making = self.data_centers.iter().filter(|(_, center)| center.spec.hosts.is_some());
            let made = self.hosts.iter().filter(|(_, host)| labels(&host.metadata).contains_key(MADE_FOR_LABEL));
            let of_made = made.map(|(key, host)| key.beside(&host.spec.data_center));
            let keys: BTreeSet<ObjectKey> = making.map(|(key, _)| key.clone()).chain(of_made).collect();
            self.dirty.now.extend(keys.into_iter().map(|key| Key::Object(Kind::DataCenter, key)));
        }
    }

    fn namespace_changed(&mut self, difference: &Difference<NamespacePart>) {
        let terminating = difference.before.as_ref().is_some_and(|before| before.metadata.deletion_timestamp.is_some());
        if terminating == self.terminating(&difference.key.name) {
            return;
        }
        let of_namespace = self.centers.keys().filter(|center| center.namespace == difference.key.name);
        for center in of_namespace.cloned().collect::<Vec<_>>() {
            self.plans_change(&center);
        }
    }

    fn lease_changed(&mut self, difference: &Difference<LeasePart>, now: Moment) {
        let node = match self.leases.get(&difference.key) {
            Some(lease) => self.agents.renewed(lease, now),
            None => self.agents.forgotten(&difference.key.name),
        };
        if let Some(node) = node {
            self.agent_changed(&node);
        }
    }

    fn agent_changed(&mut self, node: &str) {
        let hosts: Vec<ObjectKey> = self.hosts_of_node(node).cloned().collect();
        for host in hosts {
            if let Some(center) = self.hosts.get(&host).map(|found| host.beside(&found.spec.data_center)) {
                self.sums_of(&center);
            }
            self.dirty.now.push(Key::Object(Kind::Host, host));
        }
    }

    /// Plans of a data center's hosts may change, and everything that is summed up from them.
    fn plans_change(&mut self, key: &ObjectKey) {
        let center = self.centers.entry(key.clone()).or_default();
        self.stamps += 1;
        center.stamp = self.stamps;
        center.view = OnceCell::new();
        let keys = |kind: Kind, names: &BTreeSet<Arc<str>>| -> Vec<Key> {
            names.iter().map(|name| Key::Object(kind, key.beside(name))).collect()
        };
        let now = [
            keys(Kind::IscsiBond, &center.bonds),
            keys(Kind::Network, &center.networks),
            vec![Key::Object(Kind::DataCenter, key.clone())],
            keys(Kind::Host, &center.hosts),
        ];
        self.dirty.now.extend(now.into_iter().flatten());
        self.sums_of(key);
        self.forget_if_vanished(key);
    }

    /// Forgets a data center that does not exist and that nothing names.
    fn forget_if_vanished(&mut self, key: &ObjectKey) {
        let named =
            |center: &Center| !(center.networks.is_empty() && center.bonds.is_empty() && center.hosts.is_empty());
        if self.data_centers.get(key).is_none() && !self.centers.get(key).is_some_and(named) {
            self.centers.remove(key);
        }
    }

    /// What is summed up from a data center's hosts may have changed.
    fn sums_of(&mut self, key: &ObjectKey) {
        let Some(center) = self.centers.get_mut(key) else { return };
        center.sums = OnceCell::new();
        let bonds = center.bonds.iter().map(|name| Key::Object(Kind::IscsiBond, key.beside(name)));
        let networks = center.networks.iter().map(|name| Key::Object(Kind::Network, key.beside(name)));
        self.dirty.sums.extend(bonds.chain(networks));
        self.dirty.sums.push(Key::Object(Kind::DataCenter, key.clone()));
    }

    /// An object that could not be decoded, or can be again: its data centers stand still, or go on.
    fn thaw<K>(&mut self, difference: &Difference<K>) {
        for concerned in &difference.undecodable {
            let centers: Vec<ObjectKey> = match concerned {
                Some(name) => vec![difference.key.beside(name)],
                None => self.centers.keys().filter(|key| key.namespace == difference.key.namespace).cloned().collect(),
            };
            for center in &centers {
                self.plans_change(center);
            }
        }
    }

    fn index<K: Member>(&mut self, key: &ObjectKey, before: Option<String>, now: Option<String>) {
        if before == now {
            return;
        }
        if let Some(center) = before.and_then(|name| self.centers.get_mut(&key.beside(&name))) {
            K::names(center).remove(&key.name);
        }
        if let Some(name) = now {
            K::names(self.centers.entry(key.beside(&name)).or_default()).insert(key.name.clone());
        }
    }
}

/// What the making of Hosts for Nodes depends on.
fn made(host: &Host) -> (Option<String>, Option<String>, String) {
    let text = |texts: &Option<BTreeMap<String, String>>, name: &str| texts.as_ref()?.get(name).cloned();
    let Host { metadata, spec, .. } = host;
    let (label, gone) = (text(&metadata.labels, MADE_FOR_LABEL), text(&metadata.annotations, NODE_GONE_ANNOTATION));
    (label, gone, spec.data_center.clone())
}

/// The plan that was written into a Host, and the one that its agent has carried out.
fn revisions(host: &Host) -> Option<(Option<(&str, i64)>, bool)> {
    let status = host.status.as_ref()?;
    let written = status.plan.as_ref().map(|plan| (plan.revision.as_str(), plan.sequence));
    Some((written, status.acknowledged()))
}

fn now_center<K: Member>(now: Option<&K>) -> Option<String> {
    now.map(|object| object.center().to_owned())
}

fn centers_of<K: Member>(difference: &Difference<K>, now: Option<&K>) -> BTreeSet<ObjectKey> {
    let key = &difference.key;
    difference.before.iter().chain(now).map(|object| key.beside(object.center())).collect()
}

fn member_changed<K: Member>(difference: &Difference<K>, now: Option<&K>) -> bool {
    match (&difference.before, now) {
        (Some(before), Some(now)) => before.differs(now),
        (None, None) => false,
        // An undecodable version leaves the old one in place, and is no difference.
        (None, Some(_)) => difference.present && difference.undecodable.is_empty(),
        (Some(_), None) => true,
    }
}

#[cfg(test)]
mod tests;
