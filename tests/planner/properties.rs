//! Properties of every plan.

use std::collections::{BTreeMap, BTreeSet};

use multibond::{
    api::{CarriedNetwork, HeldPortals, Host, HostStatus, IscsiBond, IscsiBondSpec, Network, NetworkSpec, PlannedPath},
    planner::{HostPlan, Objects, PlannedHost, plan_all},
};
use proptest::prelude::*;

use super::{
    anything::{objects, shuffled},
    model::{Outcome, Paths, outcomes},
    problem_model::{Mistake, REASONS, mistakes},
};

fn plans(objects: &Objects) -> Vec<PlannedHost> {
    plan_all(objects).hosts
}

fn host<'a>(objects: &'a Objects, planned: &PlannedHost) -> &'a Host {
    objects.hosts.iter().find(|host| host.metadata.name.as_ref() == Some(&planned.name)).expect("the host")
}

/// The objects after the controller has written the plans into the status of the hosts.
fn written(objects: &Objects) -> Objects {
    let mut after = objects.clone();
    for planned in plans(objects) {
        let host = after.hosts.iter_mut().find(|host| host.metadata.name.as_ref() == Some(&planned.name));
        let status = host.expect("the host").status.get_or_insert_with(HostStatus::default);
        status.networks.clone_from(&planned.plan.networks);
        status.data_center = planned.plan.in_service().then_some(planned.data_center);
    }
    after
}

/// The part of a plan that a host acts on.
fn work(plan: &HostPlan) -> (Vec<impl Ord + Clone + std::fmt::Debug + use<>>, Vec<HeldPortals>) {
    let key = |path: &PlannedPath| (path.target.clone(), path.portal.clone(), path.tpgt, path.interface.clone());
    (plan.paths.iter().map(key).collect(), plan.hold_portals.clone())
}

fn is_strictly_sorted<T: Ord>(items: &[T]) -> bool {
    items.is_sorted_by(|a, b| a < b)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: multibond_testbed::cases(1000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a09_the_order_of_inputs_never_matters(objects in objects(), seed: u64) {
        prop_assert_eq!(plan_all(&shuffled(&objects, seed)), plan_all(&objects));
    }

    #[test]
    fn a_host_is_planned_as_if_it_were_the_only_one(objects in objects()) {
        // Hosts that name the same node do depend on each other, so one of each node is kept.
        let mut nodes = BTreeSet::new();
        let alone = |host: &Host| Objects { hosts: vec![host.clone()], ..objects.clone() };
        let distinct = objects.hosts.iter().filter(|host| nodes.insert(host.spec.node_name.clone())).cloned().collect();
        let together = plans(&Objects { hosts: distinct, ..objects.clone() });
        for planned in together {
            let host = host(&objects, &planned);
            prop_assert_eq!(plans(&alone(host)), vec![planned]);
        }
    }

    #[test]
    fn every_target_has_the_outcome_of_the_model(objects in objects()) {
        for planned in plans(&objects).into_iter().filter(|planned| planned.plan.reason.is_none()) {
            let HostPlan { networks, hold, hold_portals, no_network, paths, .. } = planned.plan;
            let mut found: BTreeMap<String, Outcome> = BTreeMap::new();
            for target in hold {
                found.entry(target.to_string()).or_default().held = true;
            }
            for HeldPortals { target, portals } in hold_portals {
                found.entry(target.to_string()).or_default().kept =
                    portals.iter().map(ToString::to_string).collect();
            }
            for target in no_network {
                found.entry(target.to_string()).or_default().no_network = true;
            }
            let expected = outcomes(&objects, &planned.data_center, &networks);
            for target in expected.keys() {
                found.entry(target.clone()).or_default();
            }
            for same_target in paths.chunk_by(|a, b| a.target == b.target) {
                let mut all = Paths::new();
                for path in same_target {
                    let key = (path.portal.to_string(), path.tpgt, path.interface.as_ref().map(ToString::to_string));
                    let bonds: BTreeSet<String> = path.bonds.iter().map(ToString::to_string).collect();
                    // A path names the first of the networks that it serves.
                    let Some(Outcome { paths: wanted, .. }) = expected.get(&*path.target) else { continue };
                    let serves = wanted.get(&key).map(|(_, networks)| networks.clone()).unwrap_or_default();
                    prop_assert_eq!(serves.first().map(String::as_str), path.network.as_deref());
                    all.insert(key, (bonds, serves));
                }
                found.entry(same_target[0].target.to_string()).or_default().paths = all;
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn every_mistake_between_objects_is_that_of_the_model(objects in objects()) {
        let report = plan_all(&objects);
        let known = |kind: &str, reason: &str| REASONS.iter().any(|(of, reasons)| *of == kind && reasons.contains(&reason));
        let found = report.problems.iter().filter(|problem| known(problem.kind.as_str(), problem.reason));
        let found: BTreeSet<Mistake> =
            found.map(|problem| (problem.kind.as_str(), problem.name.clone(), problem.reason)).collect();
        prop_assert_eq!(found, mistakes(&objects, &report.hosts));
    }

    #[test]
    fn every_bond_path_uses_an_attached_network_of_the_bond(objects in objects()) {
        for PlannedHost { plan, .. } in plans(&objects) {
            for path in plan.paths.iter().filter(|path| path.interface.is_some()) {
                let carried = |network: &str| {
                    let on = |c: &CarriedNetwork| *c.name == *network && Some(&c.interface) == path.interface.as_ref();
                    plan.networks.iter().any(on)
                };
                prop_assert!(path.network.as_deref().is_some_and(carried), "{path:?}");
                prop_assert!(!path.bonds.is_empty());
                for name in &path.bonds {
                    let bond = objects.bonds.iter().find(|bond| bond.metadata.name.as_deref() == Some(name));
                    let IscsiBondSpec { networks, targets, .. } = &bond.expect("the bond").spec;
                    prop_assert!(targets.is_empty() || targets.iter().any(|target| *target == path.target));
                    prop_assert!(networks.iter().any(|network| carried(network)));
                }
            }
        }
    }

    #[test]
    fn a04b_default_paths_exist_only_where_no_bond_can_apply(objects in objects()) {
        let exists = |name: &str, data_center: &str| {
            let is = |n: &&Network| n.metadata.name.as_deref() == Some(name) && n.spec.data_center == data_center;
            objects.networks.iter().find(is).filter(|network| network.metadata.deletion_timestamp.is_none())
        };
        for planned in plans(&objects) {
            let defaults: Vec<&PlannedPath> = planned.plan.paths.iter().filter(|path| path.interface.is_none()).collect();
            for path in &defaults {
                prop_assert!(path.network.is_none() && path.bonds.is_empty());
                prop_assert!(planned.plan.paths.iter().all(|p| p.target != path.target || p.interface.is_none()));
                let here = |b: &&IscsiBond| b.spec.data_center == planned.data_center && b.metadata.deletion_timestamp.is_none();
                for IscsiBondSpec { networks, targets, .. } in objects.bonds.iter().filter(here).map(|bond| &bond.spec) {
                    if targets.is_empty() || targets.iter().any(|target| *target == path.target) {
                        // A network that is being deleted is not unknown.
                        let is = |n: &Network, name: &str| n.metadata.name.as_deref() == Some(name) && n.spec.data_center == planned.data_center;
                        prop_assert!(networks.iter().all(|name| objects.networks.iter().any(|n| is(n, name))));
                    }
                    if host(&objects, &planned).status.as_ref().is_none_or(|status| status.interfaces.is_none()) {
                        let spec = &host(&objects, &planned).spec.interfaces;
                        let placed = |name: &String| spec.iter().any(|interface| interface.networks.contains(name));
                        let has_no_subnets =
                            |name: &String| exists(name, &planned.data_center).is_none_or(|n| n.spec.subnets.is_empty());
                        prop_assert!(networks.iter().all(|network| placed(network) || has_no_subnets(network)));
                    }
                }
            }
        }
    }

    #[test]
    fn a_plan_is_sorted_and_free_of_duplicates(objects in objects()) {
        let report = plan_all(&objects);
        prop_assert!(report.problems.is_sorted());
        for PlannedHost { plan, .. } in &report.hosts {
            let HostPlan { reason, networks, hold, hold_portals, no_network, paths, uses, .. } = plan;
            prop_assert!(is_strictly_sorted(&work(plan).0));
            prop_assert!(is_strictly_sorted(hold) && is_strictly_sorted(no_network) && is_strictly_sorted(uses));
            prop_assert!(hold_portals.iter().map(|held| &held.target).eq(hold));
            prop_assert!(hold_portals.iter().all(|held| is_strictly_sorted(&held.portals)));
            let places: Vec<_> = networks.iter().map(|carried| (&carried.name, &carried.interface)).collect();
            prop_assert!(is_strictly_sorted(&places));
            prop_assert!(paths.iter().all(|path| is_strictly_sorted(&path.bonds)));
            prop_assert!(reason.is_none() || (networks.is_empty() && hold.is_empty() && paths.is_empty()));
        }
    }

    #[test]
    fn planning_again_with_what_was_written_changes_nothing(objects in objects()) {
        let before = plan_all(&objects);
        prop_assert_eq!(plan_all(&written(&objects)), before);
    }

    #[test]
    fn a12_a_host_that_loses_all_devices_keeps_its_plan(objects in objects()) {
        let before = plans(&objects);
        let mut after = written(&objects);
        for status in after.hosts.iter_mut().filter_map(|host| host.status.as_mut()) {
            if let Some(interfaces) = &mut status.interfaces {
                interfaces.clear();
            }
        }
        prop_assert_eq!(plans(&after), before);
    }

    #[test]
    fn revisions_are_equal_exactly_when_the_work_is_equal(first in objects(), second in objects()) {
        let all: Vec<HostPlan> = plans(&first).into_iter().chain(plans(&second)).map(|planned| planned.plan).collect();
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
            prop_assert_eq!(a.revision == b.revision, work(a) == work(b));
        }
    }

    #[test]
    fn unrelated_objects_do_not_change_a_plan(objects in objects(), foreign in objects()) {
        let before = plans(&objects);
        let mut more = objects.clone();
        for mut other in foreign.data_centers {
            other.metadata.namespace = Some("ams".to_owned());
            more.data_centers.push(other);
        }
        for mut other in foreign.networks {
            other.metadata.namespace = Some("ams".to_owned());
            more.networks.push(other);
        }
        for mut other in foreign.bonds {
            other.metadata.namespace = Some("ams".to_owned());
            more.bonds.push(other);
        }
        for (n, mut other) in foreign.hosts.into_iter().enumerate() {
            other.metadata.namespace = Some("ams".to_owned());
            other.spec.node_name = format!("elsewhere-{n}");
            more.hosts.push(other);
        }
        for data_center in ["hall", "cellar"] {
            let subnets = vec!["203.0.113.0/24".to_owned()];
            let spec = NetworkSpec { data_center: data_center.to_owned(), subnets, ..NetworkSpec::default() };
            more.networks.push(named(Network::new(&format!("apart-{data_center}"), spec)));
            let targets = vec!["iqn.2003-01.org.example:of-nobody".to_owned()];
            let spec = IscsiBondSpec { data_center: data_center.to_owned(), targets, ..IscsiBondSpec::default() };
            more.bonds.push(named(IscsiBond::new(&format!("apart-{data_center}"), spec)));
        }
        let mut after = plans(&more);
        after.retain(|planned| planned.namespace == "fra");
        prop_assert_eq!(after, before);
    }
}

fn named<K: kube::ResourceExt>(mut object: K) -> K {
    object.meta_mut().namespace = Some("fra".to_owned());
    object
}
