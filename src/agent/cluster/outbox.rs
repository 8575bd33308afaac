//! When a report is written: only if it differs from what the API has, batched, and never lost. Pure.
//!
//! What the controller waits for goes out at once, everything else a second after the first change. While a plan's
//! first attempts end one after the other the write waits for a moment without news, so that a bond edit costs two
//! writes at most, or one when everything connects within a second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    agent::{
        path::Now,
        reconcile::{
            backoff,
            report::{Difference, Report},
        },
    },
    api::{Host, reason::PathReason},
};

/// How long changes are collected.
const COLLECT: Duration = Duration::from_secs(1);
/// How long they are collected at most while first attempts keep ending.
const COLLECT_AT_MOST: Duration = Duration::from_secs(5);
/// How long a change of nothing but multipath maps may wait for the change of sessions that it goes with.
const COLLECT_MAPS: Duration = Duration::from_secs(5);

/// What is to be written into one Host, and what the API is known to have.
#[derive(Debug)]
pub struct Outbox {
    known: Arc<Host>,
    changed_at: Option<Instant>,
    under_way: bool,
    failures: u32,
    retry_at: Option<Instant>,
}

/// Whether to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// There is nothing to write, or a write is under way.
    No,
    /// Now.
    Now,
    /// Then.
    At(Instant),
}

impl Outbox {
    /// For a Host as it was read.
    #[must_use]
    pub fn new(host: Arc<Host>) -> Self {
        Outbox { known: host, changed_at: None, under_way: false, failures: 0, retry_at: None }
    }

    /// The newest known version of the Host.
    #[must_use]
    pub fn host(&self) -> &Arc<Host> {
        &self.known
    }

    /// The Host was read. A watch may be behind the answers to our own writes.
    pub fn saw(&mut self, host: &Arc<Host>) {
        if !Arc::ptr_eq(&self.known, host) && !is_older(host, &self.known) {
            self.known = host.clone();
        }
    }

    /// Whether to write this report. `progress` is when a first attempt last ended, while a plan is being carried out.
    #[must_use]
    pub fn due(&mut self, report: &Report, progress: Option<Instant>, now: Now) -> Due {
        let difference = report.difference(&self.known);
        if difference == Difference::None {
            self.changed_at = None;
            return Due::No;
        }
        let changed_at = *self.changed_at.get_or_insert(now.instant);
        if self.under_way {
            return Due::No;
        }
        let at = match (difference, progress) {
            (Difference::Awaited | Difference::None, _) => now.instant,
            (Difference::Some, None) => changed_at + COLLECT,
            (Difference::Some, Some(last)) => {
                (last + COLLECT).clamp(changed_at + COLLECT, changed_at + COLLECT_AT_MOST)
            }
            (Difference::Maps, _) => changed_at + COLLECT_MAPS,
        };
        let at = self.retry_at.map_or(at, |retry_at| at.max(retry_at));
        if at <= now.instant { Due::Now } else { Due::At(at) }
    }

    /// The report is being written.
    pub fn writing(&mut self) {
        self.under_way = true;
        self.changed_at = None;
    }

    /// The report was written; this is the answer.
    pub fn written(&mut self, host: &Arc<Host>) {
        self.saw(host);
        self.under_way = false;
        self.failures = 0;
        self.retry_at = None;
    }

    /// The write has failed: it is tried again, first soon and then every half minute.
    pub fn failed(&mut self, now: Now, seed: u64) {
        self.under_way = false;
        self.failures += 1;
        self.retry_at = Some(now.instant + backoff::pause(PathReason::PortalUnreachable, self.failures, seed));
    }
}

/// Resource versions of one kind are increasing numbers (KEP-5504); where they are not, what comes later is newer.
fn is_older(host: &Host, than: &Host) -> bool {
    let version = |host: &Host| host.metadata.resource_version.as_deref()?.parse::<u64>().ok();
    let same_object = host.metadata.uid == than.metadata.uid;
    matches!((version(host), version(than)), (Some(a), Some(b)) if same_object && a < b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::{fixtures::Clock, reconcile::report::Paths},
        api::{AgentStatus, HostInterface, HostSpec, HostStatus, MultipathMap},
    };

    fn report(observed: &str) -> Report {
        let agent = AgentStatus { observed_revision: Some(observed.into()), ..AgentStatus::default() };
        Report { agent, interfaces: Some(Vec::new()), paths: Some(Paths::default()) }
    }

    fn with_interface(report: &Report, name: &str) -> Report {
        let interface = HostInterface { name: name.into(), ..HostInterface::default() };
        Report { interfaces: Some(vec![interface]), ..report.clone() }
    }

    fn with_map(report: &Report) -> Report {
        let map = MultipathMap { wwid: "3600a".into(), target: "iqn.x".into(), paths: 1, active: 1 };
        Report { paths: Some(Paths { connections: Vec::new(), multipath: vec![map] }), ..report.clone() }
    }

    /// The Host as it is after this report was written.
    fn host(version: u64, report: &Report) -> Arc<Host> {
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

    fn at(clock: &Clock, milliseconds: u64) -> Due {
        Due::At(clock.now().instant + Duration::from_millis(milliseconds))
    }

    #[test]
    fn a21_what_the_api_has_is_not_written_again() {
        let (clock, same) = (Clock::new(), report("one"));
        assert_eq!(Outbox::new(host(1, &same)).due(&same, None, clock.now()), Due::No);
    }

    #[test]
    fn the_first_report_and_an_acknowledgement_go_out_at_once() {
        let clock = Clock::new();
        let unreported = Arc::new(Host::new("worker-1", HostSpec::default()));
        assert_eq!(Outbox::new(unreported).due(&report("one"), None, clock.now()), Due::Now);
        let mut outbox = Outbox::new(host(1, &report("one")));
        assert_eq!(outbox.due(&report("two"), Some(clock.now().instant), clock.now()), Due::Now);
    }

    #[test]
    fn other_changes_are_collected_for_a_second_from_the_first() {
        let mut clock = Clock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        assert_eq!(outbox.due(&with_interface(&report("one"), "ens1"), None, clock.now()), at(&clock, 1000));
        clock.pass(900);
        assert_eq!(outbox.due(&with_interface(&report("one"), "ens2"), None, clock.now()), at(&clock, 100));
        clock.pass(100);
        assert_eq!(outbox.due(&with_interface(&report("one"), "ens2"), None, clock.now()), Due::Now);
    }

    #[test]
    fn a_change_that_is_taken_back_is_never_written() {
        let mut clock = Clock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        let _ = outbox.due(&with_interface(&report("one"), "ens1"), None, clock.now());
        clock.pass(900);
        assert_eq!(outbox.due(&report("one"), None, clock.now()), Due::No);
        clock.pass(900);
        assert_eq!(outbox.due(&with_interface(&report("one"), "ens1"), None, clock.now()), at(&clock, 1000));
    }

    #[test]
    fn while_first_attempts_keep_ending_the_write_waits_for_a_moment_without_news() {
        let mut clock = Clock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        let changed = with_interface(&report("one"), "ens1");
        for _ in 0..6 {
            assert_eq!(outbox.due(&changed, Some(clock.now().instant), clock.now()), {
                let waited = outbox.changed_at.map(|at| clock.now().instant - at).unwrap();
                at(&clock, 1000.min(5000 - u64::try_from(waited.as_millis()).unwrap()))
            });
            clock.pass(800);
        }
        clock.pass(200);
        assert_eq!(outbox.due(&changed, Some(clock.now().instant), clock.now()), Due::Now, "but not for ever");
    }

    #[test]
    fn maps_wait_for_the_sessions_that_they_follow() {
        let clock = Clock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        assert_eq!(outbox.due(&with_map(&report("one")), None, clock.now()), at(&clock, 5000));
    }

    #[test]
    fn one_write_is_under_way_at_a_time_and_what_changes_meanwhile_is_not_lost() {
        let mut clock = Clock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        assert_eq!(outbox.due(&report("two"), None, clock.now()), Due::Now);
        outbox.writing();
        assert_eq!(outbox.due(&report("three"), None, clock.now()), Due::No);
        clock.pass(50);
        outbox.written(&host(2, &report("two")));
        assert_eq!(outbox.due(&report("three"), None, clock.now()), Due::Now);
    }

    #[test]
    fn a26_a_failed_write_is_tried_again_with_pauses() {
        let mut clock = Clock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        for _ in 0..10 {
            let mut due = outbox.due(&report("two"), None, clock.now());
            while due != Due::Now {
                clock.pass(100);
                due = outbox.due(&report("two"), None, clock.now());
            }
            outbox.writing();
            outbox.failed(clock.now(), 1);
            assert!(matches!(outbox.due(&report("two"), None, clock.now()), Due::At(_)));
        }
        clock.pass(30_000);
        assert_eq!(outbox.due(&report("two"), None, clock.now()), Due::Now);
    }

    #[test]
    fn a_watch_that_is_behind_our_own_write_does_not_cause_another() {
        let clock = Clock::new();
        let mut outbox = Outbox::new(host(1, &report("one")));
        outbox.writing();
        outbox.written(&host(7, &report("two")));
        outbox.saw(&host(3, &report("one")));
        assert_eq!(outbox.due(&report("two"), None, clock.now()), Due::No);
        outbox.saw(&host(10, &report("somebody's")));
        assert_eq!(outbox.due(&report("two"), None, clock.now()), Due::Now, "what somebody else has written is");
    }
}
