//! What a host must report of its LUNs, from what the kernel and the array have; part of invariant 7.

use std::collections::{BTreeMap, BTreeSet};

use multibond::{
    agent::{
        initiator::{Disk, Inventory, Map, Session},
        types::IscsiPath,
    },
    api::{HostStatus, LunProblemKind, Phase, PlannedPath},
};

/// A LUN: its disks, each with its session, and its map.
#[derive(Default)]
struct Lun<'a> {
    disks: Vec<(&'a Session, &'a Disk)>,
    map: Option<&'a Map>,
}

/// How a LUN is reported: what is wrong, the disks, the active ones, and the sessions that should have one.
type Reported = (Option<LunProblemKind>, usize, usize, usize);

/// What is wrong with the report of a host with this plan. No session has lost a disk since its login.
pub fn flaws(paths: &[PlannedPath], inventory: &Inventory, status: &HostStatus) -> Vec<String> {
    let sessions: Vec<&Session> = paths.iter().filter_map(|path| session_of(&path.into(), inventory)).collect();
    let wanted: BTreeMap<String, Reported> =
        luns(&sessions, &inventory.maps).iter().map(|(wwid, lun)| (wwid.clone(), lun.reported(&sessions))).collect();
    let Some(luns) = &status.luns else { return vec!["no LUNs are reported".to_owned()] };
    let mut found: BTreeMap<String, Reported> = BTreeMap::new();
    for lun in &luns.problems {
        let [disks, active, expected] = [lun.disks, lun.active, lun.expected].map(|count| count as usize);
        found.insert(lun.wwid.clone(), (Some(lun.problem), disks, active, expected));
    }
    for text in &luns.healthy {
        let words: Vec<&str> = text.split(' ').collect();
        let wwid = words[0].to_owned();
        let (active, disks) = words[2].split_once('/').unwrap();
        let expected = wanted.get(&wwid).map_or(0, |lun| lun.3);
        found.insert(wwid, (None, disks.parse().unwrap(), active.parse().unwrap(), expected));
    }
    let healthy = wanted.values().filter(|(problem, ..)| problem.is_none()).count();
    let mut flaws = Vec::new();
    if found != wanted || luns.summary != format!("{healthy}/{}", wanted.len()) {
        flaws.push(format!("the LUNs are {luns:?}, and should be {wanted:?}"));
    }
    let is_in_service = !matches!(status.phase, Some(Phase::Unassigned | Phase::Maintenance));
    let should_be = is_in_service.then_some(if healthy == wanted.len() { "True" } else { "False" });
    let condition = status.conditions.iter().find(|condition| condition.type_ == "LunsHealthy");
    if condition.map(|condition| condition.status.as_str()) != should_be {
        flaws.push(format!("LunsHealthy is {condition:?}, and should be {should_be:?}"));
    }
    flaws
}

/// The session of a path: rather one that works, and rather ours.
fn session_of<'a>(path: &IscsiPath, inventory: &'a Inventory) -> Option<&'a Session> {
    let of_path = inventory.sessions.iter().filter(|session| session.path == *path && session.refused.is_none());
    of_path.max_by_key(|session| (session.is_live(), session.is_own()))
}

fn luns<'a>(sessions: &[&'a Session], maps: &'a [Map]) -> BTreeMap<String, Lun<'a>> {
    let mut luns: BTreeMap<String, Lun<'a>> = BTreeMap::new();
    for session in sessions {
        for disk in &session.disks {
            let map = maps.iter().find(|map| map.paths.iter().any(|path| path.disk == disk.name));
            let wwid = map.map(|map| map.wwid.clone()).or_else(|| disk.wwid.as_deref().map(ToOwned::to_owned));
            let lun = luns.entry(wwid.unwrap()).or_default();
            lun.disks.push((session, disk));
            lun.map = map.or(lun.map);
        }
    }
    luns
}

impl Lun<'_> {
    fn reported(&self, sessions: &[&Session]) -> Reported {
        let port = |session: &Session| (session.path.target.clone(), session.tpgt);
        let ports: BTreeSet<_> = self.disks.iter().map(|(session, _)| port(session)).collect();
        let should_show = |session: &&&Session| session.is_live() && session.is_own() && ports.contains(&port(session));
        let expected: Vec<_> = sessions.iter().filter(should_show).collect();
        let shows = |session: &Session| self.disks.iter().any(|(other, _)| other.id == session.id);
        let is_active = |disk: &Disk, session: &Session| match self.map {
            Some(map) => map.paths.iter().any(|path| path.disk == disk.name && path.active),
            None => session.is_live(),
        };
        let sizes = self.disks.iter().map(|(_, disk)| disk.size).chain(self.map.map(|map| map.size));
        let problem = if self.map.is_some_and(|map| map.paths.iter().all(|path| !path.active)) {
            Some(LunProblemKind::NoActivePath)
        } else if expected.iter().any(|session| !shows(session)) {
            Some(LunProblemKind::PathsMissing)
        } else if sizes.collect::<BTreeSet<_>>().len() > 1 {
            Some(LunProblemKind::SizeDiffers)
        } else {
            None
        };
        let active = self.disks.iter().filter(|(session, disk)| is_active(disk, session)).count();
        (problem, self.disks.len(), active, expected.len())
    }
}
