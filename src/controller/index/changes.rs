//! Applies the change of one object: updates the indexes, and marks the objects that have to be reconciled.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

use kube::{Resource, api::ObjectMeta};

use super::{DataCenterIndex, Index};
use crate::{
    api::{
        DataCenter, Host, IscsiBond, LeasePart, MADE_FOR_LABEL, NODE_GONE_ANNOTATION, NamespacePart, Network, NodePart,
        ObjectKey, ObjectKind, ObjectName,
    },
    controller::store::{
        cache::Difference,
        key::Key,
        watched::{is_being_deleted, labels},
    },
    ops::Now,
};

/// A kind whose objects name a data center.
pub(super) trait Member: Resource<DynamicType = ()> + Sized {
    fn data_center(&self) -> &str;
    /// Whether the two versions differ in a field that other objects depend on: anything but the status.
    fn differs(&self, other: &Self) -> bool;
    fn names(center: &mut DataCenterIndex) -> &mut BTreeSet<ObjectName>;
}

macro_rules! member {
    ($kind:ident, $field:ident) => {
        impl Member for $kind {
            fn data_center(&self) -> &str {
                &self.spec.data_center
            }
            fn differs(&self, other: &Self) -> bool {
                self.spec != other.spec || marked(&self.metadata) != marked(&other.metadata)
            }
            fn names(center: &mut DataCenterIndex) -> &mut BTreeSet<ObjectName> {
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

impl Index {
    pub(super) fn data_center_changed(&mut self, difference: &Difference<DataCenter>) {
        let key = difference.key.clone();
        self.pending.now.push(Key::Object(ObjectKind::DataCenter, key.clone()));
        self.forget_deletion(ObjectKind::DataCenter, &key);
        let now = self.data_centers.get(&key);
        let same = matches!((&difference.before, now), (Some(before), Some(now))
            if before.spec == now.spec && marked(&before.metadata) == marked(&now.metadata));
        if !same || !difference.undecodable.is_empty() {
            self.invalidate_plans(&key);
            self.wake_generating_data_centers(&key.namespace);
        }
        let taint = |center: &DataCenter| center.spec.non_operational_taint;
        if difference.before.as_ref().map(taint) != self.data_centers.get(&key).map(taint) {
            self.wake_nodes_of(&key);
        }
        if self.data_centers.get(&key).is_none() {
            self.create_errors.remove(&key);
        }
    }

    /// The Nodes of a data center's hosts have to be reconciled.
    pub(super) fn wake_nodes_of(&mut self, key: &ObjectKey) {
        let names = self.by_data_center.get(key).map(|center| &center.hosts).into_iter().flatten();
        let hosts = names.filter_map(|name| self.hosts.get(&key.beside(name.clone())));
        self.pending.now.extend(hosts.map(|host| Key::Node(host.spec.node_name.as_str().into())));
    }

    /// The set of Hosts that the data centers of a namespace can generate may have changed.
    fn wake_generating_data_centers(&mut self, namespace: &str) {
        let making = self.data_centers.iter().filter(|(dc_key, _)| *dc_key.namespace == *namespace);
        let making: Vec<Key> = making.map(|(dc_key, _)| Key::Object(ObjectKind::DataCenter, dc_key.clone())).collect();
        self.pending.debounced.extend(making);
    }

    pub(super) fn network_changed(&mut self, difference: &Difference<Network>) {
        let key = &difference.key;
        self.forget_deletion(ObjectKind::Network, key);
        let now = self.networks.get(key);
        let dc_keys = data_centers_of(difference, now);
        let changed = member_changed(difference, now);
        self.move_member::<Network>(
            key,
            difference.before.as_ref().map(|n| n.spec.data_center.clone()),
            data_center_of(now),
        );
        self.pending.now.push(Key::Object(ObjectKind::Network, key.clone()));
        if changed {
            for dc_key in &dc_keys {
                self.invalidate_plans(dc_key);
            }
            // Bonds of other data centers may name it too: their conditions say so.
            let bonds = self.bonds.iter().filter(|(bond, spec)| {
                bond.namespace == key.namespace && spec.spec.networks.iter().any(|name| *name == *key.name)
            });
            let bonds: Vec<Key> = bonds.map(|(bond, _)| Key::Object(ObjectKind::IscsiBond, bond.clone())).collect();
            self.pending.now.extend(bonds);
        }
        self.thaw(difference, dc_keys);
    }

    pub(super) fn bond_changed(&mut self, difference: &Difference<IscsiBond>) {
        let key = &difference.key;
        let now = self.bonds.get(key);
        let dc_keys = data_centers_of(difference, now);
        let changed = member_changed(difference, now);
        self.move_member::<IscsiBond>(
            key,
            difference.before.as_ref().map(|b| b.spec.data_center.clone()),
            data_center_of(now),
        );
        self.pending.now.push(Key::Object(ObjectKind::IscsiBond, key.clone()));
        if changed {
            for dc_key in &dc_keys {
                self.invalidate_plans(dc_key);
            }
        }
        self.thaw(difference, dc_keys);
    }

    pub(super) fn host_changed(&mut self, difference: &Difference<Host>) {
        let key = &difference.key;
        self.forget_deletion(ObjectKind::Host, key);
        let now = self.hosts.get(key);
        let dc_keys = data_centers_of(difference, now);
        let changed = member_changed(difference, now);
        let nodes: BTreeSet<String> =
            difference.before.iter().chain(now).map(|host| host.spec.node_name.clone()).collect();
        let present = now.is_some();
        // Whether a bond is Ready and a network may be deleted depends on the published and the acknowledged plan.
        let progress = difference.before.as_ref().map(revisions) != now.map(revisions);
        self.move_member::<Host>(
            key,
            difference.before.as_ref().map(|h| h.spec.data_center.clone()),
            data_center_of(now),
        );
        for dc_key in &dc_keys {
            // Plans are kept for hosts only: a host that moves on and on must not leave them behind.
            if let Some(center) = self.by_data_center.get_mut(dc_key)
                && center.hosts.is_empty()
            {
                center.planner = OnceCell::new();
            }
        }
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
        let namesakes = self.initiators.changed(key, self.hosts.get(key).and_then(initiator_name));
        self.pending.now.extend(namesakes.into_iter().map(|other| Key::Object(ObjectKind::Host, other)));
        self.pending.now.push(Key::Object(ObjectKind::Host, key.clone()));
        self.pending.now.extend(nodes.iter().map(|node| Key::Node(node.as_str().into())));
        if changed {
            for node in nodes {
                let others = self.hosts_of_node.get(&node).into_iter().flatten().filter(|other| *other != key);
                self.pending.now.extend(others.map(|other| Key::Object(ObjectKind::Host, other.clone())));
            }
        }
        if !present {
            self.host_states.remove(key);
        }
        if changed || progress {
            for dc_key in &dc_keys {
                self.invalidate_aggregates(dc_key);
                self.forget_if_vanished(dc_key);
            }
        }
        if difference.before.as_ref().map(generation_inputs) != self.hosts.get(key).map(generation_inputs) {
            // A Host name is taken or free now, or the Node of a Host is gone or back.
            self.wake_generating_data_centers(&key.namespace);
        }
        self.thaw(difference, dc_keys);
    }

    pub(super) fn node_changed(&mut self, difference: &Difference<NodePart>) {
        let now = self.nodes.get(&difference.key);
        let same_labels = matches!((&difference.before, now), (Some(before), Some(now))
            if labels(&before.metadata) == labels(&now.metadata) && marked(&before.metadata) == marked(&now.metadata));
        self.pending.now.push(Key::Node(difference.key.name.clone().into()));
        if !same_labels {
            // The set of Nodes for which Hosts are generated may have changed.
            let making = self.data_centers.iter().filter(|(_, center)| center.spec.hosts.is_some());
            let made = self.hosts.iter().filter(|(_, host)| labels(&host.metadata).contains_key(MADE_FOR_LABEL));
            let of_made = made.map(|(key, host)| key.beside(host.spec.data_center.as_str()));
            let keys: BTreeSet<ObjectKey> = making.map(|(key, _)| key.clone()).chain(of_made).collect();
            self.pending.now.extend(keys.into_iter().map(|key| Key::Object(ObjectKind::DataCenter, key)));
        }
    }

    pub(super) fn namespace_changed(&mut self, difference: &Difference<NamespacePart>) {
        let terminating = difference.before.as_ref().is_some_and(|before| before.metadata.deletion_timestamp.is_some());
        if terminating == self.terminating(&difference.key.name) {
            return;
        }
        let of_namespace = self.by_data_center.keys().filter(|dc_key| dc_key.namespace == difference.key.name.as_str());
        for dc_key in of_namespace.cloned().collect::<Vec<_>>() {
            self.invalidate_plans(&dc_key);
        }
    }

    pub(super) fn lease_changed(&mut self, difference: &Difference<LeasePart>, now: Now) {
        let node = match self.leases.get(&difference.key) {
            Some(lease) => self.agents.lease_seen(lease, now),
            None => self.agents.lease_removed(&difference.key.name),
        };
        if let Some(node) = node {
            self.agent_changed(&node);
        }
    }

    pub(super) fn agent_changed(&mut self, node: &str) {
        self.pending.now.push(Key::Node(node.into()));
        let hosts: Vec<ObjectKey> = self.hosts_of_node(node).cloned().collect();
        for host in hosts {
            if let Some(dc_key) = self.hosts.get(&host).map(|found| host.beside(found.spec.data_center.as_str())) {
                self.invalidate_aggregates(&dc_key);
            }
            self.pending.now.push(Key::Object(ObjectKind::Host, host));
        }
    }

    /// The deletion timeout of an object ends with the object: one of the same name that is created later has its own.
    fn forget_deletion(&mut self, kind: ObjectKind, key: &ObjectKey) {
        let metadata = match kind {
            ObjectKind::DataCenter => self.data_centers.get(key).map(Resource::meta),
            ObjectKind::Network => self.networks.get(key).map(Resource::meta),
            ObjectKind::Host => self.hosts.get(key).map(Resource::meta),
            ObjectKind::IscsiBond => self.bonds.get(key).map(Resource::meta),
        };
        if !metadata.is_some_and(is_being_deleted) {
            self.deletions.remove(&Key::Object(kind, key.clone()));
        }
    }

    /// The plans of a data center's hosts may change, and with them its aggregates.
    fn invalidate_plans(&mut self, key: &ObjectKey) {
        let center = self.by_data_center.entry(key.clone()).or_default();
        self.last_epoch += 1;
        center.plan_epoch = self.last_epoch;
        center.planner = OnceCell::new();
        // Thousands of bonds may change at once: what shows the plans is pending already after the first.
        if self.to_replan.insert(key.clone()) {
            let keys = |kind: ObjectKind, names: &BTreeSet<ObjectName>| -> Vec<Key> {
                names.iter().map(|name| Key::Object(kind, key.beside(name.clone()))).collect()
            };
            let now = [
                keys(ObjectKind::IscsiBond, &center.bonds),
                keys(ObjectKind::Network, &center.networks),
                vec![Key::Object(ObjectKind::DataCenter, key.clone())],
            ];
            self.pending.now.extend(now.into_iter().flatten());
        }
        self.invalidate_aggregates(key);
        self.forget_if_vanished(key);
    }

    /// Removes the index of a data center that does not exist and that no object names.
    fn forget_if_vanished(&mut self, key: &ObjectKey) {
        let named = |center: &DataCenterIndex| {
            !(center.networks.is_empty() && center.bonds.is_empty() && center.hosts.is_empty())
        };
        if self.data_centers.get(key).is_none() && !self.by_data_center.get(key).is_some_and(named) {
            self.by_data_center.remove(key);
        }
    }

    /// The aggregates of a data center may have changed. Thousands of hosts may change at once: if no aggregates have been
    /// computed since the last change, the objects that show them are pending already, and are not added again.
    pub(super) fn invalidate_aggregates(&mut self, key: &ObjectKey) {
        let Some(center) = self.by_data_center.get_mut(key) else { return };
        if center.aggregates.take().is_none() {
            return;
        }
        let bonds = center.bonds.iter().map(|name| Key::Object(ObjectKind::IscsiBond, key.beside(name.clone())));
        let networks = center.networks.iter().map(|name| Key::Object(ObjectKind::Network, key.beside(name.clone())));
        self.pending.debounced.extend(bonds.chain(networks));
        self.pending.debounced.push(Key::Object(ObjectKind::DataCenter, key.clone()));
    }

    /// An object cannot be decoded, or can be decoded again: its data centers freeze, or thaw. `decoded` are those that its
    /// versions name that could be decoded.
    fn thaw<K>(&mut self, difference: &Difference<K>, decoded: BTreeSet<ObjectKey>) {
        if difference.undecodable.is_empty() {
            return;
        }
        let mut dc_keys = decoded;
        for affected in &difference.undecodable {
            let namespace = &difference.key.namespace;
            match affected {
                Some(name) => dc_keys.extend([difference.key.beside(name.as_str())]),
                None => dc_keys.extend(self.by_data_center.keys().filter(|key| key.namespace == *namespace).cloned()),
            }
        }
        for dc_key in &dc_keys {
            self.invalidate_plans(dc_key);
        }
    }

    fn move_member<K: Member>(&mut self, key: &ObjectKey, before: Option<String>, now: Option<String>) {
        if before == now {
            return;
        }
        if let Some(center) = before.and_then(|name| self.by_data_center.get_mut(&key.beside(name))) {
            K::names(center).remove(&key.name);
        }
        if let Some(name) = now {
            K::names(self.by_data_center.entry(key.beside(name)).or_default()).insert(key.name.clone());
        }
    }
}

/// The fields of a Host that the generation of Hosts for Nodes depends on.
fn generation_inputs(host: &Host) -> (Option<String>, Option<String>, String) {
    let text = |texts: &Option<BTreeMap<String, String>>, name: &str| texts.as_ref()?.get(name).cloned();
    let Host { metadata, spec, .. } = host;
    let (label, gone) = (text(&metadata.labels, MADE_FOR_LABEL), text(&metadata.annotations, NODE_GONE_ANNOTATION));
    (label, gone, spec.data_center.clone())
}

fn initiator_name(host: &Host) -> Option<&str> {
    host.status.as_ref()?.agent.as_ref()?.initiator_name.as_deref()
}

/// The plan in a Host's status, and whether its agent has carried it out.
fn revisions(host: &Host) -> Option<(Option<(&str, i64)>, bool)> {
    let status = host.status.as_ref()?;
    let written = status.plan.as_ref().map(|plan| (plan.revision.as_str(), plan.sequence));
    Some((written, status.acknowledged()))
}

fn data_center_of<K: Member>(now: Option<&K>) -> Option<String> {
    now.map(|object| object.data_center().to_owned())
}

fn data_centers_of<K: Member>(difference: &Difference<K>, now: Option<&K>) -> BTreeSet<ObjectKey> {
    let key = &difference.key;
    difference.before.iter().chain(now).map(|object| key.beside(object.data_center())).collect()
}

fn member_changed<K: Member>(difference: &Difference<K>, now: Option<&K>) -> bool {
    match (&difference.before, now) {
        (Some(before), Some(now)) => before.differs(now),
        (None, None) => false,
        // The last version that could be decoded stays in the cache, so an undecodable version changes nothing.
        (None, Some(_)) => !difference.is_outdated,
        (Some(_), None) => true,
    }
}
