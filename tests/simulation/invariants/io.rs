//! Invariants 1 and 2: a device that is open keeps a working path as long as there is one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::FutureExt as _;
use multibond::agent::initiator::{Initiator as _, simulated::SimulatedHost};
use tokio::sync::watch;

/// What the workload of each host had at the last look.
#[derive(Default)]
pub struct Io(BTreeMap<String, Seen>);

struct Seen {
    changes: watch::Receiver<()>,
    /// The disks by which each open map could read, by the name of the map.
    working: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Io {
    /// Looks at the hosts anew: what is lost until then is lost by the fabric.
    pub fn forget(&mut self) {
        for seen in self.0.values_mut() {
            seen.working.clear();
            seen.changes.mark_changed();
        }
    }

    pub fn check(&mut self, hosts: &BTreeMap<String, Arc<SimulatedHost>>) -> Result<(), String> {
        for (node, host) in hosts {
            let begin = || {
                let mut changes = host.changes();
                changes.mark_changed();
                Seen { changes, working: BTreeMap::new() }
            };
            let seen = self.0.entry(node.clone()).or_insert_with(begin);
            if seen.changes.has_changed().unwrap_or(true) {
                seen.changes.mark_unchanged();
                seen.look(node, host)?;
            }
        }
        Ok(())
    }
}

impl Seen {
    fn look(&mut self, node: &str, host: &SimulatedHost) -> Result<(), String> {
        if let Some(harm) = host.harm().first() {
            return Err(format!("2: on {node}: {harm}"));
        }
        let none = BTreeSet::new();
        let inventory = host.inventory(&none).now_or_never().and_then(Result::ok).ok_or("the host cannot be read")?;
        let mut working = BTreeMap::new();
        for map in inventory.maps.iter().filter(|map| map.open_count > 0) {
            let now: BTreeSet<_> = map.paths.iter().filter(|path| path.active).map(|path| path.disk.clone()).collect();
            working.insert(map.name.clone(), now);
        }
        let before = std::mem::replace(&mut self.working, working);
        for (map, disks) in before.iter().filter(|(_, disks)| !disks.is_empty()) {
            let reads = self.working.get(map).is_some_and(|now| !now.is_empty());
            let there: BTreeSet<_> =
                inventory.sessions.iter().flat_map(|session| &session.disks).map(|disk| &disk.name).collect();
            if !reads && disks.iter().any(|disk| !there.contains(disk)) {
                return Err(format!("1: on {node} the open map {map} has lost the last working paths {disks:?}"));
            }
        }
        Ok(())
    }
}
