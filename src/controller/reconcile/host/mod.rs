//! A Host: its plan and its phase, written into its status.

mod finalize;
mod plan;
mod state;
mod summary;

#[cfg(test)]
mod tests;

pub(crate) use plan::partition_changed;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use super::{
    Settings,
    action::{Action, EventSpec, Outcome},
    finalizer::ensure_finalizer,
};
use crate::{
    api::{
        AgentStatus, CarriedNetwork, DEFAULT_NON_OPERATIONAL_AFTER_SECONDS, Host, HostStatus, HostWarning, ObjectKey,
        ObjectKind, PathCounts, Phase, PlanStatus, Summary, TargetStatus,
        condition::{self, ConditionUpdate, Status},
        reason::{ConditionType, EmptyReason, EventReason, PreparedReason, Reason},
    },
    controller::{
        index::{
            Index,
            state::{HostState, PhaseChange},
        },
        store::watched::is_being_deleted,
    },
    ops::Now,
    planner::{
        AgentState, HostPlan, HostVerdict, Observation, PlanTooLarge, duplicate_initiator_name, host_warnings, judge,
        shared_wwid_warnings,
    },
};
use plan::PlanInputs;

/// The fields of a Host's status that the controller writes; the others are the agent's. A field without a value is
/// written as `null`, which removes it.
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
pub(super) fn reconcile(index: &Index, key: &ObjectKey, settings: &Settings, now: Now) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(host) = index.hosts.get(key).filter(|_| index.hosts.get_undecodable(key).is_none()) else {
        return outcome;
    };
    if is_being_deleted(&host.metadata) {
        return finalize::reconcile(index, key, host, settings, now);
    }
    outcome.extend(ensure_finalizer(ObjectKind::Host, key, &host.metadata));
    if let Some(error) = index.hosts.status_error(key) {
        report_unreadable_status(index, key, host, error, now, &mut outcome);
        return outcome;
    }
    let Some((plan, plan_epoch)) = PlanInputs::of(index, key, host).plan(index, key, host) else { return outcome };
    let plan = match plan {
        Ok(plan) => plan,
        Err(too_large) => {
            keep_previous_plan(index, key, host, &too_large, now, &mut outcome);
            return outcome;
        }
    };
    let (mut verdict, mut state) = verdict(index, key, host, &plan, plan_epoch, now.wall);
    outcome.recheck_at = verdict.recheck_at;
    let published = plan_to_publish(index, key, host, &state.plan);
    state.published = published.as_ref().map(|plan| plan.revision.clone());
    // While the data center is frozen, the plan is that of an older generation of the Host.
    let generation = if plan_epoch.is_some() { host.metadata.generation } else { observed_generation(host) };
    if generation != host.metadata.generation
        && let Some(message) = index.frozen(&key.beside(host.spec.data_center.as_str()))
    {
        replace(
            &mut verdict.conditions,
            ConditionUpdate::new(ConditionType::Ready, Status::False, Reason::Frozen, message),
        );
    }
    write(index, key, host, (&state.plan, generation), published, &verdict, now, &mut outcome);
    outcome.memo.host = Some(state);
    outcome
}

/// Keeps the published plan of a host whose new plan is too large for the object. No session is logged out, and nothing
/// is retried until an input changes.
fn keep_previous_plan(
    index: &Index,
    key: &ObjectKey,
    host: &Host,
    too_large: &PlanTooLarge,
    now: Now,
    outcome: &mut Outcome,
) {
    let plan = HostPlan::as_last_written(host);
    let has_plan = plan.is_some();
    // Without a plan the host waits, as it does for a network that does not exist.
    let view = index.view(&key.beside(host.spec.data_center.as_str()));
    let plan = plan.unwrap_or_else(|| HostPlan {
        networks: host.status.as_ref().map(|status| status.networks.clone()).unwrap_or_default(),
        ..view.map(|view| HostPlan::holding(&view)).unwrap_or_default()
    });
    let (mut verdict, mut state) = verdict(index, key, host, &plan, None, now.wall);
    outcome.recheck_at = verdict.recheck_at;
    let too_large = |kind, status| ConditionUpdate::new(kind, status, Reason::PlanTooLarge, too_large);
    replace(&mut verdict.conditions, too_large(ConditionType::Ready, Status::False));
    if !has_plan {
        replace(&mut verdict.conditions, too_large(ConditionType::Operational, Status::Unknown));
    }
    let published = host.status.as_ref().and_then(|status| status.plan.clone());
    // What is left of another data center's plan must not stay connected.
    let is_anothers = !has_plan && published.as_ref().is_some_and(|published| !published.paths.is_empty());
    let published = if is_anothers { Some(plan.to_status()) } else { published };
    state.published = published.as_ref().map(|plan| plan.revision.clone());
    write(index, key, host, (&state.plan, host.metadata.generation), published, &verdict, now, outcome);
    outcome.memo.host = Some(state);
}

/// The fields that are written into a status that cannot be read as a whole.
#[derive(Serialize)]
struct UnreadablePart {
    phase: Option<Phase>,
    summary: Summary,
    conditions: Vec<Condition>,
}

/// Says that a status cannot be read. Its other fields stay as they are: nothing is taken away because of what is not
/// known, and the agent writes its own fields again. For the aggregates the host is one whose agent is silent, so that it
/// holds up nobody.
fn report_unreadable_status(index: &Index, key: &ObjectKey, host: &Host, error: &str, now: Now, outcome: &mut Outcome) {
    let message = format!("{error}; the plan of this host stays as it is");
    let condition = |kind, status| ConditionUpdate::new(kind, status, Reason::StatusUnreadable, &message);
    let verdict = HostVerdict {
        phase: Phase::Unknown,
        paths: PathCounts::default(),
        targets: Vec::new(),
        conditions: vec![
            condition(ConditionType::AgentReady, Status::False),
            condition(ConditionType::Operational, Status::Unknown),
            condition(ConditionType::FullyConnected, Status::Unknown),
            condition(ConditionType::LunsHealthy, Status::Unknown),
            condition(ConditionType::Ready, Status::False),
        ],
        absent: Vec::new(),
        recheck_at: None,
        without_session: Vec::new(),
        first_failed: None,
        settled: false,
    };
    let nothing = HostStatus::default();
    let current = host.status.as_ref().unwrap_or(&nothing);
    let conditions =
        condition::merge(&current.conditions, verdict.conditions.clone(), host.metadata.generation, now.wall);
    if current.phase != Some(verdict.phase) || current.conditions != conditions {
        let event =
            if current.phase == Some(verdict.phase) { None } else { phase_event(current.phase, &conditions, &verdict) };
        let reason = Some(Reason::StatusUnreadable.as_str().to_owned());
        let summary = Summary { reason, ..current.summary.clone().unwrap_or_default() };
        let part = UnreadablePart { phase: Some(verdict.phase), summary, conditions };
        outcome.extend(Action::write_status(ObjectKind::Host, key, host.metadata.uid.as_ref(), &part, event));
    }
    if let Some((Ok(plan), plan_epoch)) = PlanInputs::of(index, key, host).plan(index, key, host) {
        outcome.memo.host = Some(state::new(host, plan, plan_epoch, AgentState::Silent, &verdict));
    }
}

/// Puts a condition in the place of the one of the same type.
fn replace(conditions: &mut Vec<ConditionUpdate>, condition: ConditionUpdate) {
    conditions.retain(|known| known.kind != condition.kind);
    conditions.push(condition);
}

fn verdict(
    index: &Index,
    key: &ObjectKey,
    host: &Host,
    plan: &HostPlan,
    plan_epoch: Option<u64>,
    now: Timestamp,
) -> (HostVerdict, HostState) {
    let dc_key = key.beside(host.spec.data_center.as_str());
    let data_center = index.data_centers.get(&dc_key);
    let after =
        data_center.map_or(DEFAULT_NON_OPERATIONAL_AFTER_SECONDS, |center| center.spec.non_operational_after_seconds);
    let agent = index.agent(&host.spec.node_name);
    let owner = index.owner_of_node(&host.spec.node_name).filter(|owner| *owner != key);
    let observation = Observation {
        host,
        node_owner: owner.map(|owner| (&*owner.namespace, &*owner.name)),
        agent,
        non_operational_after: Duration::from_secs(u64::from(after)),
        warnings: &warnings(index, key, &dc_key, host, plan),
    };
    let verdict = judge(plan, &observation, now);
    let state = state::new(host, plan.clone(), plan_epoch, agent, &verdict);
    (verdict, state)
}

/// Warnings about a host: disks or initiator names that are mixed up, the agent's warnings, and what does not fit its data
/// center. The first one is the reason of the condition.
fn warnings(index: &Index, key: &ObjectKey, dc_key: &ObjectKey, host: &Host, plan: &HostPlan) -> Vec<HostWarning> {
    let mut warnings = shared_wwid_warnings(host, plan);
    let agent = host.status.as_ref().and_then(|status| status.agent.as_ref());
    let initiator = agent.and_then(|agent| agent.initiator_name.as_deref());
    warnings.extend(initiator.and_then(|initiator| {
        let other = index.hosts.get(index.other_host_with_initiator(key, initiator)?)?;
        Some(duplicate_initiator_name(initiator, &key.namespace, other))
    }));
    warnings.extend(agent.into_iter().flat_map(AgentStatus::all_warnings).cloned());
    if let Some(view) = index.view(dc_key) {
        warnings.extend(host_warnings(&view, host, plan));
    }
    warnings
}

/// A plan with its sequence number, which grows with each plan that differs from the one before.
fn numbered(plan: PlanStatus, current: &HostStatus) -> PlanStatus {
    let sequence = match &current.plan {
        Some(before) if before.revision == plan.revision => before.sequence,
        // Only a manual edit can set the largest number. It must not stop new plans.
        Some(before) => before.sequence.checked_add(1).unwrap_or(1),
        None => 1,
    };
    PlanStatus { sequence, ..plan }
}

fn observed_generation(host: &Host) -> Option<i64> {
    host.status.as_ref().and_then(|status| status.observed_generation)
}

/// The plan to publish in the status for the agent; `None` as long as none may be published.
fn plan_to_publish(index: &Index, key: &ObjectKey, host: &Host, plan: &HostPlan) -> Option<PlanStatus> {
    let published_before = host.status.as_ref().is_some_and(|status| status.plan.is_some());
    match plan.reason {
        // Manifests may be applied in any order: sessions that exist may be planned as soon as the data center exists.
        Some(EmptyReason::DataCenterNotFound | EmptyReason::InterfacesUnknown) if !published_before => None,
        // An earlier plan must not connect paths over the default network until the interfaces are known.
        Some(EmptyReason::InterfacesUnknown) => {
            let view = index.view(&key.beside(host.spec.data_center.as_str()));
            Some(view.map_or_else(|| plan.to_status(), |view| HostPlan::holding(&view).to_status()))
        }
        // The agent carries out the plan of the other Host. If that Host is deleted, the sessions stay until this Host
        // has a plan: an empty plan would log out sessions that both plan.
        Some(EmptyReason::NodeClaimed) => None,
        Some(EmptyReason::DataCenterNotFound | EmptyReason::DataCenterDeleting | EmptyReason::Maintenance) | None => {
            Some(plan.to_status())
        }
    }
}

/// The write of a Host's status, if it has changed, with the Event about it.
#[expect(clippy::too_many_arguments, reason = "they are what a status is made of")]
fn write(
    index: &Index,
    key: &ObjectKey,
    host: &Host,
    (plan, generation): (&HostPlan, Option<i64>),
    published: Option<PlanStatus>,
    verdict: &HostVerdict,
    now: Now,
    outcome: &mut Outcome,
) {
    let nothing = HostStatus::default();
    let current = host.status.as_ref().unwrap_or(&nothing);
    let desired = controller_part(host, current, (plan, generation), published, verdict, now.wall);
    if ControllerPart::from(current) == desired {
        return;
    }
    let before = current.effective_phase();
    let mut event = shared_wwid_event(&current.conditions, verdict);
    if before == Some(verdict.phase) {
        event = event.or_else(|| maintenance_event(current, &desired, verdict));
    } else if event.is_none()
        && let Some(of_phase) = phase_event(before, &desired.conditions, verdict)
    {
        let change = PhaseChange {
            data_center: key.beside(host.spec.data_center.as_str()),
            phase: verdict.phase,
            cause: verdict.first_failed.clone(),
        };
        event = (!index.storms.covers(&change, now.monotonic)).then_some(of_phase);
        outcome.memo.phase_change = Some(change);
    }
    let mut write = Action::write_status(ObjectKind::Host, key, host.metadata.uid.as_ref(), &desired, event);
    // Another leader may have published a newer plan that this replica has not seen yet, and what it has decided otherwise,
    // such as that a data center is frozen, is no reason to bring the old one back.
    if desired.plan == current.plan
        && let Some(Action::WriteStatus { fields, .. }) = &mut write
    {
        fields.0.remove("plan");
    }
    outcome.extend(write);
}

fn controller_part(
    host: &Host,
    current: &HostStatus,
    (plan, generation): (&HostPlan, Option<i64>),
    published: Option<PlanStatus>,
    verdict: &HostVerdict,
    now: Timestamp,
) -> ControllerPart {
    let mut conditions = condition::merge(&current.conditions, verdict.conditions.clone(), generation, now);
    for absent in &verdict.absent {
        conditions = condition::without(&conditions, *absent);
    }
    let in_service = plan.in_service();
    let unknown_interfaces = plan.reason == Some(EmptyReason::InterfacesUnknown);
    ControllerPart {
        observed_generation: generation,
        phase: Some(verdict.phase.as_written()),
        data_center: in_service.then(|| host.spec.data_center.clone()),
        paths: Some(verdict.paths),
        summary: summary::new(host, plan, verdict, &conditions),
        networks: if unknown_interfaces { current.networks.clone() } else { plan.networks.clone() },
        targets: verdict.targets.clone(),
        plan: published.map(|plan| numbered(plan, current)),
        conditions,
    }
}

/// The Event about a multipath map that begins to mix up disks. It comes before one about the phase, because data is in
/// danger.
fn shared_wwid_event(before: &[Condition], verdict: &HostVerdict) -> Option<EventSpec> {
    let reason = PreparedReason::SharedWWID.as_str();
    let prepared = verdict.conditions.iter().find(|update| update.kind == ConditionType::HostPrepared)?;
    let known = condition::find(before, ConditionType::HostPrepared).is_some_and(|known| known.reason == reason);
    (prepared.reason == reason && !known).then(|| EventSpec { warning: true, reason, note: prepared.message.clone() })
}

/// The Event about a host in maintenance whose node may be switched off, or that waits for disks in use.
fn maintenance_event(before: &HostStatus, now: &ControllerPart, verdict: &HostVerdict) -> Option<EventSpec> {
    if verdict.phase != Phase::Maintenance {
        return None;
    }
    let ready = condition::find(&now.conditions, ConditionType::Ready)?;
    let was_ready = condition::find(&before.conditions, ConditionType::Ready)
        .is_some_and(|before| before.status == Status::True.as_str());
    if ready.status == Status::True.as_str() {
        let note = format!("{}: the node may be switched off", ready.message);
        return (!was_ready).then(|| EventSpec::normal(EventReason::MaintenanceReady, note));
    }
    let blocked = |summary: Option<&Summary>| {
        summary.is_some_and(|summary| summary.reason.as_deref() == Some(Reason::InUse.as_str()))
    };
    let begins = blocked(now.summary.as_ref()) && !blocked(before.summary.as_ref());
    begins.then(|| EventSpec::warning(EventReason::MaintenanceBlocked, ready.message.clone()))
}

/// The Event about a change of phase.
fn phase_event(before: Option<Phase>, conditions: &[Condition], verdict: &HostVerdict) -> Option<EventSpec> {
    // A new Host has not changed.
    if before.is_none() && matches!(verdict.phase, Phase::Unassigned | Phase::Connecting | Phase::Unknown) {
        return None;
    }
    let described_by = match verdict.phase {
        Phase::Degraded => condition::why_degraded(conditions),
        Phase::Unassigned
        | Phase::Maintenance
        | Phase::Connecting
        | Phase::Lost
        | Phase::Up
        | Phase::NonOperational
        | Phase::Unknown => ConditionType::Operational,
    };
    let message = |kind| verdict.conditions.iter().find(|condition| condition.kind == kind).map(|c| c.message.clone());
    let mut note = message(described_by);
    if verdict.phase == Phase::Maintenance {
        // It may be over at once.
        note = [note, message(ConditionType::Ready)].into_iter().flatten().reduce(|a, b| format!("{a}; {b}"));
    }
    let was = before.map(|phase| format!("was {}: ", phase.as_str())).unwrap_or_default();
    Some(EventSpec::of_phase(verdict.phase, format!("{was}{}", note.unwrap_or_default())))
}
