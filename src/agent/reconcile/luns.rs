//! The LUNs behind the planned sessions: which there are, and what is wrong with one. Pure.
//!
//! A LUN is what the disks with one WWID are. SCSI maps LUNs for each *target port*, which is a target with one portal group
//! tag: different tags may rightly show different LUNs, and sessions of one target port may not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::plan::Plan;
use crate::{
    agent::{
        initiator::{Disk, Map, Session},
        types::IscsiPath,
    },
    api::{HealthyLun, HostLuns, Iqn, LISTED_LUNS, LunAddress, LunProblem, LunProblemKind, first_few},
};

/// The time for which disks must differ before that is a problem: the kernel and multipathd take up a new LUN, or a new
/// size, session by session.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);
/// The most sessions that a message names.
const SHOWN: usize = 3;
/// The most addresses of a LUN that are reported.
const ADDRESSES: usize = 16;

/// What is remembered of the LUNs from one step to the next.
#[derive(Debug, Default)]
pub struct Luns {
    /// The LUNs that each session that works has shown.
    shown: BTreeMap<u32, BTreeSet<String>>,
    /// Since when something is wrong with a LUN that may still be about to settle.
    since: BTreeMap<(String, LunProblemKind), Since>,
}

/// Since when something is wrong, and how many disks there were. While disks are added the sessions are still being scanned.
type Since = (Duration, usize);

/// A LUN as the planned sessions show it.
#[derive(Debug, Default)]
struct Lun<'a> {
    /// Its disks, with the session of each.
    disks: Vec<(&'a Session, &'a Disk)>,
    map: Option<&'a Map>,
    /// The sessions that work and should show it.
    expected: Vec<&'a Session>,
}

/// A target with one portal group tag.
type TargetPort<'a> = (&'a Iqn, u16);

fn target_port(session: &Session) -> TargetPort<'_> {
    (&session.path.target, session.tpgt)
}

impl Luns {
    /// The number of sessions and problems that are remembered.
    pub(super) fn len(&self) -> usize {
        self.shown.len() + self.since.len()
    }

    /// The report on the LUNs behind these sessions, and the time of the next one if nothing changes.
    pub fn report(
        &mut self,
        plan: &Plan,
        sessions: &BTreeMap<&IscsiPath, &Session>,
        maps: &[Map],
        now: Duration,
    ) -> (HostLuns, Option<Duration>) {
        let sessions: Vec<&Session> = sessions
            .iter()
            .filter(|(path, session)| plan.paths.contains_key(**path) && session.refused.is_none())
            .map(|(_, session)| *session)
            .collect();
        let mut luns = luns_of(&sessions, maps);
        self.remember(&sessions, &luns);
        for (wwid, lun) in &mut luns {
            lun.expected = self.expected(&sessions, wwid, lun);
        }
        let disks = sessions.iter().map(|session| session.disks.len()).sum();
        let mut problems = Vec::new();
        let mut healthy = Vec::new();
        let mut still_wrong = BTreeSet::new();
        let mut wake_at: Option<Duration> = None;
        for (wwid, lun) in &luns {
            let found = lun.problems();
            still_wrong.extend(found.iter().map(|(kind, _)| (wwid.clone(), *kind)));
            let settled = found.into_iter().find(|(kind, _)| {
                let until = self.settled_at(wwid, *kind, disks, now);
                if until > now {
                    wake_at = Some(wake_at.map_or(until, |wake_at| wake_at.min(until)));
                }
                until <= now
            });
            match settled {
                Some((problem, message)) => problems.push(lun.problem(wwid, problem, message)),
                None => healthy.push(lun.text(wwid)),
            }
        }
        self.since.retain(|key, _| still_wrong.contains(key));
        problems.sort();
        (listed(problems, healthy), wake_at)
    }

    /// A session that does not work, or has gone, tells nothing of its LUNs until it works again.
    fn remember(&mut self, sessions: &[&Session], luns: &BTreeMap<String, Lun<'_>>) {
        let live: BTreeSet<u32> =
            sessions.iter().filter(|session| session.is_live()).map(|session| session.id).collect();
        self.shown.retain(|id, _| live.contains(id));
        for (wwid, lun) in luns {
            for (session, _) in lun.disks.iter().filter(|(session, _)| session.is_live()) {
                self.shown.entry(session.id).or_default().insert(wwid.clone());
            }
        }
    }

    /// The sessions that work of the target ports that show the LUN, or have shown it since their login and still show
    /// others.
    fn expected<'a>(&self, sessions: &[&'a Session], wwid: &str, lun: &Lun<'a>) -> Vec<&'a Session> {
        let has_shown = |session: &Session| {
            let shown = self.shown.get(&session.id).is_some_and(|luns| luns.contains(wwid));
            shown && !session.disks.is_empty()
        };
        let showing = lun.disks.iter().map(|(session, _)| target_port(session));
        // Whoever makes other sessions may choose which LUNs they show.
        let live = sessions.iter().copied().filter(|session| session.is_live() && session.is_own());
        let ports: BTreeSet<TargetPort<'_>> =
            showing.chain(live.clone().filter(|session| has_shown(session)).map(target_port)).collect();
        live.filter(|session| ports.contains(&target_port(session))).collect()
    }

    /// The time from which a problem counts.
    fn settled_at(&mut self, wwid: &str, kind: LunProblemKind, disks: usize, now: Duration) -> Duration {
        match kind {
            LunProblemKind::NoActivePath | LunProblemKind::Other => now,
            LunProblemKind::PathsMissing | LunProblemKind::SizeDiffers => {
                let (since, before) = self.since.entry((wwid.to_owned(), kind)).or_insert((now, disks));
                let is_being_scanned = disks > *before && now < *since + SETTLES_WITHIN;
                if is_being_scanned {
                    *since = now;
                }
                *before = disks;
                *since + SETTLES_WITHIN
            }
        }
    }
}

/// The LUNs of these sessions, by WWID. A disk that tells no identity, and is in no map, is of no LUN.
fn luns_of<'a>(sessions: &[&'a Session], maps: &'a [Map]) -> BTreeMap<String, Lun<'a>> {
    let map_of: BTreeMap<&str, &Map> =
        maps.iter().flat_map(|map| map.paths.iter().map(move |path| (&*path.disk, map))).collect();
    let mut luns: BTreeMap<String, Lun<'a>> = BTreeMap::new();
    for session in sessions {
        // What is no disk, such as a CD-ROM, has another driver, and another name.
        for disk in session.disks.iter().filter(|disk| disk.name.starts_with("sd")) {
            let map = map_of.get(&*disk.name).copied();
            let Some(wwid) = map.map(|map| map.wwid.as_str()).or(disk.wwid.as_deref()) else { continue };
            let lun = luns.entry(wwid.to_owned()).or_default();
            lun.disks.push((session, disk));
            lun.map = lun.map.or(map);
        }
    }
    luns
}

impl Lun<'_> {
    /// What is wrong, the worst first.
    fn problems(&self) -> Vec<(LunProblemKind, String)> {
        [self.no_active_path(), self.paths_missing(), self.size_differs()].into_iter().flatten().collect()
    }

    fn no_active_path(&self) -> Option<(LunProblemKind, String)> {
        let map = self.map.filter(|map| map.is_known && map.paths.iter().all(|path| !path.active))?;
        let message = format!(
            "map {} has no path that works: the array does not serve the LUN to this host any more, or no session to it \
             works; if it was taken away on purpose, see docs/troubleshooting.md#a-lun-is-not-as-it-should-be",
            map.name
        );
        Some((LunProblemKind::NoActivePath, message))
    }

    fn paths_missing(&self) -> Option<(LunProblemKind, String)> {
        let shows = |session: &&&Session| self.disks.iter().any(|(shows, _)| shows.id == session.id);
        let missing: Vec<&Session> = self.expected.iter().filter(|session| !shows(session)).copied().collect();
        let names = first_few(&missing, SHOWN, |session| {
            format!("{} (session {} to {})", session.path.portal, session.id, session.path.target)
        });
        (!missing.is_empty()).then(|| {
            let message = format!(
                "{} of {} sessions have no disk of it: {names}; let the kernel look again with `iscsiadm -m session -r \
                 SESSION --rescan`, and check that the array shows the LUN through each of its ports",
                missing.len(),
                self.expected.len()
            );
            (LunProblemKind::PathsMissing, message)
        })
    }

    fn size_differs(&self) -> Option<(LunProblemKind, String)> {
        let sizes: BTreeSet<u64> = self.disks.iter().map(|(_, disk)| disk.size).filter(|size| *size > 0).collect();
        let of_map = self.map.filter(|map| map.size > 0);
        let message = match (sizes.len(), of_map) {
            (0, _) | (1, None) => return None,
            (1, Some(map)) if sizes.contains(&map.size) => return None,
            (1, Some(map)) => format!(
                "its disks have {}, and map {} has {} bytes; if the array has changed the size, `multipathd resize map {}` \
                 takes it over",
                bytes(&sizes),
                map.name,
                map.size,
                map.name
            ),
            (_, _) => format!(
                "its disks have different sizes: {}; let the kernel read them again with `iscsiadm -m session --rescan`",
                bytes(&sizes)
            ),
        };
        Some((LunProblemKind::SizeDiffers, message))
    }

    fn problem(&self, wwid: &str, problem: LunProblemKind, message: String) -> LunProblem {
        let mut at: Vec<LunAddress> = self.addresses().into_iter().collect();
        at.truncate(ADDRESSES);
        LunProblem {
            problem,
            wwid: wwid.to_owned(),
            at,
            size_bytes: i64::try_from(self.size()).unwrap_or(i64::MAX),
            disks: count(self.disks.len()),
            active: count(self.active()),
            expected: count(self.expected.len()),
            message,
        }
    }

    /// A LUN without a problem as text; see [`HostLuns::healthy`].
    fn text(&self, wwid: &str) -> String {
        let lun = HealthyLun {
            wwid: wwid.to_owned(),
            size_bytes: self.size(),
            active: count(self.active()),
            paths: count(self.disks.len().max(self.expected.len())),
            at: self.addresses().into_iter().take(ADDRESSES).collect(),
        };
        lun.to_string()
    }

    fn addresses(&self) -> BTreeSet<LunAddress> {
        let address = |(session, disk): &(&Session, &Disk)| LunAddress {
            target: session.path.target.clone(),
            lun: i64::try_from(disk.lun).unwrap_or(i64::MAX),
        };
        self.disks.iter().map(address).collect()
    }

    fn size(&self) -> u64 {
        let of_disks = || self.disks.iter().map(|(_, disk)| disk.size).max();
        self.map.map(|map| map.size).filter(|size| *size > 0).or_else(of_disks).unwrap_or(0)
    }

    /// The disks over which I/O goes: the map knows; without one, those of sessions that work.
    fn active(&self) -> usize {
        let is_active = |(session, disk): &&(&Session, &Disk)| match self.map {
            Some(map) => map.paths.iter().any(|path| path.active && path.disk == disk.name),
            None => session.is_live(),
        };
        self.disks.iter().filter(is_active).count()
    }
}

/// The report, with at most [`LISTED_LUNS`] LUNs in its lists; those with a problem come first.
fn listed(mut problems: Vec<LunProblem>, mut healthy: Vec<String>) -> HostLuns {
    let total = problems.len() + healthy.len();
    let summary = format!("{}/{total}", healthy.len());
    problems.truncate(LISTED_LUNS);
    healthy.truncate(LISTED_LUNS - problems.len());
    let left_out = count(total - problems.len() - healthy.len());
    HostLuns { summary, problems, healthy, left_out }
}

fn bytes(sizes: &BTreeSet<u64>) -> String {
    let sizes: Vec<&u64> = sizes.iter().collect();
    format!("{} bytes", first_few(&sizes, SHOWN, ToString::to_string))
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::input::sessions_by_path, *};
    use crate::agent::{
        fixtures::{disk, foreign, inventory, lost, map, path, plan, session},
        initiator::Inventory,
    };

    const GIB: u64 = 1 << 30;

    fn report(luns: &mut Luns, plan: &Plan, host: &Inventory, now: Duration) -> (HostLuns, Option<Duration>) {
        luns.report(plan, &sessions_by_path(host), &host.maps, now)
    }

    /// Two paths to one target.
    fn paths() -> [IscsiPath; 2] {
        [path("a", "1", "ens1"), path("a", "2", "ens2")]
    }

    /// The two sessions, each with one disk of a LUN with a map: `sd1` and `sd2`.
    fn sessions() -> Vec<Session> {
        paths().into_iter().zip(1..).map(|(path, id)| session(id, path)).collect()
    }

    fn without_disks(session: Session) -> Session {
        Session { disks: Vec::new(), ..session }
    }

    fn with_disk(mut session: Session, name: &str, wwid: Option<&str>) -> Session {
        session.disks.push(Disk { name: name.into(), wwid: wwid.map(Into::into), lun: 2, ..disk(0, &[]) });
        session
    }

    /// The reports at these seconds, while the host stays as it is.
    fn reports(sessions: Vec<Session>, maps: Vec<Map>, seconds: &[u64]) -> Vec<HostLuns> {
        let (mut luns, plan, inventory) = (Luns::default(), plan("r", &paths()), inventory(sessions, maps));
        seconds.iter().map(|at| report(&mut luns, &plan, &inventory, Duration::from_secs(*at)).0).collect()
    }

    fn kinds(luns: &HostLuns) -> Vec<LunProblemKind> {
        luns.problems.iter().map(|lun| lun.problem).collect()
    }

    #[test]
    fn a49_a_lun_with_all_its_paths_is_one_text() {
        let luns = reports(sessions(), vec![map(0, &[(1, true), (2, true)])], &[0]).remove(0);
        assert_eq!(luns.healthy, ["3600a 1073741824 2/2 iqn.2003-01.org.example:a#1"]);
        assert_eq!((luns.summary.as_str(), kinds(&luns)), ("1/1", vec![]));
    }

    #[test]
    fn a49_a_map_without_a_path_that_works_is_reported_at_once() {
        let luns = reports(sessions(), vec![map(1, &[(1, false), (2, false)])], &[0]).remove(0);
        assert_eq!((luns.summary.as_str(), kinds(&luns)), ("0/1", vec![LunProblemKind::NoActivePath]));
        let lun = &luns.problems[0];
        assert_eq!((lun.wwid.as_str(), lun.disks, lun.active, lun.expected), ("3600a", 2, 0, 2));
        assert!(lun.message.contains("map mpatha has no path that works"), "{}", lun.message);
    }

    #[test]
    fn a49_a_map_whose_paths_are_not_known_is_no_problem() {
        let unknown = Map { is_known: false, ..map(1, &[(1, false), (2, false)]) };
        assert_eq!(kinds(&reports(sessions(), vec![unknown], &[0])[0]), []);
    }

    #[test]
    fn a_path_that_is_lost_makes_no_problem_of_a_lun_that_has_another() {
        let mut sessions = sessions();
        sessions[1] = lost(sessions[1].clone());
        let luns = reports(sessions, vec![map(1, &[(1, true), (2, false)])], &[0, 60]).remove(1);
        assert_eq!(luns.healthy, ["3600a 1073741824 1/2 iqn.2003-01.org.example:a#1"]);
    }

    #[test]
    fn a47_a_session_without_a_disk_of_the_lun_is_named_after_ten_seconds() {
        let mut sessions = sessions();
        sessions[1] = without_disks(sessions[1].clone());
        let found = reports(sessions, vec![map(0, &[(1, true)])], &[0, 9, 10]);
        assert_eq!([kinds(&found[0]), kinds(&found[1])], [vec![], vec![]], "the kernel may be about to find it");
        assert_eq!(kinds(&found[2]), [LunProblemKind::PathsMissing]);
        let lun = &found[2].problems[0];
        assert_eq!((lun.disks, lun.expected), (1, 2));
        assert!(
            lun.message.contains("1 of 2 sessions have no disk of it: 10.0.2.10:3260 (session 2"),
            "{}",
            lun.message
        );
    }

    #[test]
    fn sessions_of_another_portal_group_need_not_show_the_lun() {
        let mut sessions = sessions();
        sessions[1] = Session { tpgt: 2, ..without_disks(sessions[1].clone()) };
        assert_eq!(kinds(&reports(sessions, vec![map(0, &[(1, true)])], &[0, 60])[1]), []);
    }

    #[test]
    fn a_lost_session_is_not_expected_to_show_anything() {
        let mut sessions = sessions();
        sessions[1] = lost(without_disks(sessions[1].clone()));
        assert_eq!(kinds(&reports(sessions, vec![map(0, &[(1, true)])], &[0, 60])[1]), []);
    }

    #[test]
    fn a47_a_portal_group_that_has_shown_the_lun_and_shows_others_is_expected_to() {
        let (mut luns, plan) = (Luns::default(), plan("r", &paths()));
        let mut sessions = sessions();
        sessions[1] = Session { tpgt: 2, ..with_disk(sessions[1].clone(), "sdx", Some("3600x")) };
        let before = inventory(sessions.clone(), vec![map(0, &[(1, true), (2, true)])]);
        assert_eq!(kinds(&report(&mut luns, &plan, &before, Duration::ZERO).0), []);
        sessions[1].disks.remove(0);
        let after = inventory(sessions, vec![map(0, &[(1, true)])]);
        let (_, wake_at) = report(&mut luns, &plan, &after, Duration::from_secs(1));
        assert_eq!(wake_at, Some(Duration::from_secs(11)));
        assert_eq!(kinds(&report(&mut luns, &plan, &after, Duration::from_secs(11)).0), [LunProblemKind::PathsMissing]);
    }

    #[test]
    fn a48_disks_of_different_sizes_and_a_map_that_has_not_grown_are_reported() {
        let both = |sizes: [u64; 2], of_map: u64| {
            let mut sessions = sessions();
            sessions.iter_mut().zip(sizes).for_each(|(session, size)| session.disks[0].size = size);
            let map = Map { size: of_map, ..map(0, &[(1, true), (2, true)]) };
            reports(sessions, vec![map], &[0, 9, 10])
        };
        let late = both([GIB, 2 * GIB], GIB);
        assert_eq!([kinds(&late[0]), kinds(&late[1])], [vec![], vec![]], "the other path may be about to be read");
        assert_eq!(kinds(&late[2]), [LunProblemKind::SizeDiffers]);
        assert!(late[2].problems[0].message.contains("1073741824, 2147483648 bytes"));
        let grown = both([2 * GIB, 2 * GIB], GIB).remove(2);
        assert!(grown.problems[0].message.contains("multipathd resize map mpatha"));
        assert_eq!(kinds(&both([2 * GIB, 2 * GIB], 2 * GIB)[2]), []);
        assert_eq!(kinds(&both([0, GIB], GIB)[2]), [], "a size that is not known");
    }

    #[test]
    fn a_session_that_is_still_being_scanned_misses_nothing() {
        let (mut luns, plan) = (Luns::default(), plan("r", &paths()));
        let mut sessions = sessions();
        sessions[1] = without_disks(sessions[1].clone());
        for (name, seconds) in [("sdx", 0), ("sdy", 8), ("sdz", 16)] {
            sessions[1] = with_disk(sessions[1].clone(), name, Some(name));
            let now = inventory(sessions.clone(), vec![map(0, &[(1, true)])]);
            assert_eq!(kinds(&report(&mut luns, &plan, &now, Duration::from_secs(seconds)).0), [], "{name}");
        }
        let now = inventory(sessions, vec![map(0, &[(1, true)])]);
        let missing = kinds(&report(&mut luns, &plan, &now, Duration::from_secs(26)).0);
        assert_eq!(missing, [LunProblemKind::PathsMissing; 4], "three on the first session, one on the second");
    }

    #[test]
    fn a_session_of_others_on_a_planned_path_need_not_show_the_lun() {
        let mut sessions = sessions();
        sessions[1] = foreign(without_disks(sessions[1].clone()));
        assert_eq!(kinds(&reports(sessions, vec![map(0, &[(1, true)])], &[0, 60])[1]), []);
    }

    #[test]
    fn a_cd_rom_is_no_lun() {
        let mut sessions = sessions();
        sessions[1] = with_disk(sessions[1].clone(), "sr0", Some("1CD"));
        assert_eq!(reports(sessions, vec![map(0, &[(1, true), (2, true)])], &[0]).remove(0).summary, "1/1");
    }

    #[test]
    fn a_problem_that_ends_begins_anew() {
        let (mut luns, plan) = (Luns::default(), plan("r", &paths()));
        let mut sessions = sessions();
        let whole = inventory(sessions.clone(), vec![map(0, &[(1, true), (2, true)])]);
        sessions[1] = without_disks(sessions[1].clone());
        let missing = inventory(sessions, vec![map(0, &[(1, true)])]);
        let mut at = |inventory: &Inventory, seconds| {
            kinds(&report(&mut luns, &plan, inventory, Duration::from_secs(seconds)).0)
        };
        assert_eq!(at(&missing, 0), []);
        assert_eq!(at(&whole, 9), []);
        assert_eq!(at(&missing, 10), []);
        assert_eq!(at(&missing, 20), [LunProblemKind::PathsMissing]);
    }

    #[test]
    fn a_lun_behind_several_targets_is_one_and_one_without_a_map_counts() {
        let paths = [path("a", "1", "ens1"), path("b", "1", "ens1")];
        let sessions: Vec<Session> = paths
            .iter()
            .zip(1..)
            .map(|(path, id)| with_disk(without_disks(session(id, path.clone())), &format!("sd{id}"), Some("3600b")))
            .collect();
        let luns = report(&mut Luns::default(), &plan("r", &paths), &inventory(sessions, vec![]), Duration::ZERO).0;
        let expected = "3600b 1073741824 2/2 iqn.2003-01.org.example:a#2 iqn.2003-01.org.example:b#2";
        assert_eq!(luns.healthy, [expected]);
    }

    #[test]
    fn sessions_that_are_not_planned_show_no_lun() {
        let stranger = session(9, path("b", "9", "ens9"));
        let luns = reports(vec![stranger], vec![map(0, &[(9, true)])], &[0]).remove(0);
        assert_eq!(luns, HostLuns { summary: "0/0".into(), ..HostLuns::default() });
    }

    #[test]
    fn a50_more_luns_than_are_listed_are_counted_and_those_with_a_problem_come_first() {
        let mut first = without_disks(session(1, path("a", "1", "ens1")));
        for number in 0..600 {
            first = with_disk(first, &format!("sdx{number}"), Some(&format!("3600{number:03}")));
        }
        first = with_disk(first, "sd2", None);
        let luns = reports(vec![first], vec![map(0, &[(2, false)])], &[0]).remove(0);
        assert_eq!(
            (luns.summary.as_str(), luns.problems.len(), luns.healthy.len(), luns.left_out),
            ("600/601", 1, 511, 89)
        );
    }
}
