//! The whole decision, pure: (`DataCenter`, its Networks, its Bonds, one Host) -> that host's plan, and
//! (plan, what the host reports, the time) -> the verdict on that host.
//!
//! Nothing here knows a Kubernetes client, a clock or async: the controller, `multibond plan` on files, the tests and
//! the benches call the same functions.

mod address;
mod attachment;
mod node_owner;
mod plan;
mod plan_cache;
mod problems;
mod reported;
mod revision;
mod target_state;
mod verdict;
mod view;

pub use address::canonical_portal;
pub use attachment::mtu_warnings;
pub use node_owner::{Precedence, claims};
pub use plan::{HostPlan, plan_host};
pub use problems::{
    Findings, Kind, Problem, Usage, bond_problems, data_center_problems, host_problems, network_problems,
};
pub use verdict::{AgentState, HostVerdict, Observation, judge, still_connected};
pub use view::View;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::api::{DataCenter, Host, IscsiBond, Network};

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
    /// What the host should be connected to.
    pub plan: HostPlan,
}

/// The plans of all hosts and every cross-object problem, each sorted: equal objects in any order give equal reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// By namespace and name.
    pub hosts: Vec<PlannedHost>,
    /// By kind, namespace, name and reason.
    pub problems: Vec<Problem>,
}

/// Plans every host that is not being deleted, and lists what is wrong across objects.
#[must_use]
pub fn plan_all(objects: &Objects) -> Report {
    let views = compile_all(objects);
    let winners = claims(&objects.hosts);
    let mut usage: HashMap<(&str, &str), Usage> = HashMap::new();
    let mut report = Report::default();

    for host in objects.hosts.iter().filter(|host| host.metadata.deletion_timestamp.is_none()) {
        let key = (namespace(&host.metadata), host.spec.data_center.as_str());
        let name = host.metadata.name.as_deref().unwrap_or_default();
        let winner = winners.get(host.spec.node_name.as_str()).filter(|winner| **winner != (key.0, name));
        let plan = plan_host(views.get(&key), host, winner.is_some());
        report.problems.extend(host_problems(host, views.get(&key), &plan, winner.copied()));
        if views.contains_key(&key) {
            usage.entry(key).or_default().add(&plan);
        }
        report.hosts.push(PlannedHost {
            namespace: key.0.to_owned(),
            name: name.to_owned(),
            data_center: key.1.to_owned(),
            plan,
        });
    }
    for (key, view) in &views {
        report.problems.extend(data_center_problems(view, key.0, key.1));
    }
    for network in objects.networks.iter().filter(|network| network.metadata.deletion_timestamp.is_none()) {
        let view = views.get(&(namespace(&network.metadata), network.spec.data_center.as_str()));
        report.problems.extend(network_problems(network, view));
    }
    let elsewhere = networks_by_namespace(objects);
    for bond in objects.bonds.iter().filter(|bond| bond.metadata.deletion_timestamp.is_none()) {
        let key = (namespace(&bond.metadata), bond.spec.data_center.as_str());
        let exists = |name: &str| elsewhere.contains(&(key.0, name));
        report.problems.extend(bond_problems(bond, views.get(&key), usage.get(&key), &exists).into_problems(bond));
    }
    report.hosts.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    report.problems.sort();
    report
}

/// What the planner needs of each data center, by namespace and name.
fn compile_all(objects: &Objects) -> BTreeMap<(&str, &str), View> {
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
            (key, View::compile(data_center, networks, bonds, terminating))
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
