//! The logout rule: which of our sessions may go now, and why the others stay. Pure.
//!
//! Nobody may lose a byte because a bond was edited. So a session that is not planned goes only when its target has a
//! planned session that works, or has left the plan altogether, and when each of its disks is either unused or in a
//! multipath map that keeps an active path over a session that *stays*, which is one that is planned and works.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::plan::Plan;
use crate::{
    agent::initiator::{Inventory, Map, Session},
    api::reason::PathReason,
};

/// What is to become of a session that is not planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It may go; these maps, of which it has the last path, are removed first.
    Go {
        /// Maps that nothing uses.
        flush: Vec<&'a Map>,
    },
    /// It stays.
    Keep(Kept),
}

/// What is said of a session whose target is held.
const HELD: &str = "held, because it is not known which networks the target is to use: a bond that covers it names a \
                    network that does not exist, or the host has not reported its interfaces yet";

/// Why a session that is not planned stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Its target is held.
    Held,
    /// No planned session of its target works.
    NoOtherPath,
    /// One of its disks is used directly.
    DiskInUse {
        /// The disk.
        disk: String,
        /// By what.
        by: String,
    },
    /// A map over one of its disks is used, and has no active path over a session that stays.
    MapInUse {
        /// The map.
        map: String,
        /// By what.
        by: String,
    },
}

impl Kept {
    /// The word for it. Being held is not the device's doing, and has none.
    #[must_use]
    pub fn reason(&self) -> Option<PathReason> {
        match self {
            Kept::Held => None,
            Kept::NoOtherPath | Kept::DiskInUse { .. } | Kept::MapInUse { .. } => Some(PathReason::InUse),
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::Held => f.write_str(HELD),
            Kept::NoOtherPath => write!(f, "kept, because no planned path of the target is connected"),
            Kept::DiskInUse { disk, by } => write!(f, "kept, because its disk {disk} is {by}"),
            Kept::MapInUse { map, by } => {
                write!(f, "kept, because the multipath map {map} is {by} and has no other active path that stays")
            }
        }
    }
}

/// Judges every session of ours that is not planned, in the order of their paths, and every session of a held target.
///
/// `leaving` are sessions that are being logged out already: they do not stay, planned or not.
#[must_use]
pub fn judge<'a>(plan: &Plan, inventory: &'a Inventory, leaving: &BTreeSet<u32>) -> Vec<(&'a Session, Verdict<'a>)> {
    let view = Devices::new(plan, inventory, leaving);
    let mut judged: Vec<_> = inventory
        .sessions
        .iter()
        .filter(|session| !plan.paths.contains_key(&session.path))
        .filter(|session| session.is_own() || plan.hold.contains(&session.path.target))
        .map(|session| (session, view.judge(plan, session)))
        .collect();
    judged.sort_by(|(a, _), (b, _)| (&a.path, a.id).cmp(&(&b.path, b.id)));
    judged
}

/// Sessions that are not planned, and of which only what uses their devices can tell whether they may go.
#[must_use]
pub fn in_question(plan: &Plan, inventory: &Inventory, leaving: &BTreeSet<u32>) -> BTreeSet<u32> {
    let is_open = |verdict: &Verdict<'_>| match verdict {
        Verdict::Keep(Kept::Held | Kept::NoOtherPath) => false,
        Verdict::Keep(Kept::DiskInUse { .. } | Kept::MapInUse { .. }) | Verdict::Go { .. } => true,
    };
    judge(plan, inventory, leaving).into_iter().filter(|(_, verdict)| is_open(verdict)).map(|(s, _)| s.id).collect()
}

/// Whether a planned session may be logged out for a moment, because its credentials were changed: only while
/// another planned session of its target works, and each of its disks is unused or reachable over one that stays.
#[must_use]
pub fn may_rotate(plan: &Plan, inventory: &Inventory, session: &Session, leaving: &BTreeSet<u32>) -> bool {
    let mut leaving = leaving.clone();
    leaving.insert(session.id);
    let view = Devices::new(plan, inventory, &leaving);
    session.is_own()
        && view.connected_targets.contains(&*session.path.target)
        && session.disks.iter().all(|disk| {
            disk.first_user().is_none() && view.map_of.get(&*disk.name).is_none_or(|map| view.keeps_an_active_path(map))
        })
}

/// Whether two sessions must not be logged out at the same time: those of one target, and those that share a map, whose
/// last path would otherwise go without anybody seeing that it is the last.
#[must_use]
pub fn exclude_each_other(inventory: &Inventory, one: &Session, other: &Session) -> bool {
    let has = |session: &Session, map: &Map| {
        map.paths.iter().any(|path| session.disks.iter().any(|disk| disk.name == path.disk))
    };
    one.path.target == other.path.target || inventory.maps.iter().any(|map| has(one, map) && has(other, map))
}

/// What the rule looks up.
struct Devices<'a> {
    connected_targets: BTreeSet<&'a str>,
    staying_disks: BTreeSet<&'a str>,
    map_of: BTreeMap<&'a str, &'a Map>,
}

impl<'a> Devices<'a> {
    fn new(plan: &Plan, inventory: &'a Inventory, leaving: &BTreeSet<u32>) -> Self {
        let staying = || {
            inventory.sessions.iter().filter(|session| {
                session.is_live() && plan.paths.contains_key(&session.path) && !leaving.contains(&session.id)
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

    fn judge(&self, plan: &Plan, session: &'a Session) -> Verdict<'a> {
        let target = &session.path.target;
        if plan.hold.contains(target) {
            return Verdict::Keep(Kept::Held);
        }
        if plan.has_target(target) && !self.connected_targets.contains(&**target) {
            return Verdict::Keep(Kept::NoOtherPath);
        }
        let mut flush: Vec<&Map> = Vec::new();
        for disk in &session.disks {
            if let Some(by) = disk.first_user() {
                return Verdict::Keep(Kept::DiskInUse { disk: disk.name.to_string(), by: by.to_string() });
            }
            let Some(map) = self.map_of.get(&*disk.name).copied() else { continue };
            if self.keeps_an_active_path(map) {
                continue;
            }
            if let Some(by) = in_use(map) {
                return Verdict::Keep(Kept::MapInUse { map: map.name.to_string(), by });
            }
            if has_all_paths(session, map) && !flush.contains(&map) {
                flush.push(map);
            }
        }
        Verdict::Go { flush }
    }

    fn keeps_an_active_path(&self, map: &Map) -> bool {
        map.paths.iter().any(|path| path.active && self.staying_disks.contains(&*path.disk))
    }
}

fn in_use(map: &Map) -> Option<String> {
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
        fixtures::{disk, foreign, holding, inventory, lost, map, path, plan, session, used},
        initiator::{DeviceUser, Disk},
    };

    /// `go`, `flush` (go, after its map) or the reason for which it stays, of each surplus session by its number.
    fn verdicts(plan: &Plan, inventory: &Inventory) -> Vec<(u32, String)> {
        let word = |verdict: Verdict<'_>| match verdict {
            Verdict::Go { flush } if flush.is_empty() => "go".to_owned(),
            Verdict::Go { .. } => "flush".to_owned(),
            Verdict::Keep(kept) => kept.to_string(),
        };
        judge(plan, inventory, &BTreeSet::new()).into_iter().map(|(s, verdict)| (s.id, word(verdict))).collect()
    }

    #[track_caller]
    fn check(case: &str, plan: &Plan, inventory: &Inventory, expected: &[(u32, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(id, word)| (*id, (*word).to_owned())).collect();
        assert_eq!(verdicts(plan, inventory), expected, "{case}");
    }

    const NO_OTHER_PATH: &str = "kept, because no planned path of the target is connected";
    const MAP_OPEN: &str = "kept, because the multipath map mpatha is open and has no other active path that stays";

    #[test]
    fn a13_the_target_needs_a_connected_planned_path_or_has_left_the_plan() {
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
    fn a04b_sessions_of_a_held_target_stay_also_foreign_ones() {
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
    fn a20_foreign_sessions_are_not_judged_and_count_when_they_are_on_a_planned_path() {
        let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let wanted = plan("r", std::slice::from_ref(&new));
        let unplanned = inventory(vec![session(1, new.clone()), foreign(session(2, old.clone()))], vec![]);
        check("a foreign session that is not planned", &wanted, &unplanned, &[]);
        let planned = inventory(vec![foreign(session(1, new)), session(2, old)], vec![]);
        check("a foreign session on the planned path", &wanted, &planned, &[(2, "go")]);
    }

    #[test]
    fn a13b_a_disk_that_is_used_directly_keeps_its_session() {
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
            // A map that would do does not help what goes around it.
            check(words, &wanted, &inventory(sessions, vec![map(1, &[(1, true), (2, true)])]), &[(2, &kept)]);
        }
    }

    #[test]
    fn a13_a_map_in_use_keeps_an_active_path_over_a_session_that_stays() {
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
    fn a13b_a_disk_of_which_nobody_knows_whether_it_is_used_keeps_its_session() {
        let old = session(2, path("a", "2", "ens2"));
        let unseen = Session { disks: vec![Disk { users: None, ..disk(2, &[]) }], ..old.clone() };
        let kept = "kept, because its disk sd2 is perhaps in use (nobody has looked)";
        check("nobody has looked", &plan("r", &[]), &inventory(vec![unseen.clone()], vec![]), &[(2, kept)]);
        let unknown = used(old, &DeviceUser::Unknown("cannot read /proc/7/fd".into()));
        let kept = "kept, because its disk sd2 is perhaps in use (cannot read /proc/7/fd)";
        check("it cannot be told", &plan("r", &[]), &inventory(vec![unknown], vec![]), &[(2, kept)]);
        let (planned, new) = (path("a", "1", "ens1"), session(1, path("a", "1", "ens1")));
        let both = inventory(vec![new, Session { id: 3, path: planned.clone(), ..unseen.clone() }], vec![]);
        assert!(!may_rotate(&plan("r", &[planned]), &both, &both.sessions[1], &BTreeSet::new()));
    }

    #[test]
    fn use_is_in_question_only_where_nothing_else_keeps_a_session() {
        let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let wanted = plan("r", std::slice::from_ref(&new));
        let question = |plan: &Plan, sessions: &[Session]| {
            in_question(plan, &inventory(sessions.to_vec(), vec![map(1, &[(1, true), (2, true)])]), &BTreeSet::new())
        };
        let both = [session(1, new), session(2, old)];
        assert_eq!(question(&wanted, &both), BTreeSet::from([2]), "it may go");
        assert_eq!(question(&wanted, &both[1..]), BTreeSet::new(), "the planned path is not connected");
        assert_eq!(question(&holding(wanted.clone(), "a"), &both), BTreeSet::new(), "the target is held");
        assert_eq!(question(&wanted, &[both[0].clone(), foreign(both[1].clone())]), BTreeSet::new(), "it is not ours");
        assert_eq!(question(&plan("r", &[]), &both), BTreeSet::from([1, 2]), "the map's users are to be named");
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
    fn a13b_a_lun_behind_two_targets_is_one_map_and_its_logouts_wait_for_each_other() {
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
    fn a13_a_session_that_is_being_logged_out_does_not_stay() {
        let (first, second, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"), path("a", "3", "ens3"));
        let wanted = plan("r", &[first.clone(), second.clone()]);
        let sessions = vec![session(1, first), session(2, second), session(3, old)];
        let found = inventory(sessions, vec![map(1, &[(1, true), (2, false), (3, true)])]);
        let going = |leaving: &[u32]| {
            let leaving = leaving.iter().copied().collect();
            judge(&wanted, &found, &leaving).into_iter().all(|(_, verdict)| matches!(verdict, Verdict::Go { .. }))
        };
        assert!(going(&[]));
        assert!(!going(&[1]), "the map would be left with a failed path");
    }

    #[test]
    fn a23_a_session_is_made_anew_only_while_another_path_of_its_target_and_map_is_active() {
        let (one, two) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let wanted = plan("r", &[one.clone(), two.clone()]);
        let both = [session(1, one), session(2, two)];
        let may = |sessions: &[Session], maps: Vec<Map>| {
            may_rotate(&wanted, &inventory(sessions.to_vec(), maps), &sessions[0], &BTreeSet::new())
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
}
