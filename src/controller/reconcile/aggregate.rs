//! Counts over the hosts of a data center: computed in one pass when they are first needed after a change, and shared by
//! all bonds and networks of the data center.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use crate::{
    api::{Host, ObjectKey, ObjectName, Phase, first_few},
    controller::{
        index::{
            DataCenterIndex, Index,
            state::{Aggregates, BondAggregate, HostState, SHOWN},
        },
        store::watched::is_being_deleted,
    },
    planner::{AgentState, Failures},
};

/// The aggregates of a data center; `None` if no object names it.
pub(crate) fn aggregates(index: &Index, key: &ObjectKey) -> Option<Arc<Aggregates>> {
    let center = index.data_center(key)?;
    Some(center.aggregates(|| compute(index, key, center)))
}

/// The paths of one bond on one host.
#[derive(Clone, Copy, Default)]
struct PathShare {
    desired: u32,
    connected: u32,
    failed: u32,
}

fn compute(index: &Index, key: &ObjectKey, center: &DataCenterIndex) -> Aggregates {
    let mut aggregates = Aggregates { current: true, ..Aggregates::default() };
    let bonds: Vec<(&ObjectName, &[String])> = center
        .bonds
        .iter()
        .filter_map(|name| Some((name, index.bonds.get(&key.beside(name.clone()))?.spec.networks.as_slice())))
        .collect();
    let positions: HashMap<&str, usize> = bonds.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    let mut failures = Failures::default();
    let mut per_bond: Vec<BondAggregate> = bonds.iter().map(|_| BondAggregate::default()).collect();

    for name in &center.hosts {
        let host_key = key.beside(name.clone());
        let Some(host) = index.hosts.get(&host_key) else { continue };
        if is_being_deleted(&host.metadata) {
            continue;
        }
        aggregates.phases.total += 1;
        let Some(state) = index.host_state(&host_key) else {
            aggregates.current = false;
            aggregates.pending += u32::from(index.agent(&host.spec.node_name) == AgentState::Alive);
            continue;
        };
        aggregates.current &= state.plan_epoch == Some(center.plan_epoch);
        aggregates.count_phase(state.phase);
        if state.plan.in_service() {
            aggregates.count_in_service(name, host, state, center.plan_epoch);
            count_for_bonds(name, state, &bonds, &positions, &mut per_bond);
            if state.phase != Phase::Unknown {
                failures.add(&state.plan.paths, &state.failed);
            }
        }
    }
    aggregates.causes = failures.causes();
    aggregates.bonds = bonds.into_iter().map(|(name, _)| name.clone()).zip(per_bond).collect();
    aggregates
}

impl Aggregates {
    fn count_phase(&mut self, phase: Phase) {
        match phase {
            Phase::Up => self.phases.up += 1,
            Phase::Degraded => self.phases.degraded += 1,
            Phase::NonOperational => self.phases.non_operational += 1,
            Phase::Maintenance => self.phases.maintenance += 1,
            Phase::Unknown => self.phases.unknown += 1,
            Phase::Lost => self.phases.lost += 1,
            Phase::Connecting => self.phases.connecting += 1,
            Phase::Unassigned => self.phases.unassigned += 1,
        }
    }

    fn count_in_service(&mut self, name: &ObjectName, host: &Host, state: &HostState, plan_epoch: u64) {
        let written = host.status.as_ref().and_then(|status| status.plan.as_ref()).map(|plan| &plan.revision);
        let finished = state.settled && state.plan_epoch == Some(plan_epoch) && written == state.published.as_ref();
        self.pending += u32::from(state.agent == AgentState::Alive && !finished);
        if state.phase == Phase::NonOperational {
            self.non_operational.add(name);
        }
        for networks in state.plan.networks.chunk_by(|a, b| a.name == b.name) {
            count(&mut self.carriers, &networks[0].name);
        }
        self.usage.add(name, &state.plan);
        if state.phase != Phase::Unknown {
            self.known += 1;
            self.lacking += u32::from(!state.without_session.is_empty());
            for target in &state.without_session {
                count(&mut self.without_session, target);
            }
        }
    }
}

fn count_for_bonds(
    name: &ObjectName,
    state: &HostState,
    bonds: &[(&ObjectName, &[String])],
    positions: &HashMap<&str, usize>,
    per_bond: &mut [BondAggregate],
) {
    let mut shares = vec![PathShare::default(); bonds.len()];
    for (at, path) in state.plan.paths.iter().enumerate() {
        for bond in path.bonds.iter().filter_map(|bond| positions.get(bond.as_str()).copied()) {
            let share = &mut shares[bond];
            share.desired += 1;
            share.connected += u32::from(state.connected[at]);
            share.failed += u32::from(state.failed[at]);
            if let Some(network) = &path.network {
                count(&mut per_bond[bond].by_network, network);
            }
        }
    }
    let networks_here: HashSet<&str> = state.plan.networks.iter().map(|carried| &*carried.name).collect();
    let uses_default = state.plan.paths.iter().any(|path| path.interface.is_none());
    for ((share, bond), (_, networks)) in shares.into_iter().zip(per_bond).zip(bonds) {
        let carries = networks.iter().any(|name| networks_here.contains(name.as_str()));
        bond.paths.desired += share.desired;
        bond.paths.connected += share.connected;
        if state.phase != Phase::Unknown {
            bond.failed += share.failed;
            bond.pending += share.desired - share.connected - share.failed;
        }
        bond.hosts.total += 1;
        bond.hosts.default += u32::from(!carries && uses_default);
        let fine = if share.desired == 0 { state.phase == Phase::Up } else { share.connected == share.desired };
        let degraded = if share.desired == 0 { state.phase == Phase::Degraded } else { share.failed > 0 };
        match state.phase {
            Phase::Unknown => {
                bond.hosts.unknown += 1;
                bond.unknown.get_or_insert_with(|| name.to_string());
            }
            Phase::NonOperational => {
                bond.hosts.non_operational += 1;
                bond.non_operational.get_or_insert_with(|| name.to_string());
            }
            Phase::Lost => {
                bond.hosts.lost += 1;
                bond.lost.get_or_insert_with(|| name.to_string());
            }
            Phase::Up | Phase::Degraded | Phase::Connecting | Phase::Maintenance | Phase::Unassigned => {
                bond.hosts.connected += u32::from(fine);
                bond.hosts.degraded += u32::from(degraded);
            }
        }
        if degraded {
            bond.degraded.get_or_insert_with(|| name.to_string());
        }
    }
}

/// Clones the name only when it is new: most hosts have the same names as another host.
fn count<T: Clone + Eq + Hash>(counts: &mut HashMap<T, u32>, name: &T) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.clone(), 1)),
    }
}

/// The number of hosts in service that carry a network.
pub(crate) fn hosts_with_network(index: &Index, dc_key: &ObjectKey, network: &str) -> u32 {
    aggregates(index, dc_key).and_then(|aggregates| aggregates.carriers.get(network).copied()).unwrap_or(0)
}

/// The bonds of a data center that name a network.
pub(crate) fn bonds_naming(index: &Index, dc_key: &ObjectKey, network: &str) -> Vec<String> {
    let Some(center) = index.data_center(dc_key) else { return Vec::new() };
    let names = |name: &&ObjectName| {
        let bond = index.bonds.get(&dc_key.beside((*name).clone()));
        bond.is_some_and(|bond| bond.spec.networks.iter().any(|named| named == network))
    };
    center.bonds.iter().filter(names).map(ToString::to_string).collect()
}

/// The first few of these names, and the number of the others.
pub(crate) fn few_names(names: &[String]) -> String {
    first_few(names, SHOWN, Clone::clone)
}
