//! Invariants 1 and 2: a device that is open keeps a working path as long as there is one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use multibond::agent::initiator::{Inventory, simulated::SimulatedHost};

/// The disks by which each open map could read, by the name of the map.
type Working = BTreeMap<Arc<str>, BTreeSet<Arc<str>>>;

/// What the workload of each host had at the last look.
#[derive(Default)]
pub struct Io(BTreeMap<String, Working>);

impl Io {
    /// What is lost until the next look is lost by the fabric.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    pub fn look(&mut self, node: &str, host: &SimulatedHost, inventory: &Inventory) -> Result<(), String> {
        if let Some(harm) = host.harm().first() {
            return Err(format!("2: on {node}: {harm}"));
        }
        let mut working = Working::new();
        for map in inventory.maps.iter().filter(|map| map.open_count > 0) {
            let now: BTreeSet<_> = map.paths.iter().filter(|path| path.active).map(|path| path.disk.clone()).collect();
            working.insert(map.name.clone(), now);
        }
        let there: BTreeSet<_> =
            inventory.sessions.iter().flat_map(|session| &session.disks).map(|disk| &disk.name).collect();
        let before = self.0.get(node).into_iter().flatten();
        for (map, disks) in before.filter(|(_, disks)| !disks.is_empty()) {
            let reads = working.get(map).is_some_and(|now| !now.is_empty());
            if !reads && disks.iter().any(|disk| !there.contains(disk)) {
                return Err(format!("1: on {node} the open map {map} has lost the last working paths {disks:?}"));
            }
        }
        self.0.insert(node.to_owned(), working);
        Ok(())
    }
}
