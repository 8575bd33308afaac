//! What the facts mean: a pure function, one line after the other.

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
    Check, Finding, Line, Report, Stage,
    facts::{Facts, Seen},
};
use crate::api::{AGENT_LEASE_PREFIX, LEADER_LEASE, LeasePart, ObjectKey};

/// What somebody does about a question that was not answered.
const ASK_AGAIN: &str = "run the check again; if this lasts, see how the API server is";

/// Judges what is known of a cluster.
pub(crate) fn judge(facts: &Facts, stage: Stage) -> Report {
    let Facts { namespace, .. } = facts;
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
    Report::new(namespace, lines)
}

/// The line about one fact.
fn about<T>(check: Check, fact: &Seen<T>, hint: &str, find: impl FnOnce(&T) -> Vec<Finding>) -> Line {
    match fact {
        Ok(fact) => check.line(find(fact), hint),
        Err(unseen) => check.line(vec![unseen.finding()], ASK_AGAIN),
    }
}

/// How a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal<'a> {
    /// Its holder renews it.
    Alive(&'a str),
    /// It ran out then.
    RanOut(&'a str, Timestamp),
    /// There is none, or nobody holds it.
    Nobody,
}

/// How the lease of this name stands.
fn renewal<'a>(leases: &'a [LeasePart], name: &str, now: Timestamp) -> Renewal<'a> {
    let spec = leases.iter().find(|lease| lease.metadata.name.as_deref() == Some(name)).map(|lease| &lease.spec);
    let Some(spec) = spec else { return Renewal::Nobody };
    let (Some(holder), Some(renewed)) = (spec.holder_identity.as_deref(), &spec.renew_time) else {
        return Renewal::Nobody;
    };
    let lasts = SignedDuration::from_secs(i64::from(spec.lease_duration_seconds.unwrap_or_default()));
    let end = renewed.0.saturating_add(lasts).unwrap_or(Timestamp::MAX);
    match holder {
        "" => Renewal::Nobody,
        holder if end < now => Renewal::RanOut(holder, end),
        holder => Renewal::Alive(holder),
    }
}

/// How the leader's lease stands.
fn leader(leases: &[LeasePart], now: Timestamp) -> Renewal<'_> {
    renewal(leases, LEADER_LEASE, now)
}

/// How the lease of a node's agent stands.
fn agent<'a>(leases: &'a [LeasePart], node: &str, now: Timestamp) -> Renewal<'a> {
    renewal(leases, &format!("{AGENT_LEASE_PREFIX}{node}"), now)
}

/// Namespace and name of an object.
fn key(metadata: &ObjectMeta) -> String {
    ObjectKey::of(metadata).to_string()
}

/// A message is for reading, and there may be many.
fn shortened(message: &str) -> String {
    const LENGTH: usize = 240;
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
    fn every_line_is_of_a_report_and_each_report_has_it_once() {
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
    #[case::renewed_just_now(0, Renewal::Alive("c1"))]
    #[case::at_its_end(15, Renewal::Alive("c1"))]
    #[case::over(18, Renewal::RanOut("c1", at(1015)))]
    #[case::written_by_a_clock_that_is_ahead(-20, Renewal::Alive("c1"))]
    fn a_lease_lives_as_long_as_it_says(#[case] seconds: i64, #[case] expected: Renewal<'_>) {
        let leases = [lease("multibond-controller", "c1", at(1000))];
        assert_eq!(leader(&leases, at(1000 + seconds)), expected);
    }

    #[test]
    fn a_lease_that_was_given_back_is_nobodys() {
        assert_eq!(leader(&[lease("multibond-controller", "", at(1000))], at(1000)), Renewal::Nobody);
        assert_eq!(leader(&[lease("another", "c1", at(1000))], at(1000)), Renewal::Nobody);
        assert_eq!(agent(&[lease("agent-w1", "w1", at(1000))], "w1", at(1000)), Renewal::Alive("w1"));
    }
}
