//! What follows from a change of one object: what else has to be looked at again, and what is kept up to date with it.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{Resource, api::ObjectMeta};

use super::{Center, World};
use crate::{
    api::{
        DataCenter, Host, IscsiBond, LeasePart, MADE_FOR_LABEL, NODE_GONE_ANNOTATION, NamespacePart, Network, NodePart,
        ObjectKey,
    },
    controller::store::{
        cache::Difference,
        key::Key,
        watched::{is_being_deleted, labels},
    },
    ops::Now,
    planner::Kind,
};

/// A kind whose objects name a data center.
pub(super) trait Member: Resource<DynamicType = ()> + Sized {
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
    pub(super) fn data_center_changed(&mut self, difference: &Difference<DataCenter>) {
        let key = difference.key.clone();
        self.dirty.now.push(Key::Object(Kind::DataCenter, key.clone()));
        let now = self.data_centers.get(&key);
        self.forget_wait(Kind::DataCenter, &key, now);
        let same = matches!((&difference.before, now), (Some(before), Some(now))
            if before.spec == now.spec && marked(&before.metadata) == marked(&now.metadata));
        if !same || !difference.undecodable.is_empty() {
            self.plans_change(&key);
            self.hosts_may_be_made(&key.namespace);
        }
        let taint = |center: &DataCenter| center.spec.non_operational_taint;
        if difference.before.as_ref().map(taint) != self.data_centers.get(&key).map(taint) {
            self.nodes_of(&key);
        }
        if self.data_centers.get(&key).is_none() {
            self.refusals.remove(&key);
        }
    }

    /// The Nodes of a data center's hosts have to be looked at.
    pub(super) fn nodes_of(&mut self, key: &ObjectKey) {
        let names = self.centers.get(key).map(|center| &center.hosts).into_iter().flatten();
        let hosts = names.filter_map(|name| self.hosts.get(&key.beside(name.clone())));
        self.dirty.now.extend(hosts.map(|host| Key::Node(host.spec.node_name.as_str().into())));
    }

    /// Which Hosts a namespace's data centers can make, may have changed.
    fn hosts_may_be_made(&mut self, namespace: &str) {
        let making = self.data_centers.iter().filter(|(center, _)| *center.namespace == *namespace);
        let making: Vec<Key> = making.map(|(center, _)| Key::Object(Kind::DataCenter, center.clone())).collect();
        self.dirty.sums.extend(making);
    }

    pub(super) fn network_changed(&mut self, difference: &Difference<Network>) {
        let key = &difference.key;
        let now = self.networks.get(key);
        self.forget_wait(Kind::Network, key, now);
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

    pub(super) fn bond_changed(&mut self, difference: &Difference<IscsiBond>) {
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

    pub(super) fn host_changed(&mut self, difference: &Difference<Host>) {
        let key = &difference.key;
        let now = self.hosts.get(key);
        self.forget_wait(Kind::Host, key, now);
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
            match hosts.binary_search(key) {
                Err(at) if present => {
                    hosts.reserve_exact(1);
                    hosts.insert(at, key.clone());
                }
                Ok(at) if !present => drop(hosts.remove(at)),
                Ok(_) | Err(_) => {}
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

    pub(super) fn node_changed(&mut self, difference: &Difference<NodePart>) {
        let name = difference.key.name.clone();
        let now = self.nodes.get(&difference.key);
        let same_labels = matches!((&difference.before, now), (Some(before), Some(now))
            if labels(&before.metadata) == labels(&now.metadata) && marked(&before.metadata) == marked(&now.metadata));
        self.dirty.now.push(Key::Node(name));
        if !same_labels {
            // Which Nodes get a Host, may have changed.
            let making = self.data_centers.iter().filter(|(_, center)| center.spec.hosts.is_some());
            let made = self.hosts.iter().filter(|(_, host)| labels(&host.metadata).contains_key(MADE_FOR_LABEL));
            let of_made = made.map(|(key, host)| key.beside(host.spec.data_center.as_str()));
            let keys: BTreeSet<ObjectKey> = making.map(|(key, _)| key.clone()).chain(of_made).collect();
            self.dirty.now.extend(keys.into_iter().map(|key| Key::Object(Kind::DataCenter, key)));
        }
    }

    pub(super) fn namespace_changed(&mut self, difference: &Difference<NamespacePart>) {
        let terminating = difference.before.as_ref().is_some_and(|before| before.metadata.deletion_timestamp.is_some());
        if terminating == self.terminating(&difference.key.name) {
            return;
        }
        let of_namespace = self.centers.keys().filter(|center| center.namespace == difference.key.name);
        for center in of_namespace.cloned().collect::<Vec<_>>() {
            self.plans_change(&center);
        }
    }

    pub(super) fn lease_changed(&mut self, difference: &Difference<LeasePart>, now: Now) {
        let node = match self.leases.get(&difference.key) {
            Some(lease) => self.agents.renewed(lease, now),
            None => self.agents.forgotten(&difference.key.name),
        };
        if let Some(node) = node {
            self.agent_changed(&node);
        }
    }

    pub(super) fn agent_changed(&mut self, node: &str) {
        self.dirty.now.push(Key::Node(node.into()));
        let hosts: Vec<ObjectKey> = self.hosts_of_node(node).cloned().collect();
        for host in hosts {
            if let Some(center) = self.hosts.get(&host).map(|found| host.beside(found.spec.data_center.as_str())) {
                self.sums_of(&center);
            }
            self.dirty.now.push(Key::Object(Kind::Host, host));
        }
    }

    /// An object that is gone, or has come back under its name, does not wait: its next deletion waits anew.
    fn forget_wait<K: Resource>(&self, kind: Kind, key: &ObjectKey, now: Option<&K>) {
        if !now.is_some_and(|object| is_being_deleted(object.meta())) {
            self.waits.borrow_mut().remove(&Key::Object(kind, key.clone()));
        }
    }

    /// Plans of a data center's hosts may change, and everything that is summed up from them.
    fn plans_change(&mut self, key: &ObjectKey) {
        let center = self.centers.entry(key.clone()).or_default();
        self.stamps += 1;
        center.stamp = self.stamps;
        center.planner = OnceCell::new();
        let keys = |kind: Kind, names: &BTreeSet<Arc<str>>| -> Vec<Key> {
            names.iter().map(|name| Key::Object(kind, key.beside(name.clone()))).collect()
        };
        let now = [
            keys(Kind::IscsiBond, &center.bonds),
            keys(Kind::Network, &center.networks),
            vec![Key::Object(Kind::DataCenter, key.clone())],
        ];
        self.dirty.now.extend(now.into_iter().flatten());
        self.replanned.insert(key.clone());
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

    /// What is summed up from a data center's hosts may have changed. Thousands of hosts change at once: what waits to be
    /// looked at already, because nobody has summed up since the last of them, is not queued again.
    pub(super) fn sums_of(&mut self, key: &ObjectKey) {
        let Some(center) = self.centers.get_mut(key) else { return };
        if center.sums.take().is_none() {
            return;
        }
        let bonds = center.bonds.iter().map(|name| Key::Object(Kind::IscsiBond, key.beside(name.clone())));
        let networks = center.networks.iter().map(|name| Key::Object(Kind::Network, key.beside(name.clone())));
        self.dirty.sums.extend(bonds.chain(networks));
        self.dirty.sums.push(Key::Object(Kind::DataCenter, key.clone()));
    }

    /// An object that could not be decoded, or can be again: its data centers stand still, or go on.
    fn thaw<K>(&mut self, difference: &Difference<K>) {
        for concerned in &difference.undecodable {
            let centers: Vec<ObjectKey> = match concerned {
                Some(name) => vec![difference.key.beside(name.as_str())],
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
        if let Some(center) = before.and_then(|name| self.centers.get_mut(&key.beside(name))) {
            K::names(center).remove(&key.name);
        }
        if let Some(name) = now {
            K::names(self.centers.entry(key.beside(name)).or_default()).insert(key.name.clone());
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
