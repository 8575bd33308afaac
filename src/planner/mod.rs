//! All decisions, as pure functions: (`DataCenter`, its Networks, its bonds, one Host) -> the plan of that host, and
//! (plan, what the host reports, the time) -> the verdict on that host.
//!
//! It uses no Kubernetes client, no clock and no async: the controller, `multibond plan` on files, the tests and the
//! benches call the same functions.

mod address;
mod attachment;
mod bits;
mod failures;
mod host_warnings;
mod luns;
mod names;
mod near_miss;
mod observation;
mod pairing;
mod plan;
mod plan_cache;
mod problems;
mod reported;
mod revision;
mod shared_wwid;
mod subnets;
mod target_state;
mod too_large;
mod verdict;
mod view;

pub use failures::{Causes, Failures};
pub use host_warnings::{duplicate_initiator_name, host_warnings};
pub use names::UnknownName;
pub use observation::{AgentState, Observation};
pub use plan::HostPlan;
pub use plan_cache::Planner;
pub use problems::{
    Findings, Problem, Usage, bond_problems, data_center_problems, host_problems, hosts_unknown_problem,
    network_problem, too_large_problem,
};
pub use shared_wwid::shared_wwid_warnings;
pub use too_large::{MAX_BOND_NAMES, MAX_BONDS, MAX_NETWORKS, MAX_STEPS, PlanTooLarge};
pub use verdict::{HostVerdict, judge, still_connected};
pub use view::View;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use problems::host_problem;

use crate::api::{DataCenter, Host, IscsiBond, Network, ObjectKind, SessionSettings, node_owner::owners_of_nodes};

/// Objects of one or more data centers, as read from a cluster or from files.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Data centers, in any order.
    pub data_centers: Vec<DataCenter>,
    /// Networks, in any order.
    pub networks: Vec<Network>,
    /// Bonds, in any order.
    pub bonds: Vec<IscsiBond>,
    /// Hosts, in any order.
    pub hosts: Vec<Host>,
    /// Namespaces that are being deleted: their data centers count as being deleted.
    pub terminating_namespaces: BTreeSet<String>,
}

/// A host and its plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedHost {
    /// The host's namespace.
    pub namespace: String,
    /// The host's name.
    pub name: String,
    /// The data center that the host names.
    pub data_center: String,
    /// The plan of the host.
    pub plan: HostPlan,
}

/// The plans of all hosts and all problems between objects. Both are sorted, so that the order of the objects does not
/// matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanReport {
    /// By namespace and name.
    pub hosts: Vec<PlannedHost>,
    /// By kind, namespace, name and reason.
    pub problems: Vec<Problem>,
}

/// Plans every host that is not being deleted, and lists the problems between objects.
#[must_use]
pub fn plan_all(objects: &Objects) -> PlanReport {
    let planners = planners(objects);
    let owners = owners_of_nodes(&objects.hosts);
    let view = |key| planners.get(&key).map(|planner| &**planner.view());
    let mut usage: HashMap<(&str, &str), Usage> = HashMap::new();
    let mut report = PlanReport::default();
    let mut hosts: Vec<&Host> =
        objects.hosts.iter().filter(|host| host.metadata.deletion_timestamp.is_none()).collect();
    hosts.sort_by_key(|host| (namespace(&host.metadata), host.metadata.name.as_deref()));

    for &host in &hosts {
        let key = (namespace(&host.metadata), host.spec.data_center.as_str());
        let name = host.metadata.name.as_deref().unwrap_or_default();
        let node_owner = owners.get(host.spec.node_name.as_str()).copied().filter(|owner| *owner != (key.0, name));
        let planner = planners.get(&key);
        let plan = match planner {
            Some(planner) => planner.plan_host(host, node_owner.is_some()),
            None => Ok(HostPlan::without_data_center(node_owner.is_some())),
        };
        let plan = match plan {
            Ok(plan) => {
                report.problems.extend(host_problems(host, view(key), &plan, node_owner));
                if planner.is_some() {
                    usage.entry(key).or_default().add(name, &plan);
                }
                plan
            }
            Err(too_large) => {
                report.problems.push(too_large_problem(ObjectKind::Host, key.0, name, &too_large));
                HostPlan::as_last_written(host).unwrap_or_else(|| HostPlan::empty(None, SessionSettings::default()))
            }
        };
        report.hosts.push(PlannedHost {
            namespace: key.0.to_owned(),
            name: name.to_owned(),
            data_center: key.1.to_owned(),
            plan,
        });
    }
    for (key, planner) in &planners {
        report.problems.extend(data_center_problems(planner.view(), key.0, key.1));
        let too_large = planner.view().too_large();
        report.problems.extend(too_large.map(|why| too_large_problem(ObjectKind::DataCenter, key.0, key.1, why)));
    }
    report.problems.extend(duplicate_initiator_names(&hosts));
    for network in objects.networks.iter().filter(|network| network.metadata.deletion_timestamp.is_none()) {
        let key = (namespace(&network.metadata), network.spec.data_center.as_str());
        report.problems.extend(network_problem(network, view(key)));
    }
    let elsewhere = networks_by_namespace(objects);
    for bond in objects.bonds.iter().filter(|bond| bond.metadata.deletion_timestamp.is_none()) {
        let key = (namespace(&bond.metadata), bond.spec.data_center.as_str());
        let exists = |name: &str| elsewhere.contains(&(key.0, name));
        report.problems.extend(bond_problems(bond, view(key), usage.get(&key), &exists).into_problems(bond));
    }
    let centers = objects.data_centers.iter();
    report.problems.extend(centers.filter_map(|center| hosts_unknown_problem(center, &objects.hosts)));
    report.problems.sort();
    report
}

/// A problem of each host whose initiator name a host on another node has too.
fn duplicate_initiator_names(hosts: &[&Host]) -> Vec<Problem> {
    let mut by_name: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
    for &host in hosts {
        let agent = host.status.as_ref().and_then(|status| status.agent.as_ref());
        if let Some(name) = agent.and_then(|agent| agent.initiator_name.as_deref()) {
            by_name.entry(name).or_default().push(host);
        }
    }
    let mut problems = Vec::new();
    for (name, hosts) in by_name {
        for host in &hosts {
            let other = hosts.iter().find(|other| other.spec.node_name != host.spec.node_name);
            let warning = other.map(|other| {
                duplicate_initiator_name(name, host.metadata.namespace.as_deref().unwrap_or_default(), other)
            });
            problems.extend(warning.map(|warning| host_problem(host, warning.reason.as_str(), warning.message)));
        }
    }
    problems
}

/// A planner for each data center, by namespace and name.
fn planners(objects: &Objects) -> BTreeMap<(&str, &str), Planner> {
    let mut networks: HashMap<(&str, &str), Vec<&Network>> = HashMap::new();
    for network in &objects.networks {
        networks.entry((namespace(&network.metadata), network.spec.data_center.as_str())).or_default().push(network);
    }
    let mut bonds: HashMap<(&str, &str), Vec<&IscsiBond>> = HashMap::new();
    for bond in &objects.bonds {
        bonds.entry((namespace(&bond.metadata), bond.spec.data_center.as_str())).or_default().push(bond);
    }
    objects
        .data_centers
        .iter()
        .map(|data_center| {
            let key = (namespace(&data_center.metadata), data_center.metadata.name.as_deref().unwrap_or_default());
            let terminating = objects.terminating_namespaces.contains(key.0);
            let networks = networks.get(&key).map(Vec::as_slice).unwrap_or_default();
            let bonds = bonds.get(&key).map(Vec::as_slice).unwrap_or_default();
            (key, Planner::new(Arc::new(View::compile(data_center, networks, bonds, terminating))))
        })
        .collect()
}

fn networks_by_namespace(objects: &Objects) -> BTreeSet<(&str, &str)> {
    let present = objects.networks.iter().filter(|network| network.metadata.deletion_timestamp.is_none());
    present.map(|n| (namespace(&n.metadata), n.metadata.name.as_deref().unwrap_or_default())).collect()
}

fn namespace(metadata: &kube::api::ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or_default()
}
