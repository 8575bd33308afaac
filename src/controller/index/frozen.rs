//! Missing knowledge: lists that were not read, and objects that cannot be decoded. The affected data centers are
//! frozen: their plans stay as they are.

use kube::{Resource, api::ObjectMeta};

use super::{Index, changes::Member};
use crate::{
    api::{ObjectKey, ObjectKind},
    controller::store::{
        cache::ObjectCache,
        watched::{Undecodable, is_being_deleted},
    },
};

impl Index {
    /// The plural names of the kinds whose first list was not read yet.
    pub(crate) fn unfilled(&self) -> Vec<&'static str> {
        let cluster = [
            ("nodes", self.nodes.filled()),
            ("namespaces", self.namespaces.filled()),
            ("leases", self.leases.filled()),
        ];
        let missing = cluster.into_iter().filter_map(|(name, filled)| (!filled).then_some(name));
        self.unfilled_plan_inputs().into_iter().chain(missing).collect()
    }

    /// The kinds among [`Index::unfilled`] that plans depend on.
    pub(crate) fn unfilled_plan_inputs(&self) -> Vec<&'static str> {
        let kinds = [
            ("datacenters", self.data_centers.filled()),
            ("networks", self.networks.filled()),
            ("hosts", self.hosts.filled()),
            ("iscsibonds", self.bonds.filled()),
        ];
        kinds.into_iter().filter_map(|(name, filled)| (!filled).then_some(name)).collect()
    }

    /// Whether every list has been read, or refused. A list that is refused must not hold up the rest.
    pub(crate) fn complete(&self) -> bool {
        fn known<K: Resource<DynamicType = ()>>(cache: &ObjectCache<K>) -> bool {
            cache.filled() || cache.refused()
        }
        known(&self.data_centers)
            && known(&self.networks)
            && known(&self.hosts)
            && known(&self.bonds)
            && known(&self.nodes)
            && known(&self.namespaces)
            && known(&self.leases)
    }

    /// One line for each object that cannot be decoded, or whose status cannot.
    pub(crate) fn undecodable(&self) -> Vec<String> {
        fn lines<K: Resource<DynamicType = ()>>(
            kind: ObjectKind,
            cache: &ObjectCache<K>,
        ) -> impl Iterator<Item = String> {
            let statuses = cache.status_errors().map(move |(key, error)| format!("{kind} {key}: {error}"));
            let bad = cache.undecodable();
            bad.map(move |(key, bad)| format!("{kind} {key} cannot be read: {}", bad.error)).chain(statuses)
        }
        let mut lines: Vec<String> = lines(ObjectKind::DataCenter, &self.data_centers)
            .chain(lines(ObjectKind::Network, &self.networks))
            .chain(lines(ObjectKind::Host, &self.hosts))
            .chain(lines(ObjectKind::IscsiBond, &self.bonds))
            .collect();
        lines.sort();
        lines
    }

    /// Why a data center is frozen: one of its objects cannot be decoded, or a kind cannot be listed. A data center that is
    /// being deleted is not frozen: its hosts disconnect in any case.
    pub(crate) fn frozen(&self, dc_key: &ObjectKey) -> Option<String> {
        let deleting = self.data_centers.get(dc_key).is_some_and(|found| is_being_deleted(&found.metadata));
        if deleting || self.terminating(&dc_key.namespace) {
            return None;
        }
        if let Some(plural) = self.unfilled_plan_inputs().first() {
            return Some(format!("{plural} cannot be listed; the plans of this data center stay as they are"));
        }
        let networks = undecodable(ObjectKind::Network, &self.networks, dc_key);
        let bonds = undecodable(ObjectKind::IscsiBond, &self.bonds, dc_key);
        let hosts = undecodable(ObjectKind::Host, &self.hosts, dc_key);
        let own = self.data_centers.undecodable().find(|(key, _)| *key == dc_key);
        let own = own.map(|(key, bad)| (ObjectKind::DataCenter, key, &bad.error));
        let (kind, key, error) = networks.or(bonds).or(hosts).or(own)?;
        Some(format!("{kind} {} cannot be read: {error}; the plans of this data center stay as they are", key.name))
    }

    /// The bonds of a data center, those that cannot be decoded included.
    pub(crate) fn bonds_of(&self, dc_key: &ObjectKey) -> Vec<(ObjectKey, &ObjectMeta)> {
        members(&self.bonds, dc_key)
    }

    /// The networks of a data center, those that cannot be decoded included.
    pub(crate) fn networks_of(&self, dc_key: &ObjectKey) -> Vec<(ObjectKey, &ObjectMeta)> {
        members(&self.networks, dc_key)
    }
}

fn members<'a, K: Member>(cache: &'a ObjectCache<K>, dc_key: &ObjectKey) -> Vec<(ObjectKey, &'a ObjectMeta)> {
    let bad = cache.undecodable().filter(|(_, bad)| bad.data_center.as_deref() == Some(&*dc_key.name));
    let bad = bad.map(|(key, bad)| (key, &bad.metadata));
    let good = cache
        .iter()
        .filter(|(key, object)| object.data_center() == &*dc_key.name && cache.get_undecodable(key).is_none());
    let good = good.map(|(key, object)| (key, object.meta()));
    let mut all: Vec<_> = good.chain(bad).filter(|(key, _)| key.namespace == dc_key.namespace).collect();
    all.sort_by_key(|(key, _)| *key);
    all.into_iter().map(|(key, metadata)| (key.clone(), metadata)).collect()
}

fn undecodable<'a, K: Member>(
    kind: ObjectKind,
    cache: &'a ObjectCache<K>,
    dc_key: &ObjectKey,
) -> Option<(ObjectKind, &'a ObjectKey, &'a String)> {
    let concerns = |(key, bad): &(&ObjectKey, &Undecodable<K>)| {
        let last_read = cache.get(key).is_some_and(|object| *object.data_center() == *dc_key.name);
        key.namespace == dc_key.namespace
            && (last_read || bad.data_center.as_ref().is_none_or(|name| *name == dc_key.name))
    };
    cache.undecodable().find(concerns).map(|(key, bad)| (kind, key, &bad.error))
}
