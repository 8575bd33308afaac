//! A `DataCenter`: its status, the Hosts that are generated for it, and what is deleted with it.

use kube::api::ObjectMeta;

use super::{
    Settings,
    action::{Action, EventSpec, Outcome, Requires, Step},
    aggregate::{aggregates, few_names},
    finalizer::{Wait, ensure_finalizer, finalize, unacknowledged},
    generated_hosts,
    ownership::owner_reference,
};
use crate::{
    api::{
        DataCenter, DataCenterStatus, NonOperationalTaint, ObjectKey, ObjectKind, Phase, PortalFailure, Summary,
        condition::{self, ConditionUpdate, Status},
        has_finalizer,
        reason::{ConditionType, EventReason, Reason},
    },
    controller::{
        index::Index,
        store::watched::{Undecodable, is_being_deleted},
    },
    ops::Now,
    planner::{Causes, View, data_center_problems},
};

/// Decides for one data center.
pub(super) fn reconcile(index: &Index, key: &ObjectKey, settings: &Settings, now: Now) -> Outcome {
    let mut outcome = decide(index, key, settings, now);
    let at_fault = aggregates(index, key).is_some_and(|aggregates| aggregates.storage_at_fault());
    outcome.memo.storage_at_fault = Some(at_fault);
    outcome.memo.storms_announced = true;
    outcome
}

fn decide(index: &Index, key: &ObjectKey, settings: &Settings, now: Now) -> Outcome {
    let mut outcome = Outcome::default();
    if let Some(bad) = index.data_centers.get_undecodable(key) {
        outcome.extend(write_frozen(index, key, bad, now));
        return outcome;
    }
    let Some(data_center) = index.data_centers.get(key) else { return outcome };
    let mut waiting_for = Vec::new();
    let mut hosts_made = None;
    if is_being_deleted(&data_center.metadata) {
        waiting_for = delete_children(index, key, data_center, &mut outcome);
        let wait = Wait::new(index, ObjectKind::DataCenter, key, waiting_for.clone(), now);
        finalize(ObjectKind::DataCenter, key, &data_center.metadata, &wait, settings, now, &mut outcome);
        if waiting_for.is_empty() {
            return outcome;
        }
    } else {
        outcome.extend(ensure_finalizer(ObjectKind::DataCenter, key, &data_center.metadata));
        if index.frozen(key).is_none() && !index.terminating(&key.namespace) && index.nodes.filled() {
            hosts_made = generated_hosts::reconcile(index, key, data_center, now, &mut outcome);
        }
    }
    outcome.extend(write(index, key, data_center, hosts_made, &waiting_for, now));
    outcome
}

fn write(
    index: &Index,
    key: &ObjectKey,
    data_center: &DataCenter,
    hosts_made: Option<ConditionUpdate>,
    waiting_for: &[String],
    now: Now,
) -> Option<Action> {
    let nothing = DataCenterStatus::default();
    let current = data_center.status.as_ref().unwrap_or(&nothing);
    let aggregates = aggregates(index, key);
    let hosts = aggregates.as_ref().map(|aggregates| aggregates.phases).unwrap_or_default();
    let causes = aggregates.as_ref().map(|aggregates| &aggregates.causes);
    let portals = causes.map(|causes| causes.entries(&current.portals, now.wall)).unwrap_or_default();
    let causes = causes.and_then(Causes::message);
    let center = index.data_center(key);
    let generation = data_center.metadata.generation;
    let valid = storage_valid(index.view(key).as_deref(), key);
    let held = evictions_held(index, key, data_center);
    let evictions_held = held.is_some();
    let ready = ready(index, key, data_center, waiting_for);
    let reachable = portals_reachable(causes.as_deref());
    let event = event(index, key, &current.portals, &portals, causes);
    let updates = [Some(valid), Some(reachable), hosts_made, held, Some(ready)].into_iter().flatten().collect();
    let mut conditions = condition::merge(&current.conditions, updates, generation, now.wall);
    if data_center.spec.hosts.is_none() {
        conditions = condition::without(&conditions, ConditionType::HostsMade);
    }
    if !evictions_held {
        conditions = condition::without(&conditions, ConditionType::EvictionsHeld);
    }
    let desired = DataCenterStatus {
        observed_generation: generation,
        hosts,
        bonds: count(center.map_or(0, |center| center.bonds.len())),
        networks: count(center.map_or(0, |center| center.networks.len())),
        storage: count(data_center.spec.storage.len()),
        portals,
        summary: Summary { hosts: Some(format!("{}/{}", hosts.up, hosts.total)), ..Summary::default() },
        conditions,
    };
    if *current == desired {
        return None;
    }
    Action::write_status(ObjectKind::DataCenter, key, data_center.metadata.uid.as_ref(), &desired, event)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Reports that a data center that cannot be decoded is frozen, if its status can be decoded.
fn write_frozen(index: &Index, key: &ObjectKey, bad: &Undecodable<DataCenter>, now: Now) -> Option<Action> {
    let outline = bad.outline.as_ref()?;
    let status = outline.status.as_ref()?;
    let generation = outline.metadata.generation;
    let ready = ready(index, key, outline, &[]);
    let conditions = condition::merge(&status.conditions, vec![ready], generation, now.wall);
    let desired = DataCenterStatus { observed_generation: generation, conditions, ..status.clone() };
    if desired == *status {
        return None;
    }
    Action::write_status(ObjectKind::DataCenter, key, outline.metadata.uid.as_ref(), &desired, None)
}

fn storage_valid(view: Option<&View>, key: &ObjectKey) -> ConditionUpdate {
    let problems = view.map(|view| data_center_problems(view, &key.namespace, &key.name)).unwrap_or_default();
    let kind = ConditionType::StorageValid;
    match problems.first() {
        None => ConditionUpdate::new(kind, Status::True, Reason::Valid, "the storage is valid"),
        Some(first) => {
            let all: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
            ConditionUpdate::new(kind, Status::False, first.reason, all.join("; "))
        }
    }
}

/// Says what fails on more than one host.
fn portals_reachable(causes: Option<&str>) -> ConditionUpdate {
    let kind = ConditionType::PortalsReachable;
    match causes {
        Some(causes) => ConditionUpdate::new(kind, Status::False, Reason::PortalsFailed, causes),
        None => ConditionUpdate::new(kind, Status::True, Reason::Reachable, "no portal fails on more than one host"),
    }
}

/// The Event about portals that begin to fail on more than one host, or about the last of them. Else about hosts that have
/// changed at once and have no Event of their own.
fn event(
    index: &Index,
    key: &ObjectKey,
    before: &[PortalFailure],
    now: &[PortalFailure],
    causes: Option<String>,
) -> Option<EventSpec> {
    let same =
        |a: &PortalFailure, b: &PortalFailure| (&a.target, &a.portal, &a.network) == (&b.target, &b.portal, &b.network);
    let begins = now.iter().any(|failure| !before.iter().any(|known| same(known, failure)));
    if begins && let Some(causes) = causes {
        return Some(EventSpec::warning(EventReason::PortalsFailed, causes));
    }
    if let Some((phase, host)) = index.storms.unannounced(key).first() {
        let warning = !matches!(phase, Phase::Up | Phase::Maintenance | Phase::Connecting | Phase::Unassigned);
        let note = format!(
            "many hosts became {phase} at once, such as {host}, and only the first of them have an Event: see status.hosts and status.portals"
        );
        return Some(EventSpec { warning, reason: phase.as_str(), note });
    }
    let ends = now.is_empty() && !before.is_empty();
    ends.then(|| {
        EventSpec::normal(EventReason::PortalsRecovered, "no portal fails on more than one host any more".to_owned())
    })
}

/// Says that no host is evicted, and why; `None` while evictions are not held back, or not wanted.
fn evictions_held(index: &Index, key: &ObjectKey, data_center: &DataCenter) -> Option<ConditionUpdate> {
    if data_center.spec.non_operational_taint != NonOperationalTaint::NoExecute {
        return None;
    }
    let aggregates = aggregates(index, key).filter(|aggregates| aggregates.storage_at_fault())?;
    let (target, missed) = aggregates.most_missed_target()?;
    let message = format!(
        "{} of {} hosts have no session to some target, most of them ({missed}) none to {target}: the storage seems to have failed, and not the hosts, so no host is evicted",
        aggregates.lacking, aggregates.known,
    );
    Some(ConditionUpdate::new(ConditionType::EvictionsHeld, Status::True, Reason::StorageUnreachable, message))
}

fn ready(index: &Index, key: &ObjectKey, data_center: &DataCenter, waiting_for: &[String]) -> ConditionUpdate {
    let (status, reason, message) = if is_being_deleted(&data_center.metadata) || index.terminating(&key.namespace) {
        let message = match waiting_for {
            [] => "its namespace is being deleted".to_owned(),
            waiting_for => format!("waiting for {}", few_names(waiting_for)),
        };
        (Status::False, Reason::Deleting, message)
    } else if let Some(message) = index.frozen(key) {
        (Status::False, Reason::Frozen, message)
    } else if let Some(too_large) = index.view(key).as_deref().and_then(View::too_large) {
        (Status::False, Reason::PlanTooLarge, too_large.to_string())
    } else {
        (Status::True, Reason::Ready, "the plans of its hosts are up to date".to_owned())
    };
    ConditionUpdate::new(ConditionType::Ready, status, reason, message)
}

/// Deletes the bonds, the networks and the generated Hosts of a data center that is being deleted, also with
/// `--cascade=orphan`. Hosts of users stay, and log out. Returns the names that the deletion has to wait for.
fn delete_children(index: &Index, key: &ObjectKey, data_center: &DataCenter, outcome: &mut Outcome) -> Vec<String> {
    let bonds = index.bonds_of(key).into_iter().map(|(child, metadata)| (ObjectKind::IscsiBond, child, metadata));
    let networks = index.networks_of(key).into_iter().map(|(child, metadata)| (ObjectKind::Network, child, metadata));
    let hosts = generated_hosts::generated_for(index, key);
    let hosts = hosts.into_iter().map(|(child, host)| (ObjectKind::Host, child, &host.metadata));
    let (mut waiting_for, mut deleted) = (Vec::new(), Vec::new());
    for (kind, child, metadata) in bonds.chain(networks).chain(hosts) {
        // The deletion does not wait for finalizers of others.
        if !is_being_deleted(metadata) || has_finalizer(metadata) {
            waiting_for.push(format!("{kind} {}", child.name));
        }
        if !is_being_deleted(metadata) {
            deleted.push(format!("{kind} {}", child.name));
            outcome.steps.extend(delete_child(kind, child, metadata, data_center));
        }
    }
    if !deleted.is_empty() {
        let note = format!("deleted with the data center: {}", few_names(&deleted));
        let (uid, event) = (data_center.metadata.uid.clone(), EventSpec::normal(EventReason::MembersDeleted, note));
        outcome.push(Action::PublishEvent { kind: ObjectKind::DataCenter, key: key.clone(), uid, event, once: true });
    }
    waiting_for.extend(unacknowledged(index, key));
    waiting_for
}

/// Deletes an object of the data center. If the data center is not its owner yet, it becomes the owner first.
fn delete_child(kind: ObjectKind, child: ObjectKey, metadata: &ObjectMeta, data_center: &DataCenter) -> Vec<Step> {
    let owner = owner_reference(data_center);
    let mut owners = metadata.owner_references.clone().unwrap_or_default();
    let delete = Action::Delete { kind, key: child.clone(), uid: metadata.uid.clone() };
    if owners.iter().any(|known| known.uid == owner.uid) {
        return vec![delete.into()];
    }
    owners.push(owner);
    let set_owners = Action::SetOwners { kind, key: child, owners, version: metadata.resource_version.clone() };
    vec![set_owners.into(), Step { action: delete, requires: Requires::Previous }]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::fixtures::{
        NOW, actions, applied, at, cluster, condition, decide, deleting, key, object, read, status, storage,
    };

    fn data_center(name: &str) -> Value {
        let mut object = object("DataCenter", name, &json!({"storage": storage("10.0.0.1")}));
        object["metadata"]["finalizers"] = json!([crate::api::FINALIZER]);
        object
    }

    fn reconcile(index: &mut Index) -> Outcome {
        decide(index, &key(ObjectKind::DataCenter, "dc"), NOW)
    }

    #[test]
    fn a_valid_data_center_is_ready_and_written_once() {
        let mut index = cluster([data_center("dc"), object("Network", "n", &json!({"dataCenter": "dc"}))]);
        let written = status(reconcile(&mut index)).unwrap();
        assert_eq!(condition(&written, "Ready"), ("True", "Ready"));
        assert_eq!(condition(&written, "StorageValid"), ("True", "Valid"));
        assert_eq!((&written["networks"], &written["storage"]), (&json!(1), &json!(1)));
        let mut again = data_center("dc");
        again["status"] = written;
        index.apply(applied(again), NOW);
        assert_eq!(actions(&reconcile(&mut index)), [""; 0]);
    }

    #[test]
    fn a_data_center_with_an_unreadable_network_is_frozen() {
        let mut index =
            cluster([data_center("dc"), object("Network", "n", &json!({"dataCenter": "dc", "subnets": 7}))]);
        assert_eq!(condition(&status(reconcile(&mut index)).unwrap(), "Ready"), ("False", "Frozen"));
    }

    #[test]
    fn a_data_center_that_is_being_deleted_deletes_its_children_and_waits() {
        let network = object("Network", "n", &json!({"dataCenter": "dc"}));
        let mut index = cluster([deleting(data_center("dc")), network.clone()]);
        let outcome = reconcile(&mut index);
        assert_eq!(actions(&outcome), ["owners", "delete", "event", "status"]);
        assert_eq!(outcome.steps[1].requires, Requires::Previous, "a child without its owner is not deleted");
        assert!(outcome.recheck_at.is_some());
        let gone = read(network);
        index.apply(
            crate::controller::store::Change::Network(crate::controller::store::watched::Event::Deleted(gone)),
            NOW,
        );
        assert_eq!(actions(&reconcile(&mut index)), ["finalizers"]);
    }

    #[test]
    fn a_deletion_of_a_data_center_that_times_out_removes_the_finalizer_first() {
        let network = deleting(object("Network", "n", &json!({"dataCenter": "dc"})));
        let mut index = cluster([deleting(data_center("dc")), network]);
        assert_eq!(actions(&reconcile(&mut index)), ["status"]);
        let outcome = decide(&mut index, &key(ObjectKind::DataCenter, "dc"), at(120));
        assert_eq!(actions(&outcome), ["finalizers", "event", "status"]);
    }
}
