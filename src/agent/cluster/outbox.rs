//! Decides when to write a report: only if it differs from the status in the API server, batched, and never lost. Pure.
//!
//! A report that the controller waits for is written at once, any other a second after the first change. While the
//! first attempts of a plan end one after the other, the write waits until none has ended for a second. So an edit of a
//! bond costs at most two writes, or one if everything connects within a second.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    agent::reconcile::{
        backoff,
        report::{Difference, StatusReport},
    },
    api::{Host, reason::PathReason},
    ops::Now,
};

/// The time for which changes are collected.
const COLLECT: Duration = Duration::from_secs(1);
/// The longest time for which changes are collected while first attempts keep ending.
const COLLECT_AT_MOST: Duration = Duration::from_secs(5);
/// The delay of a change of multipath maps or LUNs alone. It is written together with the change of sessions that usually
/// belongs to it.
const COLLECT_DISKS: Duration = Duration::from_secs(5);

/// The writes of one Host's status, and the last known version of the Host.
#[derive(Debug)]
pub struct Outbox {
    known: Arc<Host>,
    /// The time of the answer to a write that `known` is from; None if a watch has shown it.
    answered_at: Option<Instant>,
    changed_at: Option<Duration>,
    /// The report to which `known` is the answer. It is not written again, even if the answer lacks some of it: an older
    /// CRD has no such field, and the API server drops what it does not know.
    answered: Option<StatusReport>,
    /// The report of a write that has not ended.
    writing: Option<StatusReport>,
    failures: u32,
    retry_at: Option<Duration>,
}

/// The time of the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// There is nothing to write, or a write has not ended.
    No,
    /// It is due now.
    Now,
    /// It is due at this time.
    At(Duration),
}

impl Outbox {
    /// Starts with a Host that was read.
    #[must_use]
    pub fn new(host: Arc<Host>) -> Self {
        Outbox {
            known: host,
            answered_at: None,
            changed_at: None,
            answered: None,
            writing: None,
            failures: 0,
            retry_at: None,
        }
    }

    /// The newest known version of the Host.
    #[must_use]
    pub fn host(&self) -> &Arc<Host> {
        &self.known
    }

    /// A watch has shown the Host; its last list was requested after `list_began`. The Host may be older than the answer
    /// to our own last write, and is ignored then. But a list that was requested after that answer counts whatever its
    /// versions are: after a restore of etcd from a backup they are smaller than the known ones.
    pub fn update(&mut self, host: &Arc<Host>, list_began: Instant) {
        let answer_is_newer = self.answered_at.is_some_and(|at| at >= list_began) && is_older(host, &self.known);
        if Arc::ptr_eq(&self.known, host) || answer_is_newer {
            return;
        }
        // The watch shows our own write too.
        if !is_same(host, &self.known) {
            self.answered = None;
            self.answered_at = None;
        }
        self.known = host.clone();
    }

    /// Decides when to write this report. `progress` is the time at which a first attempt last ended, while a plan is
    /// being carried out.
    #[must_use]
    pub fn due(&mut self, report: &StatusReport, progress: Option<Duration>, now: Now) -> Due {
        let difference = report.difference(&self.known);
        if difference == Difference::None || self.answered.as_ref() == Some(report) {
            self.changed_at = None;
            return Due::No;
        }
        let changed_at = *self.changed_at.get_or_insert(now.monotonic);
        if self.writing.is_some() {
            return Due::No;
        }
        let at = match (difference, progress) {
            (Difference::Awaited | Difference::None, _) => now.monotonic,
            (Difference::Other, None) => changed_at + COLLECT,
            (Difference::Other, Some(last)) => {
                (last + COLLECT).clamp(changed_at + COLLECT, changed_at + COLLECT_AT_MOST)
            }
            (Difference::DisksOnly, _) => changed_at + COLLECT_DISKS,
        };
        let at = self.retry_at.map_or(at, |retry_at| at.max(retry_at));
        if at <= now.monotonic { Due::Now } else { Due::At(at) }
    }

    /// A write of this report was started.
    pub fn write_started(&mut self, report: &StatusReport) {
        self.writing = Some(report.clone());
        self.changed_at = None;
    }

    /// The write has succeeded, and this is the answer, which came at this time. A watch may have shown a newer version.
    pub fn write_succeeded(&mut self, host: &Arc<Host>, at: Instant) {
        let written = self.writing.take();
        if !is_older(host, &self.known) {
            self.known = host.clone();
            self.answered_at = Some(at);
            self.answered = written;
        }
        self.failures = 0;
        self.retry_at = None;
    }

    /// The write has failed. It is retried after a few seconds, later every half minute.
    pub fn write_failed(&mut self, now: Now, seed: u64) {
        self.writing = None;
        self.failures += 1;
        self.retry_at = Some(now.monotonic + backoff::pause(PathReason::PortalUnreachable, self.failures, seed));
    }
}

/// Whether these are one version of one Host.
fn is_same(a: &Host, b: &Host) -> bool {
    let version = |host: &Host| host.metadata.resource_version.clone();
    a.metadata.uid == b.metadata.uid && version(a).is_some() && version(a) == version(b)
}

/// Whether `host` is an older version than `than`. Resource versions of one kind are increasing numbers (KEP-5504). If
/// they are not numbers, the version that arrives later counts as newer.
fn is_older(host: &Host, than: &Host) -> bool {
    let version = |host: &Host| host.metadata.resource_version.as_deref()?.parse::<u64>().ok();
    let same_object = host.metadata.uid == than.metadata.uid;
    matches!((version(host), version(than)), (Some(a), Some(b)) if same_object && a < b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::{fixtures::TestClock, reconcile::report::PathReport},
        api::{AgentStatus, HostInterface, HostSpec, HostStatus, MultipathMap},
    };

    fn report(observed: &str) -> StatusReport {
        let agent = AgentStatus { observed_revision: Some(observed.into()), ..AgentStatus::default() };
        StatusReport { agent, interfaces: Some(Vec::new()), paths: Some(PathReport::default()) }
    }

    fn with_interface(report: &StatusReport, name: &str) -> StatusReport {
        let interface = HostInterface { name: name.into(), ..HostInterface::default() };
        StatusReport { interfaces: Some(vec![interface]), ..report.clone() }
    }

    fn with_map(report: &StatusReport) -> StatusReport {
        let map = MultipathMap { wwid: "3600a".into(), target: "iqn.x".into(), paths: 1, active: 1, disks: vec![] };
        StatusReport { paths: Some(PathReport { multipath: vec![map], ..PathReport::default() }), ..report.clone() }
    }

    /// The Host as it is after this report was written.
    fn host(version: u64, report: &StatusReport) -> Arc<Host> {
        let mut host = Host::new("worker-1", HostSpec::default());
        host.metadata.resource_version = Some(version.to_string());
        host.status = Some(HostStatus {
            agent: Some(report.agent.clone()),
            interfaces: report.interfaces.clone(),
            multipath: report.paths.iter().flat_map(|paths| paths.multipath.clone()).collect(),
            ..HostStatus::default()
        });
        Arc::new(host)
    }

    fn at(clock: &TestClock, milliseconds: u64) -> Due {
        Due::At(clock.now().monotonic + Duration::from_millis(milliseconds))
    }

    #[test]
    fn a21_an_unchanged_report_is_not_written_again() {
        let (clock, same) = (TestClock::new(), report("one"));
        assert_eq!(Outbox::new(host(1, &same)).due(&same, None, clock.now()), Due::No);
    }

    #[test]
    fn the_first_report_and_an_acknowledgement_are_written_at_once() {
        let clock = TestClock::new();
        let unreported = Arc::new(Host::new("worker-1", HostSpec::default()));
        assert_eq!(Outbox::new(unreported).due(&report("one"), None, clock.now()), Due::Now);
        let mut outbox = Outbox::new(host(1, &report("one")));
        assert_eq!(outbox.due(&report("two"), Some(clock.now().monotonic), clock.now()), Due::Now);
    }

    #[test]
    fn other_changes_are_collected_for_a_second() {
        let mut clock = TestClock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        assert_eq!(outbox.due(&with_interface(&report("one"), "ens1"), None, clock.now()), at(&clock, 1000));
        clock.pass(900);
        assert_eq!(outbox.due(&with_interface(&report("one"), "ens2"), None, clock.now()), at(&clock, 100));
        clock.pass(100);
        assert_eq!(outbox.due(&with_interface(&report("one"), "ens2"), None, clock.now()), Due::Now);
    }

    #[test]
    fn a_change_that_is_undone_is_never_written() {
        let mut clock = TestClock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        let _ = outbox.due(&with_interface(&report("one"), "ens1"), None, clock.now());
        clock.pass(900);
        assert_eq!(outbox.due(&report("one"), None, clock.now()), Due::No);
        clock.pass(900);
        assert_eq!(outbox.due(&with_interface(&report("one"), "ens1"), None, clock.now()), at(&clock, 1000));
    }

    #[test]
    fn a_write_waits_while_first_attempts_keep_ending_but_not_for_ever() {
        let mut clock = TestClock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        let changed = with_interface(&report("one"), "ens1");
        for _ in 0..6 {
            assert_eq!(outbox.due(&changed, Some(clock.now().monotonic), clock.now()), {
                let waited = clock.now().monotonic.saturating_sub(outbox.changed_at.unwrap());
                at(&clock, 1000.min(5000 - u64::try_from(waited.as_millis()).unwrap()))
            });
            clock.pass(800);
        }
        clock.pass(200);
        assert_eq!(outbox.due(&changed, Some(clock.now().monotonic), clock.now()), Due::Now, "but not for ever");
    }

    #[test]
    fn a_change_of_maps_alone_waits_for_five_seconds() {
        let clock = TestClock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        assert_eq!(outbox.due(&with_map(&report("one")), None, clock.now()), at(&clock, 5000));
    }

    #[test]
    fn a_change_during_a_write_is_written_after_it() {
        let mut clock = TestClock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        assert_eq!(outbox.due(&report("two"), None, clock.now()), Due::Now);
        outbox.write_started(&report("two"));
        assert_eq!(outbox.due(&report("three"), None, clock.now()), Due::No);
        clock.pass(50);
        outbox.write_succeeded(&host(2, &report("two")), Instant::now());
        assert_eq!(outbox.due(&report("three"), None, clock.now()), Due::Now);
    }

    #[test]
    fn a26_a_failed_write_is_retried_with_pauses() {
        let mut clock = TestClock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        for _ in 0..10 {
            let mut due = outbox.due(&report("two"), None, clock.now());
            while due != Due::Now {
                clock.pass(100);
                due = outbox.due(&report("two"), None, clock.now());
            }
            outbox.write_started(&report("two"));
            outbox.write_failed(clock.now(), 1);
            assert!(matches!(outbox.due(&report("two"), None, clock.now()), Due::At(_)));
        }
        clock.pass(30_000);
        assert_eq!(outbox.due(&report("two"), None, clock.now()), Due::Now);
    }

    #[test]
    fn a26_a_write_that_fails_after_one_that_succeeded_is_retried() {
        let mut clock = TestClock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        outbox.write_started(&report("two"));
        outbox.write_succeeded(&host(2, &report("two")), Instant::now());
        assert_eq!(outbox.due(&report("three"), None, clock.now()), Due::Now);
        outbox.write_started(&report("three"));
        outbox.write_failed(clock.now(), 1);
        clock.pass(60_000);
        assert_eq!(outbox.due(&report("three"), None, clock.now()), Due::Now);
    }

    #[test]
    fn a_stale_watch_event_does_not_cause_a_second_write() {
        let (clock, now) = (TestClock::new(), Instant::now());
        let mut outbox = Outbox::new(host(1, &report("one")));
        outbox.write_started(&report("two"));
        outbox.write_succeeded(&host(7, &report("two")), now);
        outbox.update(&host(3, &report("one")), now);
        assert_eq!(outbox.due(&report("two"), None, clock.now()), Due::No);
        outbox.update(&host(10, &report("somebody's")), now);
        assert_eq!(outbox.due(&report("two"), None, clock.now()), Due::Now, "what somebody else has written is");
    }

    #[test]
    fn a69_a_report_with_fields_that_an_older_crd_drops_is_written_once() {
        let mut clock = TestClock::new();
        let report = with_map(&report("one"));
        let mut outbox = Outbox::new(host(1, &self::report("zero")));
        assert_eq!(outbox.due(&report, None, clock.now()), Due::Now);
        outbox.write_started(&report);
        let mut answer = Host::clone(&host(2, &report));
        answer.status.as_mut().unwrap().multipath.clear();
        outbox.write_succeeded(&Arc::new(answer.clone()), Instant::now());
        outbox.update(&Arc::new(answer.clone()), Instant::now());
        clock.pass(60_000);
        assert_eq!(outbox.due(&report, None, clock.now()), Due::No, "the watch has shown what was written");
        answer.metadata.resource_version = Some("3".into());
        outbox.update(&Arc::new(answer), Instant::now());
        assert_ne!(outbox.due(&report, None, clock.now()), Due::No, "the CRD may be the new one by now");
    }

    #[test]
    fn a_list_from_after_the_answer_counts_also_when_its_version_is_smaller() {
        let (clock, answered) = (TestClock::new(), Instant::now());
        let mut outbox = Outbox::new(host(780, &report("one")));
        outbox.write_started(&report("two"));
        outbox.write_succeeded(&host(781, &report("two")), answered);
        let listed = answered + Duration::from_secs(1);
        outbox.update(&host(287, &report("one")), listed);
        assert_eq!(outbox.host().metadata.resource_version.as_deref(), Some("287"));
        assert_eq!(
            outbox.due(&report("two"), None, clock.now()),
            Due::Now,
            "the report is not in the API server any more"
        );
        outbox.update(&host(290, &report("two")), listed);
        assert_eq!(outbox.due(&report("two"), None, clock.now()), Due::No);
    }
}
