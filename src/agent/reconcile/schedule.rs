//! Which of the due logins start now. Pure.
//!
//! A login to a dead portal holds its slot until it times out. So the slots are shared out over the devices, which are
//! the networks of the host, and on each device over the portals: what is dead holds its share at most, and every slot
//! that becomes free goes to the device that has the fewest.

use std::collections::BTreeMap;

use crate::agent::types::IscsiPath;

/// Logins at the same time: enough for four portals, each through four networks.
pub const MAX_LOGINS: usize = 16;
/// Logins at the same time of paths that have failed before. The rest stays free for first attempts, so that they never
/// wait for dead portals.
pub const MAX_RETRIES: usize = 5;
/// Logins at the same time through one device, if the plan has others: the paths of a network that comes later find a
/// free slot, even if all that is due now is dead.
pub const MAX_PER_DEVICE: usize = MAX_LOGINS / 2;

/// A login that runs or is due.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Its path.
    pub path: &'a IscsiPath,
    /// Whether the path has failed before.
    pub is_retry: bool,
}

impl<'a> Attempt<'a> {
    fn device(&self) -> Option<&'a str> {
        self.path.interface.as_deref()
    }

    fn portal(&self) -> &'a str {
        &self.path.portal
    }
}

/// Chooses the logins that start now, in order. `devices` is the number of devices in the plan.
#[must_use]
pub fn choose<'a>(running: &[Attempt<'a>], mut due: Vec<Attempt<'a>>, devices: usize) -> Vec<&'a IscsiPath> {
    let mut slots = Slots::default();
    for attempt in running {
        slots.take(attempt);
    }
    let per_device = if devices > 1 { MAX_PER_DEVICE } else { MAX_LOGINS };
    let mut chosen = Vec::new();
    while slots.all < MAX_LOGINS {
        let allowed = due.iter().enumerate().filter(|(_, attempt)| slots.may_take(attempt, per_device));
        let Some((next, _)) = allowed.min_by_key(|(_, attempt)| slots.turn(attempt)) else { break };
        let attempt = due.swap_remove(next);
        slots.take(&attempt);
        chosen.push(attempt.path);
    }
    chosen
}

/// The slots that are taken.
#[derive(Default)]
struct Slots<'a> {
    all: usize,
    retries: usize,
    by_device: BTreeMap<Option<&'a str>, usize>,
    by_portal: BTreeMap<&'a str, usize>,
}

impl<'a> Slots<'a> {
    fn take(&mut self, attempt: &Attempt<'a>) {
        self.all += 1;
        self.retries += usize::from(attempt.is_retry);
        *self.by_device.entry(attempt.device()).or_default() += 1;
        *self.by_portal.entry(attempt.portal()).or_default() += 1;
    }

    fn of_device(&self, attempt: &Attempt<'a>) -> usize {
        self.by_device.get(&attempt.device()).copied().unwrap_or_default()
    }

    fn may_take(&self, attempt: &Attempt<'a>, per_device: usize) -> bool {
        self.of_device(attempt) < per_device && !(attempt.is_retry && self.retries >= MAX_RETRIES)
    }

    /// Who comes first: first attempts, then the device and the portal with the fewest logins. So a portal that has not
    /// answered yet gets no second login before the others were tried.
    fn turn(&self, attempt: &Attempt<'a>) -> (bool, usize, usize, &'a IscsiPath) {
        let of_portal = self.by_portal.get(attempt.portal()).copied().unwrap_or_default();
        (attempt.is_retry, self.of_device(attempt), of_portal, attempt.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::fixtures::path;

    fn first(path: &IscsiPath) -> Attempt<'_> {
        Attempt { path, is_retry: false }
    }

    fn retry(path: &IscsiPath) -> Attempt<'_> {
        Attempt { path, is_retry: true }
    }

    /// Paths to the portals from `from` on, through each of these devices.
    fn paths(devices: &[&str], from: usize, portals: usize) -> Vec<IscsiPath> {
        let of_device = |device| (from..from + portals).map(move |portal| path("a", &portal.to_string(), device));
        devices.iter().flat_map(|device| of_device(device)).collect()
    }

    fn through(chosen: &[&IscsiPath], device: &str) -> usize {
        chosen.iter().filter(|path| path.interface.as_deref() == Some(device)).count()
    }

    #[test]
    fn the_slots_are_shared_out_over_the_devices() {
        let paths = paths(&["ens1", "ens2", "ens3"], 10, 20);
        let chosen = choose(&[], paths.iter().map(first).collect(), 3);
        assert_eq!([through(&chosen, "ens1"), through(&chosen, "ens2"), through(&chosen, "ens3")], [6, 5, 5]);
    }

    #[test]
    fn a_free_slot_goes_to_the_device_with_the_fewest_logins() {
        let paths = paths(&["ens1", "ens2", "ens3"], 10, 20);
        let (dead, good): (Vec<_>, Vec<_>) = paths.iter().partition(|path| path.interface.as_deref() != Some("ens3"));
        let running: Vec<_> = dead.iter().take(5).chain(dead.iter().skip(20).take(5)).map(|path| first(path)).collect();
        let waiting = dead.iter().skip(30).chain(&good).map(|path| first(path)).collect();
        let chosen = choose(&running, waiting, 3);
        assert_eq!((chosen.len(), through(&chosen, "ens3")), (6, 5), "until it has as many: {chosen:?}");
    }

    #[test]
    fn one_device_takes_half_of_the_slots_unless_it_is_the_only_one() {
        let paths = paths(&["ens1"], 10, 20);
        let due = || paths.iter().map(first).collect();
        assert_eq!((choose(&[], due(), 2).len(), choose(&[], due(), 1).len()), (8, 16));
    }

    #[test]
    fn a_portal_without_an_answer_gets_no_second_login_before_the_others() {
        let targets = ["a", "b", "c"];
        let to = |target: &&str, portal: &str| path(target, portal, "ens1");
        let (dead, good): (Vec<_>, Vec<_>) = targets.iter().map(|target| (to(target, "1"), to(target, "2"))).unzip();
        let due = dead[1..].iter().chain(&good).map(first).collect();
        let chosen = choose(&[first(&dead[0])], due, 1);
        assert_eq!(chosen[..2], [&good[0], &dead[1]], "first the other portal, then both in turns: {chosen:?}");
        assert_eq!(chosen.len(), 5);
    }

    #[test]
    fn retries_come_last_and_leave_slots_free() {
        let paths = paths(&["ens1", "ens2"], 10, 10);
        let chosen = choose(&[], paths.iter().map(retry).collect(), 2);
        assert_eq!((chosen.len(), through(&chosen, "ens1")), (5, 3));
        let mixed = paths.iter().enumerate().map(|(n, path)| Attempt { path, is_retry: n % 10 != 9 }).collect();
        let chosen = choose(&[], mixed, 2);
        assert_eq!(chosen[..2], [&paths[9], &paths[19]], "the first attempts: {chosen:?}");
    }
}
