//! The state of each target of a host, and the time since which it is lost.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    names::HOST_SHOWN,
    observation::Observation,
    plan::HostPlan,
    reported::{ObservedPath, ReportedConnections},
};
use crate::api::{ConnectionState, HostStatus, Iqn, TargetStatus, first_few};

/// A target of a host in service.
pub(super) struct ObservedTarget<'a> {
    pub target: &'a Iqn,
    pub paths: Vec<ObservedPath<'a>>,
    pub state: TargetState,
    /// The entry of `status.targets` to write.
    pub remember: Option<TargetStatus>,
}

impl ObservedTarget<'_> {
    /// The paths as the end of a message; empty if no path is planned.
    pub(super) fn why(&self) -> String {
        if self.paths.is_empty() {
            return String::new();
        }
        format!(": {}", first_few(&self.paths, HOST_SHOWN, ObservedPath::describe))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetState {
    /// It has a session.
    Reachable,
    /// First attempts are under way, or only a session that left the plan is live. With a time, it becomes unreachable
    /// then.
    Connecting(Option<Timestamp>),
    /// Held, and without a session since the host entered service; it becomes unreachable at this time.
    Held(Timestamp),
    /// It had a session and has none; it becomes unreachable at this time.
    Lost(Timestamp),
    /// No path has a session, and the delay is over.
    Unreachable,
    /// The host carries none of the networks for it.
    NoNetwork,
}

impl TargetState {
    /// The time at which the state changes without another event.
    pub(super) fn deadline(self) -> Option<Timestamp> {
        match self {
            TargetState::Connecting(until) => until,
            TargetState::Held(until) | TargetState::Lost(until) => Some(until),
            TargetState::Reachable | TargetState::Unreachable | TargetState::NoNetwork => None,
        }
    }
}

pub(super) fn observe_targets<'a>(
    plan: &'a HostPlan,
    observation: &Observation<'_>,
    reported: &ReportedConnections<'a>,
    now: Timestamp,
) -> Vec<ObservedTarget<'a>> {
    let judge = TargetJudge { held: &plan.hold, reported, history: TargetHistory::new(observation), now };
    let planned = plan.paths.chunk_by(|a, b| a.target == b.target).map(|paths| {
        let paths: Vec<_> =
            paths.iter().map(|planned| ObservedPath { planned, connection: reported.of(planned) }).collect();
        judge.observe(&paths[0].planned.target, paths)
    });
    let has_path = |target: &Iqn| plan.paths.binary_search_by(|path| path.target.cmp(target)).is_ok();
    let without_path = plan.hold.iter().filter(|target| !has_path(target));
    let without_path = without_path.map(|target| judge.observe(target, Vec::new()));
    let no_network = plan.no_network.iter().map(|target| ObservedTarget {
        target,
        paths: Vec::new(),
        state: TargetState::NoNetwork,
        remember: judge.history.of(target),
    });
    let mut targets: Vec<_> = planned.chain(without_path).chain(no_network).collect();
    targets.sort_by(|a, b| a.target.cmp(b.target));
    targets
}

/// What decides the state of a target, beside its paths.
struct TargetJudge<'a, 'b> {
    /// Sorted.
    held: &'b [Iqn],
    reported: &'b ReportedConnections<'a>,
    history: TargetHistory<'b>,
    now: Timestamp,
}

impl TargetJudge<'_, '_> {
    fn observe<'a>(&self, target: &'a Iqn, paths: Vec<ObservedPath<'a>>) -> ObservedTarget<'a> {
        let known = |lost_at| TargetStatus { target: target.clone(), lost_at, never_connected: false };
        let live = self.reported.has_live_session(target);
        let held = self.held.binary_search(target).is_ok();
        let reached = if held { live } else { paths.iter().any(|path| path.is(ConnectionState::Connected)) };
        let before = self.history.of(target).filter(|before| !before.never_connected);
        let (state, remember) = if reached {
            (TargetState::Reachable, Some(known(None)))
        } else if before.is_some() || live {
            self.lost(known(before.and_then(|before| before.lost_at)), live, &paths)
        } else if held {
            self.held(target)
        } else {
            let pending = paths.iter().any(ObservedPath::first_attempt);
            (if pending { TargetState::Connecting(None) } else { TargetState::Unreachable }, None)
        };
        ObservedTarget { target, paths, state, remember }
    }

    /// A target that has had a session since the host entered service, and has no planned path.
    fn lost(&self, known: TargetStatus, live: bool, paths: &[ObservedPath<'_>]) -> (TargetState, Option<TargetStatus>) {
        let (lost_at, until) = self.deadline(known.lost_at.clone());
        let state = match until {
            // Make before break: a session that left the plan keeps the target alive.
            Some(until) if live => TargetState::Connecting(Some(until)),
            Some(until) => TargetState::Lost(until),
            // Until the first attempts of the new paths end.
            None if live && paths.iter().any(ObservedPath::first_attempt) => TargetState::Connecting(None),
            None => TargetState::Unreachable,
        };
        (state, Some(TargetStatus { lost_at: Some(lost_at), ..known }))
    }

    /// A held target without a session since the host entered service. It has the same delay, from now on.
    fn held(&self, target: &Iqn) -> (TargetState, Option<TargetStatus>) {
        let before = self.history.of(target).and_then(|before| before.lost_at);
        let (since, until) = self.deadline(before);
        let remember = TargetStatus { target: target.clone(), lost_at: Some(since), never_connected: true };
        (until.map_or(TargetState::Unreachable, TargetState::Held), Some(remember))
    }

    /// When a target was lost, and when it becomes unreachable; `None` if that time has come.
    ///
    /// dm-multipath queues I/O during a short outage, so the verdict waits for the same time. A time in the future was
    /// written before the clock was set back; it must not make the delay longer.
    fn deadline(&self, lost_at: Option<Time>) -> (Time, Option<Timestamp>) {
        let latest = Time(next_second(self.now));
        let lost_at = lost_at.map_or(latest.clone(), |lost_at| lost_at.min(latest));
        let delay = self.history.delay;
        let until = lost_at.0.saturating_add(delay).unwrap_or(Timestamp::MAX);
        // A delay of zero must stay zero, although times are rounded up to whole seconds.
        let waits = until > self.now && !delay.is_zero();
        (lost_at, waits.then_some(until))
    }
}

/// Times of the API have whole seconds; they are rounded up, so that no delay ends early.
fn next_second(now: Timestamp) -> Timestamp {
    let up = i64::from(now.subsec_nanosecond() != 0);
    Timestamp::from_second(now.as_second() + up).unwrap_or(now)
}

/// The history of the targets since the host entered service, from the Host's status.
pub(super) struct TargetHistory<'a> {
    /// Sorted by target.
    pub targets: Vec<&'a TargetStatus>,
    delay: Duration,
}

impl<'a> TargetHistory<'a> {
    pub(super) fn new(observation: &Observation<'a>) -> Self {
        let host = observation.host;
        let same = |status: &&HostStatus| status.data_center.as_ref() == Some(&host.spec.data_center);
        let known = host.status.as_ref().filter(same).map(|status| status.targets.as_slice()).unwrap_or_default();
        let mut targets: Vec<_> = known.iter().collect();
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        TargetHistory { targets, delay: observation.non_operational_after }
    }

    fn of(&self, target: &str) -> Option<TargetStatus> {
        let at = self.targets.binary_search_by(|known| (*known.target).cmp(target)).ok()?;
        Some(self.targets[at].clone())
    }
}
