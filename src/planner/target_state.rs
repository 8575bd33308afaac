//! How a host stands towards each of its targets, and since when.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    plan::HostPlan,
    reported::{PathNow, Reality},
    verdict::Observation,
};
use crate::api::{ConnectionState, HostStatus, TargetStatus};

/// What is found of one target in service.
pub(super) struct TargetNow<'a> {
    pub target: &'a Arc<str>,
    pub paths: Vec<PathNow<'a>>,
    pub standing: Standing,
    /// What to remember of it.
    pub memory: Option<TargetStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Reachable,
    /// First attempts are under way, or the delay of a lost one runs until then.
    Connecting(Option<Timestamp>),
    /// A held target without a session.
    Held,
    Unreachable,
    NoNetwork,
}

pub(super) fn deadline(standing: Standing) -> Option<Timestamp> {
    match standing {
        Standing::Connecting(until) => until,
        Standing::Reachable | Standing::Held | Standing::Unreachable | Standing::NoNetwork => None,
    }
}

pub(super) fn targets_now<'a>(
    plan: &'a HostPlan,
    observation: &Observation<'_>,
    reality: &Reality<'a>,
    now: Timestamp,
) -> Vec<TargetNow<'a>> {
    let memory = Memory::new(observation);
    let planned = plan.paths.chunk_by(|a, b| a.target == b.target).map(|paths| {
        let target = &paths[0].target;
        let paths: Vec<_> = paths.iter().map(|planned| PathNow { planned, actual: reality.of(planned) }).collect();
        let (standing, memory) = planned_standing(target, &paths, reality, &memory, now);
        TargetNow { target, paths, standing, memory }
    });
    let held = plan.hold.iter().map(|target| {
        let live = reality.has_live_session(target);
        let memory = live.then(|| TargetStatus { target: target.clone(), lost_at: None }).or_else(|| memory.of(target));
        let standing = if live { Standing::Reachable } else { Standing::Held };
        TargetNow { target, paths: Vec::new(), standing, memory }
    });
    let no_network = plan.no_network.iter().map(|target| TargetNow {
        target,
        paths: Vec::new(),
        standing: Standing::NoNetwork,
        memory: None,
    });
    let mut targets: Vec<_> = planned.chain(held).chain(no_network).collect();
    targets.sort_by(|a, b| a.target.cmp(b.target));
    targets
}

fn planned_standing(
    target: &Arc<str>,
    paths: &[PathNow<'_>],
    reality: &Reality<'_>,
    memory: &Memory<'_>,
    now: Timestamp,
) -> (Standing, Option<TargetStatus>) {
    let known = |lost_at: Option<Time>| Some(TargetStatus { target: target.clone(), lost_at });
    if paths.iter().any(|path| path.is(ConnectionState::Connected)) {
        return (Standing::Reachable, known(None));
    }
    let before = memory.of(target);
    let pending = paths.iter().any(PathNow::first_attempt);
    let live = reality.has_live_session(target);
    if before.is_none() && !live {
        return (if pending { Standing::Connecting(None) } else { Standing::Unreachable }, None);
    }
    // dm-multipath queues through short outages; so does the verdict.
    // A time that is yet to come was written before the clock was set back: it must not make the delay longer.
    let latest = Time(next_second(now));
    let lost_at = before.and_then(|before| before.lost_at).map_or(latest.clone(), |lost_at| lost_at.min(latest));
    let until = lost_at.0.saturating_add(memory.delay).unwrap_or(Timestamp::MAX);
    // Without a delay the rounding to whole seconds must not make one.
    let standing = if until > now && !memory.delay.is_zero() {
        Standing::Connecting(Some(until))
    } else if pending && live {
        // Make before break: a session that left the plan bridges the first attempts, however short the delay.
        Standing::Connecting(None)
    } else {
        Standing::Unreachable
    };
    (standing, known(Some(lost_at)))
}

/// The API's times have whole seconds; rounding up never ends a delay early.
fn next_second(now: Timestamp) -> Timestamp {
    let up = i64::from(now.subsec_nanosecond() != 0);
    Timestamp::from_second(now.as_second() + up).unwrap_or(now)
}

/// What is remembered of a host's targets since it entered service.
pub(super) struct Memory<'a> {
    /// Sorted by target.
    pub targets: Vec<&'a TargetStatus>,
    delay: Duration,
}

impl<'a> Memory<'a> {
    pub(super) fn new(observation: &Observation<'a>) -> Self {
        let host = observation.host;
        let same = |status: &&HostStatus| status.data_center.as_ref() == Some(&host.spec.data_center);
        let known = host.status.as_ref().filter(same).map(|status| status.targets.as_slice()).unwrap_or_default();
        let mut targets: Vec<_> = known.iter().collect();
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        Memory { targets, delay: observation.non_operational_after }
    }

    fn of(&self, target: &str) -> Option<TargetStatus> {
        let at = self.targets.binary_search_by(|known| (*known.target).cmp(target)).ok()?;
        Some(self.targets[at].clone())
    }
}
