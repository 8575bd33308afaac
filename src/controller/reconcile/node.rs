//! A Node: Multibond's condition and taint, for the scheduler; and the lease of its agent, once the Node is gone.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::apis::meta::v1::Time};

use super::{
    action::{Action, NodeCondition, Outcome},
    aggregate::aggregates,
};
use crate::{
    api::{
        Host, LeasePart, NODE_CONDITION, NODE_TAINT, NodeName, NodePart, NonOperationalTaint, ObjectKey, Phase,
        condition::{self, Status},
        reason::ConditionType,
    },
    controller::index::{Index, state::HostState},
    ops::Now,
    planner::AgentState,
};

/// The effect that evicts.
const NO_EXECUTE: &str = "NoExecute";
/// The shortest time between the evictions of two hosts.
const EVICTION_PAUSE: Duration = Duration::from_secs(10);
/// Taints younger than this are removed when it turns out that the storage has failed.
const WITHDRAWN: Duration = Duration::from_secs(300);

/// The time for which a target has to be lost before its Node shows it.
const LOSS_SHOWN: Duration = Duration::from_secs(10);
/// The largest number of Nodes that begin to show a loss in one second.
const LOSSES_PER_SECOND: u32 = 20;

/// Decides for one Node.
pub(super) fn reconcile(index: &Index, name: &NodeName, now: Now) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(node) = index.nodes.get(&ObjectKey::new("", name)) else {
        outcome.extend(delete_unused_lease(index, name));
        return outcome;
    };
    let host = index.owner_of_node(name).and_then(|key| Some((key, index.hosts.get(key)?)));
    let Some((key, host)) = host else {
        outcome.extend(drop_condition(name, node));
        outcome.extend(drop_taint(name, node));
        return outcome;
    };
    // Before the first decision for a host it is unknown whether it is in service: the Node stays as it is.
    let Some(state) = index.host_state(key) else { return outcome };
    if !state.plan.in_service() {
        outcome.extend(drop_condition(name, node));
        outcome.extend(drop_taint(name, node));
        return outcome;
    }
    condition(index, name, node, (host, state), now.wall, &mut outcome);
    taint(index, name, node, (key, host, state), now, &mut outcome);
    outcome
}

/// Deletes the lease of an agent when nothing needs it: the Node is gone, no Host names it, and the lease has expired. If
/// the agent comes back, it creates a new one. A lease with such a name but another holder is not an agent's.
fn delete_unused_lease(index: &Index, name: &str) -> Option<Action> {
    let named = index.hosts_of_node(name).next().is_some();
    if named || !index.nodes.filled() || !index.hosts.filled() || index.agent(name) != AgentState::Silent {
        return None;
    }
    let (key, LeasePart { metadata, spec }) = index.lease(name)?;
    let (uid, version) = (metadata.uid.clone(), metadata.resource_version.clone());
    (spec.holder_identity.as_deref() == Some(name)).then(|| Action::DeleteLease { lease: key.clone(), uid, version })
}

/// Copies the Host's `Operational` condition to its Node. `Unknown` leaves the Node's condition as it is, except on a Lost
/// host.
fn condition(
    index: &Index,
    name: &NodeName,
    node: &NodePart,
    (host, state): (&Host, &HostState),
    now: Timestamp,
    outcome: &mut Outcome,
) {
    let current = node.status.conditions.iter().find(|condition| condition.kind == NODE_CONDITION);
    let conditions = host.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let Some(wanted) = condition::find(conditions, ConditionType::Operational) else { return };
    let Some(status) = Status::ALL.iter().find(|status| status.as_str() == wanted.status) else { return };
    if *status == Status::Unknown && state.phase != Phase::Lost {
        return;
    }
    let since = match current {
        Some(current) if current.status != wanted.status => None,
        Some(current) if current.reason == wanted.reason && current.message == wanted.message => return,
        Some(current) => current.last_transition_time.clone(),
        None => None,
    };
    if *status == Status::Unknown {
        if let Some(until) = loss_pause(index, host, now) {
            outcome.recheck(until);
            return;
        }
        outcome.memo.loss_shown_at = Some(now);
    }
    let condition = NodeCondition {
        status: status.as_str(),
        reason: wanted.reason.clone(),
        message: wanted.message.clone(),
        since: since.unwrap_or_else(|| condition::whole_second(now)),
    };
    let uid = node.metadata.uid.clone();
    outcome.push(Action::NodeCondition { node: name.clone(), uid, condition: Some(condition) });
}

/// The time at which the loss of a host may be shown on its Node; `None` if that is now. Most losses are short. When an
/// array restarts, every host is Lost at once: not all Nodes are written in one second, and most need not be written at
/// all.
fn loss_pause(index: &Index, host: &Host, now: Timestamp) -> Option<Timestamp> {
    let targets = host.status.as_ref().map(|status| status.targets.as_slice()).unwrap_or_default();
    let lost_at = targets.iter().filter(|target| !target.never_connected).filter_map(|target| target.lost_at.as_ref());
    let shown = lost_at.map(|lost_at| lost_at.0).min().map(|at| at.saturating_add(LOSS_SHOWN).unwrap_or(at));
    // A time further away was written before the clock was set back.
    let latest = now.saturating_add(LOSS_SHOWN).unwrap_or(now);
    let next_second = Timestamp::from_second(now.as_second().saturating_add(1)).unwrap_or(now);
    let busy = index.losses_shown(now) >= LOSSES_PER_SECOND;
    let until = shown.unwrap_or(now).min(latest);
    if until > now { Some(until) } else { busy.then_some(next_second) }
}

/// Removes Multibond's condition from a Node that has it.
pub(crate) fn drop_condition(name: &NodeName, node: &NodePart) -> Option<Action> {
    let ours = node.status.conditions.iter().any(|condition| condition.kind == NODE_CONDITION);
    ours.then(|| Action::NodeCondition { node: name.clone(), uid: node.metadata.uid.clone(), condition: None })
}

/// Removes Multibond's taint from a Node that has it.
pub(crate) fn drop_taint(name: &NodeName, node: &NodePart) -> Option<Action> {
    let ours = node.spec.taints.iter().any(|taint| taint.key == NODE_TAINT);
    ours.then(|| replace_taint(name, node, None))
}

/// Replaces Multibond's taint on a Node. The taints of others stay.
fn replace_taint(name: &NodeName, node: &NodePart, taint: Option<Taint>) -> Action {
    let others = node.spec.taints.iter().filter(|taint| taint.key != NODE_TAINT).cloned();
    Action::NodeTaints {
        node: name.clone(),
        taints: others.chain(taint).collect(),
        version: node.metadata.resource_version.clone(),
    }
}

/// The taint that a Node should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Desired {
    /// None.
    No,
    /// One with this effect.
    Yes(&'static str),
    /// The present one, if there is one.
    Unchanged,
}

fn desired_taint(index: &Index, key: &ObjectKey, host: &Host, state: &HostState) -> Desired {
    let data_center = index.data_centers.get(&key.beside(host.spec.data_center.as_str()));
    let effect = match data_center.map(|center| center.spec.non_operational_taint).unwrap_or_default() {
        NonOperationalTaint::None => return Desired::No,
        NonOperationalTaint::NoSchedule => "NoSchedule",
        NonOperationalTaint::NoExecute => NO_EXECUTE,
    };
    match state.phase {
        // Pods whose I/O works over a retained session are not evicted.
        Phase::NonOperational if !state.without_session.is_empty() => Desired::Yes(effect),
        Phase::NonOperational | Phase::Up | Phase::Degraded | Phase::Maintenance | Phase::Unassigned => Desired::No,
        Phase::Connecting | Phase::Lost | Phase::Unknown => Desired::Unchanged,
    }
}

fn taint(
    index: &Index,
    name: &NodeName,
    node: &NodePart,
    (key, host, state): (&ObjectKey, &Host, &HostState),
    now: Now,
    outcome: &mut Outcome,
) {
    let current: Vec<&Taint> = node.spec.taints.iter().filter(|taint| taint.key == NODE_TAINT).collect();
    let has = |effect: &str| matches!(current[..], [taint] if taint.effect == effect);
    let wanted = match desired_taint(index, key, host, state) {
        Desired::Unchanged => return,
        Desired::No => None,
        Desired::Yes(NO_EXECUTE) => {
            let dc_key = key.beside(host.spec.data_center.as_str());
            let aggregates = aggregates(index, &dc_key);
            let at_fault = aggregates.is_some_and(|aggregates| aggregates.storage_at_fault());
            let added = current.first().and_then(|taint| taint.time_added.as_ref());
            let young = added.is_some_and(|added| age(added.0, now.wall) < WITHDRAWN);
            match (at_fault, has(NO_EXECUTE)) {
                (true, true) if young => None,
                (true, _) | (false, true) => return,
                (false, false) => {
                    if let Some(until) = eviction_pause(index, now.wall) {
                        outcome.recheck(until);
                        return;
                    }
                    outcome.memo.evicted_at = Some(now.wall);
                    Some(NO_EXECUTE)
                }
            }
        }
        Desired::Yes(effect) if has(effect) => return,
        Desired::Yes(effect) => Some(effect),
    };
    if wanted.is_some() || !current.is_empty() {
        outcome.push(replace_taint(name, node, wanted.map(|effect| new_taint(effect, now.wall))));
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

/// The end of the pause after the last eviction; `None` if it is over. It is computed from the times of the taints, so
/// that a new leader keeps the pause too.
fn eviction_pause(index: &Index, now: Timestamp) -> Option<Timestamp> {
    let ours = index.nodes.iter().flat_map(|(_, node)| &node.spec.taints);
    let ours = ours.filter(|taint| taint.key == NODE_TAINT && taint.effect == NO_EXECUTE);
    let written = ours.filter_map(|taint| taint.time_added.as_ref()).map(|time| time.0);
    // A time far in the future was written before the clock was set back.
    let latest = now.saturating_add(EVICTION_PAUSE).unwrap_or(Timestamp::MAX);
    let newest = written.chain(index.evicted_at()).filter(|time| *time <= latest).max()?;
    let until = newest.saturating_add(EVICTION_PAUSE).unwrap_or(Timestamp::MAX);
    (until > now).then_some(until)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::ObjectKind;
    use crate::controller::{
        fixtures::{NOW, TARGET, actions, applied, at, cluster, decide, key, lease, node, object, storage},
        store::{Change, key::Key, watched::Event},
    };

    fn host(on: &str) -> Value {
        object("Host", "h1", &json!({"dataCenter": "dc", "nodeName": on}))
    }

    fn agent_lease(of: &str, holder: &str, version: &str) -> Value {
        let mut lease = lease(of, 40);
        lease["metadata"]["uid"] = json!("u1");
        lease["metadata"]["resourceVersion"] = json!(version);
        lease["spec"]["holderIdentity"] = json!(holder);
        lease
    }

    /// An index with two agents' leases, this many seconds after they were renewed.
    fn index(objects: Vec<Value>, seconds: u64) -> Index {
        let leases = [agent_lease("n1", "n1", "7"), agent_lease("n10", "n10", "7")];
        let mut index = cluster(leases.into_iter().chain(objects));
        index.tick(at(seconds));
        index
    }

    /// The lease that is deleted, with the version that was looked at.
    fn deleted_lease(index: &Index) -> Option<(String, Option<String>)> {
        match reconcile(index, &"n1".into(), NOW).steps.pop()?.action {
            Action::DeleteLease { lease, version, .. } => Some((lease.to_string(), version)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_lease_of_an_agent_is_deleted_when_nothing_needs_it() {
        let gone = Some(("system/agent-n1".to_owned(), Some("7".to_owned())));
        assert_eq!(deleted_lease(&index(vec![], 40)), gone);
        assert_eq!(deleted_lease(&index(vec![], 39)), None, "it may be renewed yet");
        assert_eq!(deleted_lease(&index(vec![host("n1")], 40)), None, "a Host names the node");
        assert_eq!(deleted_lease(&index(vec![host("n10")], 40)), gone, "a Host names another node");
        assert_eq!(deleted_lease(&index(vec![node("n1")], 40)), None, "the Node exists");
        assert_eq!(deleted_lease(&index(vec![agent_lease("n1", "another", "8")], 40)), None, "it is not an agent's");
        let mut lists_unread = Index::default();
        for change in
            [Change::Node(Event::ListBegins(tokio::time::Instant::now())), applied(agent_lease("n1", "n1", "7"))]
        {
            lists_unread.apply(change, NOW);
        }
        lists_unread.tick(at(40));
        assert_eq!(deleted_lease(&lists_unread), None, "it is not known which Nodes exist");
    }

    #[test]
    fn a_node_is_reconciled_when_its_agent_falls_silent_and_by_a_new_leader() {
        let mut index = index(vec![], 39);
        index.take_pending();
        index.tick(at(40));
        assert!(index.take_pending().now.contains(&Key::Node("n1".into())));
        index.resume(at(40));
        assert!(index.take_pending().now.contains(&Key::Node("n1".into())));
    }

    /// A NonOperational host on each of these nodes, in data centers of their own that evict.
    fn evicting(nodes: &[&str]) -> Index {
        let objects = nodes.iter().flat_map(|name| {
            let spec = json!({"storage": storage("10.0.0.1"), "nonOperationalTaint": "NoExecute",
                "nonOperationalAfterSeconds": 0});
            let mut host = object("Host", name, &json!({"dataCenter": name, "nodeName": name}));
            host["status"] = json!({"targets": [{"target": TARGET, "lostAt": "1960-01-01T00:00:00Z"}],
                "connections": [{"target": TARGET, "portal": "10.0.0.1:3260", "tpgt": 1, "state": "Failed",
                    "reason": "PortalUnreachable", "since": "1960-01-01T00:00:00Z"}]});
            [object("DataCenter", name, &spec), host, lease(name, 40), node(name)]
        });
        let mut index = cluster(objects);
        for name in nodes {
            decide(&mut index, &key(ObjectKind::Host, name), NOW);
        }
        index
    }

    #[test]
    fn the_second_host_is_evicted_ten_seconds_after_the_first() {
        let mut index = evicting(&["n1", "n2"]);
        assert_eq!(index.host_state(&ObjectKey::new("ns", "n1")).unwrap().phase, Phase::NonOperational);
        assert_eq!(actions(&decide(&mut index, &Key::Node("n1".into()), NOW)), ["node-taints"]);
        let waiting = decide(&mut index, &Key::Node("n2".into()), NOW);
        assert_eq!((actions(&waiting), waiting.recheck_at), (vec![], Timestamp::from_second(10).ok()));
        let later = Now { wall: Timestamp::from_second(10).unwrap(), ..NOW };
        assert_eq!(actions(&decide(&mut index, &Key::Node("n2".into()), later)), ["node-taints"]);
    }

    /// Lost hosts on these nodes, since the first second.
    fn lost(nodes: &[String]) -> Index {
        let objects = nodes.iter().flat_map(|name| {
            let mut host = object("Host", name, &json!({"dataCenter": "dc", "nodeName": name}));
            host["status"] = json!({"dataCenter": "dc", "targets": [{"target": TARGET, "lostAt": "1970-01-01T00:00:00Z"}],
                "conditions": [{"type": "Operational", "status": "Unknown", "reason": "StorageLost", "message": "lost",
                    "lastTransitionTime": "1970-01-01T00:00:00Z"}],
                "connections": [{"target": TARGET, "portal": "10.0.0.1:3260", "tpgt": 1, "state": "Failed",
                    "reason": "PortalUnreachable", "since": "1970-01-01T00:00:00Z"}]});
            [host, lease(name, 40), node(name)]
        });
        let center = object("DataCenter", "dc", &json!({"storage": storage("10.0.0.1")}));
        let mut index = cluster(objects.chain([center]));
        for name in nodes {
            decide(&mut index, &key(ObjectKind::Host, name), NOW);
            assert_eq!(index.host_state(&ObjectKey::new("ns", name.as_str())).unwrap().phase, Phase::Lost);
        }
        index
    }

    #[test]
    fn a61_a_node_shows_a_loss_after_ten_seconds() {
        let mut index = lost(&["n1".to_owned()]);
        let waiting = decide(&mut index, &Key::Node("n1".into()), NOW);
        assert_eq!((actions(&waiting), waiting.recheck_at), (vec![], Timestamp::from_second(10).ok()));
        let later = Now { wall: Timestamp::from_second(10).unwrap(), ..NOW };
        let shown = decide(&mut index, &Key::Node("n1".into()), later);
        assert!(matches!(&shown.steps[0].action, Action::NodeCondition { condition: Some(condition), .. }
                if condition.status == "Unknown" && condition.reason == "StorageLost"));
    }

    #[test]
    fn a61_twenty_nodes_a_second_begin_to_show_a_loss() {
        let nodes: Vec<String> = (0..45).map(|number| format!("n{number}")).collect();
        let mut index = lost(&nodes);
        let mut shown_in = |second: i64| {
            let now = Now { wall: Timestamp::from_second(second).unwrap(), ..NOW };
            let decided = nodes.iter().map(|name| decide(&mut index, &Key::Node(name.as_str().into()), now));
            decided.filter(|outcome| !outcome.steps.is_empty()).count()
        };
        assert_eq!([shown_in(9), shown_in(10), shown_in(11)], [0, 20, 20]);
    }

    #[test]
    fn a_node_without_a_host_loses_the_condition_and_the_taint() {
        let mut marked = node("n1");
        marked["spec"] =
            json!({"taints": [{"key": NODE_TAINT, "effect": "NoSchedule"}, {"key": "other", "effect": "NoSchedule"}]});
        marked["status"] = json!({"conditions": [{"type": NODE_CONDITION, "status": "True"}]});
        let outcome = reconcile(&cluster([marked]), &"n1".into(), NOW);
        assert_eq!(actions(&outcome), ["node-condition", "node-taints"]);
        assert!(matches!(&outcome.steps[1].action, Action::NodeTaints { taints, .. } if taints.len() == 1));
    }
}
