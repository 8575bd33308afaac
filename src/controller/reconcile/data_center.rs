//! A `DataCenter`: its sums, and what goes with it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, api::ObjectMeta};

use crate::{
    api::{
        DataCenter, DataCenterStatus, ObjectKey, Summary,
        condition::{self, Status, Verdict},
        has_finalizer,
        reason::{ConditionType, Reason},
    },
    controller::{
        index::World,
        reconcile::{
            Settings,
            action::{Action, Outcome},
            aggregate::shortened,
            finalizer as deletion,
            finalizer::Wait,
            generated_hosts as made_hosts,
        },
        store::watched::{Undecodable, is_being_deleted},
    },
    ops::Now,
    planner::{Kind, View, data_center_problems},
};

/// Decides for one data center.
pub(crate) fn reconcile(world: &World, key: &ObjectKey, settings: &Settings, now: Now) -> Outcome {
    if let Some(bad) = world.data_centers.get_undecodable(key) {
        return undecodable(world, key, bad, now);
    }
    let Some(data_center) = world.data_centers.get(key) else { return Outcome::default() };
    let mut outcome = Outcome::default();
    let mut waiting_for = Vec::new();
    let mut made = None;
    if is_being_deleted(&data_center.metadata) {
        waiting_for = leave(world, key, data_center, &mut outcome);
        let wait = Wait::new(world, Kind::DataCenter, key, waiting_for.clone(), now);
        deletion::let_go(Kind::DataCenter, key, &data_center.metadata, &wait, settings, now, &mut outcome);
        if waiting_for.is_empty() {
            return outcome;
        }
    } else {
        outcome.actions.extend(deletion::hold(Kind::DataCenter, key, &data_center.metadata));
        if world.frozen(key).is_none() && !world.terminating(&key.namespace) && world.nodes.filled() {
            made = made_hosts::reconcile(world, key, data_center, now, &mut outcome);
        }
    }
    outcome.actions.extend(write(world, key, data_center, made, &waiting_for, now));
    outcome
}

fn write(
    world: &World,
    key: &ObjectKey,
    data_center: &DataCenter,
    made: Option<Verdict>,
    waiting_for: &[String],
    now: Now,
) -> Option<Action> {
    let nothing = DataCenterStatus::default();
    let current = data_center.status.as_ref().unwrap_or(&nothing);
    let hosts = world.sums(key).map(|sums| sums.phases).unwrap_or_default();
    let center = world.center(key);
    let count = |n: Option<usize>| u32::try_from(n.unwrap_or(0)).unwrap_or(u32::MAX);
    let generation = data_center.metadata.generation;
    let valid = storage_valid(world.view(key).as_deref(), key);
    let verdicts =
        [Some(valid), made, Some(ready(world, key, data_center, waiting_for))].into_iter().flatten().collect();
    let mut conditions = condition::merge(&current.conditions, verdicts, generation, now.wall);
    if data_center.spec.hosts.is_none() {
        conditions = condition::without(&conditions, ConditionType::HostsMade);
    }
    let desired = DataCenterStatus {
        observed_generation: generation,
        hosts,
        bonds: count(center.map(|center| center.bonds.len())),
        networks: count(center.map(|center| center.networks.len())),
        storage: count(Some(data_center.spec.storage.len())),
        summary: Summary { hosts: Some(format!("{}/{}", hosts.up, hosts.total)), paths: None },
        conditions,
    };
    (*current != desired)
        .then(|| Action::write_status(Kind::DataCenter, key, &desired, data_center.metadata.uid.clone(), None))
}

/// Says of a data center that cannot be decoded that it stands still, if its status can be read.
fn undecodable(world: &World, key: &ObjectKey, bad: &Undecodable<DataCenter>, now: Now) -> Outcome {
    let outline = bad.outline.as_ref().and_then(|outline| Some((outline, outline.status.as_ref()?)));
    let Some((outline, status)) = outline else { return Outcome::default() };
    let generation = outline.metadata.generation;
    let ready = ready(world, key, outline, &[]);
    let conditions = condition::merge(&status.conditions, vec![ready], generation, now.wall);
    let desired = DataCenterStatus { observed_generation: generation, conditions, ..status.clone() };
    let uid = outline.metadata.uid.clone();
    let write = (desired != *status).then(|| Action::write_status(Kind::DataCenter, key, &desired, uid, None));
    Outcome { actions: write.into_iter().collect(), recheck_at: None }
}

fn storage_valid(view: Option<&View>, key: &ObjectKey) -> Verdict {
    let problems = view.map(|view| data_center_problems(view, &key.namespace, &key.name)).unwrap_or_default();
    let kind = ConditionType::StorageValid;
    match problems.first() {
        None => Verdict::new(kind, Status::True, Reason::Valid, "the storage is listed without contradiction"),
        Some(first) => {
            let all: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
            Verdict::new(kind, Status::False, first.reason, all.join("; "))
        }
    }
}

fn ready(world: &World, key: &ObjectKey, data_center: &DataCenter, waiting_for: &[String]) -> Verdict {
    let ready = |status, reason: Reason, message: &str| Verdict::new(ConditionType::Ready, status, reason, message);
    if is_being_deleted(&data_center.metadata) || world.terminating(&key.namespace) {
        let message = format!("waiting for {}", shortened(waiting_for));
        return ready(
            Status::False,
            Reason::Deleting,
            if waiting_for.is_empty() { "its namespace is being deleted" } else { &message },
        );
    }
    match world.frozen(key) {
        Some(message) => ready(Status::False, Reason::Frozen, &message),
        None => ready(Status::True, Reason::Ready, "plans follow from what is declared"),
    }
}

pub(super) fn owner_reference(data_center: &DataCenter) -> OwnerReference {
    OwnerReference { block_owner_deletion: Some(true), ..data_center.owner_ref(&()).unwrap_or_default() }
}

/// A data center that is being deleted takes its bonds, its networks and the Hosts made for it along, however it is
/// deleted; users' Hosts stay, with their sessions logged out. What is still to be waited for is returned.
fn leave(world: &World, key: &ObjectKey, data_center: &DataCenter, outcome: &mut Outcome) -> Vec<String> {
    let owner = owner_reference(data_center);
    let mut waiting_for = Vec::new();
    let mut take = |kind: Kind, child: ObjectKey, metadata: &ObjectMeta| {
        let deleting = is_being_deleted(metadata);
        // For finalizers of others it is not waited.
        if !deleting || has_finalizer(metadata) {
            waiting_for.push(format!("{kind} {}", child.name));
        }
        if deleting {
            return;
        }
        let owners = metadata.owner_references.clone().unwrap_or_default();
        if !owners.iter().any(|known| known.uid == owner.uid) {
            let owners = owners.into_iter().chain([owner.clone()]).collect();
            let version = metadata.resource_version.clone();
            outcome.actions.push(Action::SetOwners { kind, key: child.clone(), owners, version });
        }
        outcome.actions.push(Action::Delete { kind, key: child, uid: metadata.uid.clone() });
    };
    for (child, metadata) in world.bonds_of(key) {
        take(Kind::IscsiBond, child, metadata);
    }
    for (child, metadata) in world.networks_of(key) {
        take(Kind::Network, child, metadata);
    }
    let mut made: Vec<_> = made_hosts::made_for(world, key).collect();
    made.sort_by(|a, b| a.0.cmp(&b.0));
    for (child, host) in made {
        take(Kind::Host, child, &host.metadata);
    }
    waiting_for.extend(deletion::unacknowledged(world, key));
    waiting_for
}
