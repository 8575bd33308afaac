//! Problems across objects: each has a reason, and a message that names the cause (behaviour 7).

use super::fixture::objects;
use multibond::planner::plan_all;
use rstest::rstest;

const GOOD: &str = "
    hall:
      storage:
      - {name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}, {address: 10.0.2.20, network: san-b}]}]}
      networks: {san-a: {subnets: [10.0.1.0/24], mtu: 9000}, san-b: {}}
      bonds: {storage: {networks: [san-a, san-b]}}
      hosts:
        h1:
          interfaces: [{name: ens4, networks: [san-b]}]
          status: {interfaces: [{name: ens3, mtu: 9000, addresses: [10.0.1.21/24]}]}
    ";

#[test]
fn good_objects_have_no_problems() {
    assert_eq!(plan_all(&objects(GOOD)).problems, []);
}

#[rstest]
#[case::a_target_in_two_storages(
    "- {name: array,",
    "- {name: bay, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.12}]}]}\n      - {name: array,",
    "DataCenter fra/hall DuplicateTarget: target @alpha is listed by the storages array, bay: it counts as one target of array with the portals of all; list it once"
)]
#[case::a_portal_twice(
    "{address: 10.0.1.10},",
    "{address: 10.0.1.10}, {address: '::ffff:a00:10a'},",
    "DataCenter fra/hall DuplicatePortal: target @alpha lists the portal 10.0.1.10:3260 more than once; list it once"
)]
#[case::a_pin_to_no_network(
    "{address: 10.0.1.10},",
    "{address: 10.0.1.10}, {address: 10.0.1.11, network: typo},",
    "DataCenter fra/hall PortalNetworkNotFound: portal 10.0.1.11:3260 of target @alpha is pinned to the network typo, and the data center has no such Network; \
     IscsiBond fra/storage NetworkWithoutPath: portal 10.0.1.11:3260 of @alpha is on no network of the bond; check the portals' addresses and pins, the networks' subnets and spec.targets"
)]
#[case::a_target_whose_name_leaves_its_directory(
    "iqn: '@alpha'",
    "iqn: '@../../srv/x'",
    "DataCenter fra/hall InvalidTargetName: the name of target \"@../../srv/x\" contains \"/\", so no host logs in to it; correct the name, or take the target out"
)]
#[case::a_target_name_that_the_rfc_forbids(
    "iqn: '@alpha'",
    "iqn: '@al_pha+'",
    "DataCenter fra/hall InvalidTargetName: the name of target @al_pha+ has '_', '+', which RFC 3722 does not allow in iSCSI names: it is used as it is, but other initiators and targets may refuse it"
)]
#[case::a_portal_where_no_storage_can_be(
    "{address: 10.0.1.10},",
    "{address: 10.0.1.10}, {address: 'fe80::1', network: san-b},",
    "DataCenter fra/hall UselessPortal: portal [fe80::1]:3260 of target @alpha is never dialled: fe80::1 is a link-local address, where no storage can be; take it out"
)]
#[case::a_network_without_data_center(
    "san-b: {}",
    "san-b: {}, lost: {dataCenter: typo}",
    "Network fra/lost DataCenterNotFound: there is no DataCenter typo in namespace fra; create it, or correct spec.dataCenter"
)]
#[case::a_host_without_data_center(
    "h1:",
    "h2: {dataCenter: typo}\n        h1:",
    "Host fra/h2 DataCenterNotFound: there is no DataCenter typo in namespace fra; create it, or correct spec.dataCenter"
)]
#[case::a_bond_without_data_center(
    "bonds: {",
    "bonds: {lost: {dataCenter: typo, networks: [typo]}, ",
    "IscsiBond fra/lost DataCenterNotFound: there is no DataCenter typo in namespace fra; create it, or correct spec.dataCenter"
)]
#[case::a_host_without_the_networks_where_the_default_one_is_forbidden(
    "hosts:",
    "defaultNetwork: Never\n      hosts:\n        h2: {status: {interfaces: []}}",
    "Host fra/h2 NoNetwork: this host carries none of the networks of the bonds for @alpha, and the data center's defaultNetwork is Never"
)]
#[case::a_wrong_mtu(
    "mtu: 9000, addresses",
    "mtu: 1500, addresses",
    "Host fra/h1 MTUMismatch: ens3 carries san-a with MTU 1500, and the network needs 9000"
)]
#[case::a_network_of_the_bond_that_does_not_exist(
    "networks: [san-a, san-b]}}",
    "networks: [san-a, tipo, san-b, typo]}}",
    "IscsiBond fra/storage NetworkNotFound: there is no Network tipo, typo; create it, or correct spec.networks: until then no session of the bond's targets is logged out, and what is not planned is not connected again"
)]
#[case::a_network_that_is_nearly_named(
    "networks: [san-a, san-b]}}",
    "networks: [san-a, sanb, san-b]}}",
    "IscsiBond fra/storage NetworkNotFound: there is no Network sanb (did you mean san-b?); create it, or correct spec.networks: until then no session of the bond's targets is logged out, and what is not planned is not connected again"
)]
#[case::a_target_that_is_nearly_named(
    "networks: [san-a, san-b]}}",
    "networks: [san-a, san-b], targets: ['@alpha', '@Alpha']}}",
    "IscsiBond fra/storage TargetNotFound: no storage of data center hall has the target @Alpha (did you mean @alpha?); add it there, or correct spec.targets: until then a target with nearly this name that no other bond covers keeps its sessions, and they are not connected again"
)]
#[case::a_network_that_is_carried_and_leads_nowhere(
    "bonds: {",
    "bonds: {vain: {networks: [san-b], targets: ['@typo']}, ",
    "IscsiBond fra/vain NetworkWithoutPath: network san-b leads to no portal; check the portals' addresses and pins, the networks' subnets and spec.targets; IscsiBond fra/vain TargetNotFound: no storage of data center hall has the target @typo; add it there, or correct spec.targets"
)]
#[case::a_portal_on_no_network_of_the_bond(
    "networks: [san-a, san-b]}}",
    "networks: [san-a]}}",
    "IscsiBond fra/storage NetworkWithoutPath: portal 10.0.2.20:3260 of @alpha is on no network of the bond; check the portals' addresses and pins, the networks' subnets and spec.targets"
)]
#[case::a_portal_on_a_network_that_no_host_carries(
    "interfaces: [{name: ens4, networks: [san-b]}]",
    "interfaces: []",
    "IscsiBond fra/storage NetworkWithoutPath: portal 10.0.2.20:3260 of @alpha is on san-b, which no host in service carries; check the portals' addresses and pins, the networks' subnets and spec.targets"
)]
fn each_problem_is_said_on_the_object_that_is_wrong(#[case] good: &str, #[case] bad: &str, #[case] expected: &str) {
    assert!(GOOD.contains(good), "the fixture has no {good}");
    let problems: Vec<String> = plan_all(&objects(&GOOD.replacen(good, bad, 1)))
        .problems
        .into_iter()
        .map(|p| format!("{} {}/{} {}: {}", p.kind, p.namespace, p.name, p.reason, p.message))
        .collect();
    assert_eq!(problems.join("; ").replace("iqn.2003-01.org.example:", "@"), expected);
}

#[test]
fn portal_covered_by_another_bond_is_no_problem_of_this_bond() {
    let two_bonds = GOOD.replace(
        "bonds: {storage: {networks: [san-a, san-b]}}",
        "bonds: {a: {networks: [san-a]}, b: {networks: [san-b]}}",
    );
    assert_eq!(plan_all(&objects(&two_bonds)).problems, []);
    let nobody_carries_b = two_bonds.replace("interfaces: [{name: ens4, networks: [san-b]}]", "interfaces: []");
    let problems = plan_all(&objects(&nobody_carries_b)).problems;
    assert_eq!(problems.iter().map(|problem| &*problem.name).collect::<Vec<_>>(), ["b"]);
}
