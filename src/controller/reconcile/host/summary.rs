//! The texts of a Host's print columns.

use std::{cmp::Reverse, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::{
        ConnectionState, Host, Summary,
        condition::{self, Status},
        reason::{ConditionType, PathReason, Reason},
    },
    planner::{HostPlan, HostVerdict, still_connected},
};

/// The largest number of reasons in the column.
const SHOWN: usize = 3;

/// The texts of a host with this plan, this verdict and these conditions; `None` if it has none.
pub(super) fn new(host: &Host, plan: &HostPlan, verdict: &HostVerdict, conditions: &[Condition]) -> Option<Summary> {
    let planned = plan.in_service().then(|| format!("{}/{}", verdict.paths.connected, verdict.paths.desired));
    let paths = match (planned, kept(host)) {
        (Some(planned), Some(kept)) => Some(format!("{planned} ({kept})")),
        (planned, kept) => planned.or(kept),
    };
    let reason = reason(host, plan, conditions);
    (paths.is_some() || reason.is_some()).then(|| Summary { paths, reason, ..Summary::default() })
}

/// The sessions that are kept without being planned: of a held target, or with a disk in use. None if there are none.
fn kept(host: &Host) -> Option<String> {
    let connections = host.status.as_ref().map(|status| status.connections.as_slice()).unwrap_or_default();
    let kept = connections.iter().filter(|connection| connection.state == ConnectionState::Retained).count();
    (kept > 0).then(|| format!("{kept} kept"))
}

/// What is wrong with a host, in words that its phase does not say. Nothing for a host that is as it should be.
fn reason(host: &Host, plan: &HostPlan, conditions: &[Condition]) -> Option<String> {
    let ready = condition::find(conditions, ConditionType::Ready)?.reason.as_str();
    if ready == Reason::Up.as_str() || ready == Reason::Maintenance.as_str() {
        let prepared = condition::find(conditions, ConditionType::HostPrepared)?;
        return (prepared.status == Status::False.as_str()).then(|| prepared.reason.clone());
    }
    if ready == Reason::Disconnecting.as_str() && is_blocked(host, plan) {
        return Some(Reason::InUse.as_str().to_owned());
    }
    let of_paths = if ready == Reason::Degraded.as_str() {
        let why = condition::find(conditions, condition::why_degraded(conditions));
        path_reasons(host, plan).or_else(|| why.map(|why| why.reason.clone()))
    } else if ready == Reason::StorageUnreachable.as_str() {
        path_reasons(host, plan)
    } else {
        None
    };
    Some(of_paths.unwrap_or_else(|| ready.to_owned()))
}

/// Whether the agent has let go of every session that it may, and some are left: their disks are in use.
fn is_blocked(host: &Host, plan: &HostPlan) -> bool {
    let carried_out = host.status.as_ref().is_some_and(|status| status.has_carried_out(&plan.revision));
    carried_out && still_connected(host).is_some()
}

/// The reasons of the failed paths, the most frequent first; `None` if no planned path has failed.
fn path_reasons(host: &Host, plan: &HostPlan) -> Option<String> {
    let connections = host.status.as_ref().map(|status| status.connections.as_slice()).unwrap_or_default();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for connection in connections.iter().filter(|connection| connection.state == ConnectionState::Failed) {
        if plan.paths.binary_search_by(|path| path.key().cmp(&connection.key())).is_ok() {
            *counts.entry(connection.reason.map_or("", PathReason::as_str)).or_default() += 1;
        }
    }
    counts.remove("");
    let mut reasons: Vec<(&str, usize)> = counts.into_iter().collect();
    reasons.sort_by_key(|(_, count)| Reverse(*count));
    let shown: Vec<&str> = reasons.into_iter().take(SHOWN).map(|(reason, _)| reason).collect();
    (!shown.is_empty()).then(|| shown.join(","))
}
