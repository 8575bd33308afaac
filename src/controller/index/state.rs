//! The last decisions for objects, kept for later decisions. Data only: `reconcile` computes it.

use std::{collections::HashMap, fmt};

use jiff::Timestamp;

use crate::{
    api::{
        BondHostCounts, HostCounts, HostStatus, Iqn, NetworkName, ObjectKey, ObjectName, PathCounts, Phase, Portal,
        Revision,
    },
    planner::{AgentState, Causes, HostPlan, Usage},
};

/// The part of a decision that later decisions need. The index stores it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memo {
    /// The new state of the Host.
    pub host: Option<HostState>,
    /// The object is being deleted, so its deletion timeout runs from the first such decision.
    pub deletion: bool,
    /// The time at which a taint that evicts was decided: it may not be on its Node yet.
    pub evicted_at: Option<Timestamp>,
    /// The time at which it was decided to show the loss of a host on its Node.
    pub loss_shown_at: Option<Timestamp>,
    /// Whether the storage of the data center has failed, and not its hosts.
    pub storage_at_fault: Option<bool>,
    /// The change of a host's phase that was announced, or left to its data center.
    pub phase_change: Option<PhaseChange>,
}

/// A change of hosts of a data center.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PhaseChange {
    pub data_center: ObjectKey,
    pub phase: Phase,
    /// The target and portal of the first path that has failed; `None` of hosts that have recovered.
    pub cause: Option<(Iqn, Portal)>,
}

/// The last decision for a host. Aggregates, the host's Node and deletions depend on it.
#[derive(Clone, Debug)]
pub(crate) struct HostState {
    /// The newest plan. It may not be published: see `published`.
    pub plan: HostPlan,
    /// The plan epoch of the data center for which `plan` was made: `plan` is current as long as the two are equal. `None`
    /// while the data center is frozen: `plan` is then the one in the Host's status.
    pub plan_epoch: Option<u64>,
    pub phase: Phase,
    pub agent: AgentState,
    pub settled: bool,
    /// The revision of the plan in the Host's status, which the agent carries out. It differs from the revision of
    /// `plan` if `plan` must not be published; `None` if the Host gets no plan at all.
    pub published: Option<Revision>,
    pub without_session: Vec<Iqn>,
    /// Whether there is a session, for each path of the plan, in order.
    pub connected: Vec<bool>,
    /// Whether the path has failed, for each path of the plan, in order.
    pub failed: Vec<bool>,
}

impl HostState {
    /// Whether two states differ in more than the plan epoch. A change of a data center replans all of its hosts, and
    /// the plans of most of them stay the same.
    pub(crate) fn differs_beyond_epoch(&self, other: &HostState) -> bool {
        let HostState { plan, plan_epoch: _, phase, agent, settled, published, without_session, connected, failed } =
            self;
        *plan != other.plan
            || *phase != other.phase
            || *agent != other.agent
            || *settled != other.settled
            || *published != other.published
            || *without_session != other.without_session
            || *connected != other.connected
            || *failed != other.failed
    }

    /// Replaces texts of a status by equal ones of this state's plan, so that each is in memory once: with thousands of
    /// hosts these texts are most of the memory. Frees unused capacity too.
    pub(crate) fn intern(&self, status: &mut HostStatus) {
        if let Some(plan) = &mut status.plan
            && plan.paths == self.plan.paths
        {
            plan.paths = self.plan.paths.clone();
        }
        if status.networks == self.plan.networks {
            status.networks = self.plan.networks.clone();
        }
        for connection in &mut status.connections {
            let same = self.plan.paths.binary_search_by(|path| path.key().cmp(&connection.key()));
            if let Some(path) = same.ok().map(|at| &self.plan.paths[at]) {
                connection.target = path.target.clone();
                connection.portal = path.portal.clone();
                connection.interface.clone_from(&path.interface);
            }
        }
        for target in &mut status.targets {
            let same = self.plan.paths.binary_search_by(|path| path.target.cmp(&target.target));
            if let Some(path) = same.ok().map(|at| &self.plan.paths[at]) {
                target.target = path.target.clone();
            }
        }
        // A list that was decoded may have capacity for twice as many elements.
        status.connections.shrink_to_fit();
        status.conditions.shrink_to_fit();
        status.targets.shrink_to_fit();
        if let Some(interfaces) = &mut status.interfaces {
            interfaces.shrink_to_fit();
            for interface in interfaces {
                interface.addresses.shrink_to_fit();
            }
        }
    }
}

/// The number of names that a message lists before "and N more".
pub(crate) const SHOWN: usize = 3;

/// Counts over all hosts of a data center.
#[derive(Debug, Default)]
pub(crate) struct Aggregates {
    pub phases: HostCounts,
    /// Hosts in service, by network that they carry.
    pub carriers: HashMap<NetworkName, u32>,
    /// Counts for each bond.
    pub bonds: HashMap<ObjectName, BondAggregate>,
    pub usage: Usage,
    /// Every host has been replanned since the last change. If not, `usage` is outdated.
    pub current: bool,
    /// Hosts in service with a live agent that have not finished the first attempts of their newest plan.
    pub pending: u32,
    /// Hosts that are NonOperational.
    pub non_operational: SampleNames,
    /// Hosts in service whose phase is known.
    pub known: u32,
    /// The hosts among `known` that have no session to some target, whichever it is.
    pub lacking: u32,
    /// The hosts among `known` without any session, by target.
    pub without_session: HashMap<Iqn, u32>,
    /// What fails on more than one host.
    pub causes: Causes,
}

/// A number of objects, and the names of the first few.
#[derive(Debug, Default)]
pub(crate) struct SampleNames {
    pub count: u32,
    first: Vec<String>,
}

impl SampleNames {
    pub(crate) fn add(&mut self, name: &str) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(name.to_owned());
        }
    }
}

impl fmt::Display for SampleNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.count as usize - self.first.len() {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

/// Counts over all hosts of a data center, for one of its bonds.
#[derive(Debug, Default)]
pub(crate) struct BondAggregate {
    pub hosts: BondHostCounts,
    pub paths: PathCounts,
    /// Failed paths of hosts whose agent is alive.
    pub failed: u32,
    /// Paths in their first attempt, of hosts whose agent is alive.
    pub pending: u32,
    /// Planned paths by network.
    pub by_network: HashMap<NetworkName, u32>,
    /// The first host that is Lost.
    pub lost: Option<String>,
    /// The first host that is NonOperational.
    pub non_operational: Option<String>,
    /// The first host on which a path of the bond has failed.
    pub degraded: Option<String>,
    /// The first host whose agent is not alive.
    pub unknown: Option<String>,
}

impl Aggregates {
    /// Whether half of the hosts whose phase is known, or more (two or more), have no session to some target. Then the
    /// storage has failed, and not the hosts. The targets may differ: two arrays may each be lost by another half of the
    /// racks, and an array can refuse hosts one by one.
    pub(crate) fn storage_at_fault(&self) -> bool {
        self.lacking >= 2 && self.lacking.saturating_mul(2) >= self.known
    }

    /// The target that the most hosts have no session to, and their number.
    pub(crate) fn most_missed_target(&self) -> Option<(&Iqn, u32)> {
        let missed = self.without_session.iter().map(|(target, hosts)| (target, *hosts));
        missed.max_by(|(a, hosts_a), (b, hosts_b)| hosts_a.cmp(hosts_b).then_with(|| b.cmp(a)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_fault(lacking: u32, known: u32) -> bool {
        Aggregates { known, lacking, ..Aggregates::default() }.storage_at_fault()
    }

    #[test]
    fn half_of_the_hosts_without_some_target_is_a_failure_of_the_storage() {
        for (lacking, known) in [(2, 2), (2, 3), (2, 4), (3, 6), (4, 4)] {
            assert!(at_fault(lacking, known), "{lacking} of {known}");
        }
    }

    #[test]
    fn one_host_or_less_than_half_of_the_hosts_is_no_failure_of_the_storage() {
        for (lacking, known) in [(0, 0), (0, 4), (1, 1), (1, 2), (2, 5), (4, 9)] {
            assert!(!at_fault(lacking, known), "{lacking} of {known}");
        }
    }

    #[test]
    fn the_most_missed_target_is_the_first_by_name_among_equals() {
        let without_session = [("iqn.b".into(), 2), ("iqn.a".into(), 2), ("iqn.c".into(), 1)].into();
        let aggregates = Aggregates { without_session, ..Aggregates::default() };
        assert_eq!(aggregates.most_missed_target(), Some((&"iqn.a".into(), 2)));
    }
}
