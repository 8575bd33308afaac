//! Another tool on the hosts, such as a driver for volumes: it has sessions of its own, to its own target and to ours, and by
//! mistake it logs out ours and changes their records.

use std::{collections::BTreeSet, sync::Arc};

use multibond::agent::{initiator::AutomaticRecord, types::IscsiPath};

use super::{
    chance::Chance,
    cluster::Cluster,
    settled,
    users::{PORTALS, TARGETS},
};

/// The target that nobody plans.
const THEIRS: &str = "iqn.2003-01.org.example:theirs";
/// The interface record of its sessions.
const RECORD: &str = "default";

/// The tool, on every host.
pub struct Neighbours {
    cluster: Arc<Cluster>,
    nodes: Vec<String>,
}

impl Neighbours {
    pub fn new(cluster: Arc<Cluster>, nodes: Vec<String>) -> Self {
        Neighbours { cluster, nodes }
    }

    /// Does something on a host by chance.
    pub fn act(&self, chance: &mut Chance) {
        let node = &self.nodes[chance.index(self.nodes.len())];
        let host = &self.cluster.hosts[node];
        let (ours, theirs) = host.paths();
        let pick = |chance: &mut Chance, paths: &BTreeSet<IscsiPath>| {
            (!paths.is_empty()).then(|| paths.iter().nth(chance.index(paths.len())).unwrap().clone())
        };
        match chance.below(8) {
            0..=2 => {
                let target = chance.one_of(&[TARGETS[0], TARGETS[1], THEIRS]);
                let portal = format!("{}:3260", PORTALS[chance.index(PORTALS.len())]);
                let path = IscsiPath { target: target.into(), portal: portal.as_str().into(), interface: None };
                host.connect_foreign(path.clone(), RECORD);
                self.cluster.neighbour(node, |sessions| sessions.insert(path.clone()));
                self.did(node, "logs in to", &path);
            }
            3 | 4 => {
                let Some(path) = pick(chance, &theirs) else { return };
                host.disconnect_foreign(&path);
                self.cluster.neighbour(node, |sessions| sessions.remove(&path));
                self.did(node, "logs out of its", &path);
            }
            5 => {
                let Some(path) = pick(chance, &ours) else { return };
                self.log_out_ours(node, &path);
            }
            6 => {
                let Some(path) = pick(chance, &ours) else { return };
                host.change_record(&path);
                self.did(node, "changes our record of", &path);
            }
            _ => {
                let portals = chance.any_of(&PORTALS);
                let record = |portal: &&str| AutomaticRecord {
                    target: TARGETS[0].into(),
                    portal: format!("{portal}:3260").as_str().into(),
                    record: RECORD.into(),
                };
                host.set_automatic_records(portals.iter().map(record).collect());
                self.cluster.step(format_args!("a neighbour on {node} has records of {portals:?}"));
            }
        }
    }

    fn log_out_ours(&self, node: &str, path: &IscsiPath) {
        self.cluster.hosts[node].kill(path);
        self.did(node, "logs out our session to", path);
    }

    fn did(&self, node: &str, what: &str, path: &IscsiPath) {
        self.cluster.fabric_changed();
        self.cluster.step(format_args!("a neighbour on {node} {what} {path}"));
    }

    /// Logs out one of our sessions that is planned, and returns its node and its path.
    pub fn log_out_a_planned_one(&self, chance: &mut Chance) -> Option<(String, IscsiPath)> {
        let planned: Vec<(String, IscsiPath)> = settled::planned(&self.cluster)
            .into_iter()
            .filter(|(node, path)| self.cluster.hosts[node].paths().0.contains(path))
            .collect();
        let (node, path) = planned.get(chance.index(planned.len().max(1)))?.clone();
        self.log_out_ours(&node, &path);
        Some((node, path))
    }
}
