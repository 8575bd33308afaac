//! Simulated hosts: for the demo, the tests, the scale benches, and for trying a change before it meets hardware.
//!
//! Everything but the initiator is real. Faults and facts come from files ([`Faults`], [`FactsBook`]) that are read
//! again when they change, by one task for all hosts.

mod faults;
mod files;
mod fleet;
mod host;

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
    time::Duration,
};

use tokio::time::Instant;

use crate::api::HostInterface;

pub use faults::{FactsBook, Fault, FaultKind, Faults, Subject};
pub use files::{FileError, follow, read};
pub use fleet::Fleet;
pub use host::SimulatedHost;

/// The hosts of a simulation, and what goes wrong on them.
#[derive(Debug)]
pub struct Simulation {
    faults: RwLock<(Arc<Faults>, Instant)>,
    facts: RwLock<Arc<FactsBook>>,
    hosts: Mutex<HashMap<Arc<str>, Weak<SimulatedHost>>>,
    state_dir: Option<PathBuf>,
}

impl Simulation {
    /// A simulation without faults. With `state_dir` the hosts' sessions survive the process, as those of real hosts do:
    /// one file per node.
    #[must_use]
    pub fn new(state_dir: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Simulation {
            faults: RwLock::new((Arc::default(), Instant::now())),
            facts: RwLock::default(),
            hosts: Mutex::default(),
            state_dir,
        })
    }

    /// The host of a node: the same for as long as somebody has it.
    ///
    /// # Errors
    /// When the file with its sessions cannot be read.
    pub fn host(self: &Arc<Self>, node: &Arc<str>) -> io::Result<Arc<SimulatedHost>> {
        let mut hosts = self.hosts();
        if let Some(host) = hosts.get(node).and_then(Weak::upgrade) {
            return Ok(host);
        }
        let file = self.state_dir.as_ref().map(|directory| directory.join(format!("{node}.json")));
        let host = Arc::new(SimulatedHost::new(node.clone(), self.clone(), file)?);
        hosts.insert(node.clone(), Arc::downgrade(&host));
        Ok(host)
    }

    /// From now on these faults.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = (Arc::new(faults), Instant::now());
        self.announce();
    }

    /// From now on these facts.
    pub fn set_facts(&self, facts: FactsBook) {
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts);
        self.announce();
    }

    /// Tells every host that something may have changed.
    pub fn announce(&self) {
        self.hosts().retain(|_, host| host.upgrade().inspect(|host| host.announce()).is_some());
    }

    /// The faults, and how long ago they were read.
    fn faults(&self) -> (Arc<Faults>, Duration) {
        let (faults, since) = &*self.faults.read().unwrap_or_else(PoisonError::into_inner);
        (faults.clone(), since.elapsed())
    }

    fn facts_of(&self, node: &str) -> Option<Vec<HostInterface>> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).0.get(node).cloned()
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<Arc<str>, Weak<SimulatedHost>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
