//! Why something on the host did not work.

use std::{path::PathBuf, time::Duration};

use thiserror::Error;

use super::access::HostAccess;
use crate::api::reason::PathReason;

/// Why a tool of the host did not do what it was asked to. The messages are shown to users: they say what to do, and
/// contain nothing of the tool's arguments, which may be secrets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostError {
    /// The host does not have the tool.
    #[error(
        "the host has no {tool} (looked for: {access}); install it on the host, or say with --host-tools where the \
         host's tools are"
    )]
    ToolMissing {
        /// The name of the tool.
        tool: String,
        /// How it was looked for.
        access: HostAccess,
    },
    /// The tool could not be started; `message` names it and says why.
    #[error("{message} ({access})")]
    ToolNotStarted {
        /// What was said about it.
        message: String,
        /// How it was to be reached.
        access: HostAccess,
    },
    /// The tool took longer than its limit.
    #[error("{tool} has not ended within {} s and was told to end", limit.as_secs())]
    ToolTimedOut {
        /// The name of the tool.
        tool: String,
        /// The limit.
        limit: Duration,
    },
    /// The namespaces or the root directory of the host could not be entered.
    #[error(
        "the host cannot be entered ({access}) to run {tool}: {message}; in a pod the agent needs hostPID and a \
         privileged security context"
    )]
    NotEntered {
        /// The tool that was to be run.
        tool: String,
        /// How it was to be reached.
        access: HostAccess,
        /// What the kernel said.
        message: String,
    },
    /// The namespaces of a process could not be read.
    #[error(
        "cannot find out how {daemon}'s tools are reached: {}: {message}; the agent must run as root, in a pod with \
         hostPID and a privileged security context, or be told by --host-tools",
        namespaces.display()
    )]
    NamespacesUnreadable {
        /// The daemon whose tools are to be reached.
        daemon: String,
        /// The directory of the namespaces.
        namespaces: PathBuf,
        /// What the kernel said.
        message: String,
    },
    /// A multipath map still exists after it was flushed.
    #[error("the multipath map {map} cannot be removed: {message}")]
    MapNotFlushed {
        /// The name of the map.
        map: String,
        /// What multipath said.
        message: String,
    },
}

impl HostError {
    /// The reason to report for a path that this error stops.
    #[must_use]
    pub fn reason(&self) -> PathReason {
        match self {
            HostError::ToolMissing { .. } => PathReason::InitiatorMissing,
            HostError::ToolTimedOut { .. } => PathReason::Timeout,
            HostError::MapNotFlushed { .. } => PathReason::InUse,
            HostError::ToolNotStarted { .. }
            | HostError::NotEntered { .. }
            | HostError::NamespacesUnreadable { .. } => PathReason::Internal,
        }
    }
}
