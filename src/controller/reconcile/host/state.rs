//! The state of a host, from its plan and from what its agent reports.

use std::collections::HashSet;

use crate::{
    api::{Connection, ConnectionState, Host, PathKey},
    controller::index::state::HostState,
    planner::{AgentState, HostPlan, HostVerdict},
};

/// The state of a host for which this plan and this verdict were decided.
pub(super) fn new(
    host: &Host,
    plan: HostPlan,
    plan_epoch: Option<u64>,
    agent: AgentState,
    verdict: &HostVerdict,
) -> HostState {
    let connections = host.status.as_ref().map(|status| status.connections.as_slice()).unwrap_or_default();
    let (connected, failed) =
        (paths_in(connections, ConnectionState::Connected), paths_in(connections, ConnectionState::Failed));
    HostState {
        plan_epoch,
        phase: verdict.phase,
        agent,
        settled: verdict.settled,
        published: None,
        without_session: verdict.without_session.clone(),
        connected: plan.paths.iter().map(|path| connected.contains(&path.key())).collect(),
        failed: plan.paths.iter().map(|path| failed.contains(&path.key())).collect(),
        plan,
    }
}

fn paths_in(connections: &[Connection], state: ConnectionState) -> HashSet<PathKey<'_>> {
    connections.iter().filter(|connection| connection.state == state).map(Connection::key).collect()
}
