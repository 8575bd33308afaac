//! Disks that have lost their multipath map. Pure.
//!
//! A map is removed before the logout of its last path, and made again if the session stays. An agent that is killed in
//! between does not do that, and nobody else does: multipathd makes maps when disks come, and these have come long ago.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::Plan;
use crate::agent::initiator::{Inventory, Session};

/// Looks for such disks.
#[derive(Debug, Default)]
pub struct LostMaps {
    /// Sessions that may have such disks, until one of them is planned and works; none before the first look.
    suspects: Option<BTreeSet<u32>>,
}

impl LostMaps {
    /// The number of sessions that may have such disks.
    pub(super) fn len(&self) -> usize {
        self.suspects.as_ref().map_or(0, BTreeSet::len)
    }

    /// The session stays, after maps may have been removed for its logout.
    pub fn stays(&mut self, id: u32) {
        self.suspects.get_or_insert_default().insert(id);
    }

    /// The sessions with a disk that lacks its map. Each is returned once, and again only after another logout.
    ///
    /// A session is asked about if it is planned and works. That its target has another map is the proof that
    /// multipathd makes maps of it: others have none on purpose.
    pub fn find<'a>(&mut self, plan: &Plan, inventory: &'a Inventory, logging_out: &BTreeSet<u32>) -> Vec<&'a Session> {
        let own = || inventory.sessions.iter().filter(|session| session.is_own());
        // Sessions that are made later get their maps when their disks come.
        let suspects = self.suspects.get_or_insert_with(|| own().map(|session| session.id).collect());
        if suspects.is_empty() {
            return Vec::new();
        }
        let in_map: BTreeSet<&str> = inventory.maps.iter().flat_map(|map| &map.paths).map(|path| &*path.disk).collect();
        let has_map = |name: &str| in_map.contains(name);
        let mut has_any: BTreeMap<&str, bool> = BTreeMap::new();
        for session in own() {
            *has_any.entry(&session.path.target).or_default() |= session.disks.iter().any(|disk| has_map(&disk.name));
        }
        let mut found = Vec::new();
        for session in own() {
            if !suspects.contains(&session.id)
                || !session.is_live()
                || !plan.paths.contains_key(&session.path)
                || logging_out.contains(&session.id)
            {
                continue;
            }
            suspects.remove(&session.id);
            if has_any.get(&*session.path.target) == Some(&true)
                && !session.disks.iter().all(|disk| has_map(&disk.name))
            {
                found.push(session);
            }
        }
        suspects.retain(|id| own().any(|session| session.id == *id));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{
        fixtures::{disk, foreign, inventory, lost, map, path, plan, session},
        initiator::{Disk, Map},
    };

    /// Session 1 with the LUNs `sd1` and `sd1b`.
    fn two_luns() -> Session {
        let mut session = session(1, path("a", "1", "ens1"));
        session.disks.push(Disk { name: "sd1b".into(), users: None, ..disk(1, &[]) });
        session
    }

    fn ids(found: &[&Session]) -> Vec<u32> {
        found.iter().map(|session| session.id).collect()
    }

    /// What an agent finds that has just been started.
    fn found_at_start(sessions: Vec<Session>, maps: Vec<Map>) -> Vec<u32> {
        let planned = plan("r", &[path("a", "1", "ens1"), path("a", "2", "ens2")]);
        ids(&LostMaps::default().find(&planned, &inventory(sessions, maps), &BTreeSet::new()))
    }

    #[test]
    fn a26_after_a_start_a_disk_without_a_map_gets_one_if_its_siblings_have() {
        let one_map = || vec![map(0, &[(1, true)])];
        assert_eq!(found_at_start(vec![two_luns()], one_map()), [1], "the other disk of the session has one");
        let other = session(2, path("a", "2", "ens2"));
        assert_eq!(found_at_start(vec![two_luns(), other.clone()], vec![map(0, &[(2, true)])]), [1], "another session");
        assert_eq!(found_at_start(vec![session(1, path("a", "1", "ens1"))], one_map()), [0; 0], "all have one");
        assert_eq!(found_at_start(vec![two_luns(), other], vec![]), [0; 0], "none has one: perhaps on purpose");
        let of_another_target = session(2, path("b", "2", "ens2"));
        assert_eq!(found_at_start(vec![two_luns(), of_another_target], vec![map(0, &[(2, true)])]), [0; 0]);
        let theirs = foreign(two_luns());
        assert_eq!(found_at_start(vec![theirs], one_map()), [0; 0], "not a session of the agent");
    }

    #[test]
    fn a_session_is_looked_at_once_it_is_planned_and_works() {
        let mut maps = LostMaps::default();
        let mut find = |planned: &Plan, session: Session, logging_out: &[u32]| {
            let inventory = inventory(vec![session], vec![map(0, &[(1, true)])]);
            ids(&maps.find(planned, &inventory, &logging_out.iter().copied().collect()))
        };
        let (empty, planned) = (plan("r", &[]), plan("r", &[path("a", "1", "ens1")]));
        assert_eq!(find(&empty, two_luns(), &[]), [0; 0], "it may go");
        assert_eq!(find(&planned, lost(two_luns()), &[]), [0; 0]);
        assert_eq!(find(&planned, two_luns(), &[1]), [0; 0]);
        assert_eq!(find(&planned, two_luns(), &[]), [1]);
        assert_eq!(find(&planned, two_luns(), &[]), [0; 0], "once");
    }

    #[test]
    fn only_a_logout_without_effect_makes_it_look_again() {
        let mut maps = LostMaps::default();
        let planned = plan("r", &[path("a", "1", "ens1")]);
        let none = BTreeSet::new();
        assert_eq!(ids(&maps.find(&planned, &inventory(vec![], vec![]), &none)), [0; 0]);
        let after = inventory(vec![two_luns()], vec![map(0, &[(1, true)])]);
        assert_eq!(ids(&maps.find(&planned, &after, &none)), [0; 0], "multipathd makes the maps of new disks");
        maps.stays(1);
        assert_eq!(ids(&maps.find(&planned, &after, &none)), [1]);
    }
}
