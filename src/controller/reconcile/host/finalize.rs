//! The leave-taking of a Host: its agent disconnects what is safe to disconnect; then it is gone.

use super::{ControllerPart, numbered};
use crate::{
    api::{
        Host, HostStatus, ObjectKey, PathCounts, SessionSettings,
        condition::{self, Status, Verdict},
        has_finalizer,
        reason::{ConditionType, Reason},
    },
    controller::{
        index::World,
        reconcile::{
            Settings,
            action::{Action, Announcement, Outcome},
            finalizer as deletion,
            finalizer::Wait,
        },
    },
    ops::Now,
    planner::{AgentState, HostPlan, Kind, still_connected},
};

/// Decides for one Host that is being deleted.
pub(super) fn reconcile(world: &World, key: &ObjectKey, host: &Host, settings: &Settings, now: Now) -> Outcome {
    let mut outcome = Outcome::default();
    if !has_finalizer(&host.metadata) {
        return outcome;
    }
    let plan = HostPlan::empty(None, SessionSettings::default());
    let node_is_served = world.claimant(&host.spec.node_name).is_some();
    let alive = world.agent(&host.spec.node_name) == AgentState::Alive;
    let acknowledged = host.status.as_ref().is_some_and(|status| status.has_carried_out(&plan.revision));
    let waiting = alive && !node_is_served && !acknowledged;
    if waiting {
        outcome.actions.extend(tell(key, host, &plan, now));
    }
    let waiting_for = if waiting { vec![format!("its agent on node {}", host.spec.node_name)] } else { Vec::new() };
    let wait = Wait::new(world, Kind::Host, key, waiting_for, now);
    deletion::let_go(Kind::Host, key, &host.metadata, &wait, settings, now, &mut outcome);
    let goes = outcome.actions.iter().any(|action| matches!(action, Action::SetFinalizers { .. }));
    if goes && !node_is_served {
        // Before the Host goes: after that nobody would know.
        outcome.actions.splice(..0, say_what_is_left(world, key, host, alive, waiting));
    }
    outcome
}

/// Tells the agent to disconnect everything, unless it has been told.
fn tell(key: &ObjectKey, host: &Host, plan: &HostPlan, now: Now) -> Option<Action> {
    let nothing = HostStatus::default();
    let current = host.status.as_ref().unwrap_or(&nothing);
    let waiting = "waiting for the agent to disconnect what is safe to disconnect";
    let verdicts = vec![Verdict::new(ConditionType::Ready, Status::False, Reason::Deleting, waiting)];
    let desired = ControllerPart {
        observed_generation: host.metadata.generation,
        plan: Some(numbered(plan.to_status(), current)),
        paths: Some(PathCounts::default()),
        conditions: condition::merge(&current.conditions, verdicts, host.metadata.generation, now.wall),
        ..ControllerPart::from(current)
    };
    (desired != ControllerPart::from(current))
        .then(|| Action::write_status(Kind::Host, key, &desired, host.metadata.uid.clone(), None))
}

/// With the Host goes the only place where its sessions are to be seen, and an agent that is restarted without a Host
/// does not touch them: what stays on the node is said.
fn say_what_is_left(world: &World, key: &ObjectKey, host: &Host, alive: bool, waiting: bool) -> Option<Action> {
    let on = &host.spec.node_name;
    if world.nodes.filled() && world.nodes.get(&ObjectKey::new("", on)).is_none() {
        // Whatever it held, it holds no more.
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
    let announcement = Announcement { warning: true, reason: "SessionsLeft", note };
    Some(Action::Announce { kind: Kind::Host, key: key.clone(), uid: host.metadata.uid.clone(), announcement })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::FINALIZER,
        controller::{
            reconcile::host::tests::{SETTINGS, read},
            store::{Change, watched::Event},
        },
    };

    const CONNECTED: &str = "iqn.2003-01.org.example:array 10.0.1.10:3260 through ens1, session 7";

    fn at(seconds: u64) -> Now {
        Now { wall: Timestamp::UNIX_EPOCH, monotonic: Duration::from_secs(seconds) }
    }

    /// A Host that is being deleted, with one session on its Node.
    fn world(node: &str, connection: &Value) -> World {
        let mut world = World::listed(at(0));
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
        world.apply(Change::Node(Event::Applied(read(object))), at(0));
        let object = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Host",
            "metadata": {"name": "h1", "namespace": "ns", "uid": "u1", "generation": 2, "finalizers": [FINALIZER],
                "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"dataCenter": "dc", "nodeName": "w1"}, "status": {"connections": [connection]}});
        world.apply(Change::Host(Event::Applied(read(object))), at(0));
        world
    }

    fn connection(state: &str, session: Option<u32>) -> Value {
        json!({"target": "iqn.2003-01.org.example:array", "portal": "10.0.1.10:3260", "tpgt": 1, "interface": "ens1",
            "state": state, "sessionID": session, "since": "2026-01-01T00:00:00Z"})
    }

    fn hear_of_agent(world: &mut World, now: Now) {
        let object = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "agent-w1", "namespace": "system"},
            "spec": {"renewTime": "1970-01-01T00:00:00.000000Z", "leaseDurationSeconds": 3600}});
        world.apply(Change::Lease(Event::Applied(read(object))), now);
    }

    /// What is said before the Host goes, by its reason; none while it does not go.
    fn said(world: &World, now: Now) -> Option<Vec<(&'static str, String)>> {
        let host = world.hosts.get(&ObjectKey::new("ns", "h1")).unwrap();
        let actions = reconcile(world, &ObjectKey::new("ns", "h1"), host, &SETTINGS, now).actions;
        let goes = actions.iter().position(|action| matches!(action, Action::SetFinalizers { .. }))?;
        let note = |action| match action {
            Action::Announce { announcement, .. } => Some((announcement.reason, announcement.note)),
            _ => None,
        };
        Some(actions.into_iter().take(goes).filter_map(note).collect())
    }

    #[test]
    fn sessions_that_a_silent_agent_leaves_are_named_before_the_host_goes_lost_ones_too() {
        for state in ["Connected", "Retained", "Failed"] {
            let said = said(&world("w1", &connection(state, Some(7))), at(0)).unwrap();
            let [("SessionsLeft", note)] = &said[..] else { panic!("{state}: {said:?}") };
            assert!(note.contains(CONNECTED) && note.contains("node w1") && note.contains("silent"), "{note}");
        }
    }

    #[test]
    fn nothing_is_said_to_be_left_where_nothing_is() {
        assert_eq!(said(&world("w1", &connection("Failed", None)), at(0)), Some(vec![]));
        let node_is_gone = world("another", &connection("Connected", Some(7)));
        assert_eq!(said(&node_is_gone, at(0)), Some(vec![]), "what the machine held, it holds no more");
    }

    #[test]
    fn a_host_that_is_let_go_because_its_agent_does_not_acknowledge_has_its_sessions_named() {
        let mut world = world("w1", &connection("Connected", Some(7)));
        hear_of_agent(&mut world, at(0));
        assert_eq!(said(&world, at(0)), None, "it waits");
        let said = said(&world, at(120)).unwrap();
        let [("SessionsLeft", note)] = &said[..] else { panic!("{said:?}") };
        assert!(note.contains("its agent has not disconnected them") && note.contains(CONNECTED), "{note}");
    }
}
