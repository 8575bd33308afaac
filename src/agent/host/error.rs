//! The errors of operations on the host.

use std::{path::PathBuf, time::Duration};

use thiserror::Error;

use super::access::HostAccess;
use crate::api::reason::PathReason;

/// Why a tool of the host failed. The messages are shown to users: they say what to do. They contain no arguments of
/// the tool, which may be secrets.
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
        /// The way in which it was looked for.
        access: HostAccess,
    },
    /// The tool could not be started; `message` names it and says why.
    #[error("{message} ({access})")]
    ToolNotStarted {
        /// The cause.
        message: String,
        /// The way to reach it.
        access: HostAccess,
    },
    /// The tool took longer than its limit.
    #[error("{tool} has not ended within {} s and was sent SIGTERM", limit.as_secs())]
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
        /// The tool to run.
        tool: String,
        /// The way to reach it.
        access: HostAccess,
        /// The error of the kernel.
        message: String,
    },
    /// The namespaces of a process could not be read.
    #[error(
        "cannot find out how {daemon}'s tools are reached: {}: {message}; the agent must run as root, in a pod with \
         hostPID and a privileged security context, or be configured with --host-tools",
        namespaces.display()
    )]
    NamespacesUnreadable {
        /// The daemon whose tools the agent needs.
        daemon: String,
        /// The directory of the namespaces.
        namespaces: PathBuf,
        /// The error of the kernel.
        message: String,
    },
    /// The root directory of the host could not be opened, or is not the host's.
    #[error("the files of the host cannot be reached through {}: {message}", directory.display())]
    RootUnreadable {
        /// The directory, as the agent sees it.
        directory: PathBuf,
        /// The cause.
        message: String,
    },
    /// A process that is not the host's listens where the tools look for the daemon.
    #[error(
        "{process} listens in place of {daemon} ({address}), so {daemon} is not asked for anything; end that process \
         (ss -xlp shows it), and start {daemon}; if it serves this host, see --host-tools"
    )]
    OtherListener {
        /// The daemon.
        daemon: String,
        /// Its address.
        address: String,
        /// The process.
        process: String,
    },
    /// A multipath map still exists after it was flushed.
    #[error("the multipath map {map} cannot be removed: {message}")]
    MapNotFlushed {
        /// The name of the map.
        map: String,
        /// The output of multipath.
        message: String,
    },
    /// A multipath map does not exist after it was to be made again.
    #[error("the multipath map {map} was not made again: {message}; run multipathd add map {map} on the host")]
    MapNotRestored {
        /// The name of the map.
        map: String,
        /// The output of multipathd.
        message: String,
    },
}

impl HostError {
    /// The reason to report for a path that this error stops.
    #[must_use]
    pub fn reason(&self) -> PathReason {
        match self {
            HostError::ToolMissing { .. } => PathReason::InitiatorMissing,
            HostError::OtherListener { .. } => PathReason::InitiatorDown,
            HostError::ToolTimedOut { .. } => PathReason::Timeout,
            HostError::MapNotFlushed { .. } => PathReason::InUse,
            HostError::ToolNotStarted { .. }
            | HostError::NotEntered { .. }
            | HostError::NamespacesUnreadable { .. }
            | HostError::RootUnreadable { .. }
            | HostError::MapNotRestored { .. } => PathReason::Internal,
        }
    }
}
