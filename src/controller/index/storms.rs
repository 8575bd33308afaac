//! Changes of many hosts at once. An Event for each of a thousand hosts hides the one that says why, so after the first few
//! one Event on the data center stands for them.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::state::PhaseChange;
use crate::api::ObjectKey;

/// The hosts that change for one cause within [`WINDOW`] and have an Event each.
const EVENTS: usize = 10;
/// The time in which they change.
const WINDOW: Duration = Duration::from_secs(5);
/// A storm without an Event is forgotten after this time: its data center is gone, or nobody accepts Events.
const FORGET: Duration = Duration::from_secs(60);

/// The latest changes of hosts for each cause. Times are of the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Storms {
    recent: HashMap<PhaseChange, Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// When the last few hosts changed, the earliest first.
    times: VecDeque<Duration>,
    /// The name of a host whose Event was left out, until the data center has an Event.
    left_out: Option<String>,
    /// The data center has an Event about it.
    announced: bool,
}

impl Recent {
    fn is_over(&self, now: Duration) -> bool {
        let keep = if self.left_out.is_some() { FORGET } else { WINDOW };
        self.times.back().is_none_or(|last| now.saturating_sub(*last) >= keep)
    }

    fn is_storm(&self, now: Duration) -> bool {
        self.times.len() >= EVENTS && self.times.front().is_some_and(|first| now.saturating_sub(*first) < WINDOW)
    }
}

impl Storms {
    /// Whether so many hosts have just changed like this that another one has no Event of its own.
    pub(crate) fn covers(&self, change: &PhaseChange, now: Duration) -> bool {
        self.recent.get(change).is_some_and(|recent| recent.is_storm(now))
    }

    /// Forgets what is over.
    pub(crate) fn forget(&mut self, now: Duration) {
        self.recent.retain(|_, recent| !recent.is_over(now));
    }

    /// The number of causes for which changes are remembered.
    pub(crate) fn len(&self) -> usize {
        self.recent.len()
    }

    /// Notes the change of a host. Returns whether its data center has to announce it.
    pub(crate) fn note(&mut self, change: PhaseChange, host: &str, now: Duration) -> bool {
        self.forget(now);
        let recent = self.recent.entry(change).or_default();
        let is_storm = recent.is_storm(now);
        recent.times.push_back(now);
        if recent.times.len() > EVENTS {
            recent.times.pop_front();
        }
        if !is_storm {
            recent.announced = false;
        } else if !recent.announced && recent.left_out.is_none() {
            recent.left_out = Some(host.to_owned());
            return true;
        }
        false
    }

    /// The storms of a data center that have no Event yet, each with the name of a host.
    pub(crate) fn unannounced(&self, data_center: &ObjectKey) -> Vec<(&PhaseChange, &str)> {
        let of = self.recent.iter().filter(|(change, _)| change.data_center == *data_center);
        let mut found: Vec<_> = of.filter_map(|(change, recent)| Some((change, recent.left_out.as_deref()?))).collect();
        found.sort_unstable();
        found
    }

    /// The data center has an Event about this storm.
    pub(crate) fn announced(&mut self, storm: &PhaseChange) {
        if let Some(recent) = self.recent.get_mut(storm) {
            recent.announced |= recent.left_out.take().is_some();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Phase;

    fn change() -> PhaseChange {
        PhaseChange { data_center: ObjectKey::new("ns", "dc"), phase: Phase::Degraded, cause: None }
    }

    /// The number of hosts with an Event of their own, of those that change at these times in milliseconds.
    fn events(times: impl IntoIterator<Item = u64>) -> (usize, Storms) {
        let mut storms = Storms::default();
        let mut events = 0;
        for (number, time) in times.into_iter().enumerate() {
            let now = Duration::from_millis(time);
            events += usize::from(!storms.covers(&change(), now));
            storms.note(change(), &format!("h{number}"), now);
        }
        (events, storms)
    }

    #[test]
    fn a68_the_eleventh_host_within_5_s_is_left_to_one_event_of_its_data_center() {
        assert_eq!(events((0..1000).map(|n| n * 4)).0, 10);
        let (_, mut storms) = events((0..13).map(|n| n * 10));
        assert_eq!(storms.unannounced(&ObjectKey::new("ns", "dc")), [(&change(), "h10")]);
        assert_eq!(storms.unannounced(&ObjectKey::new("ns", "other")), []);
        storms.announced(&PhaseChange { phase: Phase::Lost, ..change() });
        assert_eq!(storms.unannounced(&ObjectKey::new("ns", "dc")).len(), 1, "that was another one");
        storms.announced(&change());
        assert!(!storms.note(change(), "late", Duration::from_millis(200)), "one Event stands for all");
        assert_eq!(storms.unannounced(&ObjectKey::new("ns", "dc")), []);
    }

    #[test]
    fn a68_hosts_that_change_one_after_the_other_have_their_events() {
        assert_eq!(events((0..100).map(|n| n * 600)).0, 100);
    }

    #[test]
    fn a68_a_storm_waits_for_its_event_while_other_hosts_change() {
        let (_, mut storms) = events((0..11).map(|n| n * 10));
        let other = PhaseChange { phase: Phase::Up, ..change() };
        storms.note(other.clone(), "other", Duration::from_secs(30));
        assert_eq!(storms.unannounced(&ObjectKey::new("ns", "dc")), [(&change(), "h10")]);
        storms.note(other, "other", Duration::from_secs(61));
        assert_eq!(storms.unannounced(&ObjectKey::new("ns", "dc")), [], "nobody has accepted it");
        storms.forget(Duration::from_secs(66));
        assert_eq!(storms.len(), 0);
    }
}
