//! What the agent reports, found by path.

use std::fmt::Write as _;

use crate::api::{Connection, ConnectionState, Host, PlannedPath};

/// What the agent reports, found by path.
pub(super) struct Reality<'a> {
    pub connections: Vec<&'a Connection>,
}

impl<'a> Reality<'a> {
    pub(super) fn new(host: &'a Host) -> Self {
        let mut connections: Vec<&Connection> =
            host.status.as_ref().map(|status| status.connections.iter().collect()).unwrap_or_default();
        // Of two sessions on one path a connected one counts.
        connections.sort_by_key(|connection| (connection.key(), connection.state != ConnectionState::Connected));
        connections.dedup_by(|a, b| a.key() == b.key());
        Reality { connections }
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

/// Whether something is left to log out. A session that is lost is still there: the initiator goes on with it.
pub(super) fn has_session(connection: &Connection) -> bool {
    match connection.state {
        ConnectionState::Connected | ConnectionState::Retained | ConnectionState::Disconnecting => true,
        ConnectionState::Failed => connection.session_id.is_some(),
        ConnectionState::Connecting => false,
    }
}

/// A planned path beside what is known of it.
pub(super) struct PathNow<'a> {
    pub planned: &'a PlannedPath,
    pub actual: Option<&'a Connection>,
}

impl PathNow<'_> {
    pub(super) fn is(&self, state: ConnectionState) -> bool {
        self.actual.is_some_and(|connection| connection.state == state)
    }

    /// A path that nobody has reported on, or whose session is only now being taken over, is in its first attempt.
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
        if let Some(reason) = self.actual.and_then(|connection| connection.reason) {
            let _ = write!(text, ": {reason}");
        }
        if let Some(message) = self.actual.and_then(|connection| connection.message.as_deref()) {
            let _ = write!(text, " ({message})");
        }
        text
    }
}
