//! Targets and portals: canonical addresses, duplicates, names (behaviour 1.7).

use super::fixture::check;
use multibond::api::address::canonical_portal;
use rstest::rstest;

#[rstest]
#[case("10.0.1.10", 3260, "10.0.1.10:3260")]
#[case("FD00:0:0:0:0:0:0:10", 860, "[fd00::10]:860")]
#[case("fd00::0010", 3260, "[fd00::10]:3260")]
#[case("fd00:0:0:1::", 3260, "[fd00:0:0:1::]:3260")]
#[case("::ffff:a00:10a", 3260, "10.0.1.10:3260")]
#[case("San.Example.Com", 3260, "san.example.com:3260")]
#[case("san.example.com.", 3260, "san.example.com.:3260")]
fn a24_equal_portals_have_one_canonical_form(#[case] address: &str, #[case] port: u16, #[case] expected: &str) {
    assert_eq!(canonical_portal(address, port), expected);
    let (again, port) = expected.rsplit_once(':').expect("a port");
    let again = again.trim_matches(['[', ']']);
    assert_eq!(canonical_portal(again, port.parse().expect("a number")), expected);
}

#[test]
fn a24_all_forms_of_addresses_and_target_names_are_planned() {
    check(
        "
        hall:
          storage:
          - name: array
            targets:
            - {iqn: naa.60000970000195700542533030303346, portals: [{address: san.example}]}
            - {iqn: '@alpha', portals: [{address: 10.0.1.10, port: 3261}, {address: 10.0.1.10}], chap: {secretRef: {name: login}}}
            - {iqn: eui.02004567A425678D, portals: [{address: 'fd00:1::10', tpgt: 2}]}
          networks: {san-a: {subnets: [10.0.1.0/24, 'fd00:1::/64']}}
          bonds: {storage: {networks: [san-a]}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}]}}
        ",
        "
        h1:
          carries san-a on ens3 by spec
          array eui.02004567A425678D [fd00:1::10]:3260,2 through ens3 (san-a) for storage
          array @alpha 10.0.1.10:3260,1 through ens3 (san-a) for storage with login
          array @alpha 10.0.1.10:3261,1 through ens3 (san-a) for storage with login
          array naa.60000970000195700542533030303346 san.example:3260,1 through ens3 (san-a) for storage
          uses storage/san-a
        ",
    );
}

#[test]
fn duplicate_target_merges_portals_and_keeps_the_first_definition() {
    check(
        "
        hall:
          storage:
          - {name: north, targets: [{iqn: '@alpha', portals: [{address: 10.0.2.20}], chap: {secretRef: {name: theirs}}}]}
          - {name: east, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}], chap: {secretRef: {name: ours}}}]}
          - {name: west, targets: [{iqn: '@beta', portals: [{address: 10.0.1.11}]}]}
          hosts: {h1: {}}
        ",
        "
        h1:
          east @alpha 10.0.1.10:3260,1 by default with ours
          east @alpha 10.0.2.20:3260,1 by default with ours
          west @beta 10.0.1.11:3260,1 by default
        ! DataCenter hall: DuplicateTarget
        ",
    );
}

#[test]
fn smallest_pin_wins_among_equal_portals() {
    check(
        "
        hall:
          storage:
          - name: array
            targets:
            - iqn: '@alpha'
              portals: [{address: 'fd00::0:10', network: san-b, tpgt: 2}, {address: 'FD00::10', network: san-a, tpgt: 3}]
            - {iqn: '@beta', portals: [{address: A.Example, network: san-a}, {address: a.example}]}
          networks: {san-a: {}, san-b: {}}
          bonds: {storage: {networks: [san-a, san-b]}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}, {name: ens4, networks: [san-b]}]}}
        ",
        "
        h1:
          carries san-a on ens3 by spec
          carries san-b on ens4 by spec
          array @alpha [fd00::10]:3260,3 through ens3 (san-a) for storage
          array @beta a.example:3260,1 through ens3 (san-a) for storage
          array @beta a.example:3260,1 through ens4 (san-b) for storage
          uses storage/san-a storage/san-b
        ! DataCenter hall: DuplicatePortal
        ! DataCenter hall: DuplicatePortal
        ",
    );
}
