//! Which networks a target has on a host: bonds, their union, holding, and the default network (behaviour 1.4, 1.5, 1.7).

use super::fixture::{check, objects};
use multibond::planner::{Objects, plan_all};

#[test]
fn a06_path_of_two_bonds_is_one_path_that_names_both() {
    check(
        "
        hall:
          storage:
          - {name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}]}, {iqn: '@beta', portals: [{address: 10.0.1.11}]}]}
          networks: {san-a: {}, san-b: {}, san-c: {}}
          bonds:
            zulu: {networks: [san-a, san-b]}
            mike: {networks: [san-c, san-b], targets: ['@beta']}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}, {name: ens4, networks: [san-b]}, {name: ens5, networks: [san-c]}]}}
        ",
        "
        h1:
          carries san-a on ens3 by spec
          carries san-b on ens4 by spec
          carries san-c on ens5 by spec
          array @alpha 10.0.1.10:3260,1 through ens3 (san-a) for zulu
          array @alpha 10.0.1.10:3260,1 through ens4 (san-b) for zulu
          array @beta 10.0.1.11:3260,1 through ens3 (san-a) for zulu
          array @beta 10.0.1.11:3260,1 through ens4 (san-b) for mike, zulu
          array @beta 10.0.1.11:3260,1 through ens5 (san-c) for mike
          uses mike/san-b mike/san-c zulu/san-a zulu/san-b
        ",
    );
}

#[test]
fn a06_two_networks_on_one_interface_share_a_path() {
    check(
        "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 192.0.2.7}]}]}]
          networks: {san-a: {}, san-b: {}}
          bonds: {zulu: {networks: [san-a]}, mike: {networks: [san-b]}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-b, san-a]}]}}
        ",
        "
        h1:
          carries san-a on ens3 by spec
          carries san-b on ens3 by spec
          array @alpha 192.0.2.7:3260,1 through ens3 (san-a) for mike, zulu
          uses mike/san-b zulu/san-a
        ",
    );
}

#[test]
fn a06_network_on_two_interfaces_has_a_path_through_each() {
    check(
        "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}]}]}]
          networks: {san-a: {subnets: [10.0.1.0/24]}}
          bonds: {storage: {networks: [san-a]}}
          hosts:
            h1: {interfaces: [{name: ens4, networks: [san-a]}, {name: ens3, networks: [san-a]}]}
            h2: {status: {interfaces: [{name: ens6, addresses: [10.0.1.26/24]}, {name: ens5, addresses: [10.0.1.25/24]}]}}
        ",
        "
        h1:
          carries san-a on ens3 by spec
          carries san-a on ens4 by spec
          array @alpha 10.0.1.10:3260,1 through ens3 (san-a) for storage
          array @alpha 10.0.1.10:3260,1 through ens4 (san-a) for storage
          uses storage/san-a
        h2:
          carries san-a on ens5 by 10.0.1.25/24
          carries san-a on ens6 by 10.0.1.26/24
          array @alpha 10.0.1.10:3260,1 through ens5 (san-a) for storage
          array @alpha 10.0.1.10:3260,1 through ens6 (san-a) for storage
          uses storage/san-a
        ",
    );
}

#[test]
fn a07_default_network_is_used_only_without_any_bond_network() {
    check(
        "
        hall:
          storage:
          - {name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}, {address: 10.0.2.20, tpgt: 4}]}]}
          networks: {san-a: {}, san-b: {}, lan: {}}
          bonds: {both: {networks: [san-a, san-b]}}
          hosts:
            none: {}
            other: {interfaces: [{name: eno1, networks: [lan]}]}
            some: {interfaces: [{name: ens4, networks: [san-b]}]}
        ",
        "
        none:
          array @alpha 10.0.1.10:3260,1 by default
          array @alpha 10.0.2.20:3260,4 by default
        other:
          carries lan on eno1 by spec
          array @alpha 10.0.1.10:3260,1 by default
          array @alpha 10.0.2.20:3260,4 by default
        some:
          carries san-b on ens4 by spec
          array @alpha 10.0.1.10:3260,1 through ens4 (san-b) for both
          array @alpha 10.0.2.20:3260,4 through ens4 (san-b) for both
          uses both/san-b
        ! IscsiBond both: NetworkNotCarried
        ",
    );
}

#[test]
fn a07_target_in_no_bond_uses_the_default_network() {
    check(
        "
        hall:
          storage:
          - {name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}]}, {iqn: '@beta', portals: [{address: 10.0.1.11}]}]}
          networks: {san-a: {}}
          bonds: {one: {networks: [san-a], targets: ['@beta', '@elsewhere']}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}]}}
        ",
        "
        h1:
          carries san-a on ens3 by spec
          array @alpha 10.0.1.10:3260,1 by default
          array @beta 10.0.1.11:3260,1 through ens3 (san-a) for one
          uses one/san-a
        ! IscsiBond one: TargetNotFound
        ",
    );
}

#[test]
fn a05_empty_bonds_and_data_centers_are_valid() {
    check(
        "
        bare: {}
        unbonded:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}]}]}]
          hosts: {h1: {}}
        without-storage:
          networks: {san-a: {subnets: [10.0.1.0/24]}}
          bonds: {full: {networks: [san-a]}, hollow: {}}
          hosts: {h2: {status: {interfaces: [{name: ens3, addresses: [10.0.1.21/24]}]}}}
        without-hosts:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}]}]}]
          networks: {san-b: {}}
          bonds: {full: {networks: [san-b]}}
        hollow-bond:
          storage: [{name: bay, targets: [{iqn: '@beta', portals: [{address: 10.0.1.11}]}]}, {name: empty}]
          bonds: {void: {}}
          hosts: {h3: {}}
        ",
        "
        h1:
          array @alpha 10.0.1.10:3260,1 by default
        h2:
          carries san-a on ens3 by 10.0.1.21/24
        h3:
          bay @beta 10.0.1.11:3260,1 by default
        ",
    );
}

#[test]
fn a04_unknown_or_foreign_network_is_named_and_the_rest_is_planned() {
    let yaml = "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}]}]}]
          networks: {san-a: {}}
          bonds: {storage: {networks: [typo, san-z, san-a]}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-a, typo, san-z]}]}}
        cellar:
          networks: {san-z: {}}
        ";
    let report = plan_all(&objects(yaml));
    assert_eq!(
        report.problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>(),
        [
            "spec.interfaces names networks that data center hall does not have: san-z on ens3, typo on ens3; create the Network, or correct spec.interfaces",
            "Network san-z belongs to another data center than hall; take it out of spec.networks",
            "there is no Network typo; create it, or correct spec.networks: until then no session of the bond's targets is logged out, and what is not planned is not connected again",
        ]
    );
    check(
        yaml,
        "
        h1:
          carries san-a on ens3 by spec
          array @alpha 10.0.1.10:3260,1 through ens3 (san-a) for storage
          holds @alpha
          uses storage/san-a
        ! Host h1: NetworkNotFound
        ! IscsiBond storage: NetworkInOtherDataCenter
        ! IscsiBond storage: NetworkNotFound
        ",
    );
}

/// One bond over san-b, which may be missing, one over san-a, and a host with and a host without san-a.
fn with_networks(networks: &str, default_network: &str) -> Objects {
    objects(&format!(
        "
        hall:
          defaultNetwork: {default_network}
          storage:
          - name: array
            targets:
            - {{iqn: '@alpha', portals: [{{address: 10.0.1.10}}]}}
            - {{iqn: '@beta', portals: [{{address: 10.0.1.11}}]}}
            - {{iqn: '@gamma', portals: [{{address: 10.0.1.12}}]}}
          networks: {networks}
          bonds:
            maybe: {{networks: [san-b], targets: ['@alpha', '@beta']}}
            sound: {{networks: [san-a], targets: ['@beta', '@gamma']}}
          hosts:
            h1: {{interfaces: [{{name: ens3, networks: [san-a]}}]}}
            h2: {{}}
        "
    ))
}

#[test]
fn a04b_target_of_an_unknown_network_is_held_without_another_network() {
    super::fixture::check_objects(
        &with_networks("{san-a: {}}", "Use"),
        "
        h1:
          carries san-a on ens3 by spec
          array @beta 10.0.1.11:3260,1 through ens3 (san-a) for sound
          array @gamma 10.0.1.12:3260,1 through ens3 (san-a) for sound
          holds @alpha
          holds @beta
          uses sound/san-a
        h2:
          array @gamma 10.0.1.12:3260,1 by default
          holds @alpha
          holds @beta
        ! IscsiBond maybe: NetworkNotFound
        ",
    );
}

#[test]
fn a04b_hold_precedes_never_which_precedes_the_default_network() {
    super::fixture::check_objects(
        &with_networks("{san-a: {}}", "Never"),
        "
        h1:
          carries san-a on ens3 by spec
          array @beta 10.0.1.11:3260,1 through ens3 (san-a) for sound
          array @gamma 10.0.1.12:3260,1 through ens3 (san-a) for sound
          holds @alpha
          holds @beta
          uses sound/san-a
        h2:
          holds @alpha
          holds @beta
          no network for @gamma
        ! Host h2: NoNetwork
        ! IscsiBond maybe: NetworkNotFound
        ",
    );
}

#[test]
fn a04_held_target_is_planned_when_its_network_appears() {
    super::fixture::check_objects(
        &with_networks("{san-a: {}, san-b: {}}", "Use"),
        "
        h1:
          carries san-a on ens3 by spec
          array @alpha 10.0.1.10:3260,1 by default
          array @beta 10.0.1.11:3260,1 through ens3 (san-a) for sound
          array @gamma 10.0.1.12:3260,1 through ens3 (san-a) for sound
          uses sound/san-a
        h2:
          array @alpha 10.0.1.10:3260,1 by default
          array @beta 10.0.1.11:3260,1 by default
          array @gamma 10.0.1.12:3260,1 by default
        ! IscsiBond maybe: NetworkNotCarried
        ",
    );
}

#[test]
fn a04b_network_being_deleted_holds_nothing() {
    super::fixture::check_objects(
        &with_networks("{san-a: {}, san-b: {deleting: true}}", "Use"),
        "
        h1:
          carries san-a on ens3 by spec
          array @alpha 10.0.1.10:3260,1 by default
          array @beta 10.0.1.11:3260,1 through ens3 (san-a) for sound
          array @gamma 10.0.1.12:3260,1 through ens3 (san-a) for sound
          uses sound/san-a
        h2:
          array @alpha 10.0.1.10:3260,1 by default
          array @beta 10.0.1.11:3260,1 by default
          array @gamma 10.0.1.12:3260,1 by default
        ! IscsiBond maybe: NetworkNotFound
        ",
    );
}

/// A bond that lists one target, by this name, and a host with the bond's network.
fn with_target(listed: &str) -> Objects {
    objects(&format!(
        "
        hall:
          storage:
            - {{name: array, targets: [
                {{iqn: '@alpha', portals: [{{address: 10.0.1.10}}]}}, {{iqn: '@beta', portals: [{{address: 10.0.1.11}}]}}]}}
          networks: {{san-a: {{}}}}
          bonds: {{storage: {{networks: [san-a], targets: ['{listed}']}}}}
          hosts: {{h1: {{interfaces: [{{name: ens3, networks: [san-a]}}]}}}}
        "
    ))
}

#[test]
fn a60_target_that_is_nearly_named_is_held_and_others_are_planned() {
    super::fixture::check_objects(
        &with_target("@alhpa"),
        "
        h1:
          carries san-a on ens3 by spec
          array @beta 10.0.1.11:3260,1 by default
          holds @alpha
        ! IscsiBond storage: NetworkWithoutPath
        ! IscsiBond storage: TargetNotFound
        ",
    );
}

#[test]
fn a60_unknown_target_like_no_other_holds_nothing() {
    super::fixture::check_objects(
        &with_target("@retired"),
        "
        h1:
          carries san-a on ens3 by spec
          array @alpha 10.0.1.10:3260,1 by default
          array @beta 10.0.1.11:3260,1 by default
        ! IscsiBond storage: NetworkWithoutPath
        ! IscsiBond storage: TargetNotFound
        ",
    );
}

#[test]
fn a60_nearly_named_target_that_another_bond_covers_is_not_held() {
    let mut objects = with_target("@alhpa");
    let mut other = objects.bonds[0].clone();
    other.metadata.name = Some("other".to_owned());
    other.spec.targets = vec!["iqn.2003-01.org.example:alpha".to_owned()];
    objects.bonds.push(other);
    assert!(plan_all(&objects).hosts[0].plan.hold.is_empty());
}
