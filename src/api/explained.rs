//! Which hosts fail because of a portal that fails on others too.

use std::collections::HashSet;

use super::{Connection, ConnectionState, HostStatus, Iqn, PathKey, PlannedPath, PortalFailure};

/// Whether every failed path of a host is one to these portals, which fail on other hosts too, and no LUN has a problem of
/// its own. Then one line says so for all of these hosts.
#[must_use]
pub fn is_explained_by(host: &HostStatus, portals: &[PortalFailure]) -> bool {
    if portals.is_empty() || has_lun_problem(host) {
        return false;
    }
    let failed = |connection: &&Connection| connection.state == ConnectionState::Failed;
    let failed: HashSet<PathKey<'_>> = host.connections.iter().filter(failed).map(Connection::key).collect();
    let planned = host.plan.as_ref().map(|plan| &*plan.paths).unwrap_or_default();
    let mut failed = planned.iter().filter(|path| failed.contains(&path.key())).peekable();
    let is_of = |portal: &PortalFailure, path: &PlannedPath| {
        portal.place() == (&path.target, &path.portal, path.network.as_ref())
    };
    failed.peek().is_some() && failed.all(|path| portals.iter().any(|portal| is_of(portal, path)))
}

/// Whether a LUN has a problem that lost sessions do not explain: without a session no LUN has a path that works.
fn has_lun_problem(host: &HostStatus) -> bool {
    let Some(luns) = &host.luns else { return false };
    let connected = host.connections.iter().filter(|connection| connection.state == ConnectionState::Connected);
    let connected: HashSet<&Iqn> = connected.map(|connection| &connection.target).collect();
    luns.problems.iter().flat_map(|lun| &lun.at).any(|at| connected.contains(&at.target))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_lun_explains_itself_unless_its_target_has_no_session() {
        let (target, portals) = ("iqn.2003-01.org.example:a", ["10.0.1.10:3260", "10.0.2.10:3260"]);
        let explained = |states: [&str; 2], lun_at: &str| {
            let connection = |(portal, state)| {
                json!({"target": target, "portal": portal, "tpgt": 1, "interface": "ens1", "state": state,
                    "since": "2026-01-01T00:00:00Z"})
            };
            let planned = |portal| json!({"target": target, "portal": portal, "tpgt": 1, "interface": "ens1", "network": "san", "storage": "s"});
            let host: HostStatus = from_value(json!({
                "plan": {"revision": "r", "paths": portals.map(planned)},
                "connections": portals.into_iter().zip(states).map(connection).collect::<Vec<_>>(),
                "luns": {"summary": "0/1", "problems": [{"problem": "NoActivePath", "wwid": "3600a",
                    "at": [{"target": lun_at, "lun": 1}]}]},
            }))
            .unwrap();
            let failure = |portal| {
                json!({"target": target, "portal": portal, "network": "san", "failed": 2, "hosts": 2,
                    "since": "2026-01-01T00:00:00Z"})
            };
            let failures: Vec<PortalFailure> = from_value(json!(portals.map(failure))).unwrap();
            is_explained_by(&host, &failures)
        };
        assert!(explained(["Failed", "Failed"], target), "no session: no LUN has a path");
        assert!(!explained(["Failed", "Connected"], target), "the session that works should show it");
    }
}
