//! The plan of a Host, as the controller comes by it, and which of many Hosts get another one.

use std::sync::Arc;

use crate::{
    api::{Host, ObjectKey, Phase, PlannedPath, reason::EmptyReason},
    controller::index::World,
    planner::{HostPlan, Planner},
};

/// Tells the hosts whose plans, made anew, are others than what was last decided from the rest. To plan is a small part
/// of the work for a host: a few that a change concerns need not wait for thousands that it leaves alone.
pub(crate) fn concerned(world: &World, hosts: Vec<ObjectKey>) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
    // They come data center by data center.
    let mut last: Option<Basis> = None;
    let mut plan = |key: &ObjectKey| {
        let host = world.hosts.get(key)?;
        let basis = last.take().filter(|basis| basis.is_of(key, host)).unwrap_or_else(|| Basis::of(world, key, host));
        let plan = basis.plan(world, key, host);
        last = Some(basis);
        plan.map(|(plan, _)| plan)
    };
    hosts.into_iter().partition(|key| plan(key).as_ref() != world.state(key).map(|state| &state.plan))
}

/// What the plans of all hosts of a data center are made from.
pub(super) struct Basis {
    center: ObjectKey,
    frozen: bool,
    planner: Option<Arc<Planner>>,
    stamp: Option<u64>,
}

impl Basis {
    /// That of a host's data center.
    pub(super) fn of(world: &World, key: &ObjectKey, host: &Host) -> Self {
        let center = key.beside(host.spec.data_center.as_str());
        Basis {
            frozen: world.frozen(&center).is_some(),
            planner: world.planner(&center),
            stamp: world.center(&center).map(|center| center.stamp),
            center,
        }
    }

    fn is_of(&self, key: &ObjectKey, host: &Host) -> bool {
        self.center.namespace == key.namespace && *self.center.name == *host.spec.data_center
    }

    /// The plan of a host, and the data center's stamp. While that stands still, there is none, and the plan is the one
    /// that was last written, if there is one.
    pub(super) fn plan(&self, world: &World, key: &ObjectKey, host: &Host) -> Option<(HostPlan, Option<u64>)> {
        if self.frozen {
            let status = host.status.as_ref()?;
            let reason = match status.phase? {
                Phase::Unassigned => return None,
                Phase::Maintenance => Some(EmptyReason::Maintenance),
                Phase::Connecting | Phase::Up | Phase::Degraded | Phase::NonOperational | Phase::Unknown => None,
            };
            return Some((HostPlan::from_status(status.plan.as_ref()?, &status.networks, reason), None));
        }
        let claimed = world.claimant(&host.spec.node_name).is_some_and(|winner| winner != key);
        let plan = match &self.planner {
            Some(planner) => planner.plan_host(host, claimed),
            None => HostPlan::without_data_center(claimed),
        };
        Some((plan, self.stamp))
    }
}

/// An object has room for 1.5 MB (etcd's `--max-request-bytes`); a tenth of it is for what grows with no path.
const ROOM: usize = 1_400_000;
/// What a path takes in the plan and, with a state, a reason and a message, among the connections: names of fields and
/// what has no name.
const PATH_FORM: usize = 450;

/// Why a plan cannot be written. The agent's report on its paths goes into the same object, and is counted in.
pub(super) fn too_large(plan: &HostPlan) -> Option<String> {
    let length = |text: &Option<Arc<str>>| text.as_deref().map_or(0, str::len);
    let of_path = |path: &PlannedPath| {
        let PlannedPath { target, portal, tpgt: _, interface, network, storage, bonds, chap_secret } = path;
        let twice = target.len() + portal.len() + length(interface);
        let bonds: usize = bonds.iter().map(|bond| bond.len() + 3).sum();
        PATH_FORM + 2 * twice + length(network) + storage.len() + bonds + length(chap_secret)
    };
    let size: usize = plan.paths.iter().map(of_path).sum();
    (size > ROOM).then(|| {
        format!(
            "the plan has {} paths, which with the agent's report on them need about {} kB; an object of Kubernetes has room for {} kB: let the host's bonds have fewer networks or targets, or use pairing Auto",
            plan.paths.len(),
            size / 1000,
            ROOM / 1000
        )
    })
}
