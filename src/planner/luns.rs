//! The part of the verdict that is about LUNs: what is written is true of the disks, not only of the sessions.

use super::{
    names::HOST_SHOWN as SHOWN,
    observation::{AgentState, Observation},
};
use crate::api::{
    HostLuns, LunAddress, LunProblem,
    condition::{ConditionUpdate, Status},
    first_few,
    reason::{ConditionType, Reason},
};

const KIND: ConditionType = ConditionType::LunsHealthy;

/// The condition `LunsHealthy` of a host in service; none if its agent does not report LUNs.
pub(super) fn condition(observation: &Observation<'_>) -> Option<ConditionUpdate> {
    let luns = reported(observation)?;
    let update = |status, reason: Reason, message: &str| ConditionUpdate::new(KIND, status, reason, message);
    Some(match observation.agent {
        AgentState::Silent => update(Status::Unknown, Reason::AgentSilent, "the agent does not report"),
        AgentState::Missing => update(Status::Unknown, Reason::AgentMissing, "the agent does not report"),
        AgentState::Alive => problem(observation).unwrap_or_else(|| {
            if luns.healthy.is_empty() && luns.left_out == 0 {
                update(
                    Status::True,
                    Reason::NoLuns,
                    "the sessions show no LUN; if they should, check that the array shows one to the initiator name of this host",
                )
            } else {
                update(Status::True, Reason::AllLunsHealthy, "every LUN has a path that works, is on all its sessions, and has one size")
            }
        }),
    })
}

/// The condition of a host some of whose LUNs have a problem.
pub(super) fn problem(observation: &Observation<'_>) -> Option<ConditionUpdate> {
    let problems = &reported(observation)?.problems;
    let message = first_few(problems, SHOWN, describe);
    Some(ConditionUpdate::new(KIND, Status::False, problems.first()?.problem, message))
}

fn reported<'a>(observation: &Observation<'a>) -> Option<&'a HostLuns> {
    observation.host.status.as_ref()?.luns.as_ref()
}

fn describe(problem: &LunProblem) -> String {
    let LunProblem { problem: kind, wwid, at, message, .. } = problem;
    let at = first_few(at, 1, LunAddress::to_string);
    format!("{kind}: LUN {wwid} ({at}): {message}")
}
