//! The planner of one data center, with a cache of plans: hosts with the same attachments have the same paths, and most
//! hosts of a data center have the same attachments.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    attachment::{Attachment, attachments},
    plan::{HostPlan, empty_reason, plan_attachments},
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
    #[must_use]
    pub fn plan_host(&self, host: &Host, node_claimed: bool) -> HostPlan {
        let view = &*self.view;
        if let Some(reason) = empty_reason(view, host, node_claimed) {
            return HostPlan::empty(Some(reason), view.session);
        }
        let attachments = attachments(view, host);
        let shared = self.cache.get_or_plan(&attachments, || plan_attachments(view, &attachments));
        HostPlan { networks: attachments.into_iter().map(|attachment| attachment.entry).collect(), ..shared }
    }
}

/// Limits the memory of the cache: devices of hosts come and go, so old plans must not accumulate.
const CAPACITY: usize = 1024;

/// The attachments that the paths of a host depend on: networks (indices in the view) with their devices. Addresses do
/// not count.
type AttachmentKey = Vec<(usize, InterfaceName)>;

/// Plans by attachments. It has no effect on results; it only saves work and memory.
#[derive(Debug, Default)]
struct PlanCache(Mutex<HashMap<AttachmentKey, HostPlan>>);

impl PlanCache {
    fn get_or_plan(&self, attachments: &[Attachment], plan: impl FnOnce() -> HostPlan) -> HostPlan {
        let key: AttachmentKey =
            attachments.iter().map(|attachment| (attachment.network, attachment.entry.interface.clone())).collect();
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&key) {
            return plan.clone();
        }
        if plans.len() >= CAPACITY {
            plans.clear();
        }
        plans.entry(key).insert_entry(plan()).get().clone()
    }
}
