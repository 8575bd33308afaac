//! A Network: who carries it, who names it, and its leave-taking.

use crate::{
    api::{
        Network, NetworkStatus, ObjectKey,
        condition::{self, Status, Verdict},
        reason::{ConditionType, Reason},
    },
    controller::{
        index::World,
        reconcile::{
            Settings,
            action::{Action, Outcome},
            aggregate as sums, finalizer as deletion,
            finalizer::Wait,
        },
        store::watched::is_being_deleted,
    },
    ops::Now,
    planner::{Kind, network_problems},
};

/// Decides for one Network.
pub(crate) fn reconcile(world: &World, key: &ObjectKey, settings: &Settings, now: Now) -> Outcome {
    let Some(network) = world.networks.get(key).filter(|_| world.networks.get_undecodable(key).is_none()) else {
        return Outcome::default();
    };
    let mut outcome = Outcome::default();
    let waiting_for = if is_being_deleted(&network.metadata) {
        let waiting_for = leave(world, key, network, &mut outcome);
        let wait = Wait::new(world, Kind::Network, key, waiting_for, now);
        deletion::let_go(Kind::Network, key, &network.metadata, &wait, settings, now, &mut outcome);
        wait.waiting_for
    } else {
        outcome.actions.extend(deletion::hold(Kind::Network, key, &network.metadata));
        Vec::new()
    };
    outcome.actions.extend(write(world, key, network, &waiting_for, now));
    outcome
}

fn write(world: &World, key: &ObjectKey, network: &Network, waiting_for: &[String], now: Now) -> Option<Action> {
    if is_being_deleted(&network.metadata) && waiting_for.is_empty() {
        return None;
    }
    let center = key.beside(network.spec.data_center.as_str());
    let nothing = NetworkStatus::default();
    let current = network.status.as_ref().unwrap_or(&nothing);
    let problem = network_problems(network, world.view(&center).as_deref());
    let kind = ConditionType::Ready;
    let ready = match problem {
        _ if !waiting_for.is_empty() => Verdict::new(
            kind,
            Status::False,
            Reason::Deleting,
            format!("waiting for {} to let go of it", sums::shortened(waiting_for)),
        ),
        Some(problem) => Verdict::new(kind, Status::False, problem.reason, problem.message),
        None => Verdict::new(kind, Status::True, Reason::Ready, "the network is part of its data center"),
    };
    let generation = network.metadata.generation;
    let desired = NetworkStatus {
        observed_generation: generation,
        hosts: sums::hosts_that_carry(world, &center, &key.name),
        bonds: sums::bonds_that_name(world, &center, &key.name),
        conditions: condition::merge(&current.conditions, vec![ready], generation, now.wall),
    };
    let differs = *current != desired;
    differs.then(|| Action::write_status(Kind::Network, key, &desired, network.metadata.uid.clone(), None))
}

/// Drops the network from the bonds of its data center, and tells which hosts still have to disconnect.
fn leave(world: &World, key: &ObjectKey, network: &Network, outcome: &mut Outcome) -> Vec<String> {
    let center_key = key.beside(network.spec.data_center.as_str());
    let Some(center) = world.center(&center_key) else { return Vec::new() };
    let mut waiting_for = Vec::new();
    // Once: whoever puts the name back meanwhile is told so by the bond, and is not fought.
    let conditions = network.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let dropped = condition::find(conditions, ConditionType::Ready)
        .is_some_and(|ready| ready.reason == Reason::Deleting.as_str());
    for bond in center.bonds.iter().map(|name| key.beside(name.clone())) {
        let networks = world.bonds.get(&bond).map(|bond| bond.spec.networks.as_slice()).unwrap_or_default();
        if !dropped && let Some(index) = networks.iter().position(|name| **name == *key.name) {
            waiting_for.push(format!("bond {}", bond.name));
            outcome.actions.push(Action::DropNetwork { bond, index, network: key.name.clone() });
        }
    }
    if world.data_centers.get(&center_key).is_some() {
        waiting_for.extend(deletion::unacknowledged(world, &center_key));
    }
    waiting_for
}
