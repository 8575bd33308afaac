//! The logout rule: which of our sessions may be logged out now, and why the others are kept. Pure.
//!
//! Nobody may lose a byte because a bond was edited. So a session that is not planned is logged out only if
//!
//! - its target has a planned session that works, or has left the plan altogether, and
//! - each of its disks is unused, or in a multipath map that keeps an active path over a session that *stays*. A session
//!   stays if it is planned, works, and is not being logged out.
//!
//! A session that its target has sent on to an address that must not be dialled is no path to storage, planned or not: it is
//! logged out without another one, but never from under a device in use.
//!
//! For a plan that only connects nothing is logged out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::plan::Plan;
use crate::{
    agent::initiator::{Inventory, Map, Session, SessionState},
    api::reason::PathReason,
};

/// The decision about a session that is not planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogoutDecision<'a> {
    /// It may be logged out, after these maps were removed.
    LogOut {
        /// Unused maps whose last path the session has.
        flush: Vec<&'a Map>,
    },
    /// It is kept.
    Keep(KeepReason),
}

/// The message for a session whose target is held. The plan does not say which of the two causes it is.
const HELD: &str = "held, because a bond names a network that does not exist or nearly the name of this target, or the \
                    host has not reported its interfaces yet";

/// Why a session that is not planned is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepReason {
    /// Its target is held.
    Held,
    /// No planned session of its target works.
    NoOtherPath,
    /// One of its disks is used directly, not through a multipath map.
    DiskInUse {
        /// The disk.
        disk: String,
        /// The user of the device, for messages.
        by: String,
    },
    /// A map over one of its disks is in use, and has no active path over a session that stays.
    MapInUse {
        /// The map.
        map: String,
        /// The user of the device, for messages.
        by: String,
    },
}

impl KeepReason {
    /// The reason to report; none for a held target, which is no problem of the host.
    #[must_use]
    pub fn reason(&self) -> Option<PathReason> {
        match self {
            KeepReason::Held => None,
            KeepReason::NoOtherPath | KeepReason::DiskInUse { .. } | KeepReason::MapInUse { .. } => {
                Some(PathReason::InUse)
            }
        }
    }
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepReason::Held => f.write_str(HELD),
            KeepReason::NoOtherPath => write!(f, "kept, because no planned path of the target is connected"),
            KeepReason::DiskInUse { disk, by } => write!(f, "kept, because its disk {disk} is {by}"),
            KeepReason::MapInUse { map, by } => {
                write!(f, "kept, because the multipath map {map} is {by} and has no other active path that stays")
            }
        }
    }
}

/// Decides for every session of ours that is not planned or is refused, and for every session of a held target that is not
/// planned. Sorted by path.
///
/// `logging_out` are sessions that are being logged out already: they do not stay, planned or not.
#[must_use]
pub fn decide<'a>(
    plan: &Plan,
    inventory: &'a Inventory,
    logging_out: &BTreeSet<u32>,
) -> Vec<(&'a Session, LogoutDecision<'a>)> {
    if plan.only_connects {
        return Vec::new();
    }
    let devices = Devices::new(plan, inventory, logging_out);
    let mut decisions: Vec<_> = inventory
        .sessions
        .iter()
        .filter(|session| !plan.paths.contains_key(&session.path) || session.refused.is_some())
        .filter(|session| session.is_own() || plan.holds(session))
        .map(|session| (session, devices.decide(plan, session)))
        .collect();
    decisions.sort_by(|(a, _), (b, _)| (&a.path, a.id).cmp(&(&b.path, b.id)));
    decisions
}

/// Sessions that are not planned and may be logged out, depending on what uses their devices.
#[must_use]
pub fn candidates(plan: &Plan, inventory: &Inventory, logging_out: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut candidates = BTreeSet::new();
    for (session, decision) in decide(plan, inventory, logging_out) {
        match decision {
            LogoutDecision::Keep(KeepReason::Held | KeepReason::NoOtherPath) => {}
            LogoutDecision::Keep(KeepReason::DiskInUse { .. } | KeepReason::MapInUse { .. })
            | LogoutDecision::LogOut { .. } => {
                candidates.insert(session.id);
            }
        }
    }
    candidates
}

/// Whether the hold of its target keeps a session from a login with new credentials: it works, and nothing that works is
/// given up for a held target. One that is lost gives up nothing.
#[must_use]
pub fn waits_for_hold(plan: &Plan, session: &Session) -> bool {
    session.is_live() && plan.holds(session)
}

/// The maps to remove before a planned session is logged out to log it in again with new credentials; None if it must stay.
///
/// One that works may go: not of a held target, only while another planned session of its target works, and if each of its
/// disks is unused or has an active path over a session that stays. One that is lost may go if each of its disks is unused or
/// in a map that loses nothing with it. As before any other logout, an unused map is removed with its last path, so that
/// nobody can open it in the meantime.
#[must_use]
pub fn for_relogin<'a>(
    plan: &Plan,
    inventory: &'a Inventory,
    session: &Session,
    logging_out: &BTreeSet<u32>,
) -> Option<Vec<&'a Map>> {
    let mut logging_out = logging_out.clone();
    logging_out.insert(session.id);
    let devices = Devices::new(plan, inventory, &logging_out);
    let has_other = !session.is_live() || devices.connected_targets.contains(&*session.path.target);
    if plan.only_connects || !session.is_own() || waits_for_hold(plan, session) || !has_other {
        return None;
    }
    let mut flush: Vec<&Map> = Vec::new();
    for disk in &session.disks {
        if disk.first_user().is_some() {
            return None;
        }
        let Some(map) = devices.map_of.get(&*disk.name).copied() else { continue };
        if devices.keeps_an_active_path(map) {
            continue;
        }
        if session.is_live() || !Devices::loses_nothing(map, session) {
            return None;
        }
        if has_all_paths(session, map) && !flush.contains(&map) {
            flush.push(map);
        }
    }
    Some(flush)
}

/// Whether two sessions must not be logged out at the same time, because they have the same target or share a map. Each
/// decision would count on the other session, and together they could remove the last path.
#[must_use]
pub fn exclude_each_other(inventory: &Inventory, one: &Session, other: &Session) -> bool {
    let has = |session: &Session, map: &Map| {
        map.paths.iter().any(|path| session.disks.iter().any(|disk| disk.name == path.disk))
    };
    one.path.target == other.path.target || inventory.maps.iter().any(|map| has(one, map) && has(other, map))
}

/// The sessions that stay and their disks, for the lookups of the rule.
struct Devices<'a> {
    connected_targets: BTreeSet<&'a str>,
    staying_disks: BTreeSet<&'a str>,
    map_of: BTreeMap<&'a str, &'a Map>,
}

impl<'a> Devices<'a> {
    fn new(plan: &Plan, inventory: &'a Inventory, logging_out: &BTreeSet<u32>) -> Self {
        let staying = || {
            inventory.sessions.iter().filter(|session| {
                session.is_live() && plan.paths.contains_key(&session.path) && !logging_out.contains(&session.id)
            })
        };
        Devices {
            connected_targets: staying().map(|session| &*session.path.target).collect(),
            staying_disks: staying().flat_map(|session| &session.disks).map(|disk| &*disk.name).collect(),
            map_of: inventory
                .maps
                .iter()
                .flat_map(|map| map.paths.iter().map(move |path| (&*path.disk, map)))
                .collect(),
        }
    }

    fn decide(&self, plan: &Plan, session: &'a Session) -> LogoutDecision<'a> {
        let target = &session.path.target;
        let is_wanted = session.refused.is_none();
        if is_wanted && plan.holds(session) {
            return LogoutDecision::Keep(KeepReason::Held);
        }
        if is_wanted && plan.has_target(target) && !self.connected_targets.contains(target.as_str()) {
            return LogoutDecision::Keep(KeepReason::NoOtherPath);
        }
        let mut flush: Vec<&Map> = Vec::new();
        for disk in &session.disks {
            if let Some(by) = disk.first_user() {
                return LogoutDecision::Keep(KeepReason::DiskInUse { disk: disk.name.to_string(), by: by.to_string() });
            }
            let Some(map) = self.map_of.get(&*disk.name).copied() else { continue };
            if self.keeps_an_active_path(map) {
                continue;
            }
            if let Some(by) = map_user(map) {
                return LogoutDecision::Keep(KeepReason::MapInUse { map: map.name.to_string(), by });
            }
            if has_all_paths(session, map) && !flush.contains(&map) {
                flush.push(map);
            }
        }
        LogoutDecision::LogOut { flush }
    }

    /// Whether a map without an active path loses nothing with the disks of a lost session: nothing uses the map, or the
    /// kernel has failed all I/O of the session by now, and the map still has another disk, which keeps it.
    fn loses_nothing(map: &Map, session: &Session) -> bool {
        map_user(map).is_none() || (session.state == SessionState::Free && !has_all_paths(session, map))
    }

    fn keeps_an_active_path(&self, map: &Map) -> bool {
        map.paths.iter().any(|path| path.active && self.staying_disks.contains(&*path.disk))
    }
}

fn map_user(map: &Map) -> Option<String> {
    match map.users.first() {
        Some(by) => Some(by.to_string()),
        None => (map.open_count > 0).then(|| "open".to_owned()),
    }
}

fn has_all_paths(session: &Session, map: &Map) -> bool {
    map.paths.iter().all(|path| session.disks.iter().any(|disk| disk.name == path.disk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{
        fixtures::{disk, foreign, holding, inventory, lost, map, path, plan, refused, session, used},
        initiator::{DeviceUser, Disk},
        types::IscsiPath,
    };
    use crate::api::Portal;

    /// For each session that is decided on: `go`, `flush` (go, after its map was removed), or why it is kept.
    fn decisions(plan: &Plan, inventory: &Inventory) -> Vec<(u32, String)> {
        let word = |decision: LogoutDecision<'_>| match decision {
            LogoutDecision::LogOut { flush } if flush.is_empty() => "go".to_owned(),
            LogoutDecision::LogOut { .. } => "flush".to_owned(),
            LogoutDecision::Keep(kept) => kept.to_string(),
        };
        decide(plan, inventory, &BTreeSet::new()).into_iter().map(|(s, decision)| (s.id, word(decision))).collect()
    }

    #[track_caller]
    fn check(case: &str, plan: &Plan, inventory: &Inventory, expected: &[(u32, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(id, word)| (*id, (*word).to_owned())).collect();
        assert_eq!(decisions(plan, inventory), expected, "{case}");
    }

    const NO_OTHER_PATH: &str = "kept, because no planned path of the target is connected";
    const MAP_OPEN: &str = "kept, because the multipath map mpatha is open and has no other active path that stays";

    #[test]
    fn a13_the_target_has_a_connected_planned_path_or_left_the_plan() {
        let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let wanted = plan("r", std::slice::from_ref(&new));
        let old_only = inventory(vec![session(2, old.clone())], vec![]);
        check("no session on the planned path", &wanted, &old_only, &[(2, NO_OTHER_PATH)]);
        let both = inventory(vec![session(1, new.clone()), session(2, old.clone())], vec![]);
        check("the planned path is connected", &wanted, &both, &[(2, "go")]);
        let new_lost = inventory(vec![lost(session(1, new)), session(2, old.clone())], vec![]);
        check("the planned path is lost", &wanted, &new_lost, &[(2, NO_OTHER_PATH)]);
        let elsewhere = plan("r", &[path("b", "1", "ens1")]);
        check("another target is planned", &elsewhere, &old_only, &[(2, "go")]);
        check("nothing is planned", &plan("r", &[]), &old_only, &[(2, "go")]);
    }

    #[test]
    fn a_session_at_a_refused_address_goes_without_another_path_unless_in_use() {
        let one = path("a", "1", "ens1");
        let wanted = plan("r", std::slice::from_ref(&one));
        let by = DeviceUser::Mount("/data".into());
        let astray = refused(session(1, one.clone()));
        let alone = |session: Session| inventory(vec![session], vec![]);
        check("it is planned", &wanted, &alone(astray.clone()), &[(1, "go")]);
        check("it is held", &holding(wanted.clone(), "a"), &alone(astray.clone()), &[(1, "go")]);
        check(
            "its disk is used",
            &wanted,
            &alone(used(astray.clone(), &by)),
            &[(1, "kept, because its disk sd1 is mounted at /data")],
        );
        let mapped = |paths: &[(u32, bool)]| {
            inventory(vec![astray.clone(), session(2, path("a", "2", "ens2"))], vec![map(1, paths)])
        };
        let both = plan("r", &[one.clone(), path("a", "2", "ens2")]);
        check("its map has another path", &both, &mapped(&[(1, true), (2, true)]), &[(1, "go")]);
        check("its map has no other path", &both, &mapped(&[(1, true), (2, false)]), &[(1, MAP_OPEN)]);
    }

    #[test]
    fn a_held_session_stays_however_its_portal_is_written() {
        let by_address = session(1, path("a", "1", "ens1"));
        let by_name = |name: &str| IscsiPath { portal: Portal::new(name, 3260), ..path("a", "1", "ens1") };
        let named = Session { path: by_name("san.example.com"), ..by_address.clone() };
        for (session, portal, is_held) in [
            (&by_address, "10.0.1.10:3260", true),
            (&by_address, "san.example.com:3260", true),
            (&by_address, "10.0.1.11:3260", false),
            (&named, "10.0.1.10:3260", true),
            (&named, "san.example.com:3260", true),
            (&named, "10.0.1.11:3260", false),
        ] {
            let mut held = plan("r", &[]);
            held.hold.insert(session.path.target.clone(), Some(BTreeSet::from([portal.into()])));
            let word = if is_held { HELD } else { "go" };
            check(portal, &held, &inventory(vec![session.clone()], vec![]), &[(1, word)]);
        }
    }

    #[test]
    fn a04b_all_sessions_of_a_held_target_stay_foreign_ones_too() {
        let held = holding(plan("r", &[]), "a");
        let sessions = vec![
            session(1, path("a", "1", "ens1")),
            foreign(session(2, path("a", "2", "ens2"))),
            session(3, path("b", "1", "ens1")),
        ];
        check("held", &held, &inventory(sessions, vec![]), &[(1, HELD), (2, HELD), (3, "go")]);
        // The plan does not tell which of the two it is.
        assert!(HELD.contains("names a network that does not exist") && HELD.contains("has not reported"));
    }

    #[test]
    fn a_portal_that_is_taken_out_wins_over_held() {
        let mut plan = plan("r", &[path("a", "1", "ens1")]);
        let stays = path("a", "2", "ens1");
        plan.hold.insert(stays.target.clone(), Some([stays.portal.clone()].into()));
        let sessions = vec![session(1, path("a", "1", "ens1")), session(2, stays), session(3, path("a", "3", "ens1"))];
        check("taken out", &plan, &inventory(sessions, vec![]), &[(2, HELD), (3, "go")]);
    }

    #[test]
    fn a20_a_foreign_session_is_never_logged_out_and_counts_as_a_path() {
        let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let wanted = plan("r", std::slice::from_ref(&new));
        let unplanned = inventory(vec![session(1, new.clone()), foreign(session(2, old.clone()))], vec![]);
        check("a foreign session that is not planned", &wanted, &unplanned, &[]);
        let planned = inventory(vec![foreign(session(1, new)), session(2, old)], vec![]);
        check("a foreign session on the planned path", &wanted, &planned, &[(2, "go")]);
    }

    #[test]
    fn a13b_direct_use_of_a_disk_keeps_its_session() {
        let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let wanted = plan("r", std::slice::from_ref(&new));
        let users = [
            (DeviceUser::Mount("/data".into()), "mounted at /data"),
            (
                DeviceUser::Mount("/var/lib/kubelet in the mount namespace of process 4711".into()),
                "mounted at /var/lib/kubelet in the mount namespace of process 4711",
            ),
            (DeviceUser::Holder("dm-3 (vg-data)".into()), "held by dm-3 (vg-data)"),
            (DeviceUser::Open("qemu (4711)".into()), "open in qemu (4711)"),
            (DeviceUser::Swap, "used as swap"),
            (DeviceUser::Loop("loop0".into()), "behind loop0"),
        ];
        for (by, words) in users {
            let sessions = vec![session(1, new.clone()), used(session(2, old.clone()), &by)];
            let kept = format!("kept, because its disk sd2 is {words}");
            check(words, &wanted, &inventory(sessions.clone(), vec![]), &[(2, &kept)]);
            // A good map does not help: the user of the disk does not go through it.
            check(words, &wanted, &inventory(sessions, vec![map(1, &[(1, true), (2, true)])]), &[(2, &kept)]);
        }
    }

    #[test]
    fn a13_a_map_in_use_keeps_an_active_path_that_stays() {
        let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let wanted = plan("r", std::slice::from_ref(&new));
        let both = vec![session(1, new), session(2, old)];
        let cases = [
            ("both active", map(1, &[(1, true), (2, true)]), "go"),
            ("the one that stays has failed", map(1, &[(1, false), (2, true)]), MAP_OPEN),
            ("the one that stays is not in the map yet", map(1, &[(2, true)]), MAP_OPEN),
            ("the one that goes has failed as well", map(1, &[(1, false), (2, false)]), MAP_OPEN),
            ("the map is not in use", map(0, &[(1, false), (2, true)]), "go"),
            ("the map is not in use and has no other path", map(0, &[(2, true)]), "flush"),
            ("a map of other disks", map(1, &[(8, true), (9, true)]), "go"),
        ];
        for (case, map, word) in cases {
            check(case, &wanted, &inventory(both.clone(), vec![map]), &[(2, word)]);
        }
    }

    #[test]
    fn a13b_a_volume_on_a_map_keeps_it_and_is_named() {
        let old = session(2, path("a", "2", "ens2"));
        let stacked = Map { users: vec![DeviceUser::Holder("dm-7 (vg-data)".into())], ..map(1, &[(2, true)]) };
        let kept =
            "kept, because the multipath map mpatha is held by dm-7 (vg-data) and has no other active path that stays";
        check("LVM", &plan("r", &[]), &inventory(vec![old], vec![stacked]), &[(2, kept)]);
    }

    #[test]
    fn a13b_unknown_use_of_a_disk_keeps_its_session() {
        let old = session(2, path("a", "2", "ens2"));
        let unseen = Session { disks: vec![Disk { users: None, ..disk(2, &[]) }], ..old.clone() };
        let kept = "kept, because its disk sd2 is perhaps in use (nobody has looked)";
        check("nobody has looked", &plan("r", &[]), &inventory(vec![unseen.clone()], vec![]), &[(2, kept)]);
        let unknown = used(old, &DeviceUser::Unknown("cannot read /proc/7/fd".into()));
        let kept = "kept, because its disk sd2 is perhaps in use (cannot read /proc/7/fd)";
        check("it cannot be told", &plan("r", &[]), &inventory(vec![unknown], vec![]), &[(2, kept)]);
        let (planned, new) = (path("a", "1", "ens1"), session(1, path("a", "1", "ens1")));
        let both = inventory(vec![new, Session { id: 3, path: planned.clone(), ..unseen.clone() }], vec![]);
        assert_eq!(for_relogin(&plan("r", &[planned]), &both, &both.sessions[1], &BTreeSet::new()), None);
    }

    #[test]
    fn only_sessions_that_use_alone_may_keep_are_candidates() {
        let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let wanted = plan("r", std::slice::from_ref(&new));
        let of = |plan: &Plan, sessions: &[Session]| {
            candidates(plan, &inventory(sessions.to_vec(), vec![map(1, &[(1, true), (2, true)])]), &BTreeSet::new())
        };
        let both = [session(1, new), session(2, old)];
        assert_eq!(of(&wanted, &both), BTreeSet::from([2]), "it may go");
        assert_eq!(of(&wanted, &both[1..]), BTreeSet::new(), "the planned path is not connected");
        assert_eq!(of(&holding(wanted.clone(), "a"), &both), BTreeSet::new(), "the target is held");
        assert_eq!(of(&wanted, &[both[0].clone(), foreign(both[1].clone())]), BTreeSet::new(), "it is not ours");
        assert_eq!(of(&plan("r", &[]), &both), BTreeSet::from([1, 2]), "the map's users are to be named");
    }

    #[test]
    fn a13b_two_surplus_paths_of_one_map_do_not_count_on_each_other() {
        let sessions = vec![session(1, path("a", "1", "ens1")), session(2, path("a", "2", "ens2"))];
        let none = plan("r", &[]);
        let in_use = inventory(sessions.clone(), vec![map(1, &[(1, true), (2, true)])]);
        check("in use", &none, &in_use, &[(1, MAP_OPEN), (2, MAP_OPEN)]);
        let unused = inventory(sessions.clone(), vec![map(0, &[(1, true), (2, true)])]);
        check("not in use", &none, &unused, &[(1, "go"), (2, "go")]);
        assert!(exclude_each_other(&unused, &sessions[0], &sessions[1]), "and so the last is seen to be the last");
        check("the last", &none, &inventory(sessions[1..].to_vec(), vec![map(0, &[(2, true)])]), &[(2, "flush")]);
    }

    #[test]
    fn a13b_logouts_of_two_targets_that_share_a_map_exclude_each_other() {
        let sessions = vec![session(1, path("a", "1", "ens1")), session(2, path("b", "2", "ens2"))];
        let shared = inventory(sessions.clone(), vec![map(0, &[(1, true), (2, true)])]);
        assert!(exclude_each_other(&shared, &sessions[0], &sessions[1]));
        let apart = inventory(sessions.clone(), vec![]);
        assert!(!exclude_each_other(&apart, &sessions[0], &sessions[1]));
    }

    #[test]
    fn a13b_every_disk_counts() {
        let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let wanted = plan("r", std::slice::from_ref(&new));
        let mut two = session(2, old);
        two.disks.push(disk(3, &[DeviceUser::Swap]));
        let found = inventory(vec![session(1, new), two], vec![map(1, &[(1, true), (2, true)])]);
        check("the second disk", &wanted, &found, &[(2, "kept, because its disk sd3 is used as swap")]);
    }

    #[test]
    fn a13_a_session_that_is_being_logged_out_does_not_count() {
        let (first, second, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"), path("a", "3", "ens3"));
        let wanted = plan("r", &[first.clone(), second.clone()]);
        let sessions = vec![session(1, first), session(2, second), session(3, old)];
        let found = inventory(sessions, vec![map(1, &[(1, true), (2, false), (3, true)])]);
        let going = |logging_out: &[u32]| {
            let logging_out = logging_out.iter().copied().collect();
            let decisions = decide(&wanted, &found, &logging_out);
            decisions.into_iter().all(|(_, decision)| matches!(decision, LogoutDecision::LogOut { .. }))
        };
        assert!(going(&[]));
        assert!(!going(&[1]), "the map would be left with a failed path");
    }

    #[test]
    fn a23_relogin_needs_another_active_path_of_target_and_map() {
        let (one, two) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let wanted = plan("r", &[one.clone(), two.clone()]);
        let both = [session(1, one), session(2, two)];
        let may = |sessions: &[Session], maps: Vec<Map>| {
            for_relogin(&wanted, &inventory(sessions.to_vec(), maps), &sessions[0], &BTreeSet::new()).is_some()
        };
        assert!(may(&both, vec![map(1, &[(1, true), (2, true)])]));
        assert!(may(&both, vec![]), "bare disks that nothing uses");
        assert!(!may(&both[..1], vec![]), "the only path");
        assert!(!may(&both, vec![map(1, &[(1, true), (2, false)])]), "the other path of the map has failed");
        assert!(!may(&both, vec![map(0, &[(1, true)])]), "the other path is not in the map yet");
        assert!(!may(&[both[0].clone(), lost(both[1].clone())], vec![]), "the other session is lost");
        assert!(
            !may(&[used(both[0].clone(), &DeviceUser::Swap), both[1].clone()], vec![]),
            "its disk is used directly"
        );
        assert!(!may(&[foreign(both[0].clone()), both[1].clone()], vec![]), "it is not ours");
    }

    #[test]
    fn a23_a_held_target_gives_up_no_working_session_for_a_rotation() {
        let (one, two) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let held = holding(plan("r", &[one.clone(), two.clone()]), "a");
        let may = |first: Session| {
            let found = inventory(vec![first.clone(), session(2, two.clone())], vec![]);
            for_relogin(&held, &found, &first, &BTreeSet::new()).is_some()
        };
        assert!(!may(session(1, one.clone())));
        assert!(may(lost(session(1, one.clone()))), "it would never come back");
    }

    #[test]
    fn a23_a_lost_session_is_logged_in_again_if_no_io_is_lost_by_it() {
        let (one, two) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let wanted = plan("r", &[one.clone(), two.clone()]);
        let free = |session: Session| Session { state: SessionState::Free, ..session };
        let (failed, other) = (lost(session(1, one.clone())), lost(session(2, two.clone())));
        let may = |sessions: &[Session], maps: Vec<Map>| {
            for_relogin(&wanted, &inventory(sessions.to_vec(), maps), &sessions[0], &BTreeSet::new()).is_some()
        };
        assert!(may(std::slice::from_ref(&failed), vec![]), "nothing uses its disks");
        assert!(may(&[failed.clone(), other.clone()], vec![map(0, &[(1, false), (2, false)])]), "nothing uses the map");
        let in_use = || vec![map(1, &[(1, false), (2, false)])];
        assert!(!may(&[failed.clone(), other.clone()], in_use()), "the kernel still holds its I/O back");
        assert!(may(&[free(failed.clone()), other.clone()], in_use()), "its I/O has failed; the map keeps a disk");
        assert!(!may(&[free(failed.clone()), other.clone()], vec![map(1, &[(1, false)])]), "the map's last disk");
        let active = vec![map(1, &[(1, false), (2, true)])];
        assert!(may(&[failed.clone(), session(2, two)], active), "the map has an active path");
        assert!(!may(&[used(free(failed.clone()), &DeviceUser::Swap), other], vec![]), "its disk is used directly");
        assert!(!may(&[foreign(failed)], vec![]), "it is not ours");
    }

    #[test]
    fn a23_a_lost_session_takes_its_map_with_it_if_it_has_the_last_path() {
        let (one, two) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let wanted = plan("r", &[one.clone(), two.clone()]);
        let flushed = |maps: Vec<Map>| {
            let both = inventory(vec![lost(session(1, one.clone())), session(2, two.clone())], maps);
            for_relogin(&wanted, &both, &both.sessions[0], &BTreeSet::new()).map(|flush| flush.len())
        };
        assert_eq!(flushed(vec![map(0, &[(1, false)])]), Some(1), "else somebody could open it before the logout");
        assert_eq!(flushed(vec![map(0, &[(1, false), (2, false)])]), Some(0), "another disk keeps it");
        assert_eq!(flushed(vec![map(1, &[(1, false), (2, true)])]), Some(0), "it has an active path");
        assert_eq!(flushed(vec![map(1, &[(1, false)])]), None, "it is in use");
    }
}
