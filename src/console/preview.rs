//! The preview of a change: the plans before and after it, compared.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;

use super::edit::{Change, Object};
use super::location::DataCenterRef;
use crate::api::PlannedPath;
use crate::planner::{HostPlan, Objects, PlanReport, PlannedHost, Problem, plan_all};

/// The effect of a change on the hosts of a data center.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preview {
    /// The number of hosts of the data center.
    pub total: usize,
    /// Hosts whose paths change, by name.
    pub hosts: Vec<HostChange>,
    /// Hosts that connect through their default network afterwards.
    pub on_default: Vec<String>,
    /// Problems that the change causes, and all problems of the changed object.
    pub problems: Vec<Problem>,
}

/// The effect of a change on a host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostChange {
    /// The name of the host.
    pub name: String,
    /// Paths that are added.
    pub added: Vec<PlannedPath>,
    /// Paths that are no longer planned: the agent logs them out once new ones are connected and nothing uses them.
    pub retired: Vec<PlannedPath>,
    /// The number of paths that stay.
    pub kept: usize,
}

/// Compares the plans without and with a change.
pub fn preview(objects: Objects, dc: &DataCenterRef, change: &Change) -> Preview {
    let before = plan_all(&objects);
    let objects = change.applied_to(objects);
    let after = plan_all(&objects);
    let mut preview = Preview { problems: problems(&before, &after, dc, change), ..Preview::default() };
    let old = of(&before, dc);
    let new = of(&after, dc);
    let none = HostPlan::default();
    let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    preview.total = names.len();
    for name in names {
        let (was, will) = (old.get(name).copied().unwrap_or(&none), new.get(name).copied().unwrap_or(&none));
        let change = compare(name, was, will);
        if !change.added.is_empty() || !change.retired.is_empty() {
            preview.hosts.push(change);
        }
        if will.paths.iter().any(|path| path.interface.is_none()) {
            preview.on_default.push(name.to_owned());
        }
    }
    preview
}

/// The plans of the hosts of a data center, by name.
fn of<'a>(report: &'a PlanReport, dc: &DataCenterRef) -> BTreeMap<&'a str, &'a HostPlan> {
    let ours = |host: &&PlannedHost| (&host.namespace, &host.data_center) == (&dc.namespace, &dc.name);
    report.hosts.iter().filter(ours).map(|host| (host.name.as_str(), &host.plan)).collect()
}

/// Compares two plans of a host. Sessions of held targets stay, although the plan does not list them.
fn compare(name: &str, was: &HostPlan, will: &HostPlan) -> HostChange {
    let old: BTreeSet<_> = was.paths.iter().map(PlannedPath::key).collect();
    let new: BTreeSet<_> = will.paths.iter().map(PlannedPath::key).collect();
    HostChange {
        name: name.to_owned(),
        added: will.paths.iter().filter(|path| !old.contains(&path.key())).cloned().collect(),
        retired: was
            .paths
            .iter()
            .filter(|path| !new.contains(&path.key()) && !will.holds(&path.target, &path.portal))
            .cloned()
            .collect(),
        kept: new.intersection(&old).count(),
    }
}

fn problems(before: &PlanReport, after: &PlanReport, dc: &DataCenterRef, change: &Change) -> Vec<Problem> {
    let name = match &change.object {
        Object::DataCenter(it) => it.name_any(),
        Object::Network(it) => it.name_any(),
        Object::Bond(it) => it.name_any(),
        Object::Host(it) => it.name_any(),
    };
    let in_namespace = after.problems.iter().filter(|problem| problem.namespace == dc.namespace);
    in_namespace.filter(|problem| problem.name == name || !before.problems.contains(problem)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{DataCenter, Host, IscsiBond, Network};
    use crate::console::edit::change::Verb;

    /// Two networks on two hosts, a third host with neither; no bond yet.
    fn objects() -> Objects {
        let read = |yaml: &str| yaml.replace("{v}", "multibond.dev/v1alpha1");
        let network = |name: &str, subnet: &str| -> Network {
            serde_saphyr::from_str(&read(&format!(
                "{{apiVersion: {{v}}, kind: Network, metadata: {{name: {name}, namespace: ns}}, spec: {{dataCenter: fra, subnets: [{subnet}]}}}}"
            )))
            .unwrap()
        };
        let host = |name: &str, interfaces: &str| -> Host {
            serde_saphyr::from_str(&read(&format!(
                "{{apiVersion: {{v}}, kind: Host, metadata: {{name: {name}, namespace: ns}}, spec: {{dataCenter: fra, nodeName: {name}}}, status: {{interfaces: [{interfaces}]}}}}"
            )))
            .unwrap()
        };
        let data_center: DataCenter = serde_saphyr::from_str(&read(
            "{apiVersion: {v}, kind: DataCenter, metadata: {name: fra, namespace: ns}, spec: {storage: [{name: a, targets: [{iqn: iqn.2003-01.org.example:a, portals: [{address: 10.0.1.10}, {address: 10.0.2.10}]}]}]}}",
        ))
        .unwrap();
        Objects {
            data_centers: vec![data_center],
            networks: vec![
                network("san-a", "10.0.1.0/24"),
                network("san-b", "10.0.2.0/24"),
                network("lab", "10.9.9.0/24"),
            ],
            hosts: vec![
                host("one", "{name: eth0, addresses: [10.0.1.21/24]}"),
                host("two", "{name: eth0, addresses: [10.0.1.22/24]}, {name: eth1, addresses: [10.0.2.22/24]}"),
                host("far", "{name: eth0, addresses: [192.168.1.5/24]}"),
            ],
            ..Objects::default()
        }
    }

    fn bond(networks: &str) -> Change {
        let bond: IscsiBond = serde_saphyr::from_str(&format!(
            "{{apiVersion: multibond.dev/v1alpha1, kind: IscsiBond, metadata: {{name: storage, namespace: ns}}, spec: {{dataCenter: fra, networks: [{networks}]}}}}"
        ))
        .unwrap();
        Change { verb: Verb::Create, object: Object::Bond(Box::new(bond)) }
    }

    fn of_bond(networks: &str) -> Preview {
        preview(objects(), &dc(), &bond(networks))
    }

    fn dc() -> DataCenterRef {
        DataCenterRef { namespace: "ns".to_owned(), name: "fra".to_owned() }
    }

    fn counts(preview: &Preview) -> Vec<(&str, usize, usize, usize)> {
        preview.hosts.iter().map(|host| (&*host.name, host.added.len(), host.retired.len(), host.kept)).collect()
    }

    #[test]
    fn each_host_lists_the_paths_that_are_added_and_retired() {
        let preview = of_bond("san-a, san-b");
        assert_eq!(counts(&preview), [("one", 1, 2, 0), ("two", 2, 2, 0)]);
        assert_eq!((preview.total, preview.on_default), (3, vec!["far".to_owned()]));
        let reasons: Vec<_> = preview.problems.iter().map(|problem| problem.reason).collect();
        assert_eq!(reasons, ["HostsDiffer"], "one has one of the two networks");
    }

    #[test]
    fn a_bond_without_networks_changes_nothing() {
        let preview = of_bond("");
        assert!(preview.hosts.is_empty());
        assert_eq!(preview.on_default, ["far", "one", "two"]);
    }

    #[test]
    fn problems_of_the_changed_bond_are_shown() {
        let preview = of_bond("san-a, lab, san-x");
        let reasons: Vec<_> = preview.problems.iter().map(|problem| problem.reason).collect();
        assert_eq!(reasons, ["NetworkNotCarried", "NetworkNotFound", "NetworkWithoutPath"]);
        for (problem, named) in preview.problems.iter().zip(["lab", "san-x", "10.0.2.10"]) {
            assert!(problem.message.contains(named), "{problem:?}");
        }
    }

    #[test]
    fn a_deleted_network_is_removed_from_its_bonds() {
        let objects = bond("san-a, san-b").applied_to(objects());
        let network = objects.networks.iter().find(|it| it.name_any() == "san-b").unwrap().clone();
        let change = Change { verb: Verb::Delete, object: Object::Network(Box::new(network)) };
        let preview = preview(objects, &dc(), &change);
        // Its portal is on no network then, and reached through the other one.
        assert_eq!(counts(&preview), [("one", 1, 0, 1), ("two", 1, 1, 1)]);
        assert!(preview.problems.iter().all(|problem| problem.reason != "NetworkNotFound"), "{:?}", preview.problems);
    }

    #[test]
    fn all_paths_of_a_deleted_data_center_retire() {
        let objects = bond("san-a, san-b").applied_to(objects());
        let data_center = objects.data_centers[0].clone();
        let change = Change { verb: Verb::Delete, object: Object::DataCenter(Box::new(data_center)) };
        assert_eq!(counts(&preview(objects, &dc(), &change)), [("far", 0, 2, 0), ("one", 0, 1, 0), ("two", 0, 2, 0)]);
    }
}
