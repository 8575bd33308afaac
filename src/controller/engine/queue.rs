//! The objects to reconcile: each at most once, however often it was added. Namespaces take turns, so that the edits of
//! one cannot hold up another.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use super::slots::{Class, Slot, Slots};
use crate::{
    api::{Namespace, ObjectKind},
    controller::store::key::Key,
};

/// The time between a change of an aggregate and the reconcile that shows it...
const DEBOUNCE: Duration = Duration::from_millis(100);
/// ...and the shortest time between two such reconciles of an object whose aggregates keep changing.
const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// A key, and the namespace whose turn it takes: its own, or for a Node that of the Host that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub key: Key,
    pub namespace: Namespace,
}

/// Keys to reconcile now, or later. Times are those of the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Namespaces with keys that are due.
    lanes: HashMap<Namespace, Lane>,
    /// The same namespaces, in the order of their turns.
    turns: VecDeque<Namespace>,
    queued: HashSet<Key>,
    later: BTreeSet<(Duration, Key)>,
    due: HashMap<Key, (Duration, Namespace)>,
    last_reconciled: HashMap<Key, Duration>,
}

/// The keys of one namespace.
#[derive(Debug, Default)]
struct Lane {
    /// Hosts that are reconciled before everything else. There are never many.
    first: VecDeque<Key>,
    /// Objects of other kinds. They alternate with the hosts: most are few, and many objects depend on them, but a
    /// thousand bonds must not hold up the hosts.
    others: VecDeque<Key>,
    hosts: VecDeque<Key>,
    /// The last key was none of a Host.
    hosts_next: bool,
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.others.is_empty() && self.hosts.is_empty()
    }

    /// The next key for which a slot is free.
    fn pop(&mut self, is_free: impl Fn(Class) -> bool) -> Option<Key> {
        let (hosts, others) = (is_free(Class::Hosts), is_free(Class::Others));
        if hosts && let Some(key) = self.first.pop_front() {
            return Some(key);
        }
        let (hosts, others) = (hosts && !self.hosts.is_empty(), others && !self.others.is_empty());
        if hosts && (self.hosts_next || !others) {
            self.hosts_next = false;
            return self.hosts.pop_front();
        }
        self.hosts_next = true;
        if others { self.others.pop_front() } else { None }
    }
}

impl Queue {
    /// Adds a key that is due now.
    pub(crate) fn add(&mut self, item: Item) {
        let hosts = Class::of(&item.key) == Class::Hosts;
        self.push(item, |lane| if hosts { &mut lane.hosts } else { &mut lane.others });
    }

    /// Adds a Host that is due now, before all other objects of its namespace.
    pub(crate) fn add_first(&mut self, item: Item) {
        self.push(item, |lane| &mut lane.first);
    }

    fn push(&mut self, Item { key, namespace }: Item, list: impl Fn(&mut Lane) -> &mut VecDeque<Key>) {
        if !self.queued.insert(key.clone()) {
            return;
        }
        let lane = self.lanes.entry(namespace.clone()).or_default();
        if lane.is_empty() {
            self.turns.push_back(namespace);
        }
        list(lane).push_back(key);
    }

    /// Adds a key that is due at this time, unless it is due earlier.
    pub(crate) fn add_at(&mut self, Item { key, namespace }: Item, due: Duration) {
        match self.due.get(&key) {
            Some((earlier, _)) if *earlier <= due => return,
            Some((later, _)) => {
                self.later.remove(&(*later, key.clone()));
            }
            None => {}
        }
        self.due.insert(key.clone(), (due, namespace));
        self.later.insert((due, key));
    }

    /// Adds a key that shows aggregates: it is due after the debounce time.
    pub(crate) fn add_debounced(&mut self, item: Item, now: Duration) {
        if self.queued.contains(&item.key) {
            return;
        }
        let earliest = self.last_reconciled.get(&item.key).map_or(Duration::ZERO, |last| *last + MIN_INTERVAL);
        self.add_at(item, earliest.max(now + DEBOUNCE));
    }

    /// The next key, if one is due for which a slot is free.
    pub(crate) fn pop(&mut self, now: Duration, slots: &Slots) -> Option<Item> {
        while self.later.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, key)) = self.later.pop_first()
                && let Some((_, namespace)) = self.due.remove(&key)
            {
                self.add(Item { key, namespace });
            }
        }
        for _ in 0..self.turns.len() {
            let namespace = self.turns.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&namespace) else { continue };
            let key = lane.pop(|class| slots.is_free(&Slot { namespace: namespace.clone(), class }));
            if lane.is_empty() {
                self.lanes.remove(&namespace);
            } else {
                self.turns.push_back(namespace.clone());
            }
            if let Some(key) = key {
                self.queued.remove(&key);
                // This reconcile sees everything that the later one was to see, and says itself when the next one is due.
                if let Some((due, _)) = self.due.remove(&key) {
                    self.later.remove(&(due, key.clone()));
                }
                if !matches!(key, Key::Object(ObjectKind::Host, _) | Key::Node(_)) {
                    self.last_reconciled.insert(key.clone(), now);
                }
                return Some(Item { key, namespace });
            }
        }
        None
    }

    /// The time at which the next key is due, if none is due now.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.later.first().map(|(due, _)| *due)
    }

    /// Whether hosts of a namespace are due.
    pub(crate) fn hosts_wait(&self, namespace: &Namespace) -> bool {
        self.lanes.get(namespace).is_some_and(|lane| !(lane.first.is_empty() && lane.hosts.is_empty()))
    }

    /// The number of keys that are due.
    pub(crate) fn len(&self) -> usize {
        self.queued.len()
    }

    /// The number of keys that will be due later.
    pub(crate) fn waiting(&self) -> usize {
        self.due.len()
    }

    /// The number of keys whose last reconcile time is remembered.
    pub(crate) fn remembered(&self) -> usize {
        self.last_reconciled.len()
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

    fn of(namespace: &str, kind: ObjectKind, name: &str) -> Item {
        Item { key: Key::Object(kind, ObjectKey::new(namespace, name)), namespace: namespace.into() }
    }

    fn host(name: &str) -> Item {
        of("ns", ObjectKind::Host, name)
    }

    fn bond(name: &str) -> Item {
        of("ns", ObjectKind::IscsiBond, name)
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// The next key while every slot is free.
    fn pop(queue: &mut Queue, now: Duration) -> Option<Item> {
        queue.pop(now, &Slots::default())
    }

    /// The order in which everything that is due is reconciled.
    fn order(queue: &mut Queue) -> Vec<Item> {
        std::iter::from_fn(|| pop(queue, ms(0))).collect()
    }

    #[test]
    fn a_key_that_is_added_twice_is_due_once_and_a_bond_goes_before_hosts() {
        let mut queue = Queue::default();
        for item in [host("a"), host("b"), host("a"), bond("c")] {
            queue.add(item);
        }
        assert_eq!(order(&mut queue), [bond("c"), host("a"), host("b")]);
    }

    #[test]
    fn hosts_that_are_added_first_go_before_bonds() {
        let mut queue = Queue::default();
        queue.add(bond("c"));
        queue.add_first(host("b"));
        queue.add_first(host("a"));
        queue.add(host("a"));
        assert_eq!(order(&mut queue), [host("b"), host("a"), bond("c")]);
    }

    #[test]
    fn many_bonds_and_the_hosts_of_their_namespace_alternate() {
        let mut queue = Queue::default();
        for name in ["1", "2", "3"] {
            queue.add(bond(name));
        }
        queue.add(host("a"));
        queue.add(host("b"));
        assert_eq!(order(&mut queue), [bond("1"), host("a"), bond("2"), host("b"), bond("3")]);
    }

    #[test]
    fn the_bonds_of_one_namespace_do_not_hold_up_a_host_of_another() {
        let mut queue = Queue::default();
        for number in 0..1500 {
            queue.add(bond(&number.to_string()));
        }
        let victim = of("victim", ObjectKind::Host, "h");
        queue.add(victim.clone());
        let order = order(&mut queue);
        let before = order.iter().position(|item| *item == victim).unwrap();
        assert_eq!((before, order.len()), (1, 1501));
    }

    #[test]
    fn a_namespace_whose_slots_are_taken_lets_others_go_on() {
        let mut queue = Queue::default();
        let mut slots = Slots::default();
        let mut started = Vec::new();
        for number in 0..100 {
            queue.add(bond(&number.to_string()));
            queue.add(host(&number.to_string()));
        }
        while let Some(Item { key, namespace }) = queue.pop(ms(0), &slots) {
            slots.take(Slot { namespace, class: Class::of(&key) });
            started.push(key);
        }
        let bonds = started.iter().filter(|key| Class::of(key) == Class::Others).count();
        assert!(started.len() < Slots::COUNT && bonds * 2 < Slots::COUNT, "{bonds} of {}", started.len());
        let victim = of("victim", ObjectKind::Host, "h");
        queue.add(victim.clone());
        assert_eq!(queue.pop(ms(0), &slots), Some(victim));
    }

    #[test]
    fn a_key_for_later_waits_for_the_earliest_of_its_times() {
        let mut queue = Queue::default();
        queue.add_at(host("a"), ms(300));
        queue.add_at(host("a"), ms(200));
        queue.add_at(host("a"), ms(400));
        assert_eq!((pop(&mut queue, ms(199)), queue.next_due()), (None, Some(ms(200))));
        assert_eq!((pop(&mut queue, ms(200)), pop(&mut queue, ms(1000))), (Some(host("a")), None));
    }

    #[test]
    fn a_key_that_is_reconciled_is_not_due_again_for_an_older_reason() {
        let mut queue = Queue::default();
        queue.add_at(host("a"), ms(300));
        queue.add(host("a"));
        assert_eq!((pop(&mut queue, ms(0)), queue.waiting()), (Some(host("a")), 0));
        assert_eq!(pop(&mut queue, ms(300)), None);
    }

    #[test]
    fn aggregates_that_keep_changing_are_reconciled_twice_a_second() {
        let mut queue = Queue::default();
        let mut looks = Vec::new();
        for now in (0..2000).step_by(10).map(ms) {
            queue.add_debounced(bond("c"), now);
            looks.extend(pop(&mut queue, now).map(|_| now));
        }
        assert_eq!(looks, [ms(100), ms(600), ms(1100), ms(1600)]);
    }
}
