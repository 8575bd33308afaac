//! The verdict on a host: how what is compares with what should be.
//!
//! Per target: reachable, or not, and since when. From that the phase, the conditions, and when to look again.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    plan::HostPlan,
    problems::{empty_message, no_network_message},
    reported::{PathNow, Reality, has_session},
    target_state::{Memory, Standing, TargetNow, deadline, targets_now},
};
use crate::api::{
    Connection, ConnectionState, Host, HostWarning, PathCounts, Phase, PlannedPath, TargetStatus,
    condition::{Status, Verdict},
    reason::{ConditionType, EmptyReason, Reason},
};

/// Whether the agent on the host's node is heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgentState {
    /// It renews its lease.
    Alive,
    /// It has stopped renewing its lease.
    Silent,
    /// It has never had a lease.
    Missing,
}

/// Everything that the verdict on a host is made from, beside its plan.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The Host: what its agent reports, and what is remembered of its targets.
    pub host: &'a Host,
    /// The Host that has the node, when that is another one.
    pub winner: Option<(&'a str, &'a str)>,
    /// Whether the agent is heard of.
    pub agent: AgentState,
    /// How long a target may be without a path.
    pub non_operational_after: Duration,
    /// What wants attention on the host, the agent's warnings included.
    pub warnings: &'a [HostWarning],
}

/// The verdict on a host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostVerdict {
    /// Where the host stands, in one word.
    pub phase: Phase,
    /// Planned and connected paths.
    pub paths: PathCounts,
    /// What to remember of the targets.
    pub targets: Vec<TargetStatus>,
    /// The conditions that the host has now.
    pub conditions: Vec<Verdict>,
    /// Condition types that the host does not have in this phase.
    pub absent: Vec<ConditionType>,
    /// When time alone may change the verdict.
    pub recheck_at: Option<Timestamp>,
    /// Targets without any live session, retained ones included, from the moment that it is lost: what the Node's
    /// taint is about, and whether the storage and not the host is at fault.
    pub without_session: Vec<Arc<str>>,
    /// Whether every path has ended its first attempt, and the agent has acknowledged the plan.
    pub settled: bool,
}

/// Judges a host.
#[must_use]
pub fn judge(plan: &HostPlan, observation: &Observation<'_>, now: Timestamp) -> HostVerdict {
    let reality = Reality::new(observation.host);
    let mut verdict = match plan.reason {
        Some(EmptyReason::Maintenance) => in_maintenance(plan, observation, &reality),
        Some(
            reason @ (EmptyReason::NodeClaimed | EmptyReason::DataCenterNotFound | EmptyReason::DataCenterDeleting),
        ) => unassigned(observation, reason),
        Some(EmptyReason::InterfacesUnknown) | None => match observation.agent {
            AgentState::Alive => in_service(plan, observation, &reality, now),
            AgentState::Silent | AgentState::Missing => unknown(plan, observation, &reality),
        },
    };
    verdict.conditions.push(agent_ready(observation));
    match prepared(observation) {
        Some(prepared) => verdict.conditions.push(prepared),
        None => verdict.absent.push(ConditionType::HostPrepared),
    }
    verdict
}

/// Names the first few; a message is for reading.
fn list<T>(items: &[T], describe: impl Fn(&T) -> String) -> String {
    const SHOWN: usize = 4;
    let mut text = items.iter().take(SHOWN).map(describe).collect::<Vec<_>>().join(", ");
    if items.len() > SHOWN {
        let _ = write!(text, ", and {} more", items.len() - SHOWN);
    }
    text
}

fn in_service(plan: &HostPlan, observation: &Observation<'_>, reality: &Reality<'_>, now: Timestamp) -> HostVerdict {
    let targets = targets_now(plan, observation, reality, now);
    let paths = || targets.iter().flat_map(|target| &target.paths);
    let standing = |wanted: fn(Standing) -> bool| targets.iter().filter(move |target| wanted(target.standing));
    let unreachable: Vec<_> = standing(|s| s == Standing::Unreachable).collect();
    let no_network: Vec<Arc<str>> = standing(|s| s == Standing::NoNetwork).map(|t| t.target.clone()).collect();
    let waiting: Vec<_> = standing(|s| matches!(s, Standing::Connecting(_) | Standing::Held)).collect();
    let failed: Vec<_> = paths().filter(|path| path.is(ConnectionState::Failed)).collect();
    // What was reported before the agent had seen the plan may be over: a path can leave a plan and come back in the next.
    let carried_out = plan.paths.is_empty() || has_carried_out(observation.host, plan);
    let settled = plan.reason.is_none() && carried_out && !paths().any(PathNow::first_attempt);

    let (phase, status, reason, message): (Phase, Status, &'static str, String) = if !unreachable.is_empty() {
        let message = list(&unreachable, |target| {
            format!("target {} is not reachable: {}", target.target, list(&target.paths, PathNow::describe))
        });
        (Phase::NonOperational, Status::False, Reason::StorageUnreachable.into(), message)
    } else if !no_network.is_empty() {
        (Phase::NonOperational, Status::False, Reason::NoNetwork.into(), no_network_message(&no_network))
    } else if plan.reason == Some(EmptyReason::InterfacesUnknown) {
        let reason = EmptyReason::InterfacesUnknown;
        (Phase::Connecting, Status::Unknown, reason.into(), empty_message(observation.host, reason, None))
    } else if !waiting.is_empty() {
        let held: Vec<_> = waiting.iter().filter(|target| target.standing == Standing::Held).collect();
        let names = |target: &&TargetNow<'_>| target.target.to_string();
        let (reason, message) = if held.is_empty() {
            (Reason::Progressing, format!("connecting to {}", list(&waiting, |target| names(target))))
        } else {
            let names = list(&held, |target| names(target));
            let why = "a bond that covers it names a network that does not exist, and this host carries no other of its networks";
            (Reason::NetworkNotFound, format!("{names} is held without a session: {why}"))
        };
        (Phase::Connecting, Status::Unknown, reason.into(), message)
    } else {
        let (reason, message) = if targets.is_empty() {
            (Reason::NothingToConnect, "the data center has no target for this host".to_owned())
        } else {
            (Reason::TargetsReachable, "every target is reachable".to_owned())
        };
        let phase = if failed.is_empty() { Phase::Up } else { Phase::Degraded };
        (phase, Status::True, reason.into(), message)
    };

    let operational = Verdict::new(ConditionType::Operational, status, reason, message);
    let fully = fully_connected(phase, &failed, settled, &operational);
    let ready = ready_in_service(phase, &operational, &fully, settled);
    HostVerdict {
        phase,
        paths: counts(plan, reality),
        recheck_at: targets.iter().filter_map(|target| deadline(target.standing)).min(),
        without_session: without_session(plan, reality),
        targets: targets.iter().filter_map(|target| target.memory.clone()).collect(),
        conditions: vec![operational, fully, ready],
        absent: Vec::new(),
        settled,
    }
}

fn has_carried_out(host: &Host, plan: &HostPlan) -> bool {
    host.status.as_ref().is_some_and(|status| status.has_carried_out(&plan.revision))
}

fn counts(plan: &HostPlan, reality: &Reality<'_>) -> PathCounts {
    let connected = |path: &&PlannedPath| reality.of(path).is_some_and(|c| c.state == ConnectionState::Connected);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    PathCounts { desired: count(plan.paths.len()), connected: count(plan.paths.iter().filter(connected).count()) }
}

fn without_session(plan: &HostPlan, reality: &Reality<'_>) -> Vec<Arc<str>> {
    let planned = plan.paths.chunk_by(|a, b| a.target == b.target).map(|paths| &paths[0].target);
    planned.chain(&plan.no_network).filter(|target| !reality.has_live_session(target)).cloned().collect()
}

/// `operational` says why when no path has failed or is waited for, and a target is without a session all the same.
fn fully_connected(phase: Phase, failed: &[&PathNow<'_>], settled: bool, operational: &Verdict) -> Verdict {
    let kind = ConditionType::FullyConnected;
    if !failed.is_empty() {
        let failures = list(failed, |path| format!("{} {}", path.planned.target, path.describe()));
        Verdict::new(kind, Status::False, Reason::PathsFailed, failures)
    } else if !settled {
        Verdict::new(kind, Status::False, Reason::Connecting, "the plan is being carried out")
    } else if phase == Phase::Up {
        Verdict::new(kind, Status::True, Reason::AllPathsConnected, "every planned path is connected")
    } else {
        Verdict::new(kind, Status::False, operational.reason, &operational.message)
    }
}

fn ready_in_service(phase: Phase, operational: &Verdict, fully: &Verdict, settled: bool) -> Verdict {
    let ready =
        |status, reason: &'static str, message: &str| Verdict::new(ConditionType::Ready, status, reason, message);
    match phase {
        Phase::Up if settled => ready(Status::True, Reason::Up.into(), &operational.message),
        Phase::Up => ready(Status::False, Reason::Progressing.into(), &fully.message),
        Phase::Degraded => ready(Status::True, Reason::Degraded.into(), &fully.message),
        Phase::Connecting | Phase::NonOperational | Phase::Unassigned | Phase::Maintenance | Phase::Unknown => {
            ready(Status::False, operational.reason, &operational.message)
        }
    }
}

fn unassigned(observation: &Observation<'_>, reason: EmptyReason) -> HostVerdict {
    let message = empty_message(observation.host, reason, observation.winner);
    HostVerdict {
        phase: Phase::Unassigned,
        paths: PathCounts::default(),
        targets: Vec::new(),
        conditions: vec![
            Verdict::new(ConditionType::Operational, Status::False, reason, &message),
            Verdict::new(ConditionType::Ready, Status::False, reason, message),
        ],
        absent: vec![ConditionType::FullyConnected],
        recheck_at: None,
        without_session: Vec::new(),
        settled: true,
    }
}

fn in_maintenance(plan: &HostPlan, observation: &Observation<'_>, reality: &Reality<'_>) -> HostVerdict {
    let reason = EmptyReason::Maintenance;
    let message = empty_message(observation.host, reason, None);
    let left = sessions(reality);
    let acknowledged = has_carried_out(observation.host, plan);
    let ready = |status, reason: Reason, message: String| Verdict::new(ConditionType::Ready, status, reason, message);
    let ready = match (observation.agent, left) {
        (AgentState::Alive, Some(left)) => {
            ready(Status::False, Reason::Disconnecting, format!("still connected: {left}"))
        }
        (AgentState::Alive, None) if !acknowledged => {
            ready(Status::False, Reason::Disconnecting, "the agent has not acknowledged yet".to_owned())
        }
        (AgentState::Silent | AgentState::Missing, Some(left)) => {
            let message = format!("the agent is silent, and last reported as connected: {left}");
            ready(Status::False, Reason::Disconnecting, message)
        }
        (AgentState::Alive | AgentState::Silent | AgentState::Missing, None) => {
            ready(Status::True, Reason::Maintenance, "nothing is connected".to_owned())
        }
    };
    HostVerdict {
        phase: Phase::Maintenance,
        paths: PathCounts::default(),
        targets: Vec::new(),
        conditions: vec![Verdict::new(ConditionType::Operational, Status::False, reason, message), ready],
        absent: vec![ConditionType::FullyConnected],
        recheck_at: None,
        without_session: Vec::new(),
        settled: true,
    }
}

/// The sessions that a host last reported, planned or not, for people; none if there were none.
#[must_use]
pub fn still_connected(host: &Host) -> Option<String> {
    sessions(&Reality::new(host))
}

fn sessions(reality: &Reality<'_>) -> Option<String> {
    let sessions: Vec<&Connection> = reality.connections.iter().copied().filter(|c| has_session(c)).collect();
    let describe = |connection: &&Connection| {
        let Connection { target, portal, interface, session_id, message, .. } = connection;
        let interface = interface.as_deref().unwrap_or("the default network");
        let session = session_id.map(|id| format!(", session {id}")).unwrap_or_default();
        let why = message.as_deref().map(|message| format!(" ({message})")).unwrap_or_default();
        format!("{target} {portal} through {interface}{session}{why}")
    };
    (!sessions.is_empty()).then(|| list(&sessions, describe))
}

/// Not knowing is not failing: what is remembered stays as it is.
fn unknown(plan: &HostPlan, observation: &Observation<'_>, reality: &Reality<'_>) -> HostVerdict {
    let agent = agent_ready(observation);
    let of = |kind| Verdict::new(kind, Status::Unknown, agent.reason, &agent.message);
    let memory = Memory::new(observation);
    HostVerdict {
        phase: Phase::Unknown,
        paths: counts(plan, reality),
        targets: memory.targets.into_iter().cloned().collect(),
        conditions: vec![of(ConditionType::Operational), of(ConditionType::FullyConnected), of(ConditionType::Ready)],
        absent: Vec::new(),
        recheck_at: None,
        without_session: without_session(plan, reality),
        settled: false,
    }
}

fn agent_ready(observation: &Observation<'_>) -> Verdict {
    let node = &observation.host.spec.node_name;
    let kind = ConditionType::AgentReady;
    match observation.agent {
        AgentState::Alive => Verdict::new(kind, Status::True, Reason::AgentAlive, "the agent renews its lease"),
        AgentState::Silent => {
            let message = format!(
                "the agent on node {node} has stopped renewing its lease; is the node up, and its agent's pod running?"
            );
            Verdict::new(kind, Status::False, Reason::AgentSilent, message)
        }
        AgentState::Missing => {
            let message =
                format!("no agent has reported for node {node}; does the agent run there, and is spec.nodeName right?");
            Verdict::new(kind, Status::Unknown, Reason::AgentMissing, message)
        }
    }
}

fn prepared(observation: &Observation<'_>) -> Option<Verdict> {
    let kind = ConditionType::HostPrepared;
    if let Some(first) = observation.warnings.first() {
        let message = list(observation.warnings, |warning| format!("{}: {}", warning.reason, warning.message));
        return Some(Verdict::new(kind, Status::False, first.reason, message));
    }
    let reported = observation.host.status.as_ref().is_some_and(|status| status.interfaces.is_some());
    reported.then(|| Verdict::new(kind, Status::True, Reason::Prepared, "nothing on the host wants attention"))
}
