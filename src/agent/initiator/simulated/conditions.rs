//! The faults, facts and LUNs of a simulation at present, which all its hosts share.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    array::Luns,
    faults::{Faults, NodeFacts},
};
use crate::api::HostInterface;

/// The current faults, facts and LUNs.
#[derive(Debug)]
pub(super) struct Conditions {
    /// With the time when they were read.
    faults: RwLock<(Arc<Faults>, Instant)>,
    facts: RwLock<Arc<NodeFacts>>,
    luns: RwLock<Arc<Luns>>,
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions {
            faults: RwLock::new((Arc::default(), Instant::now())),
            facts: RwLock::default(),
            luns: RwLock::default(),
        }
    }
}

impl Conditions {
    pub(super) fn set_faults(&self, faults: Faults) {
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = (Arc::new(faults), Instant::now());
    }

    pub(super) fn set_facts(&self, facts: NodeFacts) {
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(facts);
    }

    pub(super) fn set_luns(&self, luns: Luns) {
        *self.luns.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(luns);
    }

    pub(super) fn luns(&self) -> Arc<Luns> {
        self.luns.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The faults, and the time since they were read.
    pub(super) fn faults(&self) -> (Arc<Faults>, Duration) {
        let (faults, since) = &*self.faults.read().unwrap_or_else(PoisonError::into_inner);
        (faults.clone(), since.elapsed())
    }

    /// The interfaces of a node; none if the facts do not list it.
    pub(super) fn facts_of(&self, node: &str) -> Option<Vec<HostInterface>> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).0.get(node).cloned()
    }
}
