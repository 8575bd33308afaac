//! A Host: its plan and its verdict, written into its status.

mod finalize;
mod plan;

pub(crate) use plan::concerned;
use plan::{Basis, too_large};

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use crate::{
    api::{
        CarriedNetwork, Connection, ConnectionState, Host, HostStatus, HostWarning, ObjectKey, PathCounts, Phase,
        PlanStatus, Summary, TargetStatus,
        condition::{self, Status, Verdict},
        reason::{ConditionType, EmptyReason, Reason},
    },
    controller::{
        index::World,
        reconcile::{
            Settings,
            action::{Action, Announcement, Outcome},
            finalizer as deletion,
        },
        store::watched::is_being_deleted,
    },
    ops::Now,
    planner::{AgentState, HostPlan, HostVerdict, Kind, Observation, judge, mtu_warnings},
};

/// What was last decided for a host: what sums, nodes and deletions are made from.
#[derive(Clone, Debug)]
pub(crate) struct HostState {
    pub plan: HostPlan,
    /// The data center's stamp when the plan was made; none while it stands still.
    pub stamp: Option<u64>,
    pub phase: Phase,
    pub agent: AgentState,
    pub settled: bool,
    /// The revision that its agent is told to carry out, if it is told anything.
    pub told: Option<String>,
    pub without_session: Vec<Arc<str>>,
    /// For each path of the plan, in order.
    pub connected: Vec<bool>,
    /// For each path of the plan, in order.
    pub failed: Vec<bool>,
}

impl HostState {
    fn new(host: &Host, plan: HostPlan, stamp: Option<u64>, agent: AgentState, verdict: &HostVerdict) -> Self {
        let connections = host.status.as_ref().map(|status| status.connections.as_slice()).unwrap_or_default();
        let with = |state: ConnectionState| -> HashSet<_> {
            let there = connections.iter().filter(|connection| connection.state == state);
            there.map(Connection::key).collect()
        };
        let of_each = |state| -> Vec<bool> {
            let there = with(state);
            plan.paths.iter().map(|path| there.contains(&path.key())).collect()
        };
        HostState {
            stamp,
            phase: verdict.phase,
            agent,
            settled: verdict.settled,
            told: None,
            without_session: verdict.without_session.clone(),
            connected: of_each(ConnectionState::Connected),
            failed: of_each(ConnectionState::Failed),
            plan,
        }
    }

    /// Whether two states differ in more than the stamp. Plans are made anew for every host of a data center; for most
    /// of them nothing else comes of it.
    pub(crate) fn differs_beyond_stamp(&self, other: &HostState) -> bool {
        let HostState { plan, stamp: _, phase, agent, settled, told, without_session, connected, failed } = self;
        *plan != other.plan
            || *phase != other.phase
            || *agent != other.agent
            || *settled != other.settled
            || *told != other.told
            || *without_session != other.without_session
            || *connected != other.connected
            || *failed != other.failed
    }

    /// Makes a status use what this state's plan has instead of its own copies of it, and no more room than it needs.
    pub(crate) fn share(&self, status: &mut HostStatus) {
        if let Some(plan) = &mut status.plan
            && plan.paths == self.plan.paths
        {
            plan.paths = self.plan.paths.clone();
        }
        if status.networks == self.plan.networks {
            status.networks = self.plan.networks.clone();
        }
        for connection in &mut status.connections {
            let same = self.plan.paths.binary_search_by(|path| path.key().cmp(&connection.key()));
            if let Some(path) = same.ok().map(|at| &self.plan.paths[at]) {
                connection.target = path.target.clone();
                connection.portal = path.portal.clone();
                connection.interface.clone_from(&path.interface);
            }
        }
        for target in &mut status.targets {
            let same = self.plan.paths.binary_search_by(|path| path.target.cmp(&target.target));
            if let Some(path) = same.ok().map(|at| &self.plan.paths[at]) {
                target.target = path.target.clone();
            }
        }
        // What is read into a list gets room for up to twice as much.
        status.connections.shrink_to_fit();
        status.conditions.shrink_to_fit();
        status.targets.shrink_to_fit();
        if let Some(interfaces) = &mut status.interfaces {
            interfaces.shrink_to_fit();
            for interface in interfaces {
                interface.addresses.shrink_to_fit();
            }
        }
    }
}

/// The controller's part of a Host's status. Every field is written, `null` where there is nothing, so that a merge
/// patch takes away what is gone; the agent's part is not in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ControllerPart {
    observed_generation: Option<i64>,
    phase: Option<Phase>,
    data_center: Option<String>,
    paths: Option<PathCounts>,
    summary: Option<Summary>,
    networks: Arc<[CarriedNetwork]>,
    targets: Vec<TargetStatus>,
    plan: Option<PlanStatus>,
    conditions: Vec<Condition>,
}

impl From<&HostStatus> for ControllerPart {
    fn from(status: &HostStatus) -> Self {
        ControllerPart {
            observed_generation: status.observed_generation,
            phase: status.phase,
            data_center: status.data_center.clone(),
            paths: status.paths,
            summary: status.summary.clone(),
            networks: status.networks.clone(),
            targets: status.targets.clone(),
            plan: status.plan.clone(),
            conditions: status.conditions.clone(),
        }
    }
}

/// Decides for one Host.
pub(crate) fn reconcile(world: &World, key: &ObjectKey, settings: &Settings, now: Now) -> (Outcome, Option<HostState>) {
    let Some(host) = world.hosts.get(key).filter(|_| world.hosts.get_undecodable(key).is_none()) else {
        return (Outcome::default(), None);
    };
    if is_being_deleted(&host.metadata) {
        return (finalize::reconcile(world, key, host, settings, now), None);
    }
    let mut outcome = Outcome::default();
    if let Some(action) = deletion::hold(Kind::Host, key, &host.metadata) {
        outcome.actions.push(action);
    }
    let Some((plan, stamp)) = Basis::of(world, key, host).plan(world, key, host) else { return (outcome, None) };
    if let Some(message) = too_large(&plan) {
        let state = stay(world, key, host, plan, &message, now, &mut outcome);
        return (outcome, Some(state));
    }
    let (mut verdict, mut state) = verdict(world, key, host, &plan, stamp, now.wall);
    outcome.recheck_at = verdict.recheck_at;
    let told = instruction(world, key, host, &state.plan);
    state.told = told.as_ref().map(|plan| plan.revision.clone());
    // While the data center stands still, the plan is of an older generation.
    let generation = if stamp.is_some() { host.metadata.generation } else { observed_generation(host) };
    if generation != host.metadata.generation
        && let Some(message) = world.frozen(&key.beside(host.spec.data_center.as_str()))
    {
        verdict.conditions.retain(|condition| condition.kind != ConditionType::Ready);
        verdict.conditions.push(Verdict::new(ConditionType::Ready, Status::False, Reason::Frozen, message));
    }
    outcome.actions.extend(write(key, host, (&state.plan, generation), told, &verdict, now.wall));
    (outcome, Some(state))
}

/// A host whose plan cannot be written keeps the one that it has: nothing is taken away, and nothing is tried again
/// before something has changed.
fn stay(
    world: &World,
    key: &ObjectKey,
    host: &Host,
    wanted: HostPlan,
    message: &str,
    now: Now,
    outcome: &mut Outcome,
) -> HostState {
    let written = host.status.as_ref().and_then(|status| Some((status.plan.as_ref()?, &status.networks)));
    let kept = written.filter(|(plan, _)| !plan.paths.is_empty());
    let plan = kept.map(|(plan, networks)| HostPlan::from_status(plan, networks, None));
    let has_plan = plan.is_some();
    let (mut verdict, mut state) = verdict(world, key, host, &plan.unwrap_or(wanted), None, now.wall);
    outcome.recheck_at = verdict.recheck_at;
    let reason = Reason::PlanTooLarge;
    let mut say = |kind: ConditionType, status: Status| {
        verdict.conditions.retain(|condition| condition.kind != kind);
        verdict.conditions.push(Verdict::new(kind, status, reason, message));
    };
    say(ConditionType::Ready, Status::False);
    if !has_plan {
        say(ConditionType::Operational, Status::Unknown);
    }
    let told = host.status.as_ref().and_then(|status| status.plan.clone());
    state.told = told.as_ref().map(|plan| plan.revision.clone());
    outcome.actions.extend(write(key, host, (&state.plan, host.metadata.generation), told, &verdict, now.wall));
    state
}

fn verdict(
    world: &World,
    key: &ObjectKey,
    host: &Host,
    plan: &HostPlan,
    stamp: Option<u64>,
    now: Timestamp,
) -> (HostVerdict, HostState) {
    let center = key.beside(host.spec.data_center.as_str());
    let data_center = world.data_centers.get(&center);
    let after = data_center.map_or(60, |center| center.spec.non_operational_after_seconds);
    let agent = world.agent(&host.spec.node_name);
    let winner = world.claimant(&host.spec.node_name).filter(|winner| *winner != key);
    let observation = Observation {
        host,
        node_owner: winner.map(|winner| (&*winner.namespace, &*winner.name)),
        agent,
        non_operational_after: Duration::from_secs(u64::from(after)),
        warnings: &warnings(world, &center, host, plan),
    };
    let verdict = judge(plan, &observation, now);
    let state = HostState::new(host, plan.clone(), stamp, agent, &verdict);
    (verdict, state)
}

/// What wants attention on a host: what its agent says, and interfaces whose MTU does not suit their network.
fn warnings(world: &World, center: &ObjectKey, host: &Host, plan: &HostPlan) -> Vec<HostWarning> {
    let Some(status) = &host.status else { return Vec::new() };
    let mut warnings = status.agent.as_ref().map(|agent| agent.warnings.clone()).unwrap_or_default();
    if let Some(view) = world.view(center) {
        warnings.extend(mtu_warnings(&view, host, &plan.networks));
    }
    warnings
}

/// A plan with its number: the one before, unless it is another plan.
fn numbered(plan: PlanStatus, current: &HostStatus) -> PlanStatus {
    let sequence = match &current.plan {
        Some(before) if before.revision == plan.revision => before.sequence,
        // Whoever wrote the largest number there is by hand gets a plan all the same.
        Some(before) => before.sequence.checked_add(1).unwrap_or(1),
        None => 1,
    };
    PlanStatus { sequence, ..plan }
}

fn observed_generation(host: &Host) -> Option<i64> {
    host.status.as_ref().and_then(|status| status.observed_generation)
}

/// What the agent is told to do; nothing until there is something to tell.
fn instruction(world: &World, key: &ObjectKey, host: &Host, plan: &HostPlan) -> Option<PlanStatus> {
    let told_before = host.status.as_ref().is_some_and(|status| status.plan.is_some());
    match plan.reason {
        // Manifests come in any order, and what is connected may be what the data center will ask for.
        Some(EmptyReason::DataCenterNotFound | EmptyReason::InterfacesUnknown) if !told_before => None,
        // A plan from before must not connect the default network meanwhile.
        Some(EmptyReason::InterfacesUnknown) => {
            let view = world.view(&key.beside(host.spec.data_center.as_str()));
            Some(view.map_or_else(|| plan.to_status(), |view| HostPlan::holding(&view).to_status()))
        }
        // The node does as the other Host's plan says. Should that Host go, what is connected stays until this one is
        // told: an empty plan would log out what both want.
        Some(EmptyReason::NodeClaimed) => None,
        Some(EmptyReason::DataCenterNotFound | EmptyReason::DataCenterDeleting | EmptyReason::Maintenance) | None => {
            Some(plan.to_status())
        }
    }
}

/// The write of a Host's status, if it differs from what is there.
fn write(
    key: &ObjectKey,
    host: &Host,
    (plan, generation): (&HostPlan, Option<i64>),
    told: Option<PlanStatus>,
    verdict: &HostVerdict,
    now: Timestamp,
) -> Option<Action> {
    let nothing = HostStatus::default();
    let current = host.status.as_ref().unwrap_or(&nothing);
    let mut conditions = condition::merge(&current.conditions, verdict.conditions.clone(), generation, now);
    for absent in &verdict.absent {
        conditions = condition::without(&conditions, *absent);
    }
    let in_service = plan.in_service();
    let unknown_interfaces = plan.reason == Some(EmptyReason::InterfacesUnknown);
    let desired = ControllerPart {
        observed_generation: generation,
        phase: Some(verdict.phase),
        data_center: in_service.then(|| host.spec.data_center.clone()),
        paths: Some(verdict.paths),
        summary: in_service.then(|| Summary {
            paths: Some(format!("{}/{}", verdict.paths.connected, verdict.paths.desired)),
            hosts: None,
        }),
        networks: if unknown_interfaces { current.networks.clone() } else { plan.networks.clone() },
        targets: verdict.targets.clone(),
        plan: told.map(|plan| numbered(plan, current)),
        conditions,
    };
    if ControllerPart::from(current) == desired {
        return None;
    }
    let announce = (current.phase != Some(verdict.phase)).then(|| announcement(current.phase, verdict)).flatten();
    Some(Action::write_status(Kind::Host, key, &desired, host.metadata.uid.clone(), announce))
}

/// What is said of a change of phase, on the Host.
fn announcement(before: Option<Phase>, verdict: &HostVerdict) -> Option<Announcement> {
    let warning = match verdict.phase {
        // The first look at a host is no change.
        Phase::Unassigned | Phase::Connecting | Phase::Unknown if before.is_none() => return None,
        Phase::NonOperational | Phase::Degraded | Phase::Unknown => true,
        Phase::Unassigned | Phase::Maintenance | Phase::Connecting | Phase::Up => false,
    };
    let telling = match verdict.phase {
        Phase::Degraded => ConditionType::FullyConnected,
        Phase::Unassigned
        | Phase::Maintenance
        | Phase::Connecting
        | Phase::Up
        | Phase::NonOperational
        | Phase::Unknown => ConditionType::Operational,
    };
    let note = verdict.conditions.iter().find(|condition| condition.kind == telling).map(|c| c.message.clone());
    let was = before.map(|phase| format!("was {}: ", phase.as_str())).unwrap_or_default();
    Some(Announcement { warning, reason: verdict.phase.as_str(), note: format!("{was}{}", note.unwrap_or_default()) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::FINALIZER,
        controller::store::{
            Change,
            watched::{Event, Watched},
        },
    };

    const NOW: Now = Now { wall: Timestamp::UNIX_EPOCH, monotonic: Duration::ZERO };
    pub(super) const SETTINGS: Settings = Settings { deletion_timeout: Duration::from_secs(120) };

    /// A data center with so many targets of 32 portals, and a host that uses the default network.
    fn world(targets: usize) -> World {
        let portals: Vec<Value> = (1..=32).map(|last| json!({"address": format!("10.0.1.{last}")})).collect();
        let target = |number| json!({"iqn": format!("iqn.2003-01.org.example:{number}"), "portals": portals});
        let targets: Vec<Value> = (0..targets).map(target).collect();
        let object = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "DataCenter",
            "metadata": {"name": "dc", "namespace": "ns"}, "spec": {"storage": [{"name": "array", "targets": targets}]}});
        let mut world = World::listed(NOW);
        world.apply(Change::DataCenter(Event::Applied(read(object))), NOW);
        world.apply(Change::Host(Event::Applied(host(&json!({})))), NOW);
        world
    }

    pub(super) fn read<K: serde::de::DeserializeOwned>(object: Value) -> Watched<K> {
        serde_json::from_value(object).unwrap()
    }

    fn host(status: &Value) -> Watched<Host> {
        read(json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Host",
            "metadata": {"name": "h1", "namespace": "ns", "generation": 1, "finalizers": [FINALIZER]},
            "spec": {"dataCenter": "dc", "nodeName": "h1"}, "status": status}))
    }

    /// What is written of the host; none if nothing is.
    fn written(world: &World) -> Option<Value> {
        let (outcome, _) = reconcile(world, &ObjectKey::new("ns", "h1"), &SETTINGS, NOW);
        let mut parts = outcome.actions.into_iter().map(|action| match action {
            Action::WriteStatus { part, .. } => part,
            other => panic!("{other:?}"),
        });
        let part = parts.next();
        assert!(parts.next().is_none());
        part
    }

    fn condition<'a>(part: &'a Value, kind: &str) -> (&'a str, &'a str) {
        let found = part["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind).unwrap();
        (found["status"].as_str().unwrap(), found["reason"].as_str().unwrap())
    }

    fn become_(world: &mut World, status: &Value) {
        world.apply(Change::Host(Event::Applied(host(status))), NOW);
    }

    #[test]
    fn a_plan_is_numbered_also_after_the_largest_number() {
        let mut world = world(1);
        let mut status = written(&world).unwrap();
        assert_eq!(status["plan"]["sequence"], 1);
        status["plan"]["revision"] = json!("another");
        for (before, after) in [(1, 2), (i64::MAX, 1)] {
            status["plan"]["sequence"] = json!(before);
            become_(&mut world, &status);
            assert_eq!(written(&world).unwrap()["plan"]["sequence"], after);
        }
    }

    #[test]
    fn a_plan_that_no_object_can_hold_is_said_once_and_not_written() {
        let mut world = world(128);
        let part = written(&world).unwrap();
        assert_eq!(part["plan"], Value::Null);
        assert_eq!(condition(&part, "Ready"), ("False", "PlanTooLarge"));
        assert_eq!(condition(&part, "Operational"), ("Unknown", "PlanTooLarge"));
        become_(&mut world, &part);
        assert_eq!(written(&world), None);
    }

    #[test]
    fn a_host_whose_plan_becomes_too_large_keeps_the_one_it_has() {
        let part = written(&world(1)).unwrap();
        assert_eq!(part["plan"]["paths"].as_array().unwrap().len(), 32);
        let mut world = world(128);
        become_(&mut world, &part);
        let stays = written(&world).unwrap();
        assert_eq!(stays["plan"], part["plan"]);
        assert_eq!(condition(&stays, "Ready"), ("False", "PlanTooLarge"));
        assert_ne!(condition(&stays, "Operational").1, "PlanTooLarge");
        become_(&mut world, &stays);
        assert_eq!(written(&world), None);
    }
}
