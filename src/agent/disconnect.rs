//! The logout rule: which of our sessions may go now, and why the others stay. Pure.
//!
//! Nobody may lose a byte because a bond was edited. So a session that is not planned goes only when its target has a
//! planned session that works, or has left the plan altogether, and when each of its disks is either unused or in a
//! multipath map that keeps an active path over a session that *stays*, which is one that is planned and works.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    initiator::{Inventory, Map, Session},
    plan::Plan,
};
use crate::api::reason::PathReason;

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
            Kept::Held => write!(f, "held, because a bond that covers the target names a network that does not exist"),
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
            disk.uses.is_empty() && view.map_of.get(&*disk.name).is_none_or(|map| view.keeps_an_active_path(map))
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
            if let Some(by) = disk.uses.first() {
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
    match map.uses.first() {
        Some(by) => Some(by.to_string()),
        None => (map.open_count > 0).then(|| "open".to_owned()),
    }
}

fn has_all_paths(session: &Session, map: &Map) -> bool {
    map.paths.iter().all(|path| session.disks.iter().any(|disk| disk.name == path.disk))
}
