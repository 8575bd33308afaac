//! An `IscsiBond`: whether its networks exist and lead to portals, and the state of its hosts and paths.

use super::{
    action::{Action, EventSpec, Outcome},
    aggregate::aggregates,
};
use crate::{
    api::{
        BondHostCounts, BondNetwork, IscsiBond, IscsiBondStatus, ObjectKey, ObjectKind, Summary,
        condition::{self, ConditionUpdate, Status},
        reason::{ConditionType, EventReason, Reason},
    },
    controller::{
        index::{
            Index,
            state::{Aggregates, BondAggregate},
        },
        store::watched::is_being_deleted,
    },
    ops::Now,
    planner::{Findings, View, bond_problems},
};

/// Decides for one bond. A bond that is being deleted needs nothing: it has no finalizer.
pub(super) fn reconcile(index: &Index, key: &ObjectKey, now: Now) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(bond) = index.bonds.get(key) else { return outcome };
    if is_being_deleted(&bond.metadata) || index.bonds.get_undecodable(key).is_some() {
        return outcome;
    }
    let nothing = IscsiBondStatus::default();
    let current = bond.status.as_ref().unwrap_or(&nothing);
    let desired = status(index, key, bond, current, now);
    if desired != *current {
        let event = event(index, key, bond, &current.hosts, &desired.hosts);
        outcome.extend(Action::write_status(ObjectKind::IscsiBond, key, bond.metadata.uid.as_ref(), &desired, event));
    }
    outcome
}

fn status(index: &Index, key: &ObjectKey, bond: &IscsiBond, current: &IscsiBondStatus, now: Now) -> IscsiBondStatus {
    let dc_key = key.beside(bond.spec.data_center.as_str());
    let aggregates = aggregates(index, &dc_key);
    let aggregates = aggregates.as_deref();
    let own = aggregates.and_then(|aggregates| aggregates.bonds.get(&key.name));
    let (hosts, paths) = own.map(|own| (own.hosts, own.paths)).unwrap_or_default();
    let exists = |name: &str| {
        index.networks.get(&key.beside(name)).is_some_and(|network| network.metadata.deletion_timestamp.is_none())
    };
    let usage = aggregates.map(|aggregates| &aggregates.usage);
    let view = index.view(&dc_key);
    let findings = bond_problems(bond, view.as_deref(), usage, &exists);
    let stopped = match index.frozen(&dc_key) {
        Some(message) => Some((Reason::Frozen, message)),
        None => view.as_deref().and_then(View::too_large).map(|why| (Reason::PlanTooLarge, why.to_string())),
    };
    let updates = conditions(bond, &findings, aggregates, own, stopped);
    let generation = bond.metadata.generation;
    IscsiBondStatus {
        observed_generation: generation,
        hosts,
        paths,
        networks: networks(bond, aggregates, own),
        summary: Summary {
            hosts: Some(format!("{}/{}", hosts.connected, hosts.total)),
            paths: Some(format!("{}/{}", paths.connected, paths.desired)),
            networks: Summary::list(&bond.spec.networks),
            ..Summary::default()
        },
        conditions: condition::merge(&current.conditions, updates, generation, now.wall),
    }
}

fn networks(bond: &IscsiBond, aggregates: Option<&Aggregates>, own: Option<&BondAggregate>) -> Vec<BondNetwork> {
    let of = |name: &String| BondNetwork {
        name: name.clone(),
        hosts: aggregates.and_then(|aggregates| aggregates.carriers.get(name.as_str()).copied()).unwrap_or(0),
        paths: own.and_then(|own| own.by_network.get(name.as_str()).copied()).unwrap_or(0),
    };
    bond.spec.networks.iter().map(of).collect()
}

fn conditions(
    bond: &IscsiBond,
    findings: &Findings,
    aggregates: Option<&Aggregates>,
    own: Option<&BondAggregate>,
    stopped: Option<(Reason, String)>,
) -> Vec<ConditionUpdate> {
    let networks = networks_resolved(bond, findings);
    let targets = targets_resolved(bond, findings);
    let unresolved = [&networks, &targets].into_iter().find(|resolved| resolved.status != Status::True);
    // Unknown until every host is replanned: the condition stays as it is.
    let used = aggregates.is_none_or(|aggregates| aggregates.current).then(|| used(findings));
    let fully = fully_connected(findings, own);
    let ready = |status, reason: &'static str, message: &str| {
        ConditionUpdate::new(ConditionType::Ready, status, reason, message)
    };
    let ready = if let Some((reason, message)) = stopped {
        ready(Status::False, reason.into(), &message)
    } else if let Some(unresolved) = unresolved {
        ready(Status::False, unresolved.reason, &unresolved.message)
    } else if let Some(failing) =
        aggregates.map(|aggregates| &aggregates.non_operational).filter(|hosts| hosts.count > 0)
    {
        let message = format!("{} NonOperational: {failing}", counted(failing.count));
        ready(Status::False, Reason::HostsNonOperational.into(), &message)
    } else if aggregates.is_some_and(|aggregates| aggregates.pending > 0 || !aggregates.current) {
        // Without a number: that would be one write for each host.
        ready(Status::False, Reason::Progressing.into(), "hosts are connecting")
    } else {
        ready(Status::True, Reason::Ready.into(), "every host has what the bond asks for, as far as its paths allow")
    };
    [Some(networks), Some(targets), used, Some(fully), Some(ready)].into_iter().flatten().collect()
}

fn used(findings: &Findings) -> ConditionUpdate {
    let kind = ConditionType::NetworksUsed;
    if let Some(message) = &findings.data_center_not_found {
        return ConditionUpdate::new(kind, Status::Unknown, Reason::DataCenterNotFound, message);
    }
    let unused = findings.unused();
    match unused.first() {
        Some((reason, _)) => {
            let messages: Vec<&str> = unused.iter().map(|(_, message)| message.as_str()).collect();
            ConditionUpdate::new(kind, Status::False, *reason, messages.join("; "))
        }
        None => {
            ConditionUpdate::new(kind, Status::True, Reason::Used, "every network is carried and leads to a portal")
        }
    }
}

fn counted(hosts: u32) -> String {
    if hosts == 1 { "1 host is".to_owned() } else { format!("{hosts} hosts are") }
}

fn targets_resolved(bond: &IscsiBond, findings: &Findings) -> ConditionUpdate {
    let kind = ConditionType::TargetsResolved;
    if let Some(message) = &findings.data_center_not_found {
        return ConditionUpdate::new(kind, Status::Unknown, Reason::DataCenterNotFound, message);
    }
    match findings.unknown_targets_message(bond) {
        Some(message) => ConditionUpdate::new(kind, Status::False, Reason::TargetNotFound, message),
        None => {
            ConditionUpdate::new(kind, Status::True, Reason::Resolved, "storage of the data center has every target")
        }
    }
}

fn networks_resolved(bond: &IscsiBond, findings: &Findings) -> ConditionUpdate {
    let kind = ConditionType::NetworksResolved;
    if let Some(message) = &findings.data_center_not_found {
        return ConditionUpdate::new(kind, Status::False, Reason::DataCenterNotFound, message);
    }
    match findings.unresolved_message(bond) {
        Some((reason, message)) => ConditionUpdate::new(kind, Status::False, reason, message),
        None => ConditionUpdate::new(kind, Status::True, Reason::Resolved, "every network is part of the data center"),
    }
}

fn fully_connected(findings: &Findings, own: Option<&BondAggregate>) -> ConditionUpdate {
    let kind = ConditionType::FullyConnected;
    if let Some(message) = &findings.data_center_not_found {
        return ConditionUpdate::new(kind, Status::Unknown, Reason::DataCenterNotFound, message);
    }
    let Some(own) = own else {
        return ConditionUpdate::new(kind, Status::False, Reason::Connecting, "paths are being connected");
    };
    if own.failed > 0 {
        let first = own.degraded.as_deref().or(own.lost.as_deref()).or(own.non_operational.as_deref());
        let first = first.unwrap_or("a host");
        return ConditionUpdate::new(
            kind,
            Status::False,
            Reason::PathsFailed,
            format!("paths have failed, the first on {first}"),
        );
    }
    if own.pending > 0 {
        return ConditionUpdate::new(kind, Status::False, Reason::Connecting, "paths are being connected");
    }
    if let Some(first) = &own.lost {
        let message = format!("a host has lost a target, the first is {first}");
        return ConditionUpdate::new(kind, Status::False, Reason::StorageLost, message);
    }
    if let Some(first) = &own.unknown {
        let message = format!("the agents of some hosts are silent, the first on {first}");
        return ConditionUpdate::new(kind, Status::Unknown, Reason::AgentSilent, message);
    }
    ConditionUpdate::new(kind, Status::True, Reason::AllPathsConnected, "every planned path is connected")
}

/// The Event about the bond's hosts: published when the first host gets a problem, and when the last problem is gone.
/// `NonOperational` hosts come before failed paths.
fn event(
    index: &Index,
    key: &ObjectKey,
    bond: &IscsiBond,
    before: &BondHostCounts,
    now: &BondHostCounts,
) -> Option<EventSpec> {
    let aggregates = aggregates(index, &key.beside(bond.spec.data_center.as_str()));
    let own = aggregates.as_deref().and_then(|aggregates| aggregates.bonds.get(&key.name));
    let non_operational = own.and_then(|own| own.non_operational.as_deref()).unwrap_or_default();
    let lost = own.and_then(|own| own.lost.as_deref()).map(|lost| format!("host {lost} is Lost"));
    let degraded = own.and_then(|own| own.degraded.as_deref()).unwrap_or_default();
    let failing = lost.unwrap_or_else(|| format!("host {degraded} is Degraded"));
    match (before.non_operational > 0, now.non_operational > 0) {
        (false, true) => Some(EventSpec::warning(
            EventReason::HostsNonOperational,
            format!("host {non_operational} is NonOperational: see its conditions for targets, portals and reasons"),
        )),
        (true, false) => Some(EventSpec::normal(
            EventReason::HostsOperational,
            "no host of the data center is NonOperational any more".to_owned(),
        )),
        (false, false) if !has_failed(before) && has_failed(now) => Some(EventSpec::warning(
            EventReason::PathsFailed,
            format!("{failing}: see its conditions for targets, portals and reasons"),
        )),
        (false, false) if has_failed(before) && !has_failed(now) => {
            Some(EventSpec::normal(EventReason::PathsRecovered, "no path of the bond is failed any more".to_owned()))
        }
        (false, false) | (true, true) => None,
    }
}

fn has_failed(hosts: &BondHostCounts) -> bool {
    hosts.degraded + hosts.lost + hosts.non_operational > 0
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::fixtures::{NOW, applied, cluster, condition, decide, key, message, object};

    fn bond(networks: &[&str]) -> Value {
        object("IscsiBond", "b", &json!({"dataCenter": "dc", "networks": networks}))
    }

    fn network(name: &str, data_center: &str) -> Value {
        object("Network", name, &json!({"dataCenter": data_center}))
    }

    fn status(index: &mut Index) -> Option<Value> {
        crate::controller::fixtures::status(decide(index, &key(ObjectKind::IscsiBond, "b"), NOW))
    }

    #[test]
    fn a_bond_whose_networks_exist_is_resolved_and_ready() {
        let mut index = cluster([object("DataCenter", "dc", &json!({})), network("san-a", "dc"), bond(&["san-a"])]);
        let written = status(&mut index).unwrap();
        assert_eq!(condition(&written, "NetworksResolved"), ("True", "Resolved"));
        assert_eq!(condition(&written, "Ready"), ("True", "Ready"));
        let mut again = bond(&["san-a"]);
        again["status"] = written;
        index.apply(applied(again), NOW);
        assert_eq!(status(&mut index), None, "it is written once");
    }

    #[test]
    fn a_bond_names_the_networks_that_do_not_exist() {
        let mut index =
            cluster([object("DataCenter", "dc", &json!({})), network("san-a", "dc"), bond(&["san-a", "typo"])]);
        let written = status(&mut index).unwrap();
        assert_eq!(condition(&written, "NetworksResolved"), ("False", "NetworkNotFound"));
        assert_eq!(condition(&written, "Ready"), ("False", "NetworkNotFound"));
        assert_eq!(written["summary"]["networks"], "san-a,typo");
        let message = message(&written, "NetworksResolved");
        assert!(message.contains("typo") && !message.contains("san-a"), "{message}");
    }

    #[test]
    fn a_bond_without_its_data_center_says_so() {
        let written = status(&mut cluster([bond(&["san-a"])])).unwrap();
        assert_eq!(condition(&written, "NetworksResolved"), ("False", "DataCenterNotFound"));
        assert_eq!(condition(&written, "FullyConnected"), ("Unknown", "DataCenterNotFound"));
    }

    #[test]
    fn a_bond_is_progressing_until_its_hosts_are_planned() {
        let host = object("Host", "h", &json!({"dataCenter": "dc", "nodeName": "h"}));
        let mut index =
            cluster([object("DataCenter", "dc", &json!({})), network("san-a", "dc"), bond(&["san-a"]), host]);
        assert_eq!(condition(&status(&mut index).unwrap(), "Ready"), ("False", "Progressing"));
        decide(&mut index, &key(ObjectKind::Host, "h"), NOW);
        assert_eq!(condition(&status(&mut index).unwrap(), "Ready"), ("True", "Ready"));
    }

    #[test]
    fn an_event_is_published_for_the_first_problem_and_the_last_recovery() {
        let index = cluster([bond(&[])]);
        let key = ObjectKey::new("ns", "b");
        let counts =
            |degraded, non_operational| BondHostCounts { degraded, non_operational, ..BondHostCounts::default() };
        let reason = |before: BondHostCounts, now: BondHostCounts| {
            event(&index, &key, index.bonds.get(&key).unwrap(), &before, &now).map(|event| event.reason)
        };
        assert_eq!(reason(counts(0, 0), counts(1, 0)), Some("PathsFailed"));
        assert_eq!(reason(counts(1, 0), counts(2, 0)), None, "not the first");
        assert_eq!(reason(counts(1, 0), counts(1, 1)), Some("HostsNonOperational"));
        assert_eq!(reason(counts(1, 1), counts(2, 0)), Some("HostsOperational"));
        assert_eq!(reason(counts(2, 0), counts(0, 0)), Some("PathsRecovered"));
    }
}
