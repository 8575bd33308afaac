//! A Node: our condition and our taint on it, for the scheduler.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::apis::meta::v1::Time};

use super::{
    Moment,
    action::{Action, NodeCondition, Outcome},
    host::HostState,
    key::ObjectKey,
    watched::NodePart,
    world::World,
};
use crate::api::{
    Host, NODE_CONDITION, NODE_TAINT, NonOperationalTaint, Phase,
    condition::{self, Status},
    reason::ConditionType,
};

/// The effect that evicts.
const NO_EXECUTE: &str = "NoExecute";
/// Between two hosts that are evicted.
const EVICTION_PAUSE: Duration = Duration::from_secs(10);
/// Taints that are this young are withdrawn when it turns out that the storage is at fault.
const WITHDRAWN: Duration = Duration::from_secs(300);

/// Decides for one Node.
pub(crate) fn reconcile(world: &World, name: &Arc<str>, now: Moment) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(node) = world.nodes.get(&ObjectKey::new("", name)) else { return outcome };
    let host = world.claimant(name).and_then(|key| Some((key, world.hosts.get(key)?)));
    let in_service = host.and_then(|(key, host)| {
        let state = world.state(key)?;
        state.plan.in_service().then_some((key, host, state))
    });
    // A host that nothing was decided for yet may be in service: nothing is taken away.
    let undecided = host.is_some_and(|(key, _)| world.state(key).is_none());
    if undecided {
        return outcome;
    }
    outcome.actions.extend(condition(name, node, in_service.map(|(_, host, _)| host), now.wall));
    let desired = match in_service {
        None => Desired::No,
        Some((key, host, state)) => desired_taint(world, key, host, state),
    };
    taint(
        world,
        name,
        node,
        desired,
        in_service.map(|(key, host, _)| key.beside(&host.spec.data_center)),
        now,
        &mut outcome,
    );
    outcome
}

/// The Operational verdict, where the scheduler's people look. Unknown changes nothing.
fn condition(name: &Arc<str>, node: &NodePart, host: Option<&Host>, now: Timestamp) -> Option<Action> {
    let Some(host) = host else { return drop_condition(name, node) };
    let current = node.status.conditions.iter().find(|condition| condition.kind == NODE_CONDITION);
    let conditions = host.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let verdict = condition::find(conditions, ConditionType::Operational)?;
    let status = [Status::True, Status::False].into_iter().find(|status| status.as_str() == verdict.status)?;
    let same = current.is_some_and(|current| {
        current.status == verdict.status && current.reason == verdict.reason && current.message == verdict.message
    });
    let since = match current {
        Some(current) if current.status == verdict.status => current.last_transition_time.clone(),
        _ => None,
    };
    (!same).then(|| Action::NodeCondition {
        node: name.clone(),
        condition: Some(NodeCondition {
            status: status.as_str(),
            reason: verdict.reason.clone(),
            message: verdict.message.clone(),
            since: since.unwrap_or_else(|| condition::whole_second(now)),
        }),
    })
}

/// Takes our condition off a Node that has it.
pub(crate) fn drop_condition(name: &Arc<str>, node: &NodePart) -> Option<Action> {
    let ours = node.status.conditions.iter().any(|condition| condition.kind == NODE_CONDITION);
    ours.then(|| Action::NodeCondition { node: name.clone(), condition: None })
}

/// Takes our taint off a Node that has it.
pub(crate) fn drop_taint(name: &Arc<str>, node: &NodePart) -> Option<Action> {
    let ours = node.spec.taints.iter().any(|taint| taint.key == NODE_TAINT);
    ours.then(|| replace_taint(name, node, None))
}

/// Gives a Node this taint of ours, and leaves it those of others.
fn replace_taint(name: &Arc<str>, node: &NodePart, taint: Option<Taint>) -> Action {
    let others = node.spec.taints.iter().filter(|taint| taint.key != NODE_TAINT).cloned();
    Action::NodeTaints {
        node: name.clone(),
        taints: others.chain(taint).collect(),
        version: node.metadata.resource_version.clone(),
    }
}

/// Which taint a Node should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Desired {
    No,
    Yes(&'static str),
    /// The one that it has.
    Unchanged,
}

fn desired_taint(world: &World, key: &ObjectKey, host: &Host, state: &HostState) -> Desired {
    let data_center = world.data_centers.get(&key.beside(&host.spec.data_center));
    let effect = match data_center.map(|center| center.spec.non_operational_taint).unwrap_or_default() {
        NonOperationalTaint::None => return Desired::No,
        NonOperationalTaint::NoSchedule => "NoSchedule",
        NonOperationalTaint::NoExecute => NO_EXECUTE,
    };
    match state.phase {
        // Pods whose I/O works over a retained session are not evicted.
        Phase::NonOperational if !state.without_session.is_empty() => Desired::Yes(effect),
        Phase::NonOperational | Phase::Up | Phase::Degraded | Phase::Maintenance | Phase::Unassigned => Desired::No,
        Phase::Connecting | Phase::Unknown => Desired::Unchanged,
    }
}

fn taint(
    world: &World,
    name: &Arc<str>,
    node: &NodePart,
    desired: Desired,
    center: Option<ObjectKey>,
    now: Moment,
    outcome: &mut Outcome,
) {
    let ours = |taint: &&Taint| taint.key == NODE_TAINT;
    let current: Vec<&Taint> = node.spec.taints.iter().filter(ours).collect();
    let has = |effect: &str| current.len() == 1 && current[0].effect == effect;
    let wanted = match desired {
        Desired::Unchanged => return,
        Desired::No => None,
        Desired::Yes(NO_EXECUTE) => {
            let at_fault = center.and_then(|center| world.sums(&center)?.storage_at_fault().cloned()).is_some();
            let added = current.first().and_then(|taint| taint.time_added.as_ref());
            let young = added.is_some_and(|added| age(added.0, now.wall) < WITHDRAWN);
            match (at_fault, has(NO_EXECUTE)) {
                (true, true) if young => None,
                (true, _) | (false, true) => return,
                (false, false) => {
                    if let Some(until) = eviction_pause(world, now.wall) {
                        outcome.recheck_at = Some(until);
                        return;
                    }
                    world.evicted_at.set(Some(now.wall));
                    Some(NO_EXECUTE)
                }
            }
        }
        Desired::Yes(effect) if has(effect) => return,
        Desired::Yes(effect) => Some(effect),
    };
    if wanted.is_some() || !current.is_empty() {
        outcome.actions.push(replace_taint(name, node, wanted.map(|effect| new_taint(effect, now.wall))));
    }
}

fn new_taint(effect: &str, now: Timestamp) -> Taint {
    Taint {
        key: NODE_TAINT.to_owned(),
        effect: effect.to_owned(),
        value: None,
        time_added: Some(Time(condition::whole_second(now).0)),
    }
}

fn age(added: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(added)).unwrap_or_default()
}

/// Until when no further host may be evicted: at most one in ten seconds, counted by the taints themselves, so that a
/// new leader keeps the pace.
fn eviction_pause(world: &World, now: Timestamp) -> Option<Timestamp> {
    let ours = world.nodes.iter().flat_map(|(_, node)| &node.spec.taints);
    let ours = ours.filter(|taint| taint.key == NODE_TAINT && taint.effect == NO_EXECUTE);
    let written = ours.filter_map(|taint| taint.time_added.as_ref()).map(|time| time.0);
    let newest = written.chain(world.evicted_at.get()).max()?;
    let until = newest.saturating_add(EVICTION_PAUSE).unwrap_or(Timestamp::MAX);
    (until > now).then_some(until)
}
