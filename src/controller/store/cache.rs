//! The objects of one kind, as last seen.
//!
//! kube's `reflector::Store` is not used. It drops an object that cannot be decoded, while this cache keeps its last
//! decodable version: if an object were missing, agents would log sessions out. This cache also reports what an event
//! has changed, and applies the answers to the controller's own writes.

use std::collections::{HashMap, HashSet};

use crate::{
    api::ObjectKey,
    controller::store::watched::{Event, Undecodable, Watched, slim, version},
};
use kube::Resource;

/// The objects of one kind. During a list the old objects stay until the list is complete: plans from a half-filled cache
/// would log sessions out.
#[derive(Debug)]
pub(crate) struct ObjectCache<K> {
    /// Boxed, because a map has capacity for up to twice as many entries as are in it.
    objects: HashMap<ObjectKey, Box<K>>,
    undecodable: HashMap<ObjectKey, Undecodable<K>>,
    listed: Option<HashSet<ObjectKey>>,
    filled: bool,
    refused: bool,
}

impl<K> Default for ObjectCache<K> {
    fn default() -> Self {
        ObjectCache {
            objects: HashMap::new(),
            undecodable: HashMap::new(),
            listed: None,
            filled: false,
            refused: false,
        }
    }
}

/// The effect of an event on one object.
#[derive(Debug)]
pub(crate) struct Difference<K> {
    pub key: ObjectKey,
    pub before: Option<K>,
    /// Whether the object is in the cache now.
    pub present: bool,
    /// The data centers of an undecodable version of the object, before or now; `None` means all data centers of its
    /// namespace.
    pub undecodable: Vec<Option<String>>,
}

impl<K: Resource<DynamicType = ()>> ObjectCache<K> {
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&K> {
        self.objects.get(key).map(|object| &**object)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &K)> {
        self.objects.iter().map(|(key, object)| (key, &**object))
    }

    /// Whether a complete list was read.
    pub(crate) fn filled(&self) -> bool {
        self.filled
    }

    /// Whether the list was refused. It may stay refused.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    pub(crate) fn undecodable(&self) -> impl Iterator<Item = (&ObjectKey, &Undecodable<K>)> {
        self.undecodable.iter()
    }

    /// An object whose newest version cannot be decoded.
    pub(crate) fn get_undecodable(&self, key: &ObjectKey) -> Option<&Undecodable<K>> {
        self.undecodable.get(key)
    }

    /// Applies an event of a watch. Returns what it has changed.
    pub(crate) fn apply(&mut self, event: Event<Watched<K>>) -> Vec<Difference<K>> {
        match event {
            Event::ListBegins => {
                self.listed = Some(HashSet::new());
                Vec::new()
            }
            Event::Listed(object) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(ObjectKey::of(object.meta()));
                }
                self.upsert(object).into_iter().collect()
            }
            Event::ListEnds => {
                self.filled = true;
                self.refused = false;
                let listed = self.listed.take().unwrap_or_default();
                let known = self.objects.keys().chain(self.undecodable.keys());
                let gone: HashSet<ObjectKey> = known.filter(|key| !listed.contains(key)).cloned().collect();
                gone.into_iter().map(|key| self.remove(key)).collect()
            }
            Event::Fails { refused } => {
                self.refused |= refused;
                Vec::new()
            }
            Event::Applied(object) => self.upsert(object).into_iter().collect(),
            Event::Deleted(object) => vec![self.remove(ObjectKey::of(object.meta()))],
        }
    }

    /// Applies the answer to a write, unless a newer version is known, or the object is gone.
    pub(crate) fn apply_written(&mut self, object: Watched<K>) -> Option<Difference<K>> {
        let key = ObjectKey::of(object.meta());
        let known = self.get(&key).map(Resource::meta);
        let known = known.or_else(|| self.undecodable.get(&key).map(|bad| &bad.metadata))?;
        (known.uid == object.meta().uid).then(|| self.upsert(object))?
    }

    fn upsert(&mut self, object: Watched<K>) -> Option<Difference<K>> {
        let key = ObjectKey::of(object.meta());
        let good = self.objects.get(&key).map(|known| version(known.meta()));
        let bad = self.undecodable.get(&key).map(|known| version(&known.metadata));
        let new = version(object.meta());
        // The watch may report a version that is known from the answer to a write, or an older one. A version that could
        // not be decoded may be decodable now, with another schema.
        let known = match object {
            Watched::Good(_) => {
                if bad.is_none() {
                    good
                } else {
                    None
                }
            }
            Watched::Bad(_) => bad,
        };
        if good.max(bad).is_some_and(|newest| new < newest) || known.is_some_and(|known| new != 0 && new == known) {
            return None;
        }
        match object {
            Watched::Good(object) => Some(self.replace(key, object)),
            Watched::Bad(bad) => {
                let now = bad.data_center.clone();
                let before = self.undecodable.insert(key.clone(), *bad);
                let changed = before.map(|bad| bad.data_center).into_iter().chain([now]).collect();
                // The last version that could be decoded stays.
                Some(Difference { present: self.objects.contains_key(&key), before: None, undecodable: changed, key })
            }
        }
    }

    fn replace(&mut self, key: ObjectKey, mut object: Box<K>) -> Difference<K> {
        slim(object.meta_mut());
        let undecodable = self.undecodable.remove(&key).map(|bad| bad.data_center).into_iter().collect();
        let before = self.objects.insert(key.clone(), object).map(|object| *object);
        Difference { key, before, present: true, undecodable }
    }

    fn remove(&mut self, key: ObjectKey) -> Difference<K> {
        let undecodable = self.undecodable.remove(&key).map(|bad| bad.data_center).into_iter().collect();
        let before = self.objects.remove(&key).map(|object| *object);
        Difference { key, before, present: false, undecodable }
    }

    /// The object, to intern its texts.
    pub(crate) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut K> {
        self.objects.get_mut(key).map(|object| &mut **object)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::Network,
        controller::fixtures::{object, read},
    };

    fn network(version: u64, subnets: &Value) -> Watched<Network> {
        let mut network = object("Network", "n", &json!({"dataCenter": "dc", "subnets": subnets}));
        network["metadata"]["resourceVersion"] = json!(version.to_string());
        read(network)
    }

    fn good(version: u64) -> Watched<Network> {
        network(version, &json!([]))
    }

    fn bad(version: u64) -> Watched<Network> {
        network(version, &json!(7))
    }

    fn key() -> ObjectKey {
        ObjectKey::new("ns", "n")
    }

    #[test]
    fn an_older_version_does_not_replace_a_newer_one() {
        let mut cache = ObjectCache::default();
        assert_eq!(cache.apply(Event::Applied(good(5))).len(), 1);
        assert_eq!(cache.apply(Event::Applied(good(4))).len(), 0);
        assert_eq!(cache.apply(Event::Applied(good(5))).len(), 0, "known from the answer to a write");
        assert_eq!(cache.apply(Event::Applied(good(6))).len(), 1);
    }

    #[test]
    fn objects_stay_until_a_new_list_is_complete() {
        let mut cache = ObjectCache::default();
        cache.apply(Event::Applied(good(5)));
        cache.apply(Event::<Watched<Network>>::ListBegins);
        assert!(cache.get(&key()).is_some() && !cache.filled());
        assert_eq!(cache.apply(Event::<Watched<Network>>::ListEnds).len(), 1);
        assert!(cache.get(&key()).is_none() && cache.filled());
    }

    #[test]
    fn the_last_version_that_could_be_decoded_stays() {
        let mut cache = ObjectCache::default();
        cache.apply(Event::Applied(good(5)));
        let difference = cache.apply(Event::Applied(bad(6))).pop().unwrap();
        assert_eq!(difference.undecodable, [Some("dc".to_owned())]);
        assert!(cache.get(&key()).is_some() && cache.get_undecodable(&key()).is_some());
        cache.apply(Event::Applied(good(7)));
        assert!(cache.get_undecodable(&key()).is_none());
    }

    #[test]
    fn the_answer_to_a_write_counts_for_the_same_object_only() {
        let mut cache = ObjectCache::default();
        assert!(cache.apply_written(good(5)).is_none(), "it is gone");
        cache.apply(Event::Applied(good(5)));
        let mut successor = object("Network", "n", &json!({"dataCenter": "dc"}));
        successor["metadata"]["uid"] = json!("another");
        successor["metadata"]["resourceVersion"] = json!("6");
        assert!(cache.apply_written(read(successor)).is_none(), "it is another object");
        assert!(cache.apply_written(good(6)).is_some());
    }
}
