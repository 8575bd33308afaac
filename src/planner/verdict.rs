//! The verdict on a host: how what is compares with what should be.
//!
//! Per target: reachable, or not, and since when. From that the phase, the conditions, and when to look again.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    plan::HostPlan,
    problems::{empty_message, no_network_message},
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
    /// Targets without any live session, retained ones included: what the Node's taint is about.
    pub without_session: Vec<Arc<str>>,
    /// Whether every path has ended its first attempt.
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

/// What the agent reports, found by path.
struct Reality<'a> {
    connections: Vec<&'a Connection>,
}

type PathKey<'a> = (&'a str, &'a str, u16, Option<&'a str>);

fn key(connection: &Connection) -> PathKey<'_> {
    (&connection.target, &connection.portal, connection.tpgt, connection.interface.as_deref())
}

impl<'a> Reality<'a> {
    fn new(host: &'a Host) -> Self {
        let mut connections: Vec<&Connection> =
            host.status.as_ref().map(|status| status.connections.iter().collect()).unwrap_or_default();
        connections.sort_by(|a, b| key(a).cmp(&key(b)));
        Reality { connections }
    }

    fn of(&self, path: &PlannedPath) -> Option<&'a Connection> {
        let wanted = (&*path.target, &*path.portal, path.tpgt, path.interface.as_deref());
        let at = self.connections.binary_search_by(|connection| key(connection).cmp(&wanted)).ok()?;
        Some(self.connections[at])
    }

    fn has_live_session(&self, target: &str) -> bool {
        let from = self.connections.partition_point(|connection| *connection.target < *target);
        self.connections[from..]
            .iter()
            .take_while(|connection| *connection.target == *target)
            .any(|connection| matches!(connection.state, ConnectionState::Connected | ConnectionState::Retained))
    }
}

/// A planned path beside what is known of it.
struct PathNow<'a> {
    planned: &'a PlannedPath,
    actual: Option<&'a Connection>,
}

impl PathNow<'_> {
    fn is(&self, state: ConnectionState) -> bool {
        self.actual.is_some_and(|connection| connection.state == state)
    }

    /// A path that nobody has reported on, or whose session is only now being taken over, is in its first attempt.
    fn first_attempt(&self) -> bool {
        !self.is(ConnectionState::Connected) && !self.is(ConnectionState::Failed)
    }

    fn describe(&self) -> String {
        let PlannedPath { portal, interface, network, .. } = self.planned;
        let mut text = match (interface, network) {
            (Some(interface), Some(network)) => format!("{portal} through {interface} ({network})"),
            (Some(interface), None) => format!("{portal} through {interface}"),
            (None, _) => format!("{portal} through the default network"),
        };
        if let Some(reason) = self.actual.and_then(|connection| connection.reason) {
            let _ = write!(text, ": {reason}");
        }
        if let Some(message) = self.actual.and_then(|connection| connection.message.as_deref()) {
            let _ = write!(text, " ({message})");
        }
        text
    }
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

/// What is found of one target in service.
struct TargetNow<'a> {
    target: &'a Arc<str>,
    paths: Vec<PathNow<'a>>,
    standing: Standing,
    memory: Option<TargetStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Reachable,
    /// First attempts are under way, or the delay of a lost one runs until then.
    Connecting(Option<Timestamp>),
    /// A held target without a session.
    Held,
    Unreachable,
    NoNetwork,
}

fn in_service(plan: &HostPlan, observation: &Observation<'_>, reality: &Reality<'_>, now: Timestamp) -> HostVerdict {
    let targets = targets_now(plan, observation, reality, now);
    let paths = || targets.iter().flat_map(|target| &target.paths);
    let standing = |wanted: fn(Standing) -> bool| targets.iter().filter(move |target| wanted(target.standing));
    let unreachable: Vec<_> = standing(|s| s == Standing::Unreachable).collect();
    let no_network: Vec<Arc<str>> = standing(|s| s == Standing::NoNetwork).map(|t| t.target.clone()).collect();
    let waiting: Vec<_> = standing(|s| matches!(s, Standing::Connecting(_) | Standing::Held)).collect();
    let failed: Vec<_> = paths().filter(|path| path.is(ConnectionState::Failed)).collect();
    let settled = plan.reason.is_none() && !paths().any(PathNow::first_attempt);

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
    let fully = fully_connected(&failed, settled);
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

fn deadline(standing: Standing) -> Option<Timestamp> {
    match standing {
        Standing::Connecting(until) => until,
        Standing::Reachable | Standing::Held | Standing::Unreachable | Standing::NoNetwork => None,
    }
}

fn targets_now<'a>(
    plan: &'a HostPlan,
    observation: &Observation<'_>,
    reality: &Reality<'a>,
    now: Timestamp,
) -> Vec<TargetNow<'a>> {
    let memory = Memory::new(observation);
    let planned = plan.paths.chunk_by(|a, b| a.target == b.target).map(|paths| {
        let target = &paths[0].target;
        let paths: Vec<_> = paths.iter().map(|planned| PathNow { planned, actual: reality.of(planned) }).collect();
        let (standing, memory) = planned_standing(target, &paths, reality, &memory, now);
        TargetNow { target, paths, standing, memory }
    });
    let held = plan.hold.iter().map(|target| {
        let live = reality.has_live_session(target);
        let memory = live.then(|| TargetStatus { target: target.clone(), lost_at: None }).or_else(|| memory.of(target));
        let standing = if live { Standing::Reachable } else { Standing::Held };
        TargetNow { target, paths: Vec::new(), standing, memory }
    });
    let no_network = plan.no_network.iter().map(|target| TargetNow {
        target,
        paths: Vec::new(),
        standing: Standing::NoNetwork,
        memory: None,
    });
    let mut targets: Vec<_> = planned.chain(held).chain(no_network).collect();
    targets.sort_by(|a, b| a.target.cmp(b.target));
    targets
}

fn planned_standing(
    target: &Arc<str>,
    paths: &[PathNow<'_>],
    reality: &Reality<'_>,
    memory: &Memory<'_>,
    now: Timestamp,
) -> (Standing, Option<TargetStatus>) {
    let known = |lost_at: Option<Time>| Some(TargetStatus { target: target.clone(), lost_at });
    if paths.iter().any(|path| path.is(ConnectionState::Connected)) {
        return (Standing::Reachable, known(None));
    }
    let before = memory.of(target);
    if before.is_none() && !reality.has_live_session(target) {
        let pending = paths.iter().any(PathNow::first_attempt);
        return (if pending { Standing::Connecting(None) } else { Standing::Unreachable }, None);
    }
    // dm-multipath queues through short outages; so does the verdict.
    let lost_at = before.and_then(|before| before.lost_at).unwrap_or_else(|| Time(next_second(now)));
    let until = lost_at.0.saturating_add(memory.delay).unwrap_or(Timestamp::MAX);
    // Without a delay the rounding to whole seconds must not make one.
    let standing =
        if until <= now || memory.delay.is_zero() { Standing::Unreachable } else { Standing::Connecting(Some(until)) };
    (standing, known(Some(lost_at)))
}

/// The API's times have whole seconds; rounding up never ends a delay early.
fn next_second(now: Timestamp) -> Timestamp {
    let up = i64::from(now.subsec_nanosecond() != 0);
    Timestamp::from_second(now.as_second() + up).unwrap_or(now)
}

/// What is remembered of a host's targets since it entered service.
struct Memory<'a> {
    targets: &'a [TargetStatus],
    delay: Duration,
}

impl<'a> Memory<'a> {
    fn new(observation: &Observation<'a>) -> Self {
        let host = observation.host;
        let same = |status: &&crate::api::HostStatus| status.data_center.as_ref() == Some(&host.spec.data_center);
        let targets = host.status.as_ref().filter(same).map(|status| status.targets.as_slice()).unwrap_or_default();
        Memory { targets, delay: observation.non_operational_after }
    }

    fn of(&self, target: &str) -> Option<TargetStatus> {
        self.targets.iter().find(|known| *known.target == *target).cloned()
    }
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

fn fully_connected(failed: &[&PathNow<'_>], settled: bool) -> Verdict {
    let kind = ConditionType::FullyConnected;
    if !failed.is_empty() {
        let failures = list(failed, |path| format!("{} {}", path.planned.target, path.describe()));
        Verdict::new(kind, Status::False, Reason::PathsFailed, failures)
    } else if settled {
        Verdict::new(kind, Status::True, Reason::AllPathsConnected, "every planned path is connected")
    } else {
        Verdict::new(kind, Status::False, Reason::Connecting, "paths are being connected")
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
    let left: Vec<&Connection> = reality.connections.clone();
    let acknowledged = observation
        .host
        .status
        .as_ref()
        .and_then(|status| status.agent.as_ref())
        .is_some_and(|agent| agent.observed_revision.as_ref() == Some(&plan.revision));
    let ready = |status, reason: Reason, message: String| Verdict::new(ConditionType::Ready, status, reason, message);
    let describe = |connection: &&Connection| {
        let why = connection.message.as_deref().map(|message| format!(" ({message})")).unwrap_or_default();
        format!("{} {}{why}", connection.target, connection.portal)
    };
    let ready = if !left.is_empty() && observation.agent != AgentState::Alive {
        ready(Status::Unknown, Reason::AgentSilent, format!("last reported as connected: {}", list(&left, describe)))
    } else if !left.is_empty() {
        ready(Status::False, Reason::Disconnecting, format!("still connected: {}", list(&left, describe)))
    } else if observation.agent == AgentState::Alive && !acknowledged {
        ready(Status::False, Reason::Disconnecting, "the agent has not acknowledged yet".to_owned())
    } else {
        ready(Status::True, Reason::Maintenance, "nothing is connected".to_owned())
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

/// Not knowing is not failing: what is remembered stays as it is.
fn unknown(plan: &HostPlan, observation: &Observation<'_>, reality: &Reality<'_>) -> HostVerdict {
    let agent = agent_ready(observation);
    let of = |kind| Verdict::new(kind, Status::Unknown, agent.reason, &agent.message);
    let memory = Memory::new(observation);
    HostVerdict {
        phase: Phase::Unknown,
        paths: counts(plan, reality),
        targets: memory.targets.to_vec(),
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
