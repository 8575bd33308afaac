//! What fails on more than one host: portals, and the networks and targets of which all portals fail. One line that names
//! the cause stands for one line per host.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{Iqn, MAX_PORTAL_FAILURES, NetworkName, PlannedPath, Portal, PortalFailure, first_few};

/// The number of causes that a message names.
const SHOWN: usize = 4;

/// A portal of a target as reached through a network; `None` is the default network.
type Place = (Iqn, Portal, Option<NetworkName>);

/// Hosts with paths to a place, and those on which all of these paths have failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    failed: u32,
    hosts: u32,
}

/// The hosts with the same paths. Most hosts share their plan with another one.
#[derive(Debug)]
struct SamePaths {
    paths: Arc<[PlannedPath]>,
    hosts: u32,
    /// The hosts on which the path has failed, for each path in order.
    failed: Vec<u32>,
}

/// Failures, collected host by host.
#[derive(Debug, Default)]
pub struct Failures {
    by_paths: HashMap<*const PlannedPath, SamePaths>,
    any: bool,
}

impl Failures {
    /// Adds a host whose agent is alive: its planned paths, and for each whether it has failed.
    pub fn add(&mut self, paths: &Arc<[PlannedPath]>, path_failed: &[bool]) {
        if paths.is_empty() {
            return;
        }
        let same = self.by_paths.entry(paths.as_ptr()).or_insert_with(|| SamePaths {
            paths: paths.clone(),
            hosts: 0,
            failed: vec![0; paths.len()],
        });
        same.hosts += 1;
        for (count, failed) in same.failed.iter_mut().zip(path_failed) {
            *count += u32::from(*failed);
            self.any |= failed;
        }
    }

    /// What fails, counted by portal.
    #[must_use]
    pub fn causes(&self) -> Causes {
        let mut shares: BTreeMap<Place, Share> = BTreeMap::new();
        if !self.any {
            return Causes { shares };
        }
        for same in self.by_paths.values() {
            // A network on two interfaces of a host gives two paths to one place.
            let mut of_hosts: BTreeMap<Place, u32> = BTreeMap::new();
            for (path, failed) in same.paths.iter().zip(&same.failed) {
                let place = (path.target.clone(), path.portal.clone(), path.network.clone());
                of_hosts.entry(place).and_modify(|known| *known = (*known).min(*failed)).or_insert(*failed);
            }
            for (place, failed) in of_hosts {
                let share = shares.entry(place).or_default();
                share.failed += failed;
                share.hosts += same.hosts;
            }
        }
        Causes { shares }
    }
}

/// What fails on more than one host. A portal that is listed in the status stays until it fails on no host: one that comes
/// and goes on the second host does not begin to fail each time.
#[derive(Debug, Default)]
pub struct Causes {
    /// All portals; none if no path has failed.
    shares: BTreeMap<Place, Share>,
}

impl Causes {
    /// The causes as one text, all portals of a network or of a target as one; `None` if nothing fails on more than one host.
    /// `known` is `status.portals`.
    #[must_use]
    pub fn message(&self, known: &[PortalFailure]) -> Option<String> {
        let failing = self.failing(&places(known));
        let mut left: BTreeSet<&Place> = failing.keys().copied().collect();
        let mut texts = Vec::new();
        let mut whole = |group: &[&Place], name: String| {
            if group.len() > 1 && group.iter().all(|place| left.contains(*place)) {
                let most = group.iter().filter_map(|place| failing.get(*place)).max_by_key(|share| share.failed);
                let Share { failed, hosts } = most.copied().unwrap_or_default();
                texts.push(format!("{name}: all {} portals fail, on {failed} of {hosts} hosts", group.len()));
                left.retain(|place| !group.contains(place));
            }
        };
        let mut by_network: BTreeMap<&NetworkName, Vec<&Place>> = BTreeMap::new();
        let mut by_target: BTreeMap<&Iqn, Vec<&Place>> = BTreeMap::new();
        for place in self.shares.keys() {
            by_target.entry(&place.0).or_default().push(place);
            if let Some(network) = &place.2 {
                by_network.entry(network).or_default().push(place);
            }
        }
        // An array with one target that is reached through one network: the target says more.
        if by_target.len() > 1 || by_network.len() > 1 {
            for (network, group) in &by_network {
                whole(group, format!("network {network}"));
            }
        }
        for (target, group) in &by_target {
            whole(group, format!("target {target}"));
        }
        texts.extend(left.into_iter().map(|place| describe(place, failing[place])));
        (!texts.is_empty()).then(|| first_few(&texts, SHOWN, Clone::clone))
    }

    /// The entries of `status.portals`, sorted; at most [`MAX_PORTAL_FAILURES`]. Those that are known keep their place and
    /// their time.
    #[must_use]
    pub fn entries(&self, known: &[PortalFailure], now: Timestamp) -> Vec<PortalFailure> {
        let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
        let known = places(known);
        let mut portals: Vec<(&Place, Share)> = self.failing(&known).into_iter().collect();
        // The sort is stable: equal ones stay sorted by name.
        portals.sort_by_key(|(place, share)| (!known.contains_key(*place), Reverse(share.failed)));
        portals.truncate(MAX_PORTAL_FAILURES);
        portals.sort_by_key(|(place, _)| *place);
        let entry = |(place, share): (&Place, Share)| {
            let (target, portal, network) = place.clone();
            let since = known.get(place).map_or_else(|| now.clone(), |since| (*since).clone());
            PortalFailure { target, portal, network, failed: share.failed, hosts: share.hosts, since }
        };
        portals.into_iter().map(entry).collect()
    }

    fn failing(&self, known: &HashMap<Place, &Time>) -> BTreeMap<&Place, Share> {
        let fails =
            |(place, share): &(&Place, &Share)| share.failed > 1 || (share.failed == 1 && known.contains_key(*place));
        self.shares.iter().filter(fails).map(|(place, share)| (place, *share)).collect()
    }
}

/// The portals that are listed, and since when.
fn places(known: &[PortalFailure]) -> HashMap<Place, &Time> {
    let place = |it: &PortalFailure| (it.target.clone(), it.portal.clone(), it.network.clone());
    known.iter().map(|it| (place(it), &it.since)).collect()
}

fn describe((target, portal, network): &Place, Share { failed, hosts }: Share) -> String {
    let through = network.as_deref().unwrap_or("the default network");
    format!("portal {portal} of {target} through {through} fails on {failed} of {hosts} hosts")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `target portal network` for each path, and for each host the numbers of its failed paths.
    fn causes(paths: &[&str], hosts: &[&[usize]]) -> Causes {
        let path = |text: &&str| {
            let words: Vec<&str> = text.split(' ').collect();
            let [target, portal, network] = words[..] else { panic!("{text}") };
            PlannedPath {
                target: target.into(),
                portal: portal.into(),
                tpgt: 1,
                interface: Some("ens1".into()),
                network: Some(network.into()),
                storage: "s".into(),
                bonds: Vec::new(),
                chap_secret: None,
            }
        };
        let shared: Arc<[PlannedPath]> = paths.iter().map(path).collect();
        let mut failures = Failures::default();
        for (at, failed) in hosts.iter().enumerate() {
            // Every second host has a plan of its own with the same paths.
            let paths = if at % 2 == 0 { shared.clone() } else { shared.iter().cloned().collect() };
            let failed: Vec<bool> = (0..paths.len()).map(|path| failed.contains(&path)).collect();
            failures.add(&paths, &failed);
        }
        failures.causes()
    }

    const PATHS: [&str; 4] = ["t1 p1 san-a", "t1 p2 san-b", "t2 p3 san-a", "t2 p4 san-b"];

    fn said(hosts: &[&[usize]]) -> String {
        causes(&PATHS, hosts).message(&[]).unwrap_or_default()
    }

    #[test]
    fn a63_a_portal_that_fails_on_more_than_one_host_is_one_text() {
        assert_eq!(said(&[&[0], &[0], &[0]]), "portal p1 of t1 through san-a fails on 3 of 3 hosts");
        assert_eq!(
            said(&[&[0, 3], &[0], &[]]),
            "portal p1 of t1 through san-a fails on 2 of 3 hosts",
            "p4 is one host's"
        );
        assert_eq!(said(&[&[0], &[1], &[2]]), "", "each is one host's");
        assert_eq!(said(&[&[], &[]]), "");
    }

    #[test]
    fn a63_all_portals_of_a_network_or_of_a_target_are_one_text() {
        assert_eq!(said(&[&[0, 2], &[0, 2]]), "network san-a: all 2 portals fail, on 2 of 2 hosts");
        assert_eq!(said(&[&[0, 1], &[0, 1], &[]]), "target t1: all 2 portals fail, on 2 of 3 hosts");
        let both =
            "network san-a: all 2 portals fail, on 2 of 2 hosts, portal p2 of t1 through san-b fails on 2 of 2 hosts";
        assert_eq!(said(&[&[0, 1, 2], &[0, 1, 2]]), both);
    }

    #[test]
    fn a63_a_network_on_two_cards_fails_when_both_paths_have_failed() {
        let paths = ["t1 p1 san-a", "t1 p1 san-a"];
        assert_eq!(causes(&paths, &[&[0], &[0]]).message(&[]), None);
        let message = causes(&paths, &[&[0, 1], &[0, 1]]).message(&[]);
        assert_eq!(message.as_deref(), Some("portal p1 of t1 through san-a fails on 2 of 2 hosts"));
    }

    #[test]
    fn a63_entries_are_bounded_and_keep_their_time() {
        let paths: Vec<String> = (0..40).map(|at| format!("t p{at:02} san-a")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let all: Vec<usize> = (0..40).collect();
        let causes = causes(&paths, &[&all, &all, &[39]]);
        let begun = Timestamp::from_second(100).unwrap();
        let entries = causes.entries(&[], begun);
        assert_eq!(entries.len(), MAX_PORTAL_FAILURES);
        let most = entries.last().unwrap();
        assert_eq!((&*most.portal, most.failed, most.hosts), ("p39", 3, 3), "the one that fails on the most hosts");
        assert_eq!(causes.entries(&entries, Timestamp::from_second(200).unwrap()), entries);
    }

    #[test]
    fn a63_a_listed_portal_stays_until_it_fails_on_no_host() {
        let begun = Timestamp::from_second(100).unwrap();
        let listed = causes(&PATHS, &[&[0], &[0]]).entries(&[], begun);
        let on_one = causes(&PATHS, &[&[0, 1], &[]]);
        let still = on_one.entries(&listed, Timestamp::from_second(200).unwrap());
        let [entry] = &still[..] else { panic!("p2 never failed on two hosts: {still:?}") };
        assert_eq!((&*entry.portal, entry.failed, entry.hosts, entry.since.0), ("p1", 1, 2, begun));
        let text = "portal p1 of t1 through san-a fails on 1 of 2 hosts";
        assert_eq!(on_one.message(&listed).as_deref(), Some(text));
        let recovered = causes(&PATHS, &[&[1], &[]]);
        assert_eq!((recovered.entries(&still, begun), recovered.message(&still)), (Vec::new(), None));
    }

    #[test]
    fn a63_portals_that_fail_on_more_hosts_later_do_not_displace_listed_ones() {
        let paths: Vec<String> = (0..40).map(|at| format!("t p{at:02} san-a")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let all: Vec<usize> = (0..40).collect();
        let begun = Timestamp::from_second(100).unwrap();
        let listed = causes(&paths, &[&all, &all]).entries(&[], begun);
        let late: Vec<usize> = (32..40).collect();
        let later = causes(&paths, &[&all, &all, &late]).entries(&listed, Timestamp::from_second(200).unwrap());
        let portals = |entries: &[PortalFailure]| entries.iter().map(|it| it.portal.clone()).collect::<Vec<_>>();
        assert_eq!(portals(&later), portals(&listed));
        assert!(later.iter().all(|entry| entry.since.0 == begun), "{later:?}");
    }
}
