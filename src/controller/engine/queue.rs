//! The objects to reconcile: each at most once, however often it was added.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use crate::{api::ObjectKind, controller::store::key::Key};

/// The time between a change of an aggregate and the reconcile that shows it...
const DEBOUNCE: Duration = Duration::from_millis(100);
/// ...and the shortest time between two such reconciles of an object whose aggregates keep changing.
const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// Keys to reconcile now, or later. Times are those of the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Hosts that are reconciled before everything else. There are never many.
    first: VecDeque<Key>,
    /// Objects of other kinds, which are reconciled before hosts: they are few, and many objects depend on them.
    others: VecDeque<Key>,
    hosts: VecDeque<Key>,
    queued: HashSet<Key>,
    later: BTreeSet<(Duration, Key)>,
    due: HashMap<Key, Duration>,
    last_reconciled: HashMap<Key, Duration>,
}

impl Queue {
    /// Adds a key that is due now.
    pub(crate) fn add(&mut self, key: Key) {
        if !self.queued.insert(key.clone()) {
            return;
        }
        match key {
            Key::Object(ObjectKind::Host, _) => self.hosts.push_back(key),
            Key::Object(..) | Key::Node(_) => self.others.push_back(key),
        }
    }

    /// Adds a key that is due now, before all others.
    pub(crate) fn add_first(&mut self, key: Key) {
        if self.queued.insert(key.clone()) {
            self.first.push_back(key);
        }
    }

    /// Adds a key that is due at this time, unless it is due earlier.
    pub(crate) fn add_at(&mut self, key: Key, due: Duration) {
        match self.due.get(&key) {
            Some(earlier) if *earlier <= due => return,
            Some(later) => {
                self.later.remove(&(*later, key.clone()));
            }
            None => {}
        }
        self.due.insert(key.clone(), due);
        self.later.insert((due, key));
    }

    /// Adds a key that shows aggregates: it is due after the debounce time.
    pub(crate) fn add_debounced(&mut self, key: Key, now: Duration) {
        if self.queued.contains(&key) {
            return;
        }
        let earliest = self.last_reconciled.get(&key).map_or(Duration::ZERO, |last| *last + MIN_INTERVAL);
        self.add_at(key, earliest.max(now + DEBOUNCE));
    }

    /// The next key, if one is due.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Key> {
        while self.later.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, key)) = self.later.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
        let key = [&mut self.first, &mut self.others, &mut self.hosts].into_iter().find_map(VecDeque::pop_front)?;
        self.queued.remove(&key);
        if !matches!(key, Key::Object(ObjectKind::Host, _) | Key::Node(_)) {
            self.last_reconciled.insert(key.clone(), now);
        }
        Some(key)
    }

    /// The time at which the next key is due, if none is due now.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.later.first().map(|(due, _)| *due)
    }

    /// Whether hosts are due.
    pub(crate) fn hosts_wait(&self) -> bool {
        !(self.first.is_empty() && self.hosts.is_empty())
    }

    /// The number of keys that are due.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.others.len() + self.hosts.len()
    }

    /// Drops the last reconcile times of keys whose aggregates have not changed since.
    pub(crate) fn forget_idle(&mut self, now: Duration) {
        self.last_reconciled.retain(|_, last| *last + MIN_INTERVAL > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ObjectKey;

    fn host(name: &str) -> Key {
        Key::Object(ObjectKind::Host, ObjectKey::new("ns", name))
    }

    fn bond() -> Key {
        Key::Object(ObjectKind::IscsiBond, ObjectKey::new("ns", "bond"))
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_key_that_is_added_twice_is_due_once_and_bonds_go_before_hosts() {
        let mut queue = Queue::default();
        for key in [host("a"), host("b"), host("a"), bond()] {
            queue.add(key);
        }
        assert_eq!(std::iter::from_fn(|| queue.pop(ms(0))).collect::<Vec<_>>(), [bond(), host("a"), host("b")]);
    }

    #[test]
    fn hosts_that_are_added_first_go_before_bonds() {
        let mut queue = Queue::default();
        queue.add(bond());
        queue.add_first(host("b"));
        queue.add_first(host("a"));
        queue.add(host("a"));
        assert_eq!(std::iter::from_fn(|| queue.pop(ms(0))).collect::<Vec<_>>(), [host("b"), host("a"), bond()]);
    }

    #[test]
    fn a_key_for_later_waits_for_the_earliest_of_its_times() {
        let mut queue = Queue::default();
        queue.add_at(host("a"), ms(300));
        queue.add_at(host("a"), ms(200));
        queue.add_at(host("a"), ms(400));
        assert_eq!((queue.pop(ms(199)), queue.next_due()), (None, Some(ms(200))));
        assert_eq!((queue.pop(ms(200)), queue.pop(ms(1000))), (Some(host("a")), None));
    }

    #[test]
    fn aggregates_that_keep_changing_are_reconciled_twice_a_second() {
        let mut queue = Queue::default();
        let mut looks = Vec::new();
        for now in (0..2000).step_by(10).map(ms) {
            queue.add_debounced(bond(), now);
            looks.extend(queue.pop(now).map(|_| now));
        }
        assert_eq!(looks, [ms(100), ms(600), ms(1100), ms(1600)]);
    }
}
