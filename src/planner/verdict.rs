//! The verdict on a host: compares the reported connections with the plan.
//!
//! The state of each target (reachable, or lost since a time) decides the phase, the conditions, and the time of the
//! next check.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    luns,
    names::HOST_SHOWN as SHOWN,
    observation::{AgentState, Observation},
    plan::HostPlan,
    problems::{empty_message, no_network_message},
    reported::{ObservedPath, ReportedConnections, has_session},
    target_state::{ObservedTarget, TargetHistory, TargetState, observe_targets},
};
use crate::api::{
    BondName, Connection, ConnectionState, Host, InterfaceName, Iqn, NetworkName, PathCounts, Phase, PlannedPath,
    Portal, TargetStatus,
    condition::{ConditionUpdate, Status},
    first_few,
    reason::{ConditionType, EmptyReason, Reason},
};

/// The verdict on a host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostVerdict {
    /// The phase of the host.
    pub phase: Phase,
    /// Planned and connected paths.
    pub paths: PathCounts,
    /// The new `status.targets`.
    pub targets: Vec<TargetStatus>,
    /// The conditions that the host has now.
    pub conditions: Vec<ConditionUpdate>,
    /// Condition types that the host does not have in this phase.
    pub absent: Vec<ConditionType>,
    /// The time at which the verdict may change without another event.
    pub recheck_at: Option<Timestamp>,
    /// Targets without any live session; a retained session counts. A target is listed from the moment of its loss. The
    /// Node's taint depends on it, and the decision whether the storage or the host has failed.
    pub without_session: Vec<Iqn>,
    /// Target and portal of the first path that has failed. It tells changes of many hosts apart by what failed.
    pub first_failed: Option<(Iqn, Portal)>,
    /// Every path has ended its first attempt, and the agent has acknowledged the plan.
    pub settled: bool,
}

/// Judges a host.
#[must_use]
pub fn judge(plan: &HostPlan, observation: &Observation<'_>, now: Timestamp) -> HostVerdict {
    let reported = ReportedConnections::new(observation.host);
    let mut verdict = match plan.reason {
        Some(EmptyReason::Maintenance) => in_maintenance(plan, observation, &reported),
        Some(
            reason @ (EmptyReason::NodeClaimed | EmptyReason::DataCenterNotFound | EmptyReason::DataCenterDeleting),
        ) => unassigned(observation, reason),
        Some(EmptyReason::InterfacesUnknown) | None => match observation.agent {
            AgentState::Alive => in_service(plan, observation, &reported, now),
            AgentState::Silent | AgentState::Missing => unknown(plan, observation, &reported),
        },
    };
    verdict.conditions.push(agent_ready(observation));
    let in_service = !matches!(verdict.phase, Phase::Unassigned | Phase::Maintenance);
    let luns = luns::condition(observation).filter(|_| in_service);
    for (kind, update) in [(ConditionType::LunsHealthy, luns), (ConditionType::HostPrepared, prepared(observation))] {
        match update {
            Some(update) => verdict.conditions.push(update),
            None => verdict.absent.push(kind),
        }
    }
    verdict
}

/// The state of a host in service. If several apply, the first one counts.
enum ServiceState<'a> {
    /// These targets have no path, and the delay is over.
    Unreachable(Vec<&'a ObservedTarget<'a>>),
    /// The host carries none of the networks for these targets.
    NoNetwork(Vec<Iqn>),
    /// The agent has not reported the host's interfaces.
    InterfacesUnknown,
    /// These targets had a session and have none, and the delay is not over.
    Lost(Vec<&'a ObservedTarget<'a>>),
    /// These targets are held, and have had no session; the delay is not over.
    Held(Vec<&'a ObservedTarget<'a>>),
    /// First attempts to these targets are under way, or they were lost a short while ago.
    Connecting(Vec<&'a ObservedTarget<'a>>),
    /// The data center has no target for this host.
    NothingToConnect,
    /// Every target is reachable.
    Reachable,
}

impl<'a> ServiceState<'a> {
    fn new(plan: &HostPlan, targets: &'a [ObservedTarget<'a>]) -> Self {
        let in_state =
            |is: fn(TargetState) -> bool| -> Vec<_> { targets.iter().filter(|target| is(target.state)).collect() };
        let unreachable = in_state(|state| state == TargetState::Unreachable);
        let no_network = in_state(|state| state == TargetState::NoNetwork);
        let lost = in_state(|state| matches!(state, TargetState::Lost(_)));
        let held = in_state(|state| matches!(state, TargetState::Held(_)));
        let connecting = in_state(|state| matches!(state, TargetState::Connecting(_)));
        if !unreachable.is_empty() {
            ServiceState::Unreachable(unreachable)
        } else if !no_network.is_empty() {
            ServiceState::NoNetwork(no_network.into_iter().map(|target| target.target.clone()).collect())
        } else if plan.reason == Some(EmptyReason::InterfacesUnknown) {
            ServiceState::InterfacesUnknown
        } else if !lost.is_empty() {
            ServiceState::Lost(lost)
        } else if !held.is_empty() {
            ServiceState::Held(held)
        } else if !connecting.is_empty() {
            ServiceState::Connecting(connecting)
        } else if targets.is_empty() {
            ServiceState::NothingToConnect
        } else {
            ServiceState::Reachable
        }
    }

    fn phase(&self, path_failed: bool) -> Phase {
        match self {
            ServiceState::Unreachable(_) | ServiceState::NoNetwork(_) => Phase::NonOperational,
            ServiceState::Lost(_) => Phase::Lost,
            ServiceState::InterfacesUnknown | ServiceState::Held(_) | ServiceState::Connecting(_) => Phase::Connecting,
            ServiceState::NothingToConnect | ServiceState::Reachable if path_failed => Phase::Degraded,
            ServiceState::NothingToConnect | ServiceState::Reachable => Phase::Up,
        }
    }

    /// `held_by` are the first few bonds that hold targets.
    fn operational(&self, host: &Host, held_by: &[BondName]) -> ConditionUpdate {
        let update = |status, reason: &'static str, message: String| {
            ConditionUpdate::new(ConditionType::Operational, status, reason, message)
        };
        match self {
            ServiceState::Unreachable(targets) => {
                let message = first_few(targets, SHOWN, |target| {
                    format!("target {} is not reachable{}", target.target, target.why())
                });
                update(Status::False, Reason::StorageUnreachable.into(), message)
            }
            ServiceState::Lost(targets) => {
                let message = first_few(targets, SHOWN, |target| {
                    let until =
                        target.state.deadline().map(|until| format!(", NonOperational at {until}")).unwrap_or_default();
                    format!("target {} has lost its last path{until}{}", target.target, target.why())
                });
                update(Status::Unknown, Reason::StorageLost.into(), message)
            }
            ServiceState::NoNetwork(targets) => {
                update(Status::False, Reason::NoNetwork.into(), no_network_message(targets))
            }
            ServiceState::InterfacesUnknown => {
                let reason = EmptyReason::InterfacesUnknown;
                update(Status::Unknown, reason.into(), empty_message(host, reason, None))
            }
            ServiceState::Held(targets) => {
                let bonds = first_few(held_by, SHOWN, |bond| format!("bond {bond}"));
                let bonds = if bonds.is_empty() { "a bond".to_owned() } else { bonds };
                let message = format!(
                    "{} is held without a session: {bonds} names a network that does not exist, or nearly the name of this target; correct it, its conditions say what was probably meant",
                    names(targets)
                );
                update(Status::Unknown, Reason::TargetsHeld.into(), message)
            }
            ServiceState::Connecting(targets) => {
                update(Status::Unknown, Reason::Progressing.into(), format!("connecting to {}", names(targets)))
            }
            ServiceState::NothingToConnect => {
                let message = "the data center has no target for this host".to_owned();
                update(Status::True, Reason::NothingToConnect.into(), message)
            }
            ServiceState::Reachable => {
                update(Status::True, Reason::TargetsReachable.into(), "every target is reachable".to_owned())
            }
        }
    }
}

fn names(targets: &[&ObservedTarget<'_>]) -> String {
    first_few(targets, SHOWN, |target| target.target.to_string())
}

fn in_service(
    plan: &HostPlan,
    observation: &Observation<'_>,
    reported: &ReportedConnections<'_>,
    now: Timestamp,
) -> HostVerdict {
    let targets = observe_targets(plan, observation, reported, now);
    let paths = || targets.iter().flat_map(|target| &target.paths);
    let failed: Vec<_> = paths().filter(|path| path.is(ConnectionState::Failed)).collect();
    // A report from before the agent knew the plan may be out of date: a path can leave a plan and come back in the next.
    let carried_out = plan.paths.is_empty() || has_carried_out(observation.host, plan);
    let settled = plan.reason.is_none() && carried_out && !paths().any(ObservedPath::first_attempt);

    let state = ServiceState::new(plan, &targets);
    let by_paths = state.phase(!failed.is_empty());
    let operational = state.operational(observation.host, &plan.held_by);
    let fully = fully_connected(plan, by_paths, &failed, settled, &operational);
    let luns = luns::problem(observation).filter(|_| by_paths == Phase::Up);
    let phase = if luns.is_some() { Phase::Degraded } else { by_paths };
    let ready = match luns {
        Some(luns) if settled => ready_in_service(phase, &operational, &luns, settled),
        _ => ready_in_service(by_paths, &operational, &fully, settled),
    };
    HostVerdict {
        phase,
        paths: counts(plan, reported),
        recheck_at: targets.iter().filter_map(|target| target.state.deadline()).min(),
        without_session: without_session(plan, reported),
        first_failed: failed.first().map(|path| (path.planned.target.clone(), path.planned.portal.clone())),
        targets: remembered(plan, observation, &targets),
        conditions: vec![operational, fully, ready],
        absent: Vec::new(),
        settled,
    }
}

/// The new `status.targets`. While the interfaces are not known there is no plan to compare with, and what was connected
/// is not forgotten.
fn remembered(plan: &HostPlan, observation: &Observation<'_>, targets: &[ObservedTarget<'_>]) -> Vec<TargetStatus> {
    if plan.reason == Some(EmptyReason::InterfacesUnknown) {
        return TargetHistory::new(observation).targets.into_iter().cloned().collect();
    }
    targets.iter().filter_map(|target| target.remember.clone()).collect()
}

fn has_carried_out(host: &Host, plan: &HostPlan) -> bool {
    host.status.as_ref().is_some_and(|status| status.has_carried_out(&plan.revision))
}

fn counts(plan: &HostPlan, reported: &ReportedConnections<'_>) -> PathCounts {
    let connected = |path: &&PlannedPath| reported.of(path).is_some_and(|c| c.state == ConnectionState::Connected);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    PathCounts { desired: count(plan.paths.len()), connected: count(plan.paths.iter().filter(connected).count()) }
}

fn without_session(plan: &HostPlan, reported: &ReportedConnections<'_>) -> Vec<Iqn> {
    let planned = plan.paths.chunk_by(|a, b| a.target == b.target).map(|paths| &paths[0].target);
    let targets: BTreeSet<&Iqn> = planned.chain(&plan.hold).chain(&plan.no_network).collect();
    targets.into_iter().filter(|target| !reported.has_live_session(target)).cloned().collect()
}

/// The device and the network of a path.
type Way<'a> = (Option<&'a InterfaceName>, Option<&'a NetworkName>);

fn way(path: &PlannedPath) -> Way<'_> {
    (path.interface.as_ref(), path.network.as_ref())
}

/// The failed paths in words. All paths through a device are one text: its network is dark on this host, whatever it leads
/// to.
fn failures(plan: &HostPlan, failed: &[&ObservedPath<'_>]) -> Vec<String> {
    let mut planned: BTreeMap<Way<'_>, usize> = BTreeMap::new();
    for path in &*plan.paths {
        *planned.entry(way(path)).or_default() += 1;
    }
    let mut by_way: BTreeMap<Way<'_>, Vec<&ObservedPath<'_>>> = BTreeMap::new();
    for path in failed {
        by_way.entry(way(path.planned)).or_default().push(path);
    }
    let describe = |path: &ObservedPath<'_>| format!("{} {}", path.planned.target, path.describe());
    let is_dark = |(way, paths): &(&Way<'_>, &Vec<&ObservedPath<'_>>)| {
        way.0.is_some() && paths.len() > 1 && planned.get(*way) == Some(&paths.len())
    };
    let dark = by_way.iter().filter(is_dark).map(|(way, paths)| {
        let interface = way.0.map(ToString::to_string).unwrap_or_default();
        let network = way.1.map(|network| format!(" ({network})")).unwrap_or_default();
        format!("all {} paths through {interface}{network} have failed, such as {}", paths.len(), describe(paths[0]))
    });
    let others = failed.iter().filter(|path| {
        let way = way(path.planned);
        by_way.get_key_value(&way).is_none_or(|group| !is_dark(&group))
    });
    dark.chain(others.map(|path| describe(path))).collect()
}

/// `operational` explains the case in which no path has failed or is pending, but a target has no session.
fn fully_connected(
    plan: &HostPlan,
    phase: Phase,
    failed: &[&ObservedPath<'_>],
    settled: bool,
    operational: &ConditionUpdate,
) -> ConditionUpdate {
    let kind = ConditionType::FullyConnected;
    if !failed.is_empty() {
        let failures = failures(plan, failed);
        ConditionUpdate::new(kind, Status::False, Reason::PathsFailed, first_few(&failures, SHOWN, Clone::clone))
    } else if !settled {
        ConditionUpdate::new(kind, Status::False, Reason::Connecting, "the plan is being carried out")
    } else if phase == Phase::Up {
        ConditionUpdate::new(kind, Status::True, Reason::AllPathsConnected, "every planned path is connected")
    } else {
        ConditionUpdate::new(kind, Status::False, operational.reason, &operational.message)
    }
}

/// `imperfect` explains what is missing where every target is reachable.
fn ready_in_service(
    phase: Phase,
    operational: &ConditionUpdate,
    imperfect: &ConditionUpdate,
    settled: bool,
) -> ConditionUpdate {
    let ready = |status, reason: &'static str, message: &str| {
        ConditionUpdate::new(ConditionType::Ready, status, reason, message)
    };
    match phase {
        Phase::Up if settled => ready(Status::True, Reason::Up.into(), &operational.message),
        Phase::Up => ready(Status::False, Reason::Progressing.into(), &imperfect.message),
        Phase::Degraded => ready(Status::True, Reason::Degraded.into(), &imperfect.message),
        Phase::Connecting
        | Phase::Lost
        | Phase::NonOperational
        | Phase::Unassigned
        | Phase::Maintenance
        | Phase::Unknown => ready(Status::False, operational.reason, &operational.message),
    }
}

fn unassigned(observation: &Observation<'_>, reason: EmptyReason) -> HostVerdict {
    let message = empty_message(observation.host, reason, observation.node_owner);
    HostVerdict {
        phase: Phase::Unassigned,
        paths: PathCounts::default(),
        targets: Vec::new(),
        conditions: vec![
            ConditionUpdate::new(ConditionType::Operational, Status::False, reason, &message),
            ConditionUpdate::new(ConditionType::Ready, Status::False, reason, message),
        ],
        absent: vec![ConditionType::FullyConnected],
        recheck_at: None,
        without_session: Vec::new(),
        first_failed: None,
        settled: true,
    }
}

fn in_maintenance(plan: &HostPlan, observation: &Observation<'_>, reported: &ReportedConnections<'_>) -> HostVerdict {
    let reason = EmptyReason::Maintenance;
    let message = empty_message(observation.host, reason, None);
    let left = sessions(reported);
    let acknowledged = has_carried_out(observation.host, plan);
    let ready =
        |status, reason: Reason, message: String| ConditionUpdate::new(ConditionType::Ready, status, reason, message);
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
        conditions: vec![ConditionUpdate::new(ConditionType::Operational, Status::False, reason, message), ready],
        absent: vec![ConditionType::FullyConnected],
        recheck_at: None,
        without_session: Vec::new(),
        first_failed: None,
        settled: true,
    }
}

/// The message about the sessions that a host last reported, planned or not; `None` if there were none.
#[must_use]
pub fn still_connected(host: &Host) -> Option<String> {
    sessions(&ReportedConnections::new(host))
}

fn sessions(reported: &ReportedConnections<'_>) -> Option<String> {
    let sessions: Vec<&Connection> = reported.connections.iter().copied().filter(|c| has_session(c)).collect();
    let describe = |connection: &&Connection| {
        let Connection { target, portal, interface, session_id, message, .. } = connection;
        let interface = interface.as_deref().unwrap_or("the default network");
        let session = session_id.map(|id| format!(", session {id}")).unwrap_or_default();
        let why = message.as_deref().map(|message| format!(" ({message})")).unwrap_or_default();
        format!("{target} {portal} through {interface}{session}{why}")
    };
    (!sessions.is_empty()).then(|| first_few(&sessions, SHOWN, describe))
}

/// The verdict while the agent does not report: the history of the targets stays as it is.
fn unknown(plan: &HostPlan, observation: &Observation<'_>, reported: &ReportedConnections<'_>) -> HostVerdict {
    let agent = agent_ready(observation);
    let of = |kind| ConditionUpdate::new(kind, Status::Unknown, agent.reason, &agent.message);
    let history = TargetHistory::new(observation);
    HostVerdict {
        phase: Phase::Unknown,
        paths: counts(plan, reported),
        targets: history.targets.into_iter().cloned().collect(),
        conditions: vec![of(ConditionType::Operational), of(ConditionType::FullyConnected), of(ConditionType::Ready)],
        absent: Vec::new(),
        recheck_at: None,
        without_session: without_session(plan, reported),
        first_failed: None,
        settled: false,
    }
}

fn agent_ready(observation: &Observation<'_>) -> ConditionUpdate {
    let node = &observation.host.spec.node_name;
    let kind = ConditionType::AgentReady;
    match observation.agent {
        AgentState::Alive => ConditionUpdate::new(kind, Status::True, Reason::AgentAlive, "the agent renews its lease"),
        AgentState::Silent => {
            let message = format!(
                "the agent on node {node} has stopped renewing its lease; is the node up, and its agent's pod running?"
            );
            ConditionUpdate::new(kind, Status::False, Reason::AgentSilent, message)
        }
        AgentState::Missing => {
            let message =
                format!("no agent has reported for node {node}; does the agent run there, and is spec.nodeName right?");
            ConditionUpdate::new(kind, Status::Unknown, Reason::AgentMissing, message)
        }
    }
}

fn prepared(observation: &Observation<'_>) -> Option<ConditionUpdate> {
    let kind = ConditionType::HostPrepared;
    if let Some(first) = observation.warnings.first() {
        let message =
            first_few(observation.warnings, SHOWN, |warning| format!("{}: {}", warning.reason, warning.message));
        return Some(ConditionUpdate::new(kind, Status::False, first.reason, message));
    }
    let reported = observation.host.status.as_ref().is_some_and(|status| status.interfaces.is_some());
    reported.then(|| ConditionUpdate::new(kind, Status::True, Reason::Prepared, "nothing on the host wants attention"))
}
