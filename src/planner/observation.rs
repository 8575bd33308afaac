//! The input of the verdict on a host, beside its plan.

use std::time::Duration;

use crate::api::{Host, HostWarning};

/// The liveness of the agent on the host's node, by its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgentState {
    /// It renews its lease.
    Alive,
    /// It has stopped renewing its lease.
    Silent,
    /// It has never had a lease.
    Missing,
}

/// The input of the verdict on a host, beside its plan.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The Host, with the agent's report and the history of its targets.
    pub host: &'a Host,
    /// Namespace and name of the Host that owns the node, if that is another one.
    pub node_owner: Option<(&'a str, &'a str)>,
    /// The liveness of the agent.
    pub agent: AgentState,
    /// The time that a target may be without a path before the host is `NonOperational`.
    pub non_operational_after: Duration,
    /// Warnings about the host, including the agent's.
    pub warnings: &'a [HostWarning],
}
