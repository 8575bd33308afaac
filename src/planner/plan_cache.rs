//! Hosts that carry the same networks through the same devices have the same paths. Most hosts of a data center are
//! alike: their plan is made once, and they share it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{attachment::Carried, plan::HostPlan};

/// Plans that are kept at most. Devices of hosts come and go, and what nobody carries any more must not be kept for ever.
const KEPT: usize = 1024;

/// What a host carries, as far as its paths depend on it: indices of networks, and devices. Addresses do not count.
type Ways = Vec<(usize, Arc<str>)>;

/// The plans that have been made from a view: a memory, of which nothing can be seen but that it saves work.
#[derive(Debug, Default)]
pub(super) struct Made(Mutex<HashMap<Ways, HostPlan>>);

impl Made {
    /// The plan of the hosts that carry this, made now if it is the first.
    pub(super) fn plan(&self, carried: &[Carried], make: impl FnOnce() -> HostPlan) -> HostPlan {
        let ways: Ways = carried.iter().map(|carried| (carried.network, carried.entry.interface.clone())).collect();
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&ways) {
            return plan.clone();
        }
        if plans.len() >= KEPT {
            plans.clear();
        }
        plans.entry(ways).insert_entry(make()).get().clone()
    }
}

impl Clone for Made {
    /// Empty: another view may become another one.
    fn clone(&self) -> Self {
        Made::default()
    }
}
