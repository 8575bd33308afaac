//! Pairing of portals with networks (behaviour 1.6).

use super::fixture::check;

#[test]
fn a08_subnets_separate_two_fabrics_within_one_bond() {
    check(
        "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}, {address: 10.0.2.20}]}]}]
          networks: {san-a: {subnets: [10.0.1.0/24]}, san-b: {subnets: [10.0.2.0/24]}}
          bonds: {both: {networks: [san-a, san-b]}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}, {name: ens4, networks: [san-b]}]}}
        ",
        "
        h1:
          carries san-a on ens3 by spec
          carries san-b on ens4 by spec
          array @alpha 10.0.1.10:3260,1 through ens3 (san-a) for both
          array @alpha 10.0.2.20:3260,1 through ens4 (san-b) for both
          uses both/san-a both/san-b
        ",
    );
}

#[test]
fn a08_pinned_network_overrides_subnets() {
    check(
        "
        hall:
          storage:
          - name: array
            targets:
            - iqn: '@alpha'
              portals: [{address: 10.0.1.10, network: san-b}, {address: 192.0.2.7, network: san-a}]
          networks: {san-a: {subnets: [10.0.1.0/24]}, san-b: {}}
          bonds: {both: {networks: [san-a, san-b]}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}, {name: ens4, networks: [san-b]}]}}
        ",
        "
        h1:
          carries san-a on ens3 by spec
          carries san-b on ens4 by spec
          array @alpha 10.0.1.10:3260,1 through ens4 (san-b) for both
          array @alpha 192.0.2.7:3260,1 through ens3 (san-a) for both
          uses both/san-a both/san-b
        ",
    );
}

#[test]
fn a08_a24_routed_and_dns_portals_pair_with_every_bond_network() {
    check(
        "
        hall:
          storage:
          - {name: array, targets: [{iqn: '@alpha', portals: [{address: 192.0.2.7}, {address: San.Example, port: 860}]}]}
          networks: {san-a: {subnets: [10.0.1.0/24]}, san-b: {}, lan: {}}
          bonds: {both: {networks: [san-b, san-a]}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}, {name: ens4, networks: [san-b]}, {name: eno1, networks: [lan]}]}}
        ",
        "
        h1:
          carries lan on eno1 by spec
          carries san-a on ens3 by spec
          carries san-b on ens4 by spec
          array @alpha 192.0.2.7:3260,1 through ens3 (san-a) for both
          array @alpha 192.0.2.7:3260,1 through ens4 (san-b) for both
          array @alpha san.example:860,1 through ens3 (san-a) for both
          array @alpha san.example:860,1 through ens4 (san-b) for both
          uses both/san-a both/san-b
        ",
    );
}

#[test]
fn a08_portal_in_overlapping_subnets_pairs_with_each_network() {
    check(
        "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}, {address: 10.0.9.9}]}]}]
          networks: {wide: {subnets: [10.0.0.0/16]}, narrow: {subnets: [10.0.1.0/24]}}
          bonds: {all: {networks: [wide, narrow]}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [wide]}, {name: ens4, networks: [narrow]}]}}
        ",
        "
        h1:
          carries narrow on ens4 by spec
          carries wide on ens3 by spec
          array @alpha 10.0.1.10:3260,1 through ens3 (wide) for all
          array @alpha 10.0.1.10:3260,1 through ens4 (narrow) for all
          array @alpha 10.0.9.9:3260,1 through ens3 (wide) for all
          uses all/narrow all/wide
        ! Network narrow: SubnetNested
        ",
    );
}

#[test]
fn a08_portal_of_a_network_outside_bond_or_host_has_no_path() {
    check(
        "
        hall:
          storage:
          - name: array
            targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}, {address: 10.0.2.20}, {address: 10.0.3.30}]}]
          networks: {san-a: {subnets: [10.0.1.0/24]}, san-b: {subnets: [10.0.2.0/24]}, lan: {subnets: [10.0.3.0/24]}}
          bonds: {both: {networks: [san-a, san-b]}}
          hosts:
            full: {interfaces: [{name: ens3, networks: [san-a]}, {name: ens4, networks: [san-b]}, {name: eno1, networks: [lan]}]}
            half: {interfaces: [{name: ens5, networks: [san-a]}], status: {interfaces: []}}
        ",
        "
        full:
          carries lan on eno1 by spec
          carries san-a on ens3 by spec
          carries san-b on ens4 by spec
          array @alpha 10.0.1.10:3260,1 through ens3 (san-a) for both
          array @alpha 10.0.2.20:3260,1 through ens4 (san-b) for both
          uses both/san-a both/san-b
        half:
          carries san-a on ens5 by spec
          array @alpha 10.0.1.10:3260,1 through ens5 (san-a) for both
          uses both/san-a
        ! IscsiBond both: HostsDiffer
        ! IscsiBond both: NetworkWithoutPath
        ",
    );
}

#[test]
fn a08_target_without_any_pair_falls_back_to_all_pairs() {
    check(
        "
        hall:
          storage:
          - name: array
            targets:
            - {iqn: '@lost', portals: [{address: 10.0.3.30}, {address: 10.0.3.31, network: typo}]}
            - {iqn: '@found', portals: [{address: 10.0.1.10}, {address: 10.0.3.32}]}
          networks: {san-a: {subnets: [10.0.1.0/24]}, san-b: {}, lan: {subnets: [10.0.3.0/24]}}
          bonds: {one: {networks: [san-a]}, two: {networks: [san-b], targets: ['@lost']}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}, {name: ens4, networks: [san-b]}]}}
        ",
        "
        h1:
          carries san-a on ens3 by spec
          carries san-b on ens4 by spec
          array @found 10.0.1.10:3260,1 through ens3 (san-a) for one
          array @lost 10.0.3.30:3260,1 through ens3 (san-a) for one
          array @lost 10.0.3.30:3260,1 through ens4 (san-b) for two
          array @lost 10.0.3.31:3260,1 through ens3 (san-a) for one
          array @lost 10.0.3.31:3260,1 through ens4 (san-b) for two
          uses one/san-a two/san-b
        ! DataCenter hall: PortalNetworkNotFound
        ! IscsiBond one: NetworkWithoutPath
        ! IscsiBond two: NetworkWithoutPath
        ",
    );
}

#[test]
fn a08_all_pairs_ignores_pins_and_subnets() {
    check(
        "
        hall:
          storage:
          - {name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}, {address: 192.0.2.7, network: san-b}]}]}
          networks: {san-a: {subnets: [10.0.1.0/24]}, san-b: {}}
          bonds: {both: {networks: [san-a, san-b], pairing: AllPairs}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}, {name: ens4, networks: [san-b]}]}}
        ",
        "
        h1:
          carries san-a on ens3 by spec
          carries san-b on ens4 by spec
          array @alpha 10.0.1.10:3260,1 through ens3 (san-a) for both
          array @alpha 10.0.1.10:3260,1 through ens4 (san-b) for both
          array @alpha 192.0.2.7:3260,1 through ens3 (san-a) for both
          array @alpha 192.0.2.7:3260,1 through ens4 (san-b) for both
          uses both/san-a both/san-b
        ",
    );
}

#[test]
fn a08_pairing_is_per_bond() {
    check(
        "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}, {address: 10.0.2.20}]}]}]
          networks: {san-a: {subnets: [10.0.1.0/24]}, san-b: {subnets: [10.0.2.0/24]}}
          bonds: {strict: {networks: [san-a]}, product: {networks: [san-b], pairing: AllPairs}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}, {name: ens4, networks: [san-b]}]}}
        ",
        "
        h1:
          carries san-a on ens3 by spec
          carries san-b on ens4 by spec
          array @alpha 10.0.1.10:3260,1 through ens3 (san-a) for strict
          array @alpha 10.0.1.10:3260,1 through ens4 (san-b) for product
          array @alpha 10.0.2.20:3260,1 through ens4 (san-b) for product
          uses product/san-b strict/san-a
        ",
    );
}
