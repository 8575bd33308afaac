//! Which nodes' agents are heard of, from their leases.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    api::{AGENT_LEASE_PREFIX, LeasePart},
    ops::Now,
    planner::AgentState,
};

/// What is known of the agents, by node.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    by_node: HashMap<Arc<str>, Heard>,
    /// Leases cannot be watched: that nothing is heard of an agent is not its silence.
    unwatched: bool,
    /// The leader's own lease could not be renewed: nor could the agents renew theirs, or nobody saw it.
    out_of_office: bool,
}

#[derive(Debug)]
struct Heard {
    renewed: Timestamp,
    /// When the renewal was seen, on this process's own clock: clocks of hosts differ.
    seen: Duration,
    lasts: Duration,
    alive: bool,
}

impl Agents {
    /// The agent of a node.
    pub(crate) fn state(&self, node: &str) -> AgentState {
        match self.by_node.get(node) {
            Some(heard) if heard.alive => AgentState::Alive,
            Some(_) => AgentState::Silent,
            None => AgentState::Missing,
        }
    }

    /// The nodes whose agents have a lease.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_node.keys()
    }

    /// Leases cannot be watched any more.
    pub(crate) fn lost(&mut self) {
        self.unwatched = true;
    }

    /// Leases can be watched again: who was alive has a lease's time to say so.
    pub(crate) fn regained(&mut self, now: Now) {
        if std::mem::take(&mut self.unwatched) {
            self.give_time(now);
        }
    }

    /// This process does not lead any more.
    pub(crate) fn left_office(&mut self) {
        self.out_of_office = true;
    }

    /// It leads again: who was alive when it last did has a lease's time to say so.
    pub(crate) fn took_office(&mut self, now: Now) {
        if std::mem::take(&mut self.out_of_office) {
            self.give_time(now);
        }
    }

    fn give_time(&mut self, now: Now) {
        self.by_node.values_mut().filter(|heard| heard.alive).for_each(|heard| heard.seen = now.monotonic);
    }

    fn is_deaf(&self) -> bool {
        self.unwatched || self.out_of_office
    }

    /// Takes a lease in; the node, if what is known of its agent has changed.
    pub(crate) fn renewed(&mut self, lease: &LeasePart, now: Now) -> Option<Arc<str>> {
        let node: Arc<str> = lease.metadata.name.as_deref()?.strip_prefix(AGENT_LEASE_PREFIX)?.into();
        let renewed = lease.spec.renew_time.as_ref()?.0;
        let lasts = Duration::from_secs(u64::from(lease.spec.lease_duration_seconds?));
        let before = self.by_node.get(&node);
        let was_alive = before.map(|heard| heard.alive);
        let seen = match before {
            Some(heard) if heard.renewed == renewed => heard.seen,
            Some(_) => now.monotonic,
            // Nobody could renew it, or nobody could see that.
            None if self.is_deaf() => now.monotonic,
            // The first look at a lease: how old it is, only its own time tells.
            None => now.monotonic.saturating_sub(age(renewed, now.wall)),
        };
        let first_look_says_dead = before.is_none() && !self.is_deaf() && age(renewed, now.wall) >= lasts;
        let alive = !first_look_says_dead && now.monotonic < seen + lasts;
        self.by_node.insert(node.clone(), Heard { renewed, seen, lasts, alive });
        (was_alive != Some(alive)).then_some(node)
    }

    /// A lease is gone; the node, if that changes what is known of its agent.
    pub(crate) fn forgotten(&mut self, lease_name: &str) -> Option<Arc<str>> {
        let node = lease_name.strip_prefix(AGENT_LEASE_PREFIX)?;
        self.by_node.remove_entry(node).map(|(node, _)| node)
    }

    /// Nodes whose agents have fallen silent.
    pub(crate) fn expire(&mut self, now: Now) -> Vec<Arc<str>> {
        if self.is_deaf() {
            return Vec::new();
        }
        let expired =
            self.by_node.iter_mut().filter(|(_, heard)| heard.alive && now.monotonic >= heard.seen + heard.lasts);
        expired
            .map(|(node, heard)| {
                heard.alive = false;
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
    fn whoever_could_not_be_heard_while_nobody_led_has_a_leases_time_to_be_heard() {
        let lease: LeasePart = serde_json::from_value(json!({
            "metadata": {"name": "agent-w1"},
            "spec": {"renewTime": "1970-01-01T00:00:00.000000Z", "leaseDurationSeconds": 4}}))
        .unwrap();
        let mut agents = Agents::default();
        agents.renewed(&lease, at(0));
        agents.left_office();
        assert!(agents.expire(at(10)).is_empty() && agents.state("w1") == AgentState::Alive);
        agents.took_office(at(10));
        assert!(agents.expire(at(13)).is_empty());
        assert_eq!(agents.expire(at(14)).len(), 1, "it has not said anything");
    }
}
