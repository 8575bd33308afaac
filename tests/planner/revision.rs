//! The revision changes exactly when the host has something else to do (behaviour 1.8).

use multibond::api::Revision;
use rstest::rstest;

use super::fixture::only_plan;

const BASE: &str = "
    hall:
      description: first
      storage:
      - name: array
        targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}], chap: {secretRef: {name: login}}}, {iqn: '@beta', portals: [{address: 10.0.1.11}]}]
      networks: {san-a: {subnets: [10.0.1.0/24]}, san-b: {}}
      bonds: {storage: {networks: [san-a]}, second: {networks: [typo], targets: ['@beta']}}
      hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}]}}
    ";

fn revision(yaml: &str) -> Revision {
    only_plan(yaml).revision
}

#[rstest]
#[case::a_bonds_name("bonds: {storage:", "bonds: {renamed:")]
#[case::a_storages_name("name: array", "name: bay")]
#[case::a_network_s_name("san-a", "fabric")]
#[case::a_description("first", "last")]
#[case::a_hosts_name("hosts: {h1", "hosts: {h2")]
#[case::a_data_centers_name("hall:", "cellar:")]
#[case::another_spelling_of_an_address("10.0.1.10", "'::ffff:a00:10a'")]
#[case::a_second_bond_that_wants_the_same("bonds: {", "bonds: {third: {networks: [san-a]}, ")]
#[case::settings_that_are_not_the_sessions("description:", "nonOperationalAfterSeconds: 5\n      description:")]
#[case::another_network_on_another_device("interfaces: [", "interfaces: [{name: ens4, networks: [san-b]}, ")]
fn stays_with(#[case] from: &str, #[case] to: &str) {
    assert!(BASE.contains(from));
    assert_eq!(revision(&BASE.replace(from, to)), revision(BASE));
}

#[rstest]
#[case::a_portal("10.0.1.10", "10.0.1.12")]
#[case::a_port("10.0.1.10}", "10.0.1.10, port: 860}")]
#[case::a_tpgt("10.0.1.10}", "10.0.1.10, tpgt: 2}")]
#[case::a_target("'@alpha'", "'@omega'")]
#[case::a_device("ens3", "ens4")]
#[case::a_secret("name: login", "name: other")]
#[case::no_secret(", chap: {secretRef: {name: login}}", "")]
#[case::a_session_setting("description:", "session: {noopTimeoutSeconds: 6}\n      description:")]
#[case::a_held_target("networks: [san-a]}, second", "targets: ['@alpha'], networks: [san-a]}, second")]
#[case::nothing_to_do("storage:\n", "was-storage:\n")]
#[case::the_default_network("networks: [san-a]}, second", "networks: []}, second")]
fn changes_with(#[case] from: &str, #[case] to: &str) {
    assert!(BASE.contains(from));
    assert_ne!(revision(&BASE.replacen(from, to, 1)), revision(BASE));
}

#[test]
fn empty_plans_have_one_revision_for_every_reason() {
    let empty = "e3b0c442";
    assert_eq!(revision("hall: {hosts: {h1: {}}}"), empty);
    assert_eq!(revision("hall: {hosts: {h1: {maintenance: true}}}"), empty);
    assert_eq!(revision("hall: {absent: true, hosts: {h1: {}}}"), empty);
    assert_eq!(revision("hall: {deleting: true, session: {noopTimeoutSeconds: 6}, hosts: {h1: {}}}"), empty);
}
