//! The hosts of a simulation.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{
    array::Luns,
    conditions::Conditions,
    faults::{Faults, NodeFacts},
    host::SimulatedHost,
};
use crate::api::NodeName;

/// The hosts of a simulation, with their faults and facts.
#[derive(Debug)]
pub struct Simulation {
    conditions: Arc<Conditions>,
    hosts: Mutex<HashMap<NodeName, Weak<SimulatedHost>>>,
    state_dir: Option<PathBuf>,
}

impl Simulation {
    /// A simulation without faults. With `state_dir` the sessions survive the process, as on real hosts; each node has a
    /// file there.
    #[must_use]
    pub fn new(state_dir: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Simulation { conditions: Arc::default(), hosts: Mutex::default(), state_dir })
    }

    /// The host of a node. Returns the same host as long as somebody keeps it.
    ///
    /// # Errors
    /// If the file with its saved sessions cannot be read.
    pub fn host(&self, node: &NodeName) -> io::Result<Arc<SimulatedHost>> {
        let mut hosts = self.hosts();
        if let Some(host) = hosts.get(node).and_then(Weak::upgrade) {
            return Ok(host);
        }
        let file = self.state_dir.as_ref().map(|directory| directory.join(format!("{node}.json")));
        let host = Arc::new(SimulatedHost::new(node.clone(), self.conditions.clone(), file)?);
        hosts.insert(node.clone(), Arc::downgrade(&host));
        Ok(host)
    }

    /// Replaces the faults.
    pub fn set_faults(&self, faults: Faults) {
        self.conditions.set_faults(faults);
        self.announce();
    }

    /// Replaces the facts.
    pub fn set_facts(&self, facts: NodeFacts) {
        self.conditions.set_facts(facts);
        self.announce();
    }

    /// Replaces the LUNs of the array. A session shows what is new to it after it was scanned again.
    pub fn set_luns(&self, luns: Luns) {
        self.conditions.set_luns(luns);
        self.announce();
    }

    /// Announces to every host that faults, facts or LUNs may have changed.
    pub fn announce(&self) {
        self.hosts().retain(|_, host| host.upgrade().inspect(|host| host.announce()).is_some());
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<NodeName, Weak<SimulatedHost>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
