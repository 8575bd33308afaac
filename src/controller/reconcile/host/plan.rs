//! The plan of a Host, and the selection of the Hosts that get a new plan.

use std::sync::Arc;

use crate::{
    api::{Host, ObjectKey, Phase, reason::EmptyReason},
    controller::index::Index,
    planner::{HostPlan, MAX_STEPS, PlanTooLarge, Planner},
};

/// The steps of planning that one look for changed hosts may take: as many as one plan. Hosts with the same devices share
/// a plan; a host that is not looked at waits for its turn in the queue, so that no data center holds up another.
const STEPS_PER_LOOK: usize = MAX_STEPS;

/// Splits hosts by whether their plans have changed. Planning is a small part of the work for a host, so it is worth
/// finding the few changed hosts before thousands of unchanged ones are reconciled.
pub(crate) fn partition_changed(index: &Index, hosts: Vec<ObjectKey>) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
    // The hosts are sorted by data center.
    let mut last: Option<PlanInputs> = None;
    let mut left = STEPS_PER_LOOK;
    let mut has_changed = |key: &ObjectKey| {
        let Some(host) = index.hosts.get(key).filter(|_| left > 0) else { return false };
        let inputs =
            last.take().filter(|inputs| inputs.is_of(key, host)).unwrap_or_else(|| PlanInputs::of(index, key, host));
        let before = inputs.steps();
        let plan = inputs.plan(index, key, host);
        left = left.saturating_sub(inputs.steps() - before);
        last = Some(inputs);
        let known = index.host_state(key).map(|state| &state.plan);
        match &plan {
            Some((Ok(plan), _)) => known != Some(plan),
            // The host keeps its plan.
            Some((Err(_), _)) => false,
            None => known.is_some(),
        }
    };
    hosts.into_iter().partition(|key| has_changed(key))
}

/// The common inputs of the plans of all hosts of a data center.
pub(super) struct PlanInputs {
    dc_key: ObjectKey,
    frozen: bool,
    planner: Option<Arc<Planner>>,
    plan_epoch: Option<u64>,
}

impl PlanInputs {
    /// The inputs from a host's data center.
    pub(super) fn of(index: &Index, key: &ObjectKey, host: &Host) -> Self {
        let dc_key = key.beside(host.spec.data_center.as_str());
        PlanInputs {
            frozen: index.frozen(&dc_key).is_some(),
            planner: index.planner(&dc_key),
            plan_epoch: index.data_center(&dc_key).map(|center| center.plan_epoch),
            dc_key,
        }
    }

    fn is_of(&self, key: &ObjectKey, host: &Host) -> bool {
        self.dc_key.namespace == key.namespace && *self.dc_key.name == *host.spec.data_center
    }

    /// The steps that the plans of the data center took until now.
    fn steps(&self) -> usize {
        self.planner.as_ref().map_or(0, |planner| planner.steps())
    }

    /// The plan of a host, and the data center's plan epoch. While the data center is frozen, the plan is the one in the
    /// Host's status, if there is one, and has no epoch.
    pub(super) fn plan(
        &self,
        index: &Index,
        key: &ObjectKey,
        host: &Host,
    ) -> Option<(Result<HostPlan, PlanTooLarge>, Option<u64>)> {
        if self.frozen {
            let status = host.status.as_ref()?;
            let reason = match status.phase? {
                Phase::Unassigned => return None,
                Phase::Maintenance => Some(EmptyReason::Maintenance),
                Phase::Connecting
                | Phase::Lost
                | Phase::Up
                | Phase::Degraded
                | Phase::NonOperational
                | Phase::Unknown => None,
            };
            return Some((Ok(HostPlan::from_status(status.plan.as_ref()?, &status.networks, reason)), None));
        }
        let claimed = index.owner_of_node(&host.spec.node_name).is_some_and(|owner| owner != key);
        let plan = match &self.planner {
            Some(planner) => planner.plan_host(host, claimed),
            None => Ok(HostPlan::without_data_center(claimed)),
        };
        Some((plan, self.plan_epoch))
    }
}
