//! The deletion of a Host: its agent logs out the sessions that are safe to log out, then the finalizer is removed.

use super::{ControllerPart, numbered};
use crate::{
    api::{
        Host, HostStatus, ObjectKey, ObjectKind, PathCounts, SessionSettings,
        condition::{self, ConditionUpdate, Status},
        has_finalizer,
        reason::{ConditionType, EventReason, Reason},
    },
    controller::{
        index::Index,
        reconcile::{
            Settings,
            action::{Action, EventSpec, Outcome},
            finalizer::{Wait, finalize},
        },
    },
    ops::Now,
    planner::{AgentState, HostPlan, still_connected},
};

/// Decides for one Host that is being deleted.
pub(super) fn reconcile(index: &Index, key: &ObjectKey, host: &Host, settings: &Settings, now: Now) -> Outcome {
    let mut outcome = Outcome::default();
    if !has_finalizer(&host.metadata) {
        return outcome;
    }
    let plan = HostPlan::empty(None, SessionSettings::default());
    let node_is_served = index.owner_of_node(&host.spec.node_name).is_some();
    let alive = index.agent(&host.spec.node_name) == AgentState::Alive;
    let acknowledged = host.status.as_ref().is_some_and(|status| status.has_carried_out(&plan.revision));
    let waiting = alive && !node_is_served && !acknowledged;
    if waiting {
        outcome.extend(publish_empty_plan(key, host, &plan, now));
    }
    let waiting_for = if waiting { vec![format!("its agent on node {}", host.spec.node_name)] } else { Vec::new() };
    let wait = Wait::new(index, ObjectKind::Host, key, waiting_for, now);
    finalize(ObjectKind::Host, key, &host.metadata, &wait, settings, now, &mut outcome);
    let goes = outcome.steps.iter().any(|step| matches!(step.action, Action::SetFinalizers { .. }));
    if goes && !node_is_served {
        // Before the finalizer is removed: without the Host nothing lists the sessions.
        let event = event_about_sessions_left(index, key, host, alive, waiting);
        outcome.steps.splice(..0, event.map(Into::into));
    }
    outcome
}

/// Publishes the empty plan, unless it is published already.
fn publish_empty_plan(key: &ObjectKey, host: &Host, plan: &HostPlan, now: Now) -> Option<Action> {
    let nothing = HostStatus::default();
    let current = host.status.as_ref().unwrap_or(&nothing);
    let waiting = "waiting for the agent to disconnect what is safe to disconnect";
    let updates = vec![ConditionUpdate::new(ConditionType::Ready, Status::False, Reason::Deleting, waiting)];
    let desired = ControllerPart {
        observed_generation: host.metadata.generation,
        plan: Some(numbered(plan.to_status(), current)),
        paths: Some(PathCounts::default()),
        conditions: condition::merge(&current.conditions, updates, host.metadata.generation, now.wall),
        ..ControllerPart::from(current)
    };
    if desired == ControllerPart::from(current) {
        return None;
    }
    Action::write_status(ObjectKind::Host, key, host.metadata.uid.as_ref(), &desired, None)
}

/// Names the sessions that stay on the node. Only the Host shows them, and an agent that starts without a Host does not
/// log them out.
fn event_about_sessions_left(
    index: &Index,
    key: &ObjectKey,
    host: &Host,
    alive: bool,
    waiting: bool,
) -> Option<Action> {
    let on = &host.spec.node_name;
    if index.nodes.filled() && index.nodes.get(&ObjectKey::new("", on)).is_none() {
        // The machine does not exist any more, so there are no sessions.
        return None;
    }
    let left = still_connected(host)?;
    let why = match (alive, waiting) {
        (true, false) => "they cannot be disconnected now",
        (true, true) => "its agent has not disconnected them",
        (false, _) => "its agent is silent",
    };
    let note = format!(
        "sessions are left on node {on}, because {why}; a Host for the node with spec.maintenance ends them safely: {left}"
    );
    let event = EventSpec::warning(EventReason::SessionsLeft, note);
    let uid = host.metadata.uid.clone();
    Some(Action::PublishEvent { kind: ObjectKind::Host, key: key.clone(), uid, event, once: true })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::fixtures::{NOW, applied, at, cluster, decide, deleting, key, lease, node, object};

    const CONNECTED: &str = "iqn.2003-01.org.example:array 10.0.1.10:3260 through ens1, session 7";

    /// A Host that is being deleted, with one session, in a cluster with one Node.
    fn index(node_name: &str, connection: &Value) -> Index {
        let mut host = deleting(object("Host", "h1", &json!({"dataCenter": "dc", "nodeName": "w1"})));
        host["status"] = json!({"connections": [connection]});
        cluster([node(node_name), host])
    }

    fn connection(state: &str, session: Option<u32>) -> Value {
        json!({"target": "iqn.2003-01.org.example:array", "portal": "10.0.1.10:3260", "tpgt": 1, "interface": "ens1",
            "state": state, "sessionID": session, "since": "2026-01-01T00:00:00Z"})
    }

    /// The Events that are published before the finalizer is removed; `None` while the finalizer stays.
    fn events(index: &mut Index, now: Now) -> Option<Vec<(&'static str, String)>> {
        let steps = decide(index, &key(ObjectKind::Host, "h1"), now).steps;
        let goes = steps.iter().position(|step| matches!(step.action, Action::SetFinalizers { .. }))?;
        let event = |action| match action {
            Action::PublishEvent { event, .. } => Some((event.reason, event.note)),
            _ => None,
        };
        Some(steps.into_iter().take(goes).filter_map(|step| event(step.action)).collect())
    }

    #[test]
    fn sessions_that_a_silent_agent_leaves_are_named_before_the_host_goes() {
        for state in ["Connected", "Retained", "Failed"] {
            let events = events(&mut index("w1", &connection(state, Some(7))), NOW).unwrap();
            let [("SessionsLeft", note)] = &events[..] else { panic!("{state}: {events:?}") };
            assert!(note.contains(CONNECTED) && note.contains("node w1") && note.contains("silent"), "{note}");
        }
    }

    #[test]
    fn no_event_is_published_if_no_session_is_left() {
        assert_eq!(events(&mut index("w1", &connection("Failed", None)), NOW), Some(vec![]));
        let mut node_is_gone = index("another", &connection("Connected", Some(7)));
        assert_eq!(events(&mut node_is_gone, NOW), Some(vec![]), "the machine is gone, and its sessions with it");
    }

    #[test]
    fn sessions_are_named_if_the_agent_does_not_acknowledge_in_time() {
        let mut index = index("w1", &connection("Connected", Some(7)));
        index.apply(applied(lease("w1", 3600)), NOW);
        assert_eq!(events(&mut index, NOW), None, "it waits");
        let events = events(&mut index, at(120)).unwrap();
        let [("SessionsLeft", note)] = &events[..] else { panic!("{events:?}") };
        assert!(note.contains("its agent has not disconnected them") && note.contains(CONNECTED), "{note}");
    }
}
