//! Judges the facts: a pure function, one line after the other.

mod cluster;
mod declared;
mod held;
mod hosts;
mod installed;

#[cfg(test)]
mod fixture;

use jiff::{SignedDuration, Timestamp};
use kube::api::ObjectMeta;

use super::{
    Check, CheckReport, Finding, Line, Stage,
    facts::{ClusterFacts, Fact},
};
use crate::api::{AGENT_LEASE_PREFIX, LEADER_LEASE, LeasePart, ObjectKey};

/// The hint for a request that failed.
const RETRY_HINT: &str = "run the check again; if it fails again, look at the API server";

/// The report on a cluster.
pub(crate) fn judge(facts: &ClusterFacts, stage: Stage) -> CheckReport {
    let ClusterFacts { namespace, .. } = facts;
    let lines = match stage {
        Stage::Before => [cluster::lines(facts), cluster::before(facts), held::lines(facts)].concat(),
        Stage::After => [
            cluster::lines(facts),
            installed::lines(facts),
            hosts::lines(facts),
            declared::lines(facts),
            held::lines(facts),
        ]
        .concat(),
    };
    CheckReport::new(namespace, lines)
}

/// The line of a check that depends on one fact; without the fact, the line says why it is not known.
fn line_for<T>(check: Check, fact: &Fact<T>, hint: &str, find: impl FnOnce(&T) -> Vec<Finding>) -> Line {
    match fact {
        Ok(fact) => check.line(find(fact), hint),
        Err(unavailable) => check.line(vec![unavailable.finding()], RETRY_HINT),
    }
}

/// The state of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseState<'a> {
    /// The holder renews it.
    Held(&'a str),
    /// The holder has not renewed it; it expired at this time.
    Expired(&'a str, Timestamp),
    /// The lease does not exist, or nobody holds it.
    Free,
}

/// The state of the lease with this name.
fn lease_state<'a>(leases: &'a [LeasePart], name: &str, now: Timestamp) -> LeaseState<'a> {
    let spec = leases.iter().find(|lease| lease.metadata.name.as_deref() == Some(name)).map(|lease| &lease.spec);
    let Some(spec) = spec else { return LeaseState::Free };
    let (Some(holder), Some(renewed)) = (spec.holder_identity.as_deref(), &spec.renew_time) else {
        return LeaseState::Free;
    };
    let lasts = SignedDuration::from_secs(i64::from(spec.lease_duration_seconds.unwrap_or_default()));
    let end = renewed.0.saturating_add(lasts).unwrap_or(Timestamp::MAX);
    match holder {
        "" => LeaseState::Free,
        holder if end < now => LeaseState::Expired(holder, end),
        holder => LeaseState::Held(holder),
    }
}

/// The state of the leader's lease.
fn leader(leases: &[LeasePart], now: Timestamp) -> LeaseState<'_> {
    lease_state(leases, LEADER_LEASE, now)
}

/// The state of the lease of a node's agent.
fn agent<'a>(leases: &'a [LeasePart], node: &str, now: Timestamp) -> LeaseState<'a> {
    lease_state(leases, &format!("{AGENT_LEASE_PREFIX}{node}"), now)
}

/// Namespace and name of an object.
fn key(metadata: &ObjectMeta) -> String {
    ObjectKey::of(metadata).to_string()
}

/// Cuts a long message: a report may have many. What to do stands at the end of a message, so that only lists of paths may
/// be longer.
fn truncated(message: &str) -> String {
    const LENGTH: usize = 1_000;
    match message.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{
        fixture::{empty_cluster, lease, working},
        *,
    };

    #[test]
    fn every_check_is_at_most_once_in_each_report_and_in_one_at_least() {
        let of = |facts, stage| judge(facts, stage).lines.into_iter().map(|line| line.check).collect::<Vec<_>>();
        let reports = [of(&empty_cluster(), Stage::Before), of(&working(), Stage::After)];
        for check in Check::ALL {
            let times = reports.each_ref().map(|report| report.iter().filter(|line| *line == check).count());
            assert!(times.contains(&1) && times.iter().all(|times| *times < 2), "{check:?}: {times:?}");
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[rstest]
    #[case::renewed_just_now(0, LeaseState::Held("c1"))]
    #[case::at_its_end(15, LeaseState::Held("c1"))]
    #[case::over(18, LeaseState::Expired("c1", at(1015)))]
    #[case::written_by_a_clock_that_is_ahead(-20, LeaseState::Held("c1"))]
    fn a_lease_expires_after_its_duration(#[case] seconds: i64, #[case] expected: LeaseState<'_>) {
        let leases = [lease("multibond-controller", "c1", at(1000))];
        assert_eq!(leader(&leases, at(1000 + seconds)), expected);
    }

    #[test]
    fn a_lease_without_a_holder_is_free() {
        assert_eq!(leader(&[lease("multibond-controller", "", at(1000))], at(1000)), LeaseState::Free);
        assert_eq!(leader(&[lease("another", "c1", at(1000))], at(1000)), LeaseState::Free);
        assert_eq!(agent(&[lease("agent-w1", "w1", at(1000))], "w1", at(1000)), LeaseState::Held("w1"));
    }
}
