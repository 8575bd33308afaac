//! Problems across objects: each has a reason, and a message that names the cause (behaviour 7).

use super::fixture::objects;
use multibond::{api::HostTemplate, planner::plan_all};
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
    "IscsiBond fra/storage NetworkNotCarried: no host in service carries san-b; check the network's subnets, Host.spec.interfaces, and the addresses of the hosts"
)]
#[case::a62_a_network_of_a_host_that_does_not_exist(
    "networks: [san-b]}]",
    "networks: [san-b, san-x, sanb]}]",
    "Host fra/h1 NetworkNotFound: spec.interfaces names networks that data center hall does not have: san-x on ens4, sanb (did you mean san-b?) on ens4; create the Network, or correct spec.interfaces"
)]
#[case::a62_a_device_without_an_address_in_the_subnets_of_its_network(
    "interfaces: [{name: ens4, networks: [san-b]}]\n          status: {interfaces: [",
    "interfaces: [{name: ens4, networks: [san-b]}, {name: ens5, networks: [san-a]}]\n          status: {interfaces: [{name: ens5, addresses: [10.0.9.21/24]}, ",
    "Host fra/h1 AddressOutsideSubnets: spec.interfaces names devices without an address in the network's subnets: ens5 (10.0.9.21/24) for san-a; correct spec.interfaces, the address of the device, or the subnets of the Network"
)]
#[case::a62_a_network_with_the_wrong_subnet(
    "subnets: [10.0.1.0/24]",
    "subnets: [10.0.11.0/24]",
    "IscsiBond fra/storage NetworkNotCarried: no host in service carries san-a; check the network's subnets, Host.spec.interfaces, and the addresses of the hosts"
)]
#[case::a62_one_subnet_in_two_networks(
    "san-b: {}",
    "san-b: {}, san-c: {subnets: [10.0.1.0/24]}",
    "Network fra/san-a SubnetShared: 10.0.1.0/24 is a subnet of san-c too: hosts and portals with an address in it are on both networks; correct spec.subnets of one of them; \
     Network fra/san-c SubnetShared: 10.0.1.0/24 is a subnet of san-a too: hosts and portals with an address in it are on both networks; correct spec.subnets of one of them"
)]
#[case::a62_a_subnet_within_one_of_another_network(
    "san-b: {}",
    "san-b: {}, san-c: {subnets: [10.0.0.0/16]}",
    "Network fra/san-a SubnetNested: 10.0.1.0/24 is within 10.0.0.0/16 of san-c: hosts and portals with an address in it are on both networks; correct spec.subnets of one of them"
)]
fn each_problem_is_said_on_the_object_that_is_wrong(#[case] good: &str, #[case] bad: &str, #[case] expected: &str) {
    assert!(GOOD.contains(good), "the fixture has no {good}");
    assert_eq!(problems(&GOOD.replacen(good, bad, 1)), expected);
}

/// All problems of a fixture.
fn problems(yaml: &str) -> String {
    let problems: Vec<String> = plan_all(&objects(yaml))
        .problems
        .into_iter()
        .map(|p| format!("{} {}/{} {}: {}", p.kind, p.namespace, p.name, p.reason, p.message))
        .collect();
    problems.join("; ").replace("iqn.2003-01.org.example:", "@")
}

#[test]
fn a62_a_host_with_some_and_fewer_networks_than_others_is_named() {
    let three = GOOD.replace(
        "hosts:",
        "hosts:
        h2: {interfaces: [{name: ens4, networks: [san-b]}]}
        h3: {interfaces: [{name: ens4, networks: [san-b]}]}
        on-its-default-network: {interfaces: [{name: ens4, networks: []}], status: {interfaces: []}}",
    );
    // Not known yet: nothing is said of h2 and h3.
    assert!(problems(&three).starts_with("Host fra/h2 InterfacesUnknown: "), "{}", problems(&three));
    let reported = three.replace("networks: [san-b]}]}", "networks: [san-b]}], status: {interfaces: []}}");
    let expected = "IscsiBond fra/storage HostsDiffer: hosts h2, h3 carry only san-b; other hosts carry more of the bond's networks: check the interfaces of these hosts";
    assert_eq!(problems(&reported), expected);
    // Racks with fabrics of their own.
    let racks = reported.replace("[{name: ens4, networks: [san-b]}]\n          status:", "[]\n          status:");
    assert_eq!(problems(&racks), "", "each carries one of the two");
}

#[test]
fn a62_portals_outside_of_all_networks_of_the_bond_are_named() {
    let yaml = "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}, {address: 172.16.0.1}]}]}]
          networks: {san-a: {subnets: [10.0.1.0/24]}, lab: {subnets: [10.9.0.0/16]}}
          bonds: {storage: {networks: [lab]}}
          hosts: {h1: {status: {interfaces: [{name: ens3, addresses: [10.9.0.21/16]}]}}}
        ";
    let expected = "IscsiBond fra/storage NetworkWithoutPath: portal 10.0.1.10:3260 of @alpha is on no network of the bond; check the portals' addresses and pins, the networks' subnets and spec.targets";
    assert_eq!(problems(yaml), expected, "172.16.0.1 is routed");
    let alone = yaml.replace(", {address: 172.16.0.1}", "");
    assert_eq!(problems(&alone), expected, "although hosts try it through the bond's networks");
    let no_hosts = alone.replace("hosts: {h1: {status: {interfaces: [{name: ens3, addresses: [10.9.0.21/16]}]}}}", "");
    assert_eq!(problems(&no_hosts), expected);
    assert_eq!(problems(&alone.replace("networks: [lab]", "networks: [lab], pairing: AllPairs")), "");
}

#[test]
fn a56_a62_two_hosts_with_one_initiator_name_are_both_named() {
    let host = |name: &str, node: &str, initiator: &str| {
        format!("{name}: {{nodeName: {node}, status: {{agent: {{initiatorName: {initiator}}}, interfaces: []}}}}")
    };
    let hosts = [host("h1", "n1", "iqn.a"), host("h2", "n2", "iqn.a"), host("h3", "n3", "iqn.c")].join(", ");
    let says = |other: &str, node: &str| {
        format!(
            "DuplicateInitiatorName: Host fra/{other} on node {node} has the initiator name iqn.a too, so arrays take the two for one: write a unique name (`iscsi-iname` prints one) into /etc/iscsi/initiatorname.iscsi on one of them, and restart iscsid"
        )
    };
    let expected = format!("Host fra/h1 {}; Host fra/h2 {}", says("h2", "n2"), says("h1", "n1"));
    assert_eq!(problems(&format!("hall: {{hosts: {{{hosts}}}}}")), expected);
}

#[test]
fn a62_a_secret_that_the_agent_cannot_use_is_named_with_the_cure() {
    let yaml = "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}], chap: {secretRef: {name: chap}}}]}]
          hosts: {h1: {status: {agent: {unusableSecrets: [chap, of-the-plan-before]}, interfaces: []}}}
        ";
    let expected = "Host fra/h1 SecretNotFound: the Secret chap cannot be used (the agent's log says why), so no session to its targets is made again after it is lost, or after a reboot; create it with its keys (docs/first-data-center.md#chap), and allow the agents of the release in multibond-system to read it: `kubectl create rolebinding multibond-chap-reader --namespace fra --clusterrole multibond-chap-reader --serviceaccount multibond-system:multibond-agent`";
    assert_eq!(problems(yaml), expected);
    assert_eq!(problems(&yaml.replace("chap, of-the-plan-before", "of-the-plan-before")), "");
}

#[test]
fn a62_a_plan_that_is_not_known_is_a_problem_with_what_would_make_it_known() {
    let unknown = GOOD.replace("status: {interfaces: [{name: ens3, mtu: 9000, addresses: [10.0.1.21/24]}]}", "");
    let expected = "Host fra/h1 InterfacesUnknown: the agent on node node-of-h1 has not reported the host's interfaces, which decide the networks it carries, so its plan is not known; name them in Host.spec.interfaces, or add what the agents have reported to the input: `kubectl get hosts.multibond.dev -A -o yaml`";
    assert_eq!(problems(&unknown), expected);
    let made = "hall: {hosts: {}, namespace: fra}";
    assert_eq!(problems(made), "");
    let mut objects = objects(made);
    objects.data_centers[0].spec.hosts = Some(HostTemplate::default());
    let problems = plan_all(&objects).problems;
    assert_eq!(problems.iter().map(|problem| problem.reason).collect::<Vec<_>>(), ["HostsUnknown"]);
    assert!(problems[0].message.contains("kubectl get hosts.multibond.dev -A -o yaml"), "{problems:?}");
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
