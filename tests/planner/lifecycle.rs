//! Objects that are being deleted, and why plans are empty (behaviour 1.1, 1.2 and 5).

use super::fixture::{check, check_objects, objects};

fn hall(data_center: &str, host: &str) -> String {
    format!(
        "
        hall:
          {data_center}
          storage: [{{name: array, targets: [{{iqn: '@alpha', portals: [{{address: 10.0.1.10}}]}}]}}]
          networks: {{san-a: {{subnets: [10.0.1.0/24]}}, san-b: {{}}}}
          bonds: {{one: {{networks: [san-a]}}, two: {{networks: [san-b]}}}}
          hosts:
            h1: {{{host} interfaces: [{{name: ens4, networks: [san-b]}}], status: {{interfaces: [{{name: ens3, addresses: [10.0.1.21/24]}}]}}}}
        "
    )
}

const BOTH: &str = "
    h1:
      carries san-a on ens3 by 10.0.1.21/24
      carries san-b on ens4 by spec
      array @alpha 10.0.1.10:3260,1 through ens3 (san-a) for one
      uses one/san-a
    ! IscsiBond two: NetworkWithoutPath
    ";

#[test]
fn a_deleted_bond_counts_as_gone() {
    check(&hall("", ""), BOTH);
    let mut objects = objects(&hall("", ""));
    objects.bonds[0].metadata.deletion_timestamp = objects_deleted();
    check_objects(
        &objects,
        "
        h1:
          carries san-a on ens3 by 10.0.1.21/24
          carries san-b on ens4 by spec
          array @alpha 10.0.1.10:3260,1 through ens4 (san-b) for two
          uses two/san-b
        ! IscsiBond two: NetworkWithoutPath
        ",
    );
}

#[test]
fn deleted_network_no_longer_attracts_portals() {
    let mut objects = objects(&hall("", ""));
    objects.networks[0].metadata.deletion_timestamp = objects_deleted();
    check_objects(
        &objects,
        "
        h1:
          carries san-b on ens4 by spec
          array @alpha 10.0.1.10:3260,1 through ens4 (san-b) for two
          uses two/san-b
        ! IscsiBond one: NetworkNotFound
        ",
    );
}

#[test]
fn a_deleted_host_has_no_plan() {
    check(&hall("", "deleting: true,"), "");
}

#[test]
fn a15_deleted_data_center_or_terminating_namespace_empties_plans() {
    check(&hall("deleting: true", ""), "h1: DataCenterDeleting");
    let mut objects = objects(&hall("", ""));
    objects.terminating_namespaces.insert("elsewhere".to_owned());
    check_objects(&objects, BOTH);
    objects.terminating_namespaces.insert("fra".to_owned());
    check_objects(&objects, "h1: DataCenterDeleting");
}

#[test]
fn empty_plan_names_the_first_reason_that_applies() {
    check(&hall("", "maintenance: true,"), "h1: Maintenance");
    check(&hall("deleting: true", "maintenance: true,"), "h1: DataCenterDeleting");
    check(
        &hall("absent: true", "maintenance: true,"),
        "
        h1: DataCenterNotFound
        ! Network san-a: DataCenterNotFound
        ! Network san-b: DataCenterNotFound
        ! Host h1: DataCenterNotFound
        ! IscsiBond one: DataCenterNotFound
        ! IscsiBond two: DataCenterNotFound
        ",
    );
    check(
        "
        hall:
          networks: {san-a: {subnets: [10.0.1.0/24]}}
          bonds: {one: {networks: [san-a]}}
          hosts: {h1: {maintenance: true}, h2: {}}
        ",
        "
        h1: Maintenance
        h2: InterfacesUnknown
        ! Host h2: InterfacesUnknown
        ",
    );
}

#[test]
fn a03_only_objects_of_the_hosts_own_data_center_and_namespace_count() {
    check(
        "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}]}]}]
          networks: {san-a: {}}
          bonds: {storage: {networks: [san-a]}}
          hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}]}}
        cellar:
          storage: [{name: bay, targets: [{iqn: '@beta', portals: [{address: 10.0.1.11}]}]}]
          networks: {san-z: {}}
          bonds: {other: {networks: [san-z]}}
          hosts: {h2: {interfaces: [{name: ens3, networks: [san-a, san-z]}]}}
        attic:
          namespace: ams
          storage: [{name: shelf, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.12}]}]}]
          networks: {san-a: {}}
          bonds: {storage: {networks: [san-a]}}
          hosts: {h1: {nodeName: other, interfaces: [{name: ens5, networks: [san-a]}]}}
        ",
        "
        h1:
          carries san-a on ens5 by spec
          shelf @alpha 10.0.1.12:3260,1 through ens5 (san-a) for storage
          uses storage/san-a
        h1:
          carries san-a on ens3 by spec
          array @alpha 10.0.1.10:3260,1 through ens3 (san-a) for storage
          uses storage/san-a
        h2:
          carries san-z on ens3 by spec
          bay @beta 10.0.1.11:3260,1 through ens3 (san-z) for other
          uses other/san-z
        ! Host h2: NetworkNotFound
        ",
    );
}

fn objects_deleted() -> Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time> {
    objects("x: {deleting: true}").data_centers.remove(0).metadata.deletion_timestamp
}
