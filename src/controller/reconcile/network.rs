//! A Network: its status, and its deletion.

use super::{
    Settings,
    action::{Action, EventSpec, Outcome, Requires, Step},
    aggregate::{bonds_naming, few_names, hosts_with_network},
    finalizer::{Wait, ensure_finalizer, finalize, unacknowledged},
};
use crate::{
    api::{
        Network, NetworkStatus, ObjectKey, ObjectKind, Summary,
        condition::{self, ConditionUpdate, Status},
        reason::{ConditionType, EventReason, Reason},
    },
    controller::{index::Index, store::watched::is_being_deleted},
    ops::Now,
    planner::{Problem, network_problem},
};

/// Decides for one Network.
pub(super) fn reconcile(index: &Index, key: &ObjectKey, settings: &Settings, now: Now) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(network) = index.networks.get(key).filter(|_| index.networks.get_undecodable(key).is_none()) else {
        return outcome;
    };
    if !is_being_deleted(&network.metadata) {
        outcome.extend(ensure_finalizer(ObjectKind::Network, key, &network.metadata));
        outcome.extend(write(index, key, network, &[], now));
        return outcome;
    }
    let waiting_for = drop_from_bonds(index, key, network, &mut outcome);
    let wait = Wait::new(index, ObjectKind::Network, key, waiting_for, now);
    finalize(ObjectKind::Network, key, &network.metadata, &wait, settings, now, &mut outcome);
    // The status records that the bonds do not name the network any more, so it is written only after that succeeded.
    let write = write(index, key, network, &wait.waiting_for, now);
    outcome.steps.extend(write.map(|action| Step { action, requires: Requires::AllBefore }));
    outcome
}

fn write(index: &Index, key: &ObjectKey, network: &Network, waiting_for: &[String], now: Now) -> Option<Action> {
    if is_being_deleted(&network.metadata) && waiting_for.is_empty() {
        return None;
    }
    let dc_key = key.beside(network.spec.data_center.as_str());
    let nothing = NetworkStatus::default();
    let current = network.status.as_ref().unwrap_or(&nothing);
    let view = index.view(&dc_key);
    let problem = network_problem(network, view.as_deref());
    let (missing, overlap) = if view.is_none() { (problem, None) } else { (None, problem) };
    let kind = ConditionType::Ready;
    let distinct = distinct(missing.as_ref(), overlap);
    let ready = match missing {
        _ if !waiting_for.is_empty() => ConditionUpdate::new(
            kind,
            Status::False,
            Reason::Deleting,
            format!("waiting for {} to stop using it", few_names(waiting_for)),
        ),
        Some(problem) => ConditionUpdate::new(kind, Status::False, problem.reason, problem.message),
        None => ConditionUpdate::new(kind, Status::True, Reason::Ready, "the network is part of its data center"),
    };
    let generation = network.metadata.generation;
    let bonds = bonds_naming(index, &dc_key, &key.name);
    let desired = NetworkStatus {
        observed_generation: generation,
        hosts: hosts_with_network(index, &dc_key, &key.name),
        summary: Summary {
            bonds: Summary::list(&bonds),
            subnets: Summary::list(&network.spec.subnets),
            ..Summary::default()
        },
        bonds,
        conditions: condition::merge(&current.conditions, vec![distinct, ready], generation, now.wall),
    };
    if *current == desired {
        return None;
    }
    Action::write_status(ObjectKind::Network, key, network.metadata.uid.as_ref(), &desired, None)
}

/// Overlapping subnets do not make a network unusable, so they are a condition of their own.
fn distinct(missing: Option<&Problem>, overlap: Option<Problem>) -> ConditionUpdate {
    let kind = ConditionType::SubnetsDistinct;
    match (missing, overlap) {
        (Some(missing), _) => ConditionUpdate::new(kind, Status::Unknown, missing.reason, &missing.message),
        (None, Some(overlap)) => ConditionUpdate::new(kind, Status::False, overlap.reason, overlap.message),
        (None, None) => {
            ConditionUpdate::new(kind, Status::True, Reason::Distinct, "no other network has an address of its subnets")
        }
    }
}

/// Removes the network from the bonds of its data center. Returns the names that the deletion has to wait for.
fn drop_from_bonds(index: &Index, key: &ObjectKey, network: &Network, outcome: &mut Outcome) -> Vec<String> {
    let dc_key = key.beside(network.spec.data_center.as_str());
    let Some(center) = index.data_center(&dc_key) else { return Vec::new() };
    let mut waiting_for = Vec::new();
    // Only once: a user who puts the name back meanwhile sees the problem in the bond's conditions.
    let conditions = network.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let dropped = condition::find(conditions, ConditionType::Ready)
        .is_some_and(|ready| ready.reason == Reason::Deleting.as_str());
    for bond_key in center.bonds.iter().map(|name| key.beside(name.clone())) {
        let Some(bond) = index.bonds.get(&bond_key) else { continue };
        if !dropped && let Some(at) = bond.spec.networks.iter().position(|name| *name == key.name) {
            waiting_for.push(format!("bond {}", bond_key.name));
            let uid = bond.metadata.uid.clone();
            let note = format!(
                "Network {} is being deleted, and was removed from spec.networks; creating it again does not bring it back here",
                key.name
            );
            let event = EventSpec::normal(EventReason::NetworkDropped, note);
            outcome.push(Action::DropNetwork { bond: bond_key, uid, at, network: key.name.clone().into(), event });
        }
    }
    if index.data_centers.get(&dc_key).is_some() {
        waiting_for.extend(unacknowledged(index, &dc_key));
    }
    waiting_for
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::fixtures::{
        NOW, actions, applied, cluster, condition, decide, deleting, key, object, status,
    };

    fn bond(networks: &[&str]) -> Value {
        object("IscsiBond", "b", &json!({"dataCenter": "dc", "networks": networks}))
    }

    fn network() -> Value {
        object("Network", "san-a", &json!({"dataCenter": "dc"}))
    }

    fn reconcile(index: &mut Index) -> Outcome {
        decide(index, &key(ObjectKind::Network, "san-a"), NOW)
    }

    #[test]
    fn a_new_network_gets_its_finalizer_and_counts_its_bonds() {
        let mut index = cluster([object("DataCenter", "dc", &json!({})), network(), bond(&["san-a"])]);
        let outcome = reconcile(&mut index);
        assert_eq!(actions(&outcome), ["finalizers", "status"]);
        let written = status(outcome).unwrap();
        assert_eq!((&written["bonds"], &written["summary"]), (&json!(["b"]), &json!({"bonds": "b"})));
        assert_eq!(condition(&written, "Ready"), ("True", "Ready"));
    }

    #[test]
    fn a_network_that_is_being_deleted_is_dropped_from_its_bonds_once() {
        let mut index =
            cluster([object("DataCenter", "dc", &json!({})), deleting(network()), bond(&["san-b", "san-a"])]);
        let outcome = reconcile(&mut index);
        assert_eq!(actions(&outcome), ["drop-network", "status"]);
        let Action::DropNetwork { at: 1, event, .. } = &outcome.steps[0].action else { panic!("{outcome:?}") };
        assert!(event.reason == "NetworkDropped" && event.note.contains("Network san-a"), "{event:?}");
        assert!(!outcome.steps[1].requires.is_met(&[false]), "a name that is still there is dropped again");
        let mut told = deleting(network());
        told["status"] = status(outcome).unwrap();
        index.apply(applied(told), NOW);
        assert_eq!(actions(&reconcile(&mut index)), ["finalizers"], "a user has put it back");
    }

    #[test]
    fn a_network_that_no_host_uses_is_deleted_at_once() {
        let mut index = cluster([object("DataCenter", "dc", &json!({})), deleting(network())]);
        assert_eq!(actions(&reconcile(&mut index)), ["finalizers"]);
    }
}
