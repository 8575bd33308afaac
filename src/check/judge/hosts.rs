//! The machines: who they are to the storage, what they lack, and whether they reach it.

use std::collections::{BTreeMap, BTreeSet};

use super::{about, key, shortened};
use crate::{
    api::{
        Host, Phase, condition,
        reason::{ConditionType, PreparedReason},
    },
    check::{Check, Finding, Line, facts::Facts},
};

pub(super) fn lines(facts: &Facts) -> Vec<Line> {
    let name_them = "write a name of its own into /etc/iscsi/initiatorname.iscsi on each host, such as `iscsi-iname` prints, and restart iscsid";
    let of_hosts =
        |check, hint, find: fn(&[Host]) -> Vec<Finding>| about(check, &facts.hosts, hint, |hosts| find(&hosts.objects));
    vec![
        of_hosts(Check::InitiatorNames, name_them, initiator_names),
        of_hosts(Check::HostsPrepared, "do on the host what the message says", unprepared),
        of_hosts(Check::HostsOperational, "multibond status --all-namespaces shows each path and its reason", troubled),
    ]
}

/// Arrays tell hosts apart by this name: of two that share one, each takes the other's sessions away.
fn initiator_names(hosts: &[Host]) -> Vec<Finding> {
    let mut nodes_by_name: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut findings = Vec::new();
    for host in hosts {
        let Some(agent) = host.status.as_ref().and_then(|status| status.agent.as_ref()) else { continue };
        match &agent.initiator_name {
            Some(name) => {
                nodes_by_name.entry(name).or_default().insert(&host.spec.node_name);
            }
            None => findings.push(Finding::error(format!("Host {} has none", key(&host.metadata)))),
        }
    }
    let shared = nodes_by_name.iter().filter(|(_, nodes)| nodes.len() > 1);
    let text = |(name, nodes): (&&str, &BTreeSet<&str>)| {
        let nodes: Vec<&str> = nodes.iter().copied().collect();
        format!("{name} is the name of several nodes: {}", nodes.join(", "))
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
        let text = format!("Host {}: {}", key(&host.metadata), shortened(&prepared.message));
        let warnings = status.agent.as_ref().map(|agent| agent.warnings.as_slice()).unwrap_or_default();
        // The others stop nothing.
        let stops = warnings.iter().any(|warning| warning.reason == PreparedReason::InitiatorMissing);
        Some(if stops { Finding::error(text) } else { Finding::warning(text) })
    };
    hosts.iter().filter_map(finding).collect()
}

fn troubled(hosts: &[Host]) -> Vec<Finding> {
    let finding = |host: &Host| {
        let status = host.status.as_ref();
        let of = |kind| condition::find(&status?.conditions, kind);
        let text = |phase: Phase, kind| {
            let why = of(kind).map(|it| format!(", {}: {}", it.reason, shortened(&it.message))).unwrap_or_default();
            format!("Host {} is {}{why}", key(&host.metadata), phase.as_str())
        };
        match status?.phase? {
            phase @ Phase::NonOperational => Some(Finding::error(text(phase, ConditionType::Operational))),
            phase @ Phase::Unassigned => Some(Finding::warning(text(phase, ConditionType::Operational))),
            phase @ Phase::Degraded => Some(Finding::warning(text(phase, ConditionType::FullyConnected))),
            // A short while is no trouble, and neither is the agent's silence, of which its own line tells.
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
        Outcome, Stage,
        judge::fixture::{host, line, with_hosts, working},
    };

    #[rstest]
    #[case::no_name(json!({"version": "1"}), json!({"version": "1", "initiatorName": "iqn.b"}), "Host ns/h1 has none")]
    #[case::one_for_two(
        json!({"version": "1", "initiatorName": "iqn.a"}),
        json!({"version": "1", "initiatorName": "iqn.a"}),
        "iqn.a is the name of several nodes: w1, w2"
    )]
    fn each_host_has_a_name_of_its_own(#[case] first: Value, #[case] second: Value, #[case] found: &str) {
        let hosts = [host("h1", "w1", json!({"agent": first})), host("h2", "w2", json!({"agent": second}))];
        let line = line(&with_hosts(working(), hosts), Stage::After, Check::InitiatorNames);
        assert_eq!((line.outcome, line.found), (Outcome::Error, vec![found.to_owned()]));
    }

    #[test]
    fn a_node_with_two_hosts_shares_its_name_with_nobody() {
        let agent = || json!({"agent": {"version": "1", "initiatorName": "iqn.a"}});
        let hosts = [host("h1", "w1", agent()), host("h2", "w1", agent()), host("h3", "w3", json!({}))];
        assert_eq!(line(&with_hosts(working(), hosts), Stage::After, Check::InitiatorNames).outcome, Outcome::Ok);
    }

    #[rstest]
    #[case("MultipathdMissing", Outcome::Warning)]
    #[case("InitiatorMissing", Outcome::Error)]
    fn what_a_host_lacks_is_said(#[case] reason: &str, #[case] expected: Outcome) {
        let status = json!({
            "agent": {"version": "1", "initiatorName": "iqn.a", "warnings": [{"reason": reason, "message": "look"}]},
            "conditions": [{"type": "HostPrepared", "status": "False", "reason": reason,
                "message": format!("{reason}: look"), "lastTransitionTime": "2026-01-31T12:00:00Z"}]});
        let line = line(&with_hosts(working(), [host("h1", "w1", status)]), Stage::After, Check::HostsPrepared);
        assert_eq!((line.outcome, line.found), (expected, vec![format!("Host ns/h1: {reason}: look")]));
    }

    #[rstest]
    #[case("NonOperational", Outcome::Error)]
    #[case("Unassigned", Outcome::Warning)]
    #[case("Degraded", Outcome::Warning)]
    #[case("Connecting", Outcome::Ok)]
    #[case("Maintenance", Outcome::Ok)]
    #[case("Unknown", Outcome::Ok)]
    #[case("Up", Outcome::Ok)]
    fn a_host_that_does_not_reach_its_storage_is_named(#[case] phase: &str, #[case] expected: Outcome) {
        let facts = with_hosts(working(), [host("h1", "w1", json!({"phase": phase}))]);
        let line = line(&facts, Stage::After, Check::HostsOperational);
        assert_eq!(line.outcome, expected);
        let names_it = line.found.iter().any(|found| found.starts_with("Host ns/h1 is "));
        assert_eq!(names_it, expected > Outcome::Ok, "{:?}", line.found);
    }
}
