//! Which hosts fail because of a portal that fails on others too.

use std::collections::HashSet;

use super::{Connection, ConnectionState, HostStatus, PathKey, PlannedPath, PortalFailure};

/// Whether every failed path of a host is one to these portals, which fail on other hosts too, and no LUN has a problem. Then
/// one line says so for all of these hosts.
#[must_use]
pub fn is_explained_by(host: &HostStatus, portals: &[PortalFailure]) -> bool {
    let has_lun_problem = host.luns.as_ref().is_some_and(|luns| !luns.problems.is_empty());
    if portals.is_empty() || has_lun_problem {
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
