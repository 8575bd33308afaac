//! The hosts: their initiator names, their warnings, and whether they reach their storage.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{key, line_for, truncated};
use crate::{
    api::{
        AgentStatus, DataCenter, Host, HostStatus, ObjectKey, Phase, PortalFailure, condition, first_few,
        is_explained_by,
        reason::{ConditionType, PreparedReason, Reason},
    },
    check::{Check, Finding, Line, facts::ClusterFacts},
};

/// The number of hosts that a finding names.
const SHOWN: usize = 3;

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
        line_for(
            Check::HostsOperational,
            &facts.hosts,
            "multibond status --all-namespaces shows each path and its reason",
            |hosts| {
                not_operational(&hosts.objects, facts.data_centers.as_ref().map_or(&[], |centers| &centers.objects))
            },
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

/// Hosts that say the same are one finding: the cause is the same.
fn unprepared(hosts: &[Host]) -> Vec<Finding> {
    let mut by_text: BTreeMap<(bool, &str), Vec<String>> = BTreeMap::new();
    for host in hosts {
        let Some(status) = &host.status else { continue };
        let prepared = condition::find(&status.conditions, ConditionType::HostPrepared);
        let Some(prepared) = prepared.filter(|prepared| prepared.status != "True") else { continue };
        let mut warnings = status.agent.iter().flat_map(AgentStatus::all_warnings);
        // Only a missing initiator prevents logins.
        let stops = warnings.any(|warning| warning.reason == PreparedReason::InitiatorMissing);
        by_text.entry((stops, &prepared.message)).or_default().push(key(&host.metadata));
    }
    let finding = |((stops, message), hosts): ((bool, &str), Vec<String>)| {
        let text = format!("{}: {}", counted(&hosts), truncated(message));
        if stops { Finding::error(text) } else { Finding::warning(text) }
    };
    by_text.into_iter().map(finding).collect()
}

/// The hosts of a finding.
fn counted(hosts: &[String]) -> String {
    let names = first_few(hosts, SHOWN, Clone::clone);
    if hosts.len() == 1 { format!("Host {names}") } else { format!("{} Hosts ({names})", hosts.len()) }
}

fn not_operational(hosts: &[Host], data_centers: &[DataCenter]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut failures = portal_failures(data_centers);
    for host in hosts {
        let Some(status) = &host.status else { continue };
        let Some(phase) = status.effective_phase() else { continue };
        let of = |kind| condition::find(&status.conditions, kind);
        if matches!(phase, Phase::Degraded | Phase::Lost | Phase::NonOperational)
            && let Some(failure) =
                failures.get_mut(&ObjectKey::of(&host.metadata).beside(host.spec.data_center.as_str()))
            && is_explained_by(status, failure.portals)
        {
            failure.hosts.entry(phase).or_default().push(key(&host.metadata));
            continue;
        }
        let text = |kind| {
            let why = of(kind).map(|it| format!(", {}: {}", it.reason, truncated(&it.message))).unwrap_or_default();
            format!("Host {} is {phase}{why}", key(&host.metadata))
        };
        let is_held = of(ConditionType::Operational).is_some_and(|it| it.reason == Reason::TargetsHeld.as_str());
        let is_blocked = reason_shown(status) == Some(Reason::InUse.as_str());
        let finding = match phase {
            Phase::NonOperational => Finding::error(text(ConditionType::Operational)),
            Phase::Unassigned | Phase::Lost => Finding::warning(text(ConditionType::Operational)),
            Phase::Connecting if is_held => Finding::warning(text(ConditionType::Operational)),
            Phase::Degraded => Finding::warning(text(condition::why_degraded(&status.conditions))),
            Phase::Maintenance if is_blocked => Finding::warning(text(ConditionType::Ready)),
            // Connecting is short, and another line is about agents that do not report.
            Phase::Up | Phase::Connecting | Phase::Maintenance | Phase::Unknown => continue,
        };
        findings.push(finding.explained_at(anchor(phase)));
    }
    findings.extend(failures.into_iter().map(|(center, failure)| failure.finding(&center)));
    if findings.is_empty() { vec![Finding::ok(up(hosts))] } else { findings }
}

/// The heading of `docs/troubleshooting.md` about hosts of a phase.
fn anchor(phase: Phase) -> &'static str {
    match phase {
        Phase::Unassigned => "a-host-is-unassigned",
        Phase::Lost => "a-host-is-lost",
        Phase::Degraded => "a-host-is-degraded",
        Phase::Connecting => "a-host-stays-connecting",
        Phase::Maintenance => "a-host-in-maintenance-is-not-ready",
        Phase::Up | Phase::NonOperational | Phase::Unknown => Check::HostsOperational.anchor(),
    }
}

/// The reason in the column of the host.
fn reason_shown(status: &HostStatus) -> Option<&str> {
    status.summary.as_ref()?.reason.as_deref()
}

/// What fails on several hosts of a data center, and the hosts that have no other failure, by phase.
struct Failure<'a> {
    portals: &'a [PortalFailure],
    cause: &'a str,
    hosts: BTreeMap<Phase, Vec<String>>,
}

fn portal_failures(data_centers: &[DataCenter]) -> BTreeMap<ObjectKey, Failure<'_>> {
    let with_status =
        data_centers.iter().filter_map(|center| Some((ObjectKey::of(&center.metadata), center.status.as_ref()?)));
    let failing = with_status.filter_map(|(key, status)| {
        let reachable = condition::find(&status.conditions, ConditionType::PortalsReachable)?;
        let failure = Failure { portals: &status.portals, cause: &reachable.message, hosts: BTreeMap::new() };
        (reachable.status == "False").then_some((key, failure))
    });
    failing.collect()
}

impl Failure<'_> {
    /// One finding for all of these hosts.
    fn finding(&self, center: &ObjectKey) -> Finding {
        let mut text = format!("DataCenter {center}: {}", truncated(self.cause));
        for (phase, hosts) in &self.hosts {
            let is = if hosts.len() == 1 { "is" } else { "are" };
            let _ = write!(text, "; {} {is} {phase}", counted(hosts));
        }
        let error = self.hosts.contains_key(&Phase::NonOperational);
        let finding = if error { Finding::error(text) } else { Finding::warning(text) };
        finding.explained_at("a-bond-or-data-center-complains")
    }
}

fn up(hosts: &[Host]) -> String {
    let in_phase =
        |phase| hosts.iter().filter(|host| host.status.as_ref().and_then(|it| it.phase) == Some(phase)).count();
    let (up, maintenance) = (in_phase(Phase::Up), in_phase(Phase::Maintenance));
    let maintenance = if maintenance == 0 { String::new() } else { format!(", {maintenance} in maintenance") };
    format!("{up} of {} Up{maintenance}", hosts.len())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::check::{
        CheckOutcome, Stage,
        facts::Listed,
        judge::fixture::{host, line, read, with_hosts, working},
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

    #[rstest]
    #[case("NonOperational", "a-host-is-nonoperational")]
    #[case("Unassigned", "a-host-is-unassigned")]
    #[case("Degraded", "a-host-is-degraded")]
    #[case("Maintenance", "a-host-in-maintenance-is-not-ready")]
    fn a_host_that_needs_a_person_is_explained_where_its_phase_is(#[case] phase: &str, #[case] anchor: &str) {
        let status = json!({"phase": phase, "summary": {"reason": "InUse"}});
        let line = line(&with_hosts(working(), [host("h1", "w1", status)]), Stage::After, Check::HostsOperational);
        assert_eq!(line.documentation, format!("docs/troubleshooting.md#{anchor}"), "{line:?}");
        let headings =
            include_str!("../../../docs/troubleshooting.md").lines().filter_map(|line| line.strip_prefix("### "));
        let mut anchors = headings.map(|heading| heading.to_lowercase().replace(' ', "-"));
        assert!(anchors.any(|known| known == anchor));
    }

    #[test]
    fn a_maintenance_that_waits_for_disks_is_reported_with_what_is_left() {
        let status = json!({"phase": "Maintenance", "summary": {"paths": "1 kept", "reason": "InUse"}, "conditions": [
            {"type": "Ready", "status": "False", "reason": "Disconnecting",
                "message": "still connected: sd7 is open", "lastTransitionTime": "2026-01-31T12:00:00Z"}]});
        let line = line(&with_hosts(working(), [host("h1", "w1", status)]), Stage::After, Check::HostsOperational);
        let expected = "Host ns/h1 is Maintenance, Disconnecting: still connected: sd7 is open";
        assert_eq!((line.outcome, line.found), (CheckOutcome::Warning, vec![expected.to_owned()]));
    }

    #[test]
    fn hosts_in_maintenance_are_counted_beside_those_that_are_up() {
        let hosts = [host("h1", "w1", json!({"phase": "Maintenance"})), host("h2", "w2", json!({"phase": "Up"}))];
        let line = line(&with_hosts(working(), hosts), Stage::After, Check::HostsOperational);
        assert_eq!(line.found, ["1 of 2 Up, 1 in maintenance"]);
    }

    #[test]
    fn a61_a_host_that_waits_for_a_held_target_is_reported() {
        let held = json!({"phase": "Connecting", "conditions": [{"type": "Operational", "status": "Unknown",
            "reason": "TargetsHeld", "message": "held", "lastTransitionTime": "2026-01-31T12:00:00Z"}]});
        let line = line(&with_hosts(working(), [host("h1", "w1", held)]), Stage::After, Check::HostsOperational);
        assert_eq!(
            (line.outcome, &line.found[..]),
            (CheckOutcome::Warning, &["Host ns/h1 is Connecting, TargetsHeld: held".to_owned()][..])
        );
    }

    /// A host with two paths, of which these have failed.
    fn with_failed(name: &str, phase: &str, failed: &[&str]) -> Host {
        let path = |portal: &str| {
            json!({"target": "iqn.a", "portal": portal, "tpgt": 1, "interface": "ens1", "network": "san-a",
                "storage": "s"})
        };
        let connection = |portal: &&str| {
            json!({"target": "iqn.a", "portal": portal, "tpgt": 1, "interface": "ens1", "state": "Failed",
                "since": "2026-01-31T12:00:00Z"})
        };
        let connections: Vec<Value> = failed.iter().map(connection).collect();
        let conditions = json!([{"type": "FullyConnected", "status": "False", "reason": "PathsFailed",
            "message": "paths", "lastTransitionTime": "2026-01-31T12:00:00Z"}]);
        host(
            name,
            name,
            json!({"phase": phase, "conditions": conditions, "connections": connections,
            "plan": {"revision": "r", "paths": [path("10.0.1.10:3260"), path("10.0.1.11:3260")]}}),
        )
    }

    #[test]
    fn a63_hosts_that_fail_because_of_one_portal_are_one_line() {
        let mut facts = with_hosts(
            working(),
            [
                with_failed("h1", "Degraded", &["10.0.1.10:3260"]),
                with_failed("h2", "Degraded", &["10.0.1.10:3260"]),
                with_failed("h3", "Degraded", &["10.0.1.10:3260", "10.0.1.11:3260"]),
                with_failed("h4", "Degraded", &["10.0.1.10:3260"]),
                with_failed("h5", "Degraded", &["10.0.1.10:3260"]),
            ],
        );
        let center = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "DataCenter",
            "metadata": {"name": "dc", "namespace": "ns"}, "spec": {},
            "status": {
                "portals": [{"target": "iqn.a", "portal": "10.0.1.10:3260", "network": "san-a", "failed": 5,
                    "hosts": 5, "since": "2026-01-31T12:00:00Z"}],
                "conditions": [{"type": "PortalsReachable", "status": "False", "reason": "PortalsFailed",
                    "message": "portal fails", "lastTransitionTime": "2026-01-31T12:00:00Z"}]}});
        facts.data_centers = Ok(Listed { objects: vec![read(center)], broken: Vec::new() });
        let found = line(&facts, Stage::After, Check::HostsOperational).found;
        let expected = [
            "Host ns/h3 is Degraded, PathsFailed: paths",
            "DataCenter ns/dc: portal fails; 4 Hosts (ns/h1, ns/h2, ns/h4, and 1 more) are Degraded",
        ];
        assert_eq!(found, expected);
        assert_eq!(line(&facts, Stage::After, Check::ConditionsHold).found, [""; 0], "it is said once");
    }

    #[test]
    fn a62_hosts_with_one_warning_are_one_finding() {
        let status = || {
            json!({"agent": {"version": "1", "initiatorName": "iqn.a"},
            "conditions": [{"type": "HostPrepared", "status": "False", "reason": "SecretNotFound",
                "message": "the Secret", "lastTransitionTime": "2026-01-31T12:00:00Z"}]})
        };
        let hosts = [host("h1", "w1", status()), host("h2", "w2", status())];
        let line = line(&with_hosts(working(), hosts), Stage::After, Check::HostsPrepared);
        assert_eq!(line.found, ["2 Hosts (ns/h1, ns/h2): the Secret"]);
    }
}
