//! A Node: our condition and our taint on it, for the scheduler; and the lease of its agent, which goes after it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::apis::meta::v1::Time};

use crate::{
    api::{
        Host, LeasePart, NODE_CONDITION, NODE_TAINT, NodePart, NonOperationalTaint, ObjectKey, Phase,
        condition::{self, Status},
        reason::ConditionType,
    },
    controller::{
        index::World,
        reconcile::{
            action::{Action, NodeCondition, Outcome},
            host::HostState,
        },
    },
    ops::Now,
    planner::AgentState,
};

/// The effect that evicts.
const NO_EXECUTE: &str = "NoExecute";
/// Between two hosts that are evicted.
const EVICTION_PAUSE: Duration = Duration::from_secs(10);
/// Taints that are this young are withdrawn when it turns out that the storage is at fault.
const WITHDRAWN: Duration = Duration::from_secs(300);

/// Decides for one Node.
pub(crate) fn reconcile(world: &World, name: &Arc<str>, now: Now) -> Outcome {
    let Some(node) = world.nodes.get(&ObjectKey::new("", name)) else { return gone(world, name) };
    let mut outcome = Outcome::default();
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
        in_service.map(|(key, host, _)| key.beside(host.spec.data_center.as_str())),
        now,
        &mut outcome,
    );
    outcome
}

/// The lease of an agent goes when nothing is left that it tells of: the Node is gone, no Host names it, and nobody renews
/// it. An agent that was only away makes a new one. Leases of others may have such a name, but not such a holder.
fn gone(world: &World, name: &str) -> Outcome {
    let named = world.hosts_of_node(name).next().is_some();
    let unneeded = world.nodes.filled() && world.hosts.filled() && !named && world.agent(name) == AgentState::Silent;
    let of_agent = |(_, lease): &(&ObjectKey, &LeasePart)| lease.spec.holder_identity.as_deref() == Some(name);
    let delete = |(key, lease): (&ObjectKey, &LeasePart)| {
        let (uid, version) = (lease.metadata.uid.clone(), lease.metadata.resource_version.clone());
        Action::DeleteLease { lease: key.clone(), uid, version }
    };
    let actions =
        if unneeded { world.lease(name).filter(of_agent).map(delete).into_iter().collect() } else { Vec::new() };
    Outcome { actions, recheck_at: None }
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
    let data_center = world.data_centers.get(&key.beside(host.spec.data_center.as_str()));
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
    now: Now,
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
    // One that is far ahead was written by a clock that has been set back since.
    let latest = now.saturating_add(EVICTION_PAUSE).unwrap_or(Timestamp::MAX);
    let newest = written.chain(world.evicted_at.get()).filter(|time| *time <= latest).max()?;
    let until = newest.saturating_add(EVICTION_PAUSE).unwrap_or(Timestamp::MAX);
    (until > now).then_some(until)
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::store::{Change, watched::Event};

    const NOW: Now = Now { wall: Timestamp::UNIX_EPOCH, monotonic: Duration::ZERO };

    fn read<T: DeserializeOwned>(object: Value) -> T {
        serde_json::from_value(object).unwrap()
    }

    fn node(name: &str) -> Change {
        Change::Node(Event::Applied(read(json!({"metadata": {"name": name}}))))
    }

    fn lease(of: &str) -> Change {
        lease_held_by(of, of, "7")
    }

    fn lease_held_by(holder: &str, of: &str, version: &str) -> Change {
        Change::Lease(Event::Applied(read(json!({
            "metadata": {"name": format!("agent-{of}"), "namespace": "system", "uid": "u1", "resourceVersion": version},
            "spec": {"holderIdentity": holder, "renewTime": "1970-01-01T00:00:00.000000Z", "leaseDurationSeconds": 40}}))))
    }

    fn host(on: &str) -> Change {
        Change::Host(Event::Applied(read(json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Host",
            "metadata": {"name": "h1", "namespace": "ns"}, "spec": {"dataCenter": "dc", "nodeName": on}}))))
    }

    /// A world that has read its lists, so long after the lease of `n1` was renewed.
    fn world(changes: Vec<Change>, seconds: u64) -> World {
        let mut world = World::listed(NOW);
        for change in [lease("n1"), lease("n10")].into_iter().chain(changes) {
            world.apply(change, NOW);
        }
        world.tick(Now { monotonic: Duration::from_secs(seconds), ..NOW });
        world
    }

    /// The lease that goes, with the version that was looked at.
    fn goes(world: &World) -> Option<(String, Option<String>)> {
        match reconcile(world, &"n1".into(), NOW).actions.pop()? {
            Action::DeleteLease { lease, version, .. } => Some((lease.to_string(), version)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_lease_of_an_agent_goes_when_its_node_is_gone_and_nobody_names_it_or_renews_it() {
        let gone = Some(("system/agent-n1".to_owned(), Some("7".to_owned())));
        assert_eq!(goes(&world(vec![], 40)), gone);
        assert_eq!(goes(&world(vec![], 39)), None, "it may be renewed yet");
        assert_eq!(goes(&world(vec![host("n1")], 40)), None, "a Host names the node");
        assert_eq!(goes(&world(vec![host("n10")], 40)), gone, "a Host names another");
        assert_eq!(goes(&world(vec![node("n1")], 40)), None, "the Node is there");
        assert_eq!(goes(&world(vec![lease_held_by("another", "n1", "8")], 40)), None, "it is not an agent's");
        let unread = Change::Node(Event::ListBegins);
        let mut nothing_read = World::default();
        for change in [unread, lease("n1")] {
            nothing_read.apply(change, NOW);
        }
        nothing_read.tick(Now { monotonic: Duration::from_secs(40), ..NOW });
        assert_eq!(goes(&nothing_read), None, "nobody knows which Nodes there are");
    }

    #[test]
    fn a_node_is_looked_at_again_when_its_agent_falls_silent_and_when_a_controller_begins_to_act() {
        let mut world = world(vec![], 39);
        world.take_dirty();
        world.tick(Now { monotonic: Duration::from_secs(40), ..NOW });
        assert!(world.take_dirty().now.contains(&crate::controller::store::key::Key::Node("n1".into())));
        world.begin_to_act(Now { monotonic: Duration::from_secs(40), ..NOW });
        assert!(world.take_dirty().now.contains(&crate::controller::store::key::Key::Node("n1".into())));
    }
}
