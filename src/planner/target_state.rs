//! The state of each target of a host, and the time since which it is lost.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    observation::Observation,
    plan::HostPlan,
    reported::{ObservedPath, ReportedConnections},
};
use crate::api::{ConnectionState, HostStatus, Iqn, TargetStatus};

/// A target of a host in service.
pub(super) struct ObservedTarget<'a> {
    pub target: &'a Iqn,
    pub paths: Vec<ObservedPath<'a>>,
    pub state: TargetState,
    /// The entry of `status.targets` to write.
    pub remember: Option<TargetStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetState {
    /// It has a session.
    Reachable,
    /// First attempts are under way, or it was lost and becomes unreachable at this time.
    Connecting(Option<Timestamp>),
    /// A held target without a session.
    Held,
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
            TargetState::Reachable | TargetState::Held | TargetState::Unreachable | TargetState::NoNetwork => None,
        }
    }
}

pub(super) fn observe_targets<'a>(
    plan: &'a HostPlan,
    observation: &Observation<'_>,
    reported: &ReportedConnections<'a>,
    now: Timestamp,
) -> Vec<ObservedTarget<'a>> {
    let history = TargetHistory::new(observation);
    let planned = plan.paths.chunk_by(|a, b| a.target == b.target).map(|paths| {
        let target = &paths[0].target;
        let paths: Vec<_> =
            paths.iter().map(|planned| ObservedPath { planned, connection: reported.of(planned) }).collect();
        let (state, remember) = planned_target(target, &paths, reported, &history, now);
        ObservedTarget { target, paths, state, remember }
    });
    let held = plan.hold.iter().map(|target| {
        let live = reported.has_live_session(target);
        let reached = live.then(|| TargetStatus { target: target.clone(), lost_at: None });
        let state = if live { TargetState::Reachable } else { TargetState::Held };
        ObservedTarget { target, paths: Vec::new(), state, remember: reached.or_else(|| history.of(target)) }
    });
    let no_network = plan.no_network.iter().map(|target| ObservedTarget {
        target,
        paths: Vec::new(),
        state: TargetState::NoNetwork,
        remember: None,
    });
    let mut targets: Vec<_> = planned.chain(held).chain(no_network).collect();
    targets.sort_by(|a, b| a.target.cmp(b.target));
    targets
}

fn planned_target(
    target: &Iqn,
    paths: &[ObservedPath<'_>],
    reported: &ReportedConnections<'_>,
    history: &TargetHistory<'_>,
    now: Timestamp,
) -> (TargetState, Option<TargetStatus>) {
    let known = |lost_at: Option<Time>| Some(TargetStatus { target: target.clone(), lost_at });
    if paths.iter().any(|path| path.is(ConnectionState::Connected)) {
        return (TargetState::Reachable, known(None));
    }
    let before = history.of(target);
    let pending = paths.iter().any(ObservedPath::first_attempt);
    let live = reported.has_live_session(target);
    if before.is_none() && !live {
        return (if pending { TargetState::Connecting(None) } else { TargetState::Unreachable }, None);
    }
    // dm-multipath queues I/O during a short outage, so the verdict waits for the same time. A time in the future was
    // written before the clock was set back; it must not make the delay longer.
    let latest = Time(next_second(now));
    let lost_at = before.and_then(|before| before.lost_at).map_or(latest.clone(), |lost_at| lost_at.min(latest));
    let until = lost_at.0.saturating_add(history.delay).unwrap_or(Timestamp::MAX);
    // A delay of zero must stay zero, although times are rounded up to whole seconds.
    let state = if until > now && !history.delay.is_zero() {
        TargetState::Connecting(Some(until))
    } else if pending && live {
        // Make before break: a session that left the plan keeps the target reachable until the first attempts end.
        TargetState::Connecting(None)
    } else {
        TargetState::Unreachable
    };
    (state, known(Some(lost_at)))
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
