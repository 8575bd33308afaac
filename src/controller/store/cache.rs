//! All objects of one kind, as last seen.

use std::collections::{HashMap, HashSet};

use crate::{
    api::ObjectKey,
    controller::store::watched::{Event, Undecodable, Watched, slim, version},
};
use kube::Resource;

/// All objects of one kind. During a list the old ones stay until the list is complete: planning from a half-filled
/// cache would log sessions out.
#[derive(Debug)]
pub(crate) struct Cache<K> {
    /// Boxed, because a map has room for up to twice as many as are in it.
    objects: HashMap<ObjectKey, Box<K>>,
    undecodable: HashMap<ObjectKey, Undecodable<K>>,
    listed: Option<HashSet<ObjectKey>>,
    filled: bool,
    refused: bool,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Cache { objects: HashMap::new(), undecodable: HashMap::new(), listed: None, filled: false, refused: false }
    }
}

/// What an event did to one object.
#[derive(Debug)]
pub(crate) struct Difference<K> {
    pub key: ObjectKey,
    pub before: Option<K>,
    /// The object is in the cache now.
    pub present: bool,
    /// The data centers that an undecodable version of it concerned or concerns: `None` stands for every one of its
    /// namespace.
    pub undecodable: Vec<Option<String>>,
}

impl<K: Resource<DynamicType = ()>> Cache<K> {
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&K> {
        self.objects.get(key).map(|object| &**object)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &K)> {
        self.objects.iter().map(|(key, object)| (key, &**object))
    }

    /// Whether a complete list has been seen.
    pub(crate) fn filled(&self) -> bool {
        self.filled
    }

    /// Whether a list has been asked for and refused: waiting for one may take for ever.
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

    /// Takes an event of a watch in, and tells what it did.
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

    /// Takes the answer to a write in, unless something newer is known, or the object is gone.
    pub(crate) fn wrote(&mut self, object: Watched<K>) -> Option<Difference<K>> {
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
        // The watch may bring what an answer to a write has already told, or less. A new schema may change what can be
        // read of a version.
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
                let concerned = before.map(|bad| bad.data_center).into_iter().chain([now]).collect();
                // The last version that could be read stays: nothing is taken away.
                Some(Difference { present: self.objects.contains_key(&key), before: None, undecodable: concerned, key })
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

    /// The object, to change what is derived from it in place.
    pub(crate) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut K> {
        self.objects.get_mut(key).map(|object| &mut **object)
    }
}
