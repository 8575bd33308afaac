//! The requests in flight, by whom they are for. Slow requests of one namespace must leave room for those of others.

use std::collections::HashMap;

use crate::{
    api::{Namespace, ObjectKind},
    controller::store::key::Key,
};

/// Hosts, whose plans and verdicts people wait for, and everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Hosts.
    Hosts,
    /// Data centers, networks, bonds and Nodes.
    Others,
}

impl Class {
    /// The class of a key.
    pub(crate) fn of(key: &Key) -> Self {
        match key {
            Key::Object(ObjectKind::Host, _) => Class::Hosts,
            Key::Object(ObjectKind::DataCenter | ObjectKind::Network | ObjectKind::IscsiBond, _) | Key::Node(_) => {
                Class::Others
            }
        }
    }
}

/// The share that a request is counted in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub namespace: Namespace,
    pub class: Class,
}

/// The requests in flight.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    taken: HashMap<Slot, usize>,
    total: usize,
}

impl Slots {
    /// The largest number of requests at a time. An API server works on 4 to 16; more only wait there.
    pub(crate) const COUNT: usize = 32;
    /// How many times as many slots as are free may one namespace have for one class. With 3, one that is alone gets 24
    /// of 32, and whoever comes next finds some.
    const SHARE: usize = 3;

    /// Whether a request may start. The more slots are free, the more may one namespace take.
    pub(crate) fn is_free(&self, slot: &Slot) -> bool {
        let taken = self.taken.get(slot).copied().unwrap_or(0);
        taken < Self::SHARE * Self::COUNT.saturating_sub(self.total)
    }

    /// A request starts.
    pub(crate) fn take(&mut self, slot: Slot) {
        *self.taken.entry(slot).or_default() += 1;
        self.total += 1;
    }

    /// A request has ended.
    pub(crate) fn give_back(&mut self, slot: &Slot) {
        let Some(taken) = self.taken.get_mut(slot) else { return };
        *taken -= 1;
        self.total -= 1;
        if *taken == 0 {
            self.taken.remove(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(namespace: &str, class: Class) -> Slot {
        Slot { namespace: namespace.into(), class }
    }

    /// Takes as many slots as are free.
    fn fill(slots: &mut Slots, slot: &Slot) -> usize {
        let mut taken = 0;
        while slots.is_free(slot) {
            slots.take(slot.clone());
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_namespace_leaves_slots_for_whoever_comes_next() {
        let mut slots = Slots::default();
        let (flood, victim) = (slot("a", Class::Others), slot("b", Class::Hosts));
        assert_eq!(fill(&mut slots, &flood), 24);
        assert!(fill(&mut slots, &slot("a", Class::Hosts)) < 8);
        assert!(fill(&mut slots, &victim) > 0);
        while slots.taken.contains_key(&flood) {
            slots.give_back(&flood);
        }
        assert!(slots.is_free(&victim));
    }
}
