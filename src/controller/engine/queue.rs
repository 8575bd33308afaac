//! What to look at next: each object once, however often something has happened to it.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use crate::{controller::store::key::Key, planner::Kind};

/// Sums settle for this long before they are looked at the first time...
const SETTLE: Duration = Duration::from_millis(100);
/// ...and no more often than this, while they keep changing.
const SUMS_PAUSE: Duration = Duration::from_millis(500);

/// Keys to look at, now or later. Times are since the process began.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Before everything else: never many at a time.
    few: VecDeque<Key>,
    /// Few objects that many depend on go first, so that thousands of hosts do not hold them up.
    first: VecDeque<Key>,
    hosts: VecDeque<Key>,
    queued: HashSet<Key>,
    later: BTreeSet<(Duration, Key)>,
    due: HashMap<Key, Duration>,
    looked_at: HashMap<Key, Duration>,
}

impl Queue {
    /// To be looked at now.
    pub(crate) fn add(&mut self, key: Key) {
        if !self.queued.insert(key.clone()) {
            return;
        }
        match key {
            Key::Object(Kind::Host, _) => self.hosts.push_back(key),
            Key::Object(..) | Key::Node(_) => self.first.push_back(key),
        }
    }

    /// To be looked at now, before everything else.
    pub(crate) fn add_first(&mut self, key: Key) {
        if self.queued.insert(key.clone()) {
            self.few.push_back(key);
        }
    }

    /// To be looked at then, or earlier.
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

    /// A sum over hosts: to be looked at when the dust settles.
    pub(crate) fn add_sum(&mut self, key: Key, now: Duration) {
        if self.queued.contains(&key) {
            return;
        }
        let rested = self.looked_at.get(&key).map_or(Duration::ZERO, |last| *last + SUMS_PAUSE);
        self.add_at(key, rested.max(now + SETTLE));
    }

    /// The next key, if one is due.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Key> {
        while self.later.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, key)) = self.later.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
        let key = [&mut self.few, &mut self.first, &mut self.hosts].into_iter().find_map(VecDeque::pop_front)?;
        self.queued.remove(&key);
        if !matches!(key, Key::Object(Kind::Host, _) | Key::Node(_)) {
            self.looked_at.insert(key.clone(), now);
        }
        Some(key)
    }

    /// When the next key is due, if none is now.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.later.first().map(|(due, _)| *due)
    }

    /// Whether hosts wait to be looked at now.
    pub(crate) fn hosts_wait(&self) -> bool {
        !(self.few.is_empty() && self.hosts.is_empty())
    }

    /// Keys that wait to be looked at now.
    pub(crate) fn len(&self) -> usize {
        self.few.len() + self.first.len() + self.hosts.len()
    }

    /// Forgets when sums were looked at that have rested since.
    pub(crate) fn forget_rested(&mut self, now: Duration) {
        self.looked_at.retain(|_, last| *last + SUMS_PAUSE > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ObjectKey;

    fn host(name: &str) -> Key {
        Key::Object(Kind::Host, ObjectKey::new("ns", name))
    }

    fn bond() -> Key {
        Key::Object(Kind::IscsiBond, ObjectKey::new("ns", "bond"))
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_key_that_is_added_twice_is_looked_at_once_and_bonds_go_before_hosts() {
        let mut queue = Queue::default();
        for key in [host("a"), host("b"), host("a"), bond()] {
            queue.add(key);
        }
        assert_eq!(std::iter::from_fn(|| queue.pop(ms(0))).collect::<Vec<_>>(), [bond(), host("a"), host("b")]);
    }

    #[test]
    fn a_few_hosts_may_go_before_bonds() {
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
    fn sums_that_keep_changing_are_looked_at_twice_a_second() {
        let mut queue = Queue::default();
        let mut looks = Vec::new();
        for now in (0..2000).step_by(10).map(ms) {
            queue.add_sum(bond(), now);
            looks.extend(queue.pop(now).map(|_| now));
        }
        assert_eq!(looks, [ms(100), ms(600), ms(1100), ms(1600)]);
    }
}
