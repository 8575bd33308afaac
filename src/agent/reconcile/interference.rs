//! What others do to sessions and records of ours: seen, counted, and said without a write for each. Pure.
//!
//! A session of a planned path that worked and is gone, although we have not logged it out, was logged out by somebody
//! else, unless its portal refuses the new login: then the array has ended it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{input::live_own_sessions, plan::Plan};
use crate::{
    agent::{
        initiator::{Inventory, Session},
        types::IscsiPath,
    },
    api::{HostWarning, condition::whole_second, reason::PreparedReason},
    ops::Now,
};

/// The time for a session to come back that was logged out by others.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(60);
/// The time for which a disk has to be missing: a session that is logged out loses its disks a moment before it goes.
const GONE_FOR: Duration = Duration::from_secs(2);
/// What was said stays unchanged this long, whatever happens.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// The time without another interference after which nothing is said any more.
const QUIET_AFTER: Duration = Duration::from_secs(600);

/// What was changed by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interfered {
    /// A session was logged out.
    Session,
    /// A disk was deleted from a session that works.
    Disk,
    /// The record of a session was deleted or changed.
    Record,
}

impl Interfered {
    /// The label of the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Interfered::Session => "session",
            Interfered::Disk => "disk",
            Interfered::Record => "record",
        }
    }
}

/// The sessions as they were seen last, and what has happened to them.
#[derive(Debug, Default)]
pub struct Interference {
    seen: BTreeMap<u32, Seen>,
    /// Paths whose session is gone, since when; until they are connected again.
    gone: BTreeMap<IscsiPath, Duration>,
    /// Disks that are gone from a session, since when.
    missing: BTreeMap<(u32, Arc<str>), Duration>,
    episode: Option<Episode>,
    /// What is said, and since when.
    said: Option<(Duration, String)>,
}

/// A session of ours on a planned path, when it worked.
#[derive(Debug)]
struct Seen {
    path: IscsiPath,
    disks: BTreeSet<Arc<str>>,
    record_is_kept: Option<bool>,
}

/// A time of interference, until it is quiet again.
#[derive(Debug)]
struct Episode {
    since: Timestamp,
    times: u32,
    last: Timestamp,
    last_at: Duration,
    what: String,
}

impl Interference {
    /// The number of paths that are remembered.
    pub(super) fn paths(&self) -> usize {
        self.gone.len()
    }

    /// The number of sessions and disks that are remembered.
    pub(super) fn sessions(&self) -> usize {
        self.seen.len() + self.missing.len()
    }

    /// Looks at the sessions again, and returns what others have changed since the last time. `going` are the paths of
    /// sessions that we log out, `refused` those whose login has failed.
    pub fn observe(
        &mut self,
        plan: &Plan,
        inventory: &Inventory,
        going: &BTreeSet<IscsiPath>,
        refused: &BTreeSet<IscsiPath>,
        now: Now,
    ) -> Vec<Interfered> {
        let mut found = Vec::new();
        let live: Vec<&Session> =
            live_own_sessions(inventory).filter(|session| plan.paths.contains_key(&session.path)).collect();
        self.note_gone(plan, inventory, going, now);
        self.gone.retain(|path, since| {
            if now.monotonic.saturating_sub(*since) >= COMES_BACK_WITHIN || !plan.paths.contains_key(path) {
                return false;
            }
            let is_back = live.iter().any(|session| session.path == *path);
            if is_back {
                found.push((Interfered::Session, format!("the session to {path} was logged out")));
            }
            !is_back && !refused.contains(path)
        });
        self.note_missing(&live, now);
        self.missing.retain(|(id, disk), since| {
            let Some(session) = live.iter().find(|session| session.id == *id) else { return false };
            if now.monotonic.saturating_sub(*since) < GONE_FOR || going.contains(&session.path) {
                return session.disks.iter().all(|other| other.name != *disk);
            }
            found.push((Interfered::Disk, format!("the disk {disk} of the session to {} was deleted", session.path)));
            false
        });
        for session in &live {
            let was_kept = self.seen.get(&session.id).is_some_and(|seen| seen.record_is_kept == Some(true));
            if was_kept && session.record_is_kept == Some(false) {
                let what = format!("the record of the session to {} was deleted or changed", session.path);
                found.push((Interfered::Record, what));
            }
        }
        let before = std::mem::take(&mut self.seen);
        self.seen = live.into_iter().map(|session| (session.id, Seen::of(session, before.get(&session.id)))).collect();
        for (_, what) in &found {
            self.count(what, now);
        }
        self.say(now);
        found.into_iter().map(|(what, _)| what).collect()
    }

    fn note_gone(&mut self, plan: &Plan, inventory: &Inventory, going: &BTreeSet<IscsiPath>, now: Now) {
        let exists = |id: u32| inventory.sessions.iter().any(|session| session.id == id);
        for seen in self.seen.iter().filter(|(id, _)| !exists(**id)).map(|(_, seen)| seen) {
            if plan.paths.contains_key(&seen.path) && !going.contains(&seen.path) {
                self.gone.entry(seen.path.clone()).or_insert(now.monotonic);
            }
        }
    }

    fn note_missing(&mut self, live: &[&Session], now: Now) {
        for session in live {
            let Some(seen) = self.seen.get(&session.id) else { continue };
            for disk in seen.disks.iter().filter(|disk| session.disks.iter().all(|other| other.name != **disk)) {
                self.missing.entry((session.id, disk.clone())).or_insert(now.monotonic);
            }
        }
    }

    fn count(&mut self, what: &str, now: Now) {
        let last = whole_second(now.wall).0;
        let episode = self.episode.get_or_insert_with(|| Episode {
            since: last,
            times: 0,
            last,
            last_at: now.monotonic,
            what: String::new(),
        });
        episode.times = episode.times.saturating_add(1);
        (episode.last, episode.last_at) = (last, now.monotonic);
        what.clone_into(&mut episode.what);
    }

    /// The first thing is said at once, what follows at most once in a while.
    fn say(&mut self, now: Now) {
        self.episode.take_if(|episode| now.monotonic.saturating_sub(episode.last_at) >= QUIET_AFTER);
        let Some(Episode { since, times, last, what, .. }) = &self.episode else {
            self.said = None;
            return;
        };
        let times = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
        let message = format!(
            "since {since} something else on the host has changed {times} what is Multibond's; last at {last}: {what}. It is \
             put right again; find out which tool uses these targets too (docs/workloads.md says which can share them), and \
             give it targets of its own"
        );
        let may_say =
            |(at, said): &(Duration, String)| *said != message && now.monotonic.saturating_sub(*at) >= REPORT_INTERVAL;
        if self.said.as_ref().is_none_or(may_say) {
            self.said = Some((now.monotonic, message));
        }
    }

    /// The warning about it, if there is one.
    #[must_use]
    pub fn warning(&self) -> Option<HostWarning> {
        let (_, message) = self.said.as_ref()?;
        Some(HostWarning { reason: PreparedReason::Interference, message: message.clone() })
    }

    /// The time at which something changes without another event.
    #[must_use]
    pub fn wake_at(&self, now: Now) -> Option<Duration> {
        let quiet = self.episode.as_ref().map(|episode| episode.last_at + QUIET_AFTER);
        let is_old = |episode: &&Episode| self.said.as_ref().is_some_and(|(at, _)| episode.last_at > *at);
        let said = self.episode.as_ref().filter(is_old).and(self.said.as_ref()).map(|(at, _)| *at + REPORT_INTERVAL);
        let missing = self.missing.values().map(|since| *since + GONE_FOR);
        [quiet, said].into_iter().flatten().chain(missing).filter(|at| *at > now.monotonic).min()
    }
}

impl Seen {
    fn of(session: &Session, before: Option<&Seen>) -> Self {
        Seen {
            path: session.path.clone(),
            disks: session.disks.iter().map(|disk| disk.name.clone()).collect(),
            record_is_kept: session.record_is_kept.or_else(|| before?.record_is_kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::fixtures::{TestClock, inventory, lost, path, plan, session};

    /// What is seen of a host, step by step.
    struct Watched {
        interference: Interference,
        plan: Plan,
        clock: TestClock,
        going: BTreeSet<IscsiPath>,
    }

    impl Watched {
        fn new(paths: &[IscsiPath]) -> Self {
            let interference = Interference::default();
            Watched { interference, plan: plan("r", paths), clock: TestClock::new(), going: BTreeSet::new() }
        }

        fn see_after(&mut self, seconds: u64, sessions: &[Session]) -> Vec<Interfered> {
            self.see(seconds, sessions, &BTreeSet::new())
        }

        fn see(&mut self, seconds: u64, sessions: &[Session], refused: &BTreeSet<IscsiPath>) -> Vec<Interfered> {
            let now = self.clock.pass(seconds * 1000);
            let found = inventory(sessions.to_vec(), vec![]);
            self.interference.observe(&self.plan, &found, &self.going, refused, now)
        }

        fn said(&self) -> String {
            self.interference.warning().map(|warning| warning.message).unwrap_or_default()
        }
    }

    #[test]
    fn a45_a_session_that_others_log_out_is_named_when_it_is_back() {
        let one = path("a", "1", "ens1");
        let mut host = Watched::new(std::slice::from_ref(&one));
        assert_eq!(host.see_after(0, &[session(1, one.clone())]), []);
        assert_eq!((host.see_after(1, &[]), host.said()), (vec![], String::new()));
        assert_eq!(host.see_after(1, &[session(2, one)]), [Interfered::Session]);
        let said = host.said();
        assert!(said.contains("once") && said.contains("ens1 was logged out"), "{said}");
        assert!(said.contains("since 2027-01-15T08:00:02Z") && said.contains("last at 2027-01-15T08:00:02Z"), "{said}");
    }

    #[test]
    fn a45_a_session_that_the_array_or_we_have_ended_is_no_interference() {
        let one = path("a", "1", "ens1");
        let start = || {
            let mut host = Watched::new(std::slice::from_ref(&one));
            host.see_after(0, &[session(1, one.clone())]);
            host
        };
        let back = [session(2, one.clone())];
        let mut refused = start();
        refused.see_after(1, &[]);
        refused.see(1, &[], &BTreeSet::from([one.clone()]));
        assert_eq!(refused.see_after(1, &back), [], "its login was refused");
        let mut lost_before = start();
        lost_before.see_after(1, &[lost(session(1, one.clone()))]);
        lost_before.see_after(1, &[]);
        assert_eq!(lost_before.see_after(1, &back), [], "it was lost before it was gone");
        let mut going = start();
        going.going.insert(one.clone());
        going.see_after(1, &[]);
        assert_eq!(going.see_after(1, &back), [], "we have logged it out");
        let mut late = start();
        late.see_after(1, &[]);
        assert_eq!(late.see_after(61, &back), [], "much later");
        let mut unplanned = start();
        unplanned.plan = plan("s", &[]);
        unplanned.see_after(1, &[]);
        assert_eq!((unplanned.see_after(1, &[]), unplanned.said()), (vec![], String::new()));
    }

    #[test]
    fn a45_a_fight_is_counted_and_said_once_a_minute_until_it_is_quiet() {
        let one = path("a", "1", "ens1");
        let mut host = Watched::new(std::slice::from_ref(&one));
        let mut said = BTreeSet::new();
        let mut count = 0;
        for id in 0..10 {
            count += host.see_after(3, &[session(id, one.clone())]).len();
            host.see_after(3, &[]);
            said.insert(host.said());
        }
        assert_eq!((count, said.len()), (9, 2), "nothing, and the first: {said:?}");
        assert!(host.interference.wake_at(host.clock.now()).is_some());
        host.see_after(10, &[session(11, one.clone())]);
        assert!(host.said().contains("10 times"), "{}", host.said());
        host.see_after(599, &[session(11, one.clone())]);
        assert_ne!(host.said(), "");
        let wake_at = host.interference.wake_at(host.clock.now());
        assert_eq!(wake_at, Some(host.clock.now().monotonic + Duration::from_secs(1)));
        host.see_after(1, &[session(11, one)]);
        assert_eq!((host.said(), host.interference.wake_at(host.clock.now())), (String::new(), None));
    }

    #[test]
    fn a45_a_deleted_disk_and_a_changed_record_are_named() {
        let one = path("a", "1", "ens1");
        let mut host = Watched::new(std::slice::from_ref(&one));
        let whole = session(1, one);
        let bare = Session { disks: vec![], ..whole.clone() };
        host.see_after(0, std::slice::from_ref(&whole));
        assert_eq!(host.see_after(1, std::slice::from_ref(&bare)), []);
        assert_eq!(host.interference.wake_at(host.clock.now()), Some(host.clock.now().monotonic + GONE_FOR));
        assert_eq!(host.see_after(2, std::slice::from_ref(&bare)), [Interfered::Disk]);
        assert_eq!(host.see_after(2, std::slice::from_ref(&bare)), [], "once");
        assert!(host.said().contains("the disk sd1 of the session to"), "{}", host.said());
        let unknown = Session { record_is_kept: None, ..bare.clone() };
        assert_eq!(host.see_after(2, &[unknown]), [], "it could not be read");
        let changed = Session { record_is_kept: Some(false), ..bare };
        assert_eq!(host.see_after(2, std::slice::from_ref(&changed)), [Interfered::Record]);
        assert_eq!(host.see_after(2, &[changed]), [], "once");
    }

    #[test]
    fn a_session_that_loses_its_disks_as_it_goes_is_one_interference() {
        let one = path("a", "1", "ens1");
        let mut host = Watched::new(std::slice::from_ref(&one));
        let whole = session(1, one.clone());
        host.see_after(0, std::slice::from_ref(&whole));
        host.see_after(1, &[Session { disks: vec![], ..whole }]);
        host.see_after(1, &[]);
        assert_eq!(host.see_after(3, &[session(2, one)]), [Interfered::Session]);
    }
}
