//! The objects of one kind, as last seen.
//!
//! kube's `reflector::Store` is not used. It drops an object that cannot be decoded, while this cache keeps its last
//! decodable version: if an object were missing, agents would log sessions out. This cache also reports what an event
//! has changed, and applies the answers to the controller's own writes.

use std::collections::{HashMap, HashSet};

use kube::Resource;
use tokio::time::Instant;

use crate::{
    api::ObjectKey,
    controller::store::watched::{Event, Undecodable, Watched, slim, version},
};

/// The objects of one kind. During a list the old objects stay until the list is complete: plans from a half-filled cache
/// would log sessions out.
#[derive(Debug)]
pub(crate) struct ObjectCache<K> {
    /// Boxed, because a map has capacity for up to twice as many entries as are in it.
    objects: HashMap<ObjectKey, Box<K>>,
    undecodable: HashMap<ObjectKey, Undecodable<K>>,
    /// The fields of the statuses of `objects` that cannot be decoded, and why.
    status_errors: HashMap<ObjectKey, String>,
    listed: Option<HashSet<ObjectKey>>,
    /// The time before the last list was requested.
    list_began: Option<Instant>,
    /// Objects whose version is known from the answer to a write, and the time of the answer. The watch has not shown it yet.
    answered: HashMap<ObjectKey, Instant>,
    filled: bool,
    refused: bool,
}

/// Where a version of an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    List,
    Watch,
    Answer,
}

impl<K> Default for ObjectCache<K> {
    fn default() -> Self {
        ObjectCache {
            objects: HashMap::new(),
            undecodable: HashMap::new(),
            status_errors: HashMap::new(),
            listed: None,
            list_began: None,
            answered: HashMap::new(),
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
    /// The newest version cannot be decoded: the object in the cache, if there is one, is the last that could be.
    pub is_outdated: bool,
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

    /// The fields of an object's status that cannot be decoded, and why.
    pub(crate) fn status_error(&self, key: &ObjectKey) -> Option<&str> {
        self.status_errors.get(key).map(String::as_str)
    }

    pub(crate) fn status_errors(&self) -> impl Iterator<Item = (&ObjectKey, &String)> {
        self.status_errors.iter()
    }

    /// An object whose newest version cannot be decoded.
    pub(crate) fn get_undecodable(&self, key: &ObjectKey) -> Option<&Undecodable<K>> {
        self.undecodable.get(key)
    }

    /// The number of objects, those that cannot be decoded included.
    pub(crate) fn len(&self) -> usize {
        let never_read = self.undecodable.keys().filter(|key| !self.objects.contains_key(*key));
        self.objects.len() + never_read.count()
    }

    /// The number of objects whose version is known from the answer to a write alone.
    pub(crate) fn answered(&self) -> usize {
        self.answered.len()
    }

    /// The object, to intern its texts.
    pub(crate) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut K> {
        self.objects.get_mut(key).map(|object| &mut **object)
    }
}

impl<K: Resource<DynamicType = ()> + PartialEq> ObjectCache<K> {
    /// Applies an event of a watch. Returns what it has changed.
    pub(crate) fn apply(&mut self, event: Event<Watched<K>>) -> Vec<Difference<K>> {
        match event {
            Event::ListBegins(at) => {
                self.listed = Some(HashSet::new());
                self.list_began = Some(at);
                // The list shows every write that had been answered when it was requested.
                self.answered.retain(|_, answered| *answered >= at);
                Vec::new()
            }
            Event::Listed(object) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(ObjectKey::of(object.meta()));
                }
                self.upsert(object, Source::List).into_iter().collect()
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
            Event::Applied(object) => self.upsert(object, Source::Watch).into_iter().collect(),
            Event::Deleted(object) => vec![self.remove(ObjectKey::of(object.meta()))],
        }
    }

    /// Applies the answer to a write, which came at this time, unless a newer version is known, or the object is gone.
    pub(crate) fn apply_written(&mut self, object: Watched<K>, at: Instant) -> Option<Difference<K>> {
        if self.list_began.is_some_and(|began| at < began) {
            return None;
        }
        let key = ObjectKey::of(object.meta());
        let known = self.get(&key).map(Resource::meta);
        let known = known.or_else(|| self.undecodable.get(&key).map(|bad| &bad.metadata))?;
        if known.uid != object.meta().uid {
            return None;
        }
        let difference = self.upsert(object, Source::Answer)?;
        self.answered.insert(key, at);
        Some(difference)
    }

    fn upsert(&mut self, mut object: Watched<K>, source: Source) -> Option<Difference<K>> {
        slim(object.meta_mut());
        let key = ObjectKey::of(object.meta());
        if self.is_known(&key, &object, source) {
            return None;
        }
        match object {
            Watched::Good { object, status_error } => Some(self.replace(key, object, status_error)),
            Watched::Bad(bad) => {
                let now = bad.data_center.clone();
                let before = self.undecodable.insert(key.clone(), *bad);
                let changed = before.map(|bad| bad.data_center).into_iter().chain([now]).collect();
                // The last version that could be decoded stays.
                Some(Difference { key, before: None, is_outdated: true, undecodable: changed })
            }
        }
    }

    /// Whether a version brings nothing new.
    ///
    /// The watch may report a version that is known from the answer to a write, or an older one. A list counts whatever
    /// its versions are: after a restore of etcd from a backup they are smaller than the known ones, and one version may
    /// stand for two contents. Only the answer to a write may be newer than the list, if it came after the list was
    /// requested.
    fn is_known(&mut self, key: &ObjectKey, object: &Watched<K>, source: Source) -> bool {
        let good = self.objects.get(key).map(|known| version(known.meta()));
        let bad = self.undecodable.get(key).map(|known| version(&known.metadata));
        let new = version(object.meta());
        let is_older = good.max(bad).is_some_and(|newest| new < newest);
        if source != Source::Answer && !is_older {
            self.answered.remove(key);
        }
        if is_older {
            return source != Source::List || self.answered.contains_key(key);
        }
        // A version that could not be decoded may be decodable now, with another schema.
        let known = match object {
            Watched::Good { .. } if bad.is_some() => None,
            Watched::Good { .. } => good,
            Watched::Bad(_) => bad,
        };
        let same_version = new != 0 && known == Some(new);
        same_version
            && match (source, object) {
                (Source::Watch | Source::Answer, _) => true,
                (Source::List, Watched::Good { object, .. }) => {
                    self.objects.get(key).is_some_and(|known| known == object)
                }
                (Source::List, Watched::Bad(_)) => false,
            }
    }

    fn replace(&mut self, key: ObjectKey, object: Box<K>, status_error: Option<String>) -> Difference<K> {
        match status_error {
            Some(error) => drop(self.status_errors.insert(key.clone(), error)),
            None => drop(self.status_errors.remove(&key)),
        }
        let undecodable = self.undecodable.remove(&key).map(|bad| bad.data_center).into_iter().collect();
        let before = self.objects.insert(key.clone(), object).map(|object| *object);
        Difference { key, before, is_outdated: false, undecodable }
    }

    fn remove(&mut self, key: ObjectKey) -> Difference<K> {
        self.answered.remove(&key);
        self.status_errors.remove(&key);
        let undecodable = self.undecodable.remove(&key).map(|bad| bad.data_center).into_iter().collect();
        let before = self.objects.remove(&key).map(|object| *object);
        Difference { key, before, is_outdated: false, undecodable }
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
        cache.apply(Event::<Watched<Network>>::ListBegins(Instant::now()));
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
        let (mut cache, now) = (ObjectCache::default(), Instant::now());
        assert!(cache.apply_written(good(5), now).is_none(), "it is gone");
        cache.apply(Event::Applied(good(5)));
        let mut successor = object("Network", "n", &json!({"dataCenter": "dc"}));
        successor["metadata"]["uid"] = json!("another");
        successor["metadata"]["resourceVersion"] = json!("6");
        assert!(cache.apply_written(read(successor), now).is_none(), "it is another object");
        assert!(cache.apply_written(good(6), now).is_some());
    }

    /// A list that is requested at this time, with this one object.
    fn list(cache: &mut ObjectCache<Network>, at: Instant, object: Watched<Network>) -> usize {
        let events = [Event::ListBegins(at), Event::Listed(object), Event::ListEnds];
        events.map(|event| cache.apply(event).len()).iter().sum()
    }

    fn subnets(cache: &ObjectCache<Network>) -> Vec<String> {
        cache.get(&key()).unwrap().spec.subnets.clone()
    }

    #[test]
    fn a_list_counts_also_when_its_versions_are_smaller_or_equal() {
        let (mut cache, now) = (ObjectCache::default(), Instant::now());
        cache.apply(Event::Applied(network(781, &json!(["10.0.1.0/24"]))));
        assert_eq!(list(&mut cache, now, network(287, &json!(["10.0.2.0/24"]))), 1);
        assert_eq!(subnets(&cache), ["10.0.2.0/24"]);
        assert_eq!(
            list(&mut cache, now, network(287, &json!(["10.0.3.0/24"]))),
            1,
            "the same version, another content"
        );
        assert_eq!(subnets(&cache), ["10.0.3.0/24"]);
        assert_eq!(list(&mut cache, now, network(287, &json!(["10.0.3.0/24"]))), 0, "nothing has changed");
        assert_eq!(cache.apply(Event::Applied(network(288, &json!([])))).len(), 1, "the watch goes on from there");
    }

    #[test]
    fn an_answer_stays_only_if_it_came_after_the_list_was_requested() {
        let (early, late) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(1));
        for (answered, listed, kept) in [(late, early, true), (early, early, true), (early, late, false)] {
            let mut cache = ObjectCache::default();
            cache.apply(Event::Applied(good(5)));
            cache.apply_written(network(7, &json!(["10.0.7.0/24"])), answered);
            list(&mut cache, listed, network(6, &json!(["10.0.6.0/24"])));
            assert_eq!(subnets(&cache), [if kept { "10.0.7.0/24" } else { "10.0.6.0/24" }]);
        }
    }

    #[test]
    fn an_answer_from_before_the_list_is_ignored_when_it_arrives_after_it() {
        let (early, late) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(1));
        let mut cache = ObjectCache::default();
        list(&mut cache, late, good(6));
        assert!(cache.apply_written(good(7), early).is_none(), "the list shows it, or etcd was restored");
        assert!(cache.apply_written(good(8), late).is_some());
    }

    #[test]
    fn an_answer_that_the_watch_has_shown_does_not_outlive_the_next_list() {
        let (mut cache, now) = (ObjectCache::default(), Instant::now());
        cache.apply(Event::Applied(good(5)));
        cache.apply_written(good(7), now);
        cache.apply(Event::Applied(good(7)));
        assert_eq!(list(&mut cache, now, good(3)), 1);
    }
}
