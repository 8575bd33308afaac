//! Attachments: the networks a host carries, those it remembers, and hosts that wait for them (behaviour 1.2 and 1.3).

use super::fixture::{check, only_plan};
use rstest::rstest;

#[test]
fn a12_interfaces_with_an_address_in_a_subnet_are_attached() {
    check(
        "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}, {address: 'fd00:2::20'}]}]}]
          networks: {san-a: {subnets: [10.0.1.0/24]}, san-b: {subnets: [10.0.2.0/24, 'fd00:2::/64']}}
          bonds: {both: {networks: [san-a, san-b]}}
          hosts:
            h1:
              status:
                interfaces:
                - {name: ens3, addresses: [192.0.2.21/24, 10.0.1.21/24]}
                - {name: ens4, addresses: ['fd00:2::21/64']}
                - {name: eno1, addresses: [192.0.2.22/24]}
        ",
        "
        h1:
          carries san-a on ens3 by 10.0.1.21/24
          carries san-b on ens4 by fd00:2::21/64
          array @alpha 10.0.1.10:3260,1 through ens3 (san-a) for both
          array @alpha [fd00:2::20]:3260,1 through ens4 (san-b) for both
          uses both/san-a both/san-b
        ",
    );
}

#[test]
fn a12_spec_interfaces_override_only_the_networks_they_name() {
    check(
        "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}, {address: 10.0.2.20}]}]}]
          networks: {san-a: {subnets: [10.0.1.0/24]}, san-b: {subnets: [10.0.2.0/24]}}
          bonds: {both: {networks: [san-a, san-b]}}
          hosts:
            h1:
              interfaces: [{name: ens9, networks: [san-a]}]
              status:
                interfaces: [{name: ens3, addresses: [10.0.1.21/24]}, {name: ens4, addresses: [10.0.2.21/24]}]
                networks: [{name: san-a, interface: ens3, source: Subnet, address: 10.0.1.21/24}]
        ",
        "
        h1:
          carries san-a on ens9 by spec
          carries san-b on ens4 by 10.0.2.21/24
          array @alpha 10.0.1.10:3260,1 through ens9 (san-a) for both
          array @alpha 10.0.2.20:3260,1 through ens4 (san-b) for both
          uses both/san-a both/san-b
        ",
    );
}

/// A host that remembers san-a on ens3, with what it reports now.
fn remembering(interfaces: &str, network: &str, rest: &str) -> Vec<String> {
    let plan = only_plan(&format!(
        "
        hall:
          storage: [{{name: array, targets: [{{iqn: '@alpha', portals: [{{address: 10.0.1.10}}]}}]}}]
          networks: {{{network}}}
          bonds: {{storage: {{networks: [san-a]}}}}
          hosts:
            h1:
              {rest}
              status:
                dataCenter: hall
                interfaces: [{interfaces}]
                networks:
                - {{name: san-a, interface: ens3, source: Subnet, address: 10.0.1.21/24}}
                - {{name: san-old, interface: ens3, source: Subnet, address: 10.0.1.21/24}}
                - {{name: san-a, interface: ens8, source: Spec}}
        "
    ));
    let on = |carried: &multibond::api::CarriedNetwork| {
        format!("{} {}", carried.interface, carried.address.as_deref().unwrap_or("by spec"))
    };
    plan.networks.iter().map(on).collect()
}

const SAN_A: &str = "san-a: {subnets: [10.0.1.0/24]}";

#[rstest]
#[case::the_device_is_gone("", &["ens3 10.0.1.21/24"])]
#[case::the_device_has_no_address("{name: ens3}", &["ens3 10.0.1.21/24"])]
#[case::the_device_is_down("{name: ens3, up: false, addresses: [10.0.1.21/24]}", &["ens3 10.0.1.21/24"])]
#[case::the_device_has_another_address("{name: ens3, addresses: [10.0.9.9/24]}", &["ens3 10.0.1.21/24"])]
#[case::a_new_address_there_replaces_it("{name: ens3, addresses: [10.0.1.77/24]}", &["ens3 10.0.1.77/24"])]
#[case::a_second_address_there_changes_nothing(
    "{name: ens3, addresses: [10.0.1.11/24, 10.0.1.21/24]}", &["ens3 10.0.1.21/24"])]
#[case::another_device_joins(
    "{name: ens4, addresses: [10.0.1.24/24]}", &["ens3 10.0.1.21/24", "ens4 10.0.1.24/24"])]
#[case::it_is_beside_the_device_below_it_by_now(
    "{name: ens3, addresses: [10.0.1.21/24], beside: ens4}, {name: ens4, addresses: [10.0.1.24/24]}",
    &["ens4 10.0.1.24/24"])]
#[case::it_is_beside_a_device_that_does_not_carry_the_network(
    "{name: ens3, addresses: [10.0.1.21/24, 'fd00:1::21/64'], beside: ens4}, {name: ens4, addresses: ['fd00:1::24/64']}",
    &["ens3 10.0.1.21/24"])]
#[case::it_is_beside_a_device_that_is_not_reported(
    "{name: ens3, addresses: [10.0.1.21/24], beside: br0}", &["ens3 10.0.1.21/24"])]
#[case::the_address_has_moved_to_another_device("{name: ens4, addresses: [10.0.1.21/24]}", &["ens4 10.0.1.21/24"])]
#[case::the_address_has_moved_with_another_prefix_length(
    "{name: ens4, addresses: [10.0.1.21/16]}", &["ens4 10.0.1.21/16"])]
#[case::the_address_is_on_two_devices(
    "{name: ens3, addresses: [10.0.1.21/24]}, {name: ens4, addresses: [10.0.1.21/24]}",
    &["ens3 10.0.1.21/24", "ens4 10.0.1.21/24"])]
fn a12_a_network_stays_where_it_was(#[case] interfaces: &str, #[case] expected: &[&str]) {
    assert_eq!(remembering(interfaces, SAN_A, ""), expected);
}

#[rstest]
#[case::the_address_is_no_longer_in_the_subnets("san-a: {subnets: [10.0.7.0/24]}", "", &[])]
#[case::the_network_has_no_subnets_any_more("san-a: {}", "", &[])]
#[case::the_network_is_gone("san-b: {subnets: [10.0.1.0/24]}", "", &[])]
#[case::the_network_is_being_deleted("san-a: {subnets: [10.0.1.0/24], deleting: true}", "", &[])]
#[case::the_spec_names_the_network(SAN_A, "interfaces: [{name: ens9, networks: [san-a]}]", &["ens9 by spec"])]
#[case::the_host_goes_through_maintenance(SAN_A, "maintenance: true", &[])]
fn a12_a_network_is_forgotten_when(#[case] network: &str, #[case] rest: &str, #[case] expected: &[&str]) {
    assert_eq!(remembering("", network, rest), expected);
}

#[test]
fn a12_attachments_from_another_data_center_are_ignored() {
    check(
        "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}]}]}]
          networks: {san-a: {subnets: [10.0.1.0/24]}}
          bonds: {storage: {networks: [san-a]}}
          hosts:
            h1:
              status:
                dataCenter: cellar
                interfaces: []
                networks: [{name: san-a, interface: ens3, source: Subnet, address: 10.0.1.21/24}]
        ",
        "
        h1:
          array @alpha 10.0.1.10:3260,1 by default
        ! IscsiBond storage: NetworkNotCarried
        ",
    );
}

#[test]
fn a12_a_lost_device_keeps_its_paths_and_gives_no_default_path() {
    check(
        "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}]}]}]
          networks: {san-a: {subnets: [10.0.1.0/24]}}
          bonds: {storage: {networks: [san-a]}}
          hosts:
            h1:
              status:
                dataCenter: hall
                interfaces: [{name: eno1, addresses: [192.0.2.21/24]}]
                networks: [{name: san-a, interface: ens3, source: Subnet, address: 10.0.1.21/24}]
        ",
        "
        h1:
          carries san-a on ens3 by 10.0.1.21/24
          array @alpha 10.0.1.10:3260,1 through ens3 (san-a) for storage
          uses storage/san-a
        ",
    );
}

#[rstest]
#[case::a_bond_names_a_network_with_subnets("{storage: {networks: [san-a]}}", "{}", true)]
#[case::though_the_spec_places_another(
    "{storage: {networks: [san-a]}}",
    "{interfaces: [{name: e, networks: [san-b]}]}",
    true
)]
#[case::though_the_bond_covers_no_target("{storage: {networks: [san-a], targets: ['@none']}}", "{}", true)]
#[case::the_spec_places_it("{storage: {networks: [san-a]}}", "{interfaces: [{name: e, networks: [san-a]}]}", false)]
#[case::the_network_has_no_subnets("{storage: {networks: [san-b]}}", "{}", false)]
#[case::the_network_does_not_exist("{storage: {networks: [typo]}}", "{}", false)]
#[case::no_bond_names_it("{storage: {}}", "{}", false)]
#[case::the_bond_is_being_deleted("{storage: {networks: [san-a], deleting: true}}", "{}", false)]
#[case::nothing_found_is_a_report("{storage: {networks: [san-a]}}", "{status: {interfaces: []}}", false)]
#[case::a_status_without_interfaces_is_none("{storage: {networks: [san-a]}}", "{status: {phase: Connecting}}", true)]
fn a04b_a_host_that_has_not_reported_its_interfaces_is_waited_for(
    #[case] bonds: &str,
    #[case] host: &str,
    #[case] waited_for: bool,
) {
    let plan = only_plan(&format!(
        "
        hall:
          storage: [{{name: array, targets: [{{iqn: '@alpha', portals: [{{address: 10.0.1.10}}]}}]}}]
          networks: {{san-a: {{subnets: [10.0.1.0/24]}}, san-b: {{}}}}
          bonds: {bonds}
          hosts: {{h1: {host}}}
        "
    ));
    let reason = plan.reason.map(multibond::api::reason::EmptyReason::as_str);
    assert_eq!(reason, waited_for.then_some("InterfacesUnknown"));
    assert_eq!(plan.paths.is_empty() && plan.hold.is_empty(), waited_for);
}
