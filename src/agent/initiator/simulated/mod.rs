//! Simulated hosts: for the demo, tests and benches, and to try a change without hardware.
//!
//! Only the initiator is simulated; the rest of the agent is real. Faults and facts come from files ([`Faults`],
//! [`NodeFacts`]). One task reads them again when they change, for all hosts.

mod faults;
mod files;
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

pub use faults::{Fault, FaultKind, FaultSubject, Faults, NodeFacts};
pub use files::{FileError, follow, read};
pub use host::SimulatedHost;

/// The hosts of a simulation, with their faults and facts.
#[derive(Debug)]
pub struct Simulation {
    faults: RwLock<(Arc<Faults>, Instant)>,
    facts: RwLock<Arc<NodeFacts>>,
    hosts: Mutex<HashMap<Arc<str>, Weak<SimulatedHost>>>,
    state_dir: Option<PathBuf>,
}

impl Simulation {
    /// A simulation without faults. With `state_dir` the sessions survive the process, as on real hosts; each node has a
    /// file there.
    #[must_use]
    pub fn new(state_dir: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Simulation {
            faults: RwLock::new((Arc::default(), Instant::now())),
            facts: RwLock::default(),
            hosts: Mutex::default(),
            state_dir,
        })
    }

    /// The host of a node. Returns the same host as long as somebody keeps it.
    ///
    /// # Errors
    /// If the file with its saved sessions cannot be read.
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

    /// Replaces the faults.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = (Arc::new(faults), Instant::now());
        self.announce();
    }

    /// Replaces the facts.
    pub fn set_facts(&self, facts: NodeFacts) {
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts);
        self.announce();
    }

    /// Announces to every host that faults or facts may have changed.
    pub fn announce(&self) {
        self.hosts().retain(|_, host| host.upgrade().inspect(|host| host.announce()).is_some());
    }

    /// The faults, and the time since they were read.
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
