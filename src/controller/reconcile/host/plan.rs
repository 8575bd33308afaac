//! The plan of a Host, and the selection of the Hosts that get a new plan.

use std::sync::Arc;

use crate::{
    api::{Host, ObjectKey, Phase, PlannedPath, reason::EmptyReason},
    controller::index::Index,
    planner::{HostPlan, Planner},
};

/// Splits hosts by whether their plans have changed. Planning is a small part of the work for a host, so it is worth
/// finding the few changed hosts before thousands of unchanged ones are reconciled.
pub(crate) fn partition_changed(index: &Index, hosts: Vec<ObjectKey>) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
    // The hosts are sorted by data center.
    let mut last: Option<PlanInputs> = None;
    let mut plan = |key: &ObjectKey| {
        let host = index.hosts.get(key)?;
        let inputs =
            last.take().filter(|inputs| inputs.is_of(key, host)).unwrap_or_else(|| PlanInputs::of(index, key, host));
        let plan = inputs.plan(index, key, host);
        last = Some(inputs);
        plan.map(|(plan, _)| plan)
    };
    hosts.into_iter().partition(|key| plan(key).as_ref() != index.host_state(key).map(|state| &state.plan))
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

    /// The plan of a host, and the data center's plan epoch. While the data center is frozen, the plan is the one in the
    /// Host's status, if there is one, and has no epoch.
    pub(super) fn plan(&self, index: &Index, key: &ObjectKey, host: &Host) -> Option<(HostPlan, Option<u64>)> {
        if self.frozen {
            let status = host.status.as_ref()?;
            let reason = match status.phase? {
                Phase::Unassigned => return None,
                Phase::Maintenance => Some(EmptyReason::Maintenance),
                Phase::Connecting | Phase::Up | Phase::Degraded | Phase::NonOperational | Phase::Unknown => None,
            };
            return Some((HostPlan::from_status(status.plan.as_ref()?, &status.networks, reason), None));
        }
        let claimed = index.owner_of_node(&host.spec.node_name).is_some_and(|owner| owner != key);
        let plan = match &self.planner {
            Some(planner) => planner.plan_host(host, claimed),
            None => HostPlan::without_data_center(claimed),
        };
        Some((plan, self.plan_epoch))
    }
}

/// The largest plan, with the agent's report on its paths, in bytes. An object may have 1.5 MB (`--max-request-bytes` of
/// etcd); a tenth of that is left for the rest of the Host, which does not grow with the paths.
const LARGEST: usize = 1_400_000;
/// The bytes that each path adds to the object besides the counted names: JSON field names, a state, a reason and a
/// message.
const OVERHEAD_PER_PATH: usize = 450;

/// Why a plan cannot be written, if it is too large. The agent's report on its paths goes into the same object.
pub(super) fn too_large(plan: &HostPlan) -> Option<String> {
    let size: usize = plan.paths.iter().map(size_of_path).sum();
    (size > LARGEST).then(|| {
        format!(
            "the plan has {} paths, which with the agent's report on them need about {} kB; an object of Kubernetes has room for {} kB: let the host's bonds have fewer networks or targets, or use pairing Auto",
            plan.paths.len(),
            size / 1000,
            LARGEST / 1000
        )
    })
}

/// The size of a path in the plan, and again among the connections that the agent reports.
fn size_of_path(path: &PlannedPath) -> usize {
    let PlannedPath { target, portal, tpgt: _, interface, network, storage, bonds, chap_secret } = path;
    let in_plan_and_report = target.len() + portal.len() + length(interface.as_ref());
    let bonds: usize = bonds.iter().map(|bond| bond.len() + 3).sum();
    OVERHEAD_PER_PATH
        + 2 * in_plan_and_report
        + length(network.as_ref())
        + storage.len()
        + bonds
        + length(chap_secret.as_ref())
}

fn length(text: Option<&impl AsRef<str>>) -> usize {
    text.map_or(0, |text| text.as_ref().len())
}
