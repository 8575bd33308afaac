//! The hosts: their initiator names, their warnings, and whether they reach their storage.

use std::collections::{BTreeMap, BTreeSet};

use super::{key, line_for, truncated};
use crate::{
    api::{
        Host, Phase, condition,
        reason::{ConditionType, PreparedReason},
    },
    check::{Check, Finding, Line, facts::ClusterFacts},
};

pub(super) fn lines(facts: &ClusterFacts) -> Vec<Line> {
    let name_hint = "write a unique name (`iscsi-iname` prints one) into /etc/iscsi/initiatorname.iscsi on each host, and restart iscsid";
    let of_hosts = |check, hint, find: fn(&[Host]) -> Vec<Finding>| {
        line_for(check, &facts.hosts, hint, |hosts| find(&hosts.objects))
    };
    vec![
        of_hosts(Check::InitiatorNames, name_hint, initiator_names),
        of_hosts(
            Check::HostsPrepared,
            "do on the host what the message says; docs/hosts.md describes the prerequisites",
            unprepared,
        ),
        of_hosts(
            Check::HostsOperational,
            "multibond status --all-namespaces shows each path and its reason",
            not_operational,
        ),
    ]
}

/// An array identifies a host by its initiator name: of two hosts with one name, each ends the sessions of the other.
fn initiator_names(hosts: &[Host]) -> Vec<Finding> {
    let mut nodes_by_name: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut findings = Vec::new();
    for host in hosts {
        let Some(agent) = host.status.as_ref().and_then(|status| status.agent.as_ref()) else { continue };
        match &agent.initiator_name {
            Some(name) => {
                nodes_by_name.entry(name).or_default().insert(&host.spec.node_name);
            }
            None => findings.push(Finding::error(format!("Host {} has no initiator name", key(&host.metadata)))),
        }
    }
    let shared = nodes_by_name.iter().filter(|(_, nodes)| nodes.len() > 1);
    let text = |(name, nodes): (&&str, &BTreeSet<&str>)| {
        let nodes: Vec<&str> = nodes.iter().copied().collect();
        format!("{name} is the initiator name of several nodes: {}", nodes.join(", "))
    };
    findings.extend(shared.map(|shared| Finding::error(text(shared))));
    findings
}

fn unprepared(hosts: &[Host]) -> Vec<Finding> {
    let finding = |host: &Host| {
        let status = host.status.as_ref()?;
        let prepared = condition::find(&status.conditions, ConditionType::HostPrepared)?;
        if prepared.status == "True" {
            return None;
        }
        let text = format!("Host {}: {}", key(&host.metadata), truncated(&prepared.message));
        let warnings = status.agent.as_ref().map(|agent| agent.warnings.as_slice()).unwrap_or_default();
        // Only a missing initiator prevents logins.
        let stops = warnings.iter().any(|warning| warning.reason == PreparedReason::InitiatorMissing);
        Some(if stops { Finding::error(text) } else { Finding::warning(text) })
    };
    hosts.iter().filter_map(finding).collect()
}

fn not_operational(hosts: &[Host]) -> Vec<Finding> {
    let finding = |host: &Host| {
        let status = host.status.as_ref();
        let of = |kind| condition::find(&status?.conditions, kind);
        let text = |phase: Phase, kind| {
            let why = of(kind).map(|it| format!(", {}: {}", it.reason, truncated(&it.message))).unwrap_or_default();
            format!("Host {} is {}{why}", key(&host.metadata), phase.as_str())
        };
        match status?.effective_phase()? {
            phase @ Phase::NonOperational => Some(Finding::error(text(phase, ConditionType::Operational))),
            phase @ (Phase::Unassigned | Phase::Lost) => {
                Some(Finding::warning(text(phase, ConditionType::Operational)))
            }
            phase @ Phase::Degraded => Some(Finding::warning(text(phase, ConditionType::FullyConnected))),
            // Connecting is short, and another line is about agents that do not report.
            Phase::Up | Phase::Connecting | Phase::Maintenance | Phase::Unknown => None,
        }
    };
    let findings: Vec<_> = hosts.iter().filter_map(finding).collect();
    if findings.is_empty() { vec![Finding::ok(up(hosts))] } else { findings }
}

fn up(hosts: &[Host]) -> String {
    let is_up = |host: &&Host| host.status.as_ref().and_then(|status| status.phase) == Some(Phase::Up);
    format!("{} of {} Up", hosts.iter().filter(is_up).count(), hosts.len())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::check::{
        CheckOutcome, Stage,
        judge::fixture::{host, line, with_hosts, working},
    };

    #[rstest]
    #[case::no_name(json!({"version": "1"}), json!({"version": "1", "initiatorName": "iqn.b"}), "Host ns/h1 has no initiator name")]
    #[case::one_for_two(
        json!({"version": "1", "initiatorName": "iqn.a"}),
        json!({"version": "1", "initiatorName": "iqn.a"}),
        "iqn.a is the initiator name of several nodes: w1, w2"
    )]
    fn every_host_needs_a_unique_initiator_name(#[case] first: Value, #[case] second: Value, #[case] found: &str) {
        let hosts = [host("h1", "w1", json!({"agent": first})), host("h2", "w2", json!({"agent": second}))];
        let line = line(&with_hosts(working(), hosts), Stage::After, Check::InitiatorNames);
        assert_eq!((line.outcome, line.found), (CheckOutcome::Error, vec![found.to_owned()]));
    }

    #[test]
    fn two_hosts_of_one_node_may_have_its_initiator_name() {
        let agent = || json!({"agent": {"version": "1", "initiatorName": "iqn.a"}});
        let hosts = [host("h1", "w1", agent()), host("h2", "w1", agent()), host("h3", "w3", json!({}))];
        assert_eq!(line(&with_hosts(working(), hosts), Stage::After, Check::InitiatorNames).outcome, CheckOutcome::Ok);
    }

    #[rstest]
    #[case("MultipathdMissing", CheckOutcome::Warning)]
    #[case("ForeignSession", CheckOutcome::Warning)]
    #[case("Interference", CheckOutcome::Warning)]
    #[case("AutomaticRecords", CheckOutcome::Warning)]
    #[case("InitiatorMissing", CheckOutcome::Error)]
    fn a_host_that_is_not_prepared_is_reported(#[case] reason: &str, #[case] expected: CheckOutcome) {
        let status = json!({
            "agent": {"version": "1", "initiatorName": "iqn.a", "warnings": [{"reason": reason, "message": "look"}]},
            "conditions": [{"type": "HostPrepared", "status": "False", "reason": reason,
                "message": format!("{reason}: look"), "lastTransitionTime": "2026-01-31T12:00:00Z"}]});
        let line = line(&with_hosts(working(), [host("h1", "w1", status)]), Stage::After, Check::HostsPrepared);
        assert_eq!((line.outcome, line.found), (expected, vec![format!("Host ns/h1: {reason}: look")]));
    }

    #[rstest]
    #[case("NonOperational", CheckOutcome::Error)]
    #[case("Unassigned", CheckOutcome::Warning)]
    #[case("Degraded", CheckOutcome::Warning)]
    #[case("Connecting", CheckOutcome::Ok)]
    #[case("Maintenance", CheckOutcome::Ok)]
    #[case("Unknown", CheckOutcome::Ok)]
    #[case("Up", CheckOutcome::Ok)]
    fn a_host_that_does_not_reach_its_storage_is_reported(#[case] phase: &str, #[case] expected: CheckOutcome) {
        let facts = with_hosts(working(), [host("h1", "w1", json!({"phase": phase}))]);
        let line = line(&facts, Stage::After, Check::HostsOperational);
        assert_eq!(line.outcome, expected);
        let names_it = line.found.iter().any(|found| found.starts_with("Host ns/h1 is "));
        assert_eq!(names_it, expected > CheckOutcome::Ok, "{:?}", line.found);
    }
}
