//! The planner of one data center, with a cache of plans: hosts with the same attachments have the same paths, and most
//! hosts of a data center have the same attachments.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    attachment::{Attachment, attachments},
    pairing::plan_attachments,
    plan::{HostPlan, empty_reason},
    too_large::PlanTooLarge,
    view::View,
};
use crate::api::{Host, InterfaceName};

/// Plans the hosts of one data center.
#[derive(Debug)]
pub struct Planner {
    view: Arc<View>,
    cache: PlanCache,
}

impl Planner {
    /// A planner for a data center, with an empty cache.
    #[must_use]
    pub fn new(view: Arc<View>) -> Self {
        Planner { view, cache: PlanCache::default() }
    }

    /// The data center that it plans from.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Plans one host of the data center. `node_claimed`: another Host owns its node.
    ///
    /// # Errors
    /// If the plan is too large. The plan that was made before stays then.
    pub fn plan_host(&self, host: &Host, node_claimed: bool) -> Result<HostPlan, PlanTooLarge> {
        let view = &*self.view;
        if let Some(reason) = empty_reason(view, host, node_claimed) {
            return Ok(HostPlan::empty(Some(reason), view.session));
        }
        let attachments = attachments(view, host);
        let shared = self.cache.get_or_plan(&attachments, || plan_attachments(view, &attachments))?;
        Ok(HostPlan { networks: attachments.into_iter().map(|attachment| attachment.entry).collect(), ..shared })
    }

    /// The memory of the cached plans in bytes: at most 16 MiB.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.cache.lock().bytes
    }

    /// The steps that all plans of this data center took, without those that were in the cache.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.cache.lock().steps
    }
}

/// The memory of the plans in a cache, in bytes, before it is emptied: devices of hosts come and go, so old plans must
/// not accumulate. Plans that hosts still have are shared with the cache, and cost nothing.
const CAPACITY: usize = 16 << 20;

/// The attachments that the paths of a host depend on: networks (indices in the view) with their devices. Addresses do
/// not count.
type AttachmentKey = Vec<(usize, InterfaceName)>;

/// Plans by attachments. It has no effect on results; it only saves work and memory.
#[derive(Debug, Default)]
struct PlanCache(Mutex<CachedPlans>);

#[derive(Debug, Default)]
struct CachedPlans {
    plans: HashMap<AttachmentKey, Result<HostPlan, PlanTooLarge>>,
    bytes: usize,
    steps: usize,
}

impl PlanCache {
    fn lock(&self) -> MutexGuard<'_, CachedPlans> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get_or_plan(
        &self,
        attachments: &[Attachment],
        plan: impl FnOnce() -> (Result<HostPlan, PlanTooLarge>, usize),
    ) -> Result<HostPlan, PlanTooLarge> {
        let key: AttachmentKey =
            attachments.iter().map(|attachment| (attachment.network, attachment.entry.interface.clone())).collect();
        let mut cached = self.lock();
        if let Some(plan) = cached.plans.get(&key) {
            return plan.clone();
        }
        let (plan, steps) = plan();
        cached.steps += steps;
        let bytes = size_of::<(AttachmentKey, HostPlan)>()
            + size_of_val(&*key)
            + plan.as_ref().map(HostPlan::heap_size).unwrap_or_default();
        if cached.bytes + bytes > CAPACITY {
            cached.plans.clear();
            cached.bytes = 0;
        }
        cached.bytes += bytes;
        cached.plans.insert(key, plan.clone());
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BondName, CarriedNetwork, CarrySource, PlannedPath, SessionSettings};

    fn attachment(device: usize) -> [Attachment; 1] {
        let (name, interface) = ("san".into(), format!("ens{device}").into());
        [Attachment { network: 0, entry: CarriedNetwork { name, interface, source: CarrySource::Spec, address: None } }]
    }

    /// A plan with as many names of bonds as a plan may have: 300 KB.
    fn large_plan() -> HostPlan {
        let path = PlannedPath {
            target: "iqn.2003-01.org.example:a".into(),
            portal: "10.0.1.10:3260".into(),
            tpgt: 1,
            interface: None,
            network: None,
            storage: "array".into(),
            bonds: vec![BondName::from("b"); 16_384],
            chap_secret: None,
        };
        HostPlan { paths: [path].into(), ..HostPlan::empty(None, SessionSettings::default()) }
    }

    #[test]
    fn a_cache_keeps_plans_by_their_memory_and_not_by_their_number() {
        let cache = PlanCache::default();
        for device in 0..1000 {
            cache.get_or_plan(&attachment(device), || (Ok(large_plan()), 1)).unwrap();
            let cached = cache.lock();
            let bytes: usize = cached.plans.values().flatten().map(HostPlan::heap_size).sum();
            assert!(bytes <= CAPACITY, "{bytes} bytes after {device} devices");
        }
        let small = |device| cache.get_or_plan(&attachment(device), || (Ok(HostPlan::default()), 1)).unwrap();
        (0..2000).map(small).for_each(drop);
        let steps = cache.lock().steps;
        (1000..2000).map(small).for_each(drop);
        assert_eq!(cache.lock().steps, steps, "small plans of many hosts stay");
    }
}
