//! Which of the Hosts that name a node its agent serves. Pure.

use std::sync::Arc;

use crate::{api::Host, planner::Precedence};

/// The Host that has the node, by the controller's rule. When none has, because all that name it are being deleted, the
/// first of these by name: somebody has to disconnect what is to be left.
#[must_use]
pub fn served(hosts: &[Arc<Host>]) -> Option<&Arc<Host>> {
    let claiming = hosts.iter().filter_map(|host| Some((Precedence::of(host)?, host)));
    let winner = claiming.min_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, host)| host);
    winner.or_else(|| hosts.iter().min_by_key(|host| (&host.metadata.namespace, &host.metadata.name)))
}
