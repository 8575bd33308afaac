//! What the verdict on a host is made from, beside its plan.

use std::time::Duration;

use crate::api::{Host, HostWarning};

/// Whether the agent on the host's node is alive.
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
    /// Namespace and name of the Host that owns the node, if that is another one.
    pub node_owner: Option<(&'a str, &'a str)>,
    /// Whether the agent is alive.
    pub agent: AgentState,
    /// How long a target may be without a path.
    pub non_operational_after: Duration,
    /// Warnings about the host, those of its agent included.
    pub warnings: &'a [HostWarning],
}
