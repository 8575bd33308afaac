//! The storage array, the cables, and who uses the disks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use multibond::{
    agent::initiator::simulated::{Fault, FaultKind, Faults, NodeFacts},
    api::HostInterface,
};

use super::{
    chance::Chance,
    cluster::Cluster,
    users::{DEVICES, PORTALS, TARGETS},
};

/// The array and the cables.
pub struct Fabric {
    cluster: Arc<Cluster>,
    nodes: Vec<String>,
}

impl Fabric {
    /// Every cable is in its place.
    pub fn new(cluster: Arc<Cluster>, nodes: Vec<String>) -> Self {
        let fabric = Fabric { cluster, nodes };
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

    /// Somebody opens or closes a disk.
    pub fn use_disk(&self, chance: &mut Chance) {
        let (node, target) = (&self.nodes[chance.index(self.nodes.len())], TARGETS[chance.index(2)]);
        let open = chance.once_in(2);
        self.open(node, target, open);
    }

    /// Everybody closes everything.
    pub fn close_disks(&self) {
        for node in &self.nodes {
            for target in &TARGETS {
                self.open(node, target, false);
            }
        }
    }

    fn open(&self, node: &str, target: &str, open: bool) {
        self.cluster.hosts[node].use_disk(target, open);
        self.cluster.fabric_changed();
        self.cluster.step(format_args!("{node} {} {target}", if open { "opens" } else { "closes" }));
    }
}

fn shown(fault: &Fault) -> String {
    let Fault { host, portal, interface, kind, .. } = fault;
    let text = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".to_owned());
    format!("{kind:?} {} {} {}", text(host), text(portal), text(interface))
}
