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
        DataCenter, DataCenterStatus, MAX_PORTAL_FAILURES, NonOperationalTaint, ObjectKey, ObjectKind, PortalFailure,
        Summary,
        condition::{self, ConditionUpdate, Status},
        has_finalizer,
        reason::{ConditionType, EventReason, Reason},
    },
    controller::{
        index::Index,
        store::watched::{Undecodable, is_being_deleted},
    },
    ops::Now,
    planner::{View, data_center_problems},
};

/// Decides for one data center.
pub(super) fn reconcile(index: &Index, key: &ObjectKey, settings: &Settings, now: Now) -> Outcome {
    let mut outcome = decide(index, key, settings, now);
    let at_fault = aggregates(index, key).is_some_and(|aggregates| aggregates.storage_at_fault());
    outcome.memo.storage_at_fault = Some(at_fault);
    announce_storms(index, key, &mut outcome);
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
    let causes = causes.and_then(|causes| causes.message(&current.portals));
    let center = index.data_center(key);
    let generation = data_center.metadata.generation;
    let valid = storage_valid(index.view(key).as_deref(), key);
    let held = evictions_held(index, key, data_center);
    let evictions_held = held.is_some();
    let ready = ready(index, key, data_center, waiting_for);
    let reachable = portals_reachable(causes.as_deref());
    let event = portals_event(&current.portals, &portals, causes);
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

/// The Event about portals that begin to fail on more than one host, or about the end of all of these failures.
fn portals_event(before: &[PortalFailure], now: &[PortalFailure], causes: Option<String>) -> Option<EventSpec> {
    let known = now.iter().filter(|failure| before.iter().any(|known| known.place() == failure.place())).count();
    // What comes into a full list, in place of another, may have failed for long.
    let may_begin = before.len() < MAX_PORTAL_FAILURES || known == 0;
    if may_begin && known < now.len() {
        return causes.map(|causes| EventSpec::warning(EventReason::PortalsFailed, causes));
    }
    let ends = now.is_empty() && !before.is_empty();
    let note = || "no portal that failed on more than one host fails any more".to_owned();
    ends.then(|| EventSpec::normal(EventReason::PortalsRecovered, note()))
}

/// An Event about each storm: hosts that have changed at once, and most of them without an Event of their own. A storm needs
/// its Event whatever else there is to say about the data center, and whether or not its status changes.
fn announce_storms(index: &Index, key: &ObjectKey, outcome: &mut Outcome) {
    let uid = match (index.data_centers.get(key), index.data_centers.get_undecodable(key)) {
        (Some(data_center), _) => data_center.metadata.uid.clone(),
        (None, Some(bad)) => bad.outline.as_ref().and_then(|outline| outline.metadata.uid.clone()),
        (None, None) => return,
    };
    for (storm, host) in index.storms.unannounced(key) {
        let phase = storm.phase;
        let cause = storm.cause.as_ref().map(|(target, portal)| format!(" (portal {portal} of {target} fails)"));
        let note = format!(
            "many hosts became {phase} at once, such as {host}{}, and only the first of them have an Event: see status.hosts and status.portals",
            cause.unwrap_or_default()
        );
        let event = EventSpec::of_phase(phase, note);
        outcome.push(Action::AnnounceStorm { uid: uid.clone(), storm: storm.clone(), event });
    }
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
    use crate::api::Phase;
    use crate::controller::{
        fixtures::{
            NOW, TARGET, actions, applied, at, cluster, condition, decide, deleting, key, lease, object, read, status,
            storage,
        },
        index::state::PhaseChange,
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

    /// A host of `dc` whose only path is in this state.
    fn report(index: &mut Index, name: &str, state: &str) {
        let mut host = object("Host", name, &json!({"dataCenter": "dc", "nodeName": name}));
        host["metadata"]["finalizers"] = json!([crate::api::FINALIZER]);
        index.apply(applied(lease(name, 40)), NOW);
        index.apply(applied(host.clone()), NOW);
        let mut written = status(decide(index, &key(ObjectKind::Host, name), NOW)).unwrap();
        written["connections"] = json!([{"target": TARGET, "portal": "10.0.0.1:3260", "tpgt": 1, "state": state,
            "since": "1970-01-01T00:00:00Z"}]);
        written["agent"] =
            json!({"observedRevision": written["plan"]["revision"], "observedSequence": written["plan"]["sequence"]});
        host["status"] = written;
        index.apply(applied(host), NOW);
        decide(index, &key(ObjectKind::Host, name), NOW);
    }

    /// Carries out a decision for `dc`: its status is written and its storms have their Events. Returns all Events.
    fn events(index: &mut Index) -> Vec<String> {
        let (mut events, mut object) = (Vec::new(), data_center("dc"));
        for step in reconcile(index).steps {
            events.extend(match step.action {
                Action::WriteStatus { fields, event, .. } => {
                    object["status"] = Value::Object(fields.0);
                    index.apply(applied(object.clone()), NOW);
                    event
                }
                Action::AnnounceStorm { storm, event, .. } => {
                    index.storms.announced(&storm);
                    Some(event)
                }
                action => panic!("{action:?}"),
            });
        }
        events.into_iter().map(|event| event.reason.to_owned()).collect()
    }

    fn storm(index: &mut Index, phase: Phase) -> PhaseChange {
        let change = PhaseChange { data_center: ObjectKey::new("ns", "dc"), phase, cause: None };
        for number in 0..20 {
            index.storms.note(change.clone(), &format!("h{number}"), NOW.monotonic);
        }
        change
    }

    #[test]
    fn a68_storms_beside_each_other_and_a_failing_portal_all_have_events() {
        let mut index = cluster([data_center("dc")]);
        for host in ["h1", "h2"] {
            report(&mut index, host, "Failed");
        }
        storm(&mut index, Phase::Lost);
        storm(&mut index, Phase::Degraded);
        let mut said = events(&mut index);
        said.sort();
        assert_eq!(said, ["Degraded", "Lost", "PortalsFailed"]);
        assert_eq!(events(&mut index), [""; 0], "each has one Event");
    }

    #[test]
    fn a68_a_storm_is_announced_until_its_event_is_published() {
        let mut index = cluster([data_center("dc")]);
        events(&mut index);
        let lost = storm(&mut index, Phase::Lost);
        assert_eq!(actions(&reconcile(&mut index)), ["event"], "the status stays as it is");
        assert_eq!(actions(&reconcile(&mut index)), ["event"], "it was not published");
        index.storms.announced(&lost);
        assert_eq!(actions(&reconcile(&mut index)), [""; 0]);
    }

    #[test]
    fn a63_a_portal_that_fails_on_one_host_and_two_in_turn_has_one_event() {
        let mut index = cluster([data_center("dc")]);
        let mut said = Vec::new();
        for state in ["Failed", "Failed", "Connected", "Failed", "Connected"] {
            for host in ["h1", "h2"] {
                report(&mut index, host, if host == "h1" { "Failed" } else { state });
            }
            said.extend(events(&mut index));
        }
        assert_eq!(said, ["PortalsFailed"]);
        report(&mut index, "h1", "Connected");
        assert_eq!(events(&mut index), ["PortalsRecovered"]);
    }

    #[test]
    fn a63_a_portal_that_comes_into_a_full_list_has_no_event() {
        let since = json!("1970-01-01T00:00:00Z");
        let entry = |port: usize| json!({"target": TARGET, "portal": format!("10.0.0.1:{port}"), "failed": 2, "hosts": 2, "since": since});
        let list =
            |ports: std::ops::Range<usize>| -> Vec<PortalFailure> { ports.map(|port| read(entry(port))).collect() };
        let reason = |before: &[PortalFailure], now: &[PortalFailure]| {
            portals_event(before, now, Some("causes".to_owned())).map(|event| event.reason)
        };
        assert_eq!(reason(&list(1..33), &list(2..34)), None, "one of 33 has recovered");
        assert_eq!(reason(&list(1..33), &list(33..65)), Some("PortalsFailed"), "all are others");
        assert_eq!(reason(&list(1..32), &list(1..33)), Some("PortalsFailed"));
        assert_eq!(reason(&list(1..33), &list(1..33)), None);
    }
}
