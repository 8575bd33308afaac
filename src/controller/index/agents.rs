//! The liveness of the agents, from their leases.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

use crate::{
    api::{AGENT_LEASE_PREFIX, LeasePart, NodeName},
    ops::Now,
    planner::AgentState,
};

/// The agents, by node.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    by_node: HashMap<NodeName, Renewal>,
    /// Leases cannot be watched, so a lease that seems to have expired may have been renewed.
    watch_down: bool,
    /// This replica has lost the leadership. The cause may also keep the agents from renewing their leases.
    paused: bool,
}

#[derive(Debug)]
struct Renewal {
    renewed: Timestamp,
    /// The time at which the renewal was seen, on the monotonic clock of this process: clocks of hosts differ.
    seen: Duration,
    lasts: Duration,
    alive: bool,
}

impl Agents {
    /// Whether the agent of a node is alive.
    pub(crate) fn state(&self, node: &str) -> AgentState {
        match self.by_node.get(node) {
            Some(renewal) if renewal.alive => AgentState::Alive,
            Some(_) => AgentState::Silent,
            None => AgentState::Missing,
        }
    }

    /// The nodes whose agents have a lease.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.by_node.keys()
    }

    /// The watch of leases has failed.
    pub(crate) fn watch_lost(&mut self) {
        self.watch_down = true;
    }

    /// The watch of leases works again. Agents that were alive get one lease period to renew.
    pub(crate) fn watch_regained(&mut self, now: Now) {
        if std::mem::take(&mut self.watch_down) {
            self.grant_lease_period(now);
        }
    }

    /// This replica does not lead any more.
    pub(crate) fn paused(&mut self) {
        self.paused = true;
    }

    /// This replica leads again. Agents that were alive when it last led get one lease period to renew.
    pub(crate) fn resumed(&mut self, now: Now) {
        if std::mem::take(&mut self.paused) {
            self.grant_lease_period(now);
        }
    }

    fn grant_lease_period(&mut self, now: Now) {
        self.by_node.values_mut().filter(|renewal| renewal.alive).for_each(|renewal| renewal.seen = now.monotonic);
    }

    /// Whether this replica may miss renewals now.
    fn may_miss_renewals(&self) -> bool {
        self.watch_down || self.paused
    }

    /// Applies a lease. Returns the node if the state of its agent has changed.
    pub(crate) fn lease_seen(&mut self, lease: &LeasePart, now: Now) -> Option<NodeName> {
        let node: NodeName = lease.metadata.name.as_deref()?.strip_prefix(AGENT_LEASE_PREFIX)?.into();
        let renewed = lease.spec.renew_time.as_ref()?.0;
        let lasts = Duration::from_secs(u64::from(lease.spec.lease_duration_seconds?));
        let before = self.by_node.get(&node);
        let was_alive = before.map(|renewal| renewal.alive);
        let seen = match before {
            Some(renewal) if renewal.renewed == renewed => renewal.seen,
            Some(_) => now.monotonic,
            // It may have been renewed without being seen.
            None if self.may_miss_renewals() => now.monotonic,
            // The first sight of a lease: only its own time says how old it is.
            None => now.monotonic.saturating_sub(age(renewed, now.wall)),
        };
        let expired_at_first_sight = before.is_none() && !self.may_miss_renewals() && age(renewed, now.wall) >= lasts;
        let alive = !expired_at_first_sight && now.monotonic < seen + lasts;
        self.by_node.insert(node.clone(), Renewal { renewed, seen, lasts, alive });
        (was_alive != Some(alive)).then_some(node)
    }

    /// A lease is gone. Returns the node if it was the lease of an agent.
    pub(crate) fn lease_removed(&mut self, lease_name: &str) -> Option<NodeName> {
        let node = lease_name.strip_prefix(AGENT_LEASE_PREFIX)?;
        self.by_node.remove_entry(node).map(|(node, _)| node)
    }

    /// Marks agents whose leases have expired as silent, and returns their nodes.
    pub(crate) fn expire(&mut self, now: Now) -> Vec<NodeName> {
        if self.may_miss_renewals() {
            return Vec::new();
        }
        let expired = self
            .by_node
            .iter_mut()
            .filter(|(_, renewal)| renewal.alive && now.monotonic >= renewal.seen + renewal.lasts);
        expired
            .map(|(node, renewal)| {
                renewal.alive = false;
                node.clone()
            })
            .collect()
    }
}

fn age(renewed: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(renewed)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: u64) -> Now {
        Now { wall: Timestamp::UNIX_EPOCH, monotonic: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_new_leader_grants_agents_one_lease_period_before_they_are_silent() {
        let lease: LeasePart = serde_json::from_value(json!({
            "metadata": {"name": "agent-w1"},
            "spec": {"renewTime": "1970-01-01T00:00:00.000000Z", "leaseDurationSeconds": 4}}))
        .unwrap();
        let mut agents = Agents::default();
        agents.lease_seen(&lease, at(0));
        agents.paused();
        assert!(agents.expire(at(10)).is_empty() && agents.state("w1") == AgentState::Alive);
        agents.resumed(at(10));
        assert!(agents.expire(at(13)).is_empty());
        assert_eq!(agents.expire(at(14)).len(), 1, "it did not renew");
    }
}
