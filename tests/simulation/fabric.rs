//! The storage array, the cables, and who uses the disks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use multibond::{
    agent::initiator::simulated::{Fault, FaultKind, Faults, Lun, Luns, NodeFacts},
    api::HostInterface,
};

use super::{
    chance::Chance,
    cluster::Cluster,
    users::{DEVICES, PORTALS, TARGETS},
};

/// How many LUNs a target may have.
const LUNS: u64 = 2;
/// How much a LUN grows, in bytes.
const GROWS_BY: u64 = 1 << 30;

/// The array and the cables.
pub struct Fabric {
    cluster: Arc<Cluster>,
    nodes: Vec<String>,
    luns: Luns,
}

impl Fabric {
    /// Every cable is in its place, and each target has a LUN.
    pub fn new(cluster: Arc<Cluster>, nodes: Vec<String>) -> Self {
        let luns = TARGETS.iter().map(|target| ((*target).into(), BTreeMap::from([(0, Lun::default())])));
        let fabric = Fabric { cluster, nodes, luns: Luns(luns.collect()) };
        let interfaces = |index: usize| {
            DEVICES
                .iter()
                .map(|(name, subnet)| HostInterface {
                    name: (*name).into(),
                    up: true,
                    mtu: 1500,
                    addresses: vec![format!("{subnet}.{}/24", 21 + index)],
                    ..HostInterface::default()
                })
                .collect()
        };
        let nodes = fabric.nodes.iter().enumerate().map(|(index, node)| (node.clone(), interfaces(index)));
        let facts: BTreeMap<_, _> = nodes.collect();
        fabric.cluster.simulation.set_facts(NodeFacts(facts));
        fabric.cluster.simulation.set_luns(fabric.luns.clone());
        fabric
    }

    fn set(&self, faults: Vec<Fault>) {
        let shown: Vec<_> = faults.iter().map(shown).collect();
        self.cluster.simulation.set_faults(Faults { faults, latency: Duration::from_millis(50) });
        self.cluster.fabric_changed();
        self.cluster.step(format_args!("the fabric has {shown:?}"));
    }

    /// Some portals and cables fail, the others work.
    pub fn fail(&self, chance: &mut Chance) {
        let kinds = [
            FaultKind::Unreachable,
            FaultKind::Unreachable,
            FaultKind::Dropped,
            FaultKind::Timeout,
            FaultKind::AuthenticationFailed,
            FaultKind::TargetNotFound,
            FaultKind::InterfaceNotFound,
        ];
        let count = chance.below(4);
        let fault = |_| {
            let kind = kinds[chance.index(kinds.len())];
            let of_interface = kind == FaultKind::InterfaceNotFound || chance.once_in(3);
            Fault {
                host: (of_interface || chance.once_in(2)).then(|| self.nodes[chance.index(self.nodes.len())].clone()),
                portal: (!of_interface).then(|| format!("{}:3260", PORTALS[chance.index(3)])),
                target: None,
                interface: of_interface.then(|| DEVICES[chance.index(3)].0.to_owned()),
                network: None,
                kind,
                after: Duration::ZERO,
            }
        };
        self.set((0..count).map(fault).collect());
    }

    /// Everything works.
    pub fn heal(&self) {
        self.set(Vec::new());
    }

    /// A LUN comes, goes, grows, or is shown by other portals than before; or somebody lets a host look again.
    pub fn change_luns(&mut self, chance: &mut Chance) {
        let (target, number) = (TARGETS[chance.index(2)], chance.below(LUNS));
        let luns = self.luns.0.entry(target.into()).or_default();
        let hidden_at = |chance: &mut Chance| {
            chance.any_of(&PORTALS).iter().map(|it| format!("{it}:3260").as_str().into()).collect()
        };
        match (chance.below(7), luns.get_mut(&number)) {
            (0 | 1, None) => {
                let hidden_at = if chance.once_in(2) { hidden_at(chance) } else { BTreeSet::new() };
                luns.insert(number, Lun { hidden_at, ..Lun::default() });
            }
            (0 | 1, Some(_)) => drop(luns.remove(&number)),
            (2, Some(lun)) => lun.size += GROWS_BY,
            (3, Some(lun)) => lun.hidden_at = if chance.once_in(2) { hidden_at(chance) } else { BTreeSet::new() },
            _ => return self.look_again(chance),
        }
        let shown: Vec<_> = luns.iter().map(|(number, lun)| (number, lun.size >> 30, &lun.hidden_at)).collect();
        let shown = format!("{target} has {shown:?}");
        self.cluster.simulation.set_luns(self.luns.clone());
        self.cluster.fabric_changed();
        self.cluster.step(format_args!("the array: {shown}"));
    }

    /// An administrator of a host lets the kernel look at the sessions again, and perhaps multipathd at the sizes.
    fn look_again(&self, chance: &mut Chance) {
        let (node, portals) = (&self.nodes[chance.index(self.nodes.len())], chance.any_of(&PORTALS));
        let host = &self.cluster.hosts[node];
        for portal in &portals {
            host.rescan(&format!("{portal}:3260"));
        }
        let resizes = chance.once_in(2);
        if resizes {
            host.resize_maps();
        }
        let too = if resizes { ", and at the sizes of the maps" } else { "" };
        self.cluster.step(format_args!("{node} looks again at what is behind {portals:?}{too}"));
    }

    /// Somebody opens or closes a LUN.
    pub fn use_lun(&self, chance: &mut Chance) {
        let (node, target) = (&self.nodes[chance.index(self.nodes.len())], TARGETS[chance.index(2)]);
        self.open(node, target, chance.below(LUNS), chance.once_in(2));
    }

    /// Everybody closes everything.
    pub fn close_luns(&self) {
        for node in &self.nodes {
            for target in &TARGETS {
                (0..LUNS).for_each(|lun| self.open(node, target, lun, false));
            }
        }
    }

    fn open(&self, node: &str, target: &str, lun: u64, open: bool) {
        self.cluster.hosts[node].use_lun(target, lun, open);
        self.cluster.fabric_changed();
        self.cluster.step(format_args!("{node} {} LUN {lun} of {target}", if open { "opens" } else { "closes" }));
    }
}

fn shown(fault: &Fault) -> String {
    let Fault { host, portal, interface, kind, .. } = fault;
    let text = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".to_owned());
    format!("{kind:?} {} {} {}", text(host), text(portal), text(interface))
}
