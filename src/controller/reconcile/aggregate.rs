//! Sums over the hosts of a data center: one pass, however many bonds and networks ask.

use std::{collections::HashMap, fmt, sync::Arc};

use crate::{
    api::{BondHostCounts, Host, HostCounts, ObjectKey, PathCounts, Phase},
    controller::{
        index::{Center, World},
        reconcile::host::HostState,
        store::watched::is_being_deleted,
    },
    planner::{AgentState, Usage},
};

/// Names that a message shows.
const SHOWN: usize = 3;

/// Sums over the hosts of a data center.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub phases: HostCounts,
    /// Hosts in service, by network that they carry.
    pub carriers: HashMap<Arc<str>, u32>,
    /// By bond.
    pub bonds: HashMap<Arc<str>, BondSums>,
    pub usage: Usage,
    /// Whether every host's plan follows from what there is now; if not, `usage` is of yesterday.
    pub current: bool,
    /// Hosts in service with a live agent that have not finished the first attempts of their newest plan.
    pub pending: u32,
    /// Hosts that are NonOperational.
    pub non_operational: Named,
    /// Hosts with a known verdict.
    pub known: u32,
    /// Among them, those without any session, by target.
    pub without_session: HashMap<Arc<str>, u32>,
}

/// How many, and the names of the first few.
#[derive(Debug, Default)]
pub(crate) struct Named {
    pub count: u32,
    first: Vec<String>,
}

impl Named {
    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(name.to_owned());
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.count as usize - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Sums over the hosts of a data center, for one of its bonds.
#[derive(Debug, Default)]
pub(crate) struct BondSums {
    pub hosts: BondHostCounts,
    pub paths: PathCounts,
    /// Failed paths of hosts whose agent is heard of.
    pub failed: u32,
    /// Paths in their first attempt, of hosts whose agent is heard of.
    pub pending: u32,
    /// Planned paths by network.
    pub by_network: HashMap<Arc<str>, u32>,
    /// The first host that is NonOperational.
    pub non_operational: Option<String>,
    /// The first host on which a path of the bond has failed.
    pub degraded: Option<String>,
    /// The first host whose agent is not heard of.
    pub unknown: Option<String>,
}

/// A host's share of one bond.
#[derive(Clone, Copy, Default)]
struct Share {
    desired: u32,
    connected: u32,
    failed: u32,
}

impl Sums {
    /// Goes through the hosts of a data center once.
    pub(crate) fn new(world: &World, key: &ObjectKey, center: &Center) -> Self {
        let mut sums = Sums { current: true, ..Sums::default() };
        let bonds: Vec<(&Arc<str>, &[String])> = center
            .bonds
            .iter()
            .filter_map(|name| Some((name, world.bonds.get(&key.beside(name.clone()))?.spec.networks.as_slice())))
            .collect();
        let index: HashMap<&str, usize> = bonds.iter().enumerate().map(|(at, (name, _))| (&***name, at)).collect();
        let mut per_bond: Vec<BondSums> = bonds.iter().map(|_| BondSums::default()).collect();

        for name in &center.hosts {
            let host_key = key.beside(name.clone());
            let Some(host) = world.hosts.get(&host_key) else { continue };
            if is_being_deleted(&host.metadata) {
                continue;
            }
            sums.phases.total += 1;
            let Some(state) = world.state(&host_key) else {
                sums.current = false;
                sums.pending += u32::from(world.agent(&host.spec.node_name) == AgentState::Alive);
                continue;
            };
            sums.current &= state.stamp == Some(center.stamp);
            sums.count_phase(state.phase);
            if state.plan.in_service() {
                sums.count_in_service(name, host, state, center.stamp);
                count_for_bonds(name, state, &bonds, &index, &mut per_bond);
            }
        }
        sums.bonds = bonds.into_iter().map(|(name, _)| name.clone()).zip(per_bond).collect();
        sums
    }

    fn count_phase(&mut self, phase: Phase) {
        match phase {
            Phase::Up => self.phases.up += 1,
            Phase::Degraded => self.phases.degraded += 1,
            Phase::NonOperational => self.phases.non_operational += 1,
            Phase::Maintenance => self.phases.maintenance += 1,
            Phase::Unknown => self.phases.unknown += 1,
            Phase::Unassigned | Phase::Connecting => {}
        }
    }

    fn count_in_service(&mut self, name: &Arc<str>, host: &Host, state: &HostState, stamp: u64) {
        let written = host.status.as_ref().and_then(|status| status.plan.as_ref()).map(|plan| &plan.revision);
        let finished = state.settled && state.stamp == Some(stamp) && written == state.told.as_ref();
        self.pending += u32::from(state.agent == AgentState::Alive && !finished);
        if state.phase == Phase::NonOperational {
            self.non_operational.add(name);
        }
        for networks in state.plan.networks.chunk_by(|a, b| a.name == b.name) {
            count(&mut self.carriers, &networks[0].name);
        }
        self.usage.add(&state.plan);
        if state.phase != Phase::Unknown {
            self.known += 1;
            for target in &state.without_session {
                count(&mut self.without_session, target);
            }
        }
    }

    /// Whether a target is without a session on more than half of the hosts (two or more) whose verdict is known:
    /// then it is the storage and not the hosts.
    pub(crate) fn storage_at_fault(&self) -> Option<&Arc<str>> {
        let most = |(target, hosts): (_, &u32)| (*hosts >= 2 && *hosts * 2 > self.known).then_some(target);
        self.without_session.iter().filter_map(most).min()
    }
}

fn count_for_bonds(
    name: &Arc<str>,
    state: &HostState,
    bonds: &[(&Arc<str>, &[String])],
    index: &HashMap<&str, usize>,
    sums: &mut [BondSums],
) {
    let mut shares = vec![Share::default(); bonds.len()];
    for (at, path) in state.plan.paths.iter().enumerate() {
        for bond in path.bonds.iter().filter_map(|bond| index.get(&**bond).copied()) {
            let share = &mut shares[bond];
            share.desired += 1;
            share.connected += u32::from(state.connected[at]);
            share.failed += u32::from(state.failed[at]);
            if let Some(network) = &path.network {
                count(&mut sums[bond].by_network, network);
            }
        }
    }
    let uses_default = state.plan.paths.iter().any(|path| path.interface.is_none());
    for ((share, sums), (_, networks)) in shares.into_iter().zip(sums).zip(bonds) {
        let carries = state.plan.networks.iter().any(|carried| networks.iter().any(|name| **name == *carried.name));
        sums.paths.desired += share.desired;
        sums.paths.connected += share.connected;
        if state.phase != Phase::Unknown {
            sums.failed += share.failed;
            sums.pending += share.desired - share.connected - share.failed;
        }
        sums.hosts.total += 1;
        sums.hosts.default += u32::from(!carries && uses_default);
        let fine = if share.desired == 0 { state.phase == Phase::Up } else { share.connected == share.desired };
        let degraded = if share.desired == 0 { state.phase == Phase::Degraded } else { share.failed > 0 };
        match state.phase {
            Phase::Unknown => {
                sums.hosts.unknown += 1;
                sums.unknown.get_or_insert_with(|| name.to_string());
            }
            Phase::NonOperational => {
                sums.hosts.non_operational += 1;
                sums.non_operational.get_or_insert_with(|| name.to_string());
            }
            Phase::Up | Phase::Degraded | Phase::Connecting | Phase::Maintenance | Phase::Unassigned => {
                sums.hosts.connected += u32::from(fine);
                sums.hosts.degraded += u32::from(degraded);
            }
        }
        if degraded {
            sums.degraded.get_or_insert_with(|| name.to_string());
        }
    }
}

/// Takes a name over only when it is new: most hosts say what another has said.
fn count(counts: &mut HashMap<Arc<str>, u32>, name: &Arc<str>) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.clone(), 1)),
    }
}

/// How many hosts in service carry a network.
pub(crate) fn hosts_that_carry(world: &World, center: &ObjectKey, network: &str) -> u32 {
    world.sums(center).and_then(|sums| sums.carriers.get(network).copied()).unwrap_or(0)
}

/// The bonds of a data center that name a network.
pub(crate) fn bonds_that_name(world: &World, center_key: &ObjectKey, network: &str) -> Vec<String> {
    let Some(center) = world.center(center_key) else { return Vec::new() };
    let names = |name: &&Arc<str>| {
        let bond = world.bonds.get(&center_key.beside((*name).clone()));
        bond.is_some_and(|bond| bond.spec.networks.iter().any(|named| named == network))
    };
    center.bonds.iter().filter(names).map(ToString::to_string).collect()
}

/// The first few names of a list that may be long.
pub(crate) fn shortened(names: &[String]) -> String {
    match names.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}
