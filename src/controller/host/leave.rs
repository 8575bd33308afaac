//! The leave-taking of a Host: its agent disconnects what is safe to disconnect; then it is gone.

use super::{ControllerPart, numbered};
use crate::{
    api::{
        Host, HostStatus, PathCounts, SessionSettings,
        condition::{self, Status, Verdict},
        reason::{ConditionType, Reason},
    },
    controller::{
        Moment, Settings,
        action::{Action, Announcement, Outcome},
        deletion::{self, Wait},
        key::ObjectKey,
        world::World,
    },
    planner::{AgentState, HostPlan, Kind, still_connected},
};

/// Decides for one Host that is being deleted.
pub(super) fn reconcile(world: &World, key: &ObjectKey, host: &Host, settings: &Settings, now: Moment) -> Outcome {
    let mut outcome = Outcome::default();
    if !deletion::holds(&host.metadata) {
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
    if !waiting && !node_is_served {
        outcome.actions.extend(say_what_is_left(key, host, alive));
    }
    outcome
}

/// Tells the agent to disconnect everything, unless it has been told.
fn tell(key: &ObjectKey, host: &Host, plan: &HostPlan, now: Moment) -> Option<Action> {
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
/// does not touch them: what stays on the node is said once.
fn say_what_is_left(key: &ObjectKey, host: &Host, agent_is_alive: bool) -> Option<Action> {
    let left = still_connected(host)?;
    let why = if agent_is_alive { "their devices are in use" } else { "its agent is silent" };
    let note = format!(
        "gone, with sessions left on node {}, because {why}; what is still there when the agent is restarted stays until a Host names the node again: {left}",
        host.spec.node_name
    );
    let announcement = Announcement { warning: true, reason: "SessionsLeft", note };
    Some(Action::Announce { kind: Kind::Host, key: key.clone(), uid: host.metadata.uid.clone(), announcement })
}
