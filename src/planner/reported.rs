//! The connections that the agent reports, indexed by path.

use std::fmt::Write as _;

use crate::api::{Connection, ConnectionState, Host, PlannedPath};

/// The connections that the agent reports, sorted by path.
pub(super) struct ReportedConnections<'a> {
    pub connections: Vec<&'a Connection>,
}

impl<'a> ReportedConnections<'a> {
    pub(super) fn new(host: &'a Host) -> Self {
        let mut connections: Vec<&Connection> =
            host.status.as_ref().map(|status| status.connections.iter().collect()).unwrap_or_default();
        // If a path has two sessions, a connected one counts.
        connections.sort_by_key(|connection| (connection.key(), connection.state != ConnectionState::Connected));
        connections.dedup_by(|a, b| a.key() == b.key());
        ReportedConnections { connections }
    }

    pub(super) fn of(&self, path: &PlannedPath) -> Option<&'a Connection> {
        let at = self.connections.binary_search_by(|connection| connection.key().cmp(&path.key())).ok()?;
        Some(self.connections[at])
    }

    pub(super) fn has_live_session(&self, target: &str) -> bool {
        let from = self.connections.partition_point(|connection| *connection.target < *target);
        self.connections[from..]
            .iter()
            .take_while(|connection| *connection.target == *target)
            .any(|connection| matches!(connection.state, ConnectionState::Connected | ConnectionState::Retained))
    }
}

/// Whether there is a session to log out. A lost session still exists: the initiator keeps trying to recover it.
pub(super) fn has_session(connection: &Connection) -> bool {
    match connection.state {
        ConnectionState::Connected | ConnectionState::Retained | ConnectionState::Disconnecting => true,
        ConnectionState::Failed => connection.session_id.is_some(),
        ConnectionState::Connecting => false,
    }
}

/// A planned path, and the connection that the agent reports for it.
pub(super) struct ObservedPath<'a> {
    pub planned: &'a PlannedPath,
    pub connection: Option<&'a Connection>,
}

impl ObservedPath<'_> {
    pub(super) fn is(&self, state: ConnectionState) -> bool {
        self.connection.is_some_and(|connection| connection.state == state)
    }

    /// Whether the path is in its first attempt: the agent has not reported it yet, or is only now taking over its
    /// session.
    pub(super) fn first_attempt(&self) -> bool {
        !self.is(ConnectionState::Connected) && !self.is(ConnectionState::Failed)
    }

    pub(super) fn describe(&self) -> String {
        let PlannedPath { portal, interface, network, .. } = self.planned;
        let mut text = match (interface, network) {
            (Some(interface), Some(network)) => format!("{portal} through {interface} ({network})"),
            (Some(interface), None) => format!("{portal} through {interface}"),
            (None, _) => format!("{portal} through the default network"),
        };
        if let Some(reason) = self.connection.and_then(|connection| connection.reason) {
            let _ = write!(text, ": {reason}");
        }
        if let Some(message) = self.connection.and_then(|connection| connection.message.as_deref()) {
            let _ = write!(text, " ({message})");
        }
        text
    }
}
