//! Which Host owns a node (behaviour 1.2).

use super::fixture::{check, objects};
use multibond::{
    api::{node_owner::owners_of_nodes, reason::EmptyReason},
    planner::plan_all,
};
use rstest::rstest;

#[rstest]
#[case::the_older_has_it(
    "{fra/b: {nodeName: node-1, created: '2026-01-01'}, fra/a: {nodeName: node-1, created: '2026-01-02'}}",
    "fra/b"
)]
#[case::the_older_has_it_across_namespaces(
    "{zrh/b: {nodeName: node-1, created: '2026-01-01'}, ams/a: {nodeName: node-1, created: '2026-01-02'}}",
    "zrh/b"
)]
#[case::no_creation_time_counts_as_newest(
    "{ams/a: {nodeName: node-1}, zrh/b: {nodeName: node-1, created: '2026-01-01'}}",
    "zrh/b"
)]
#[case::then_the_namespace_decides(
    "{zrh/a: {nodeName: node-1, created: '2026-01-01'}, ams/b: {nodeName: node-1, created: '2026-01-01'}}",
    "ams/b"
)]
#[case::then_the_name_decides(
    "{fra/b: {nodeName: node-1, created: '2026-01-01'}, fra/a: {nodeName: node-1, created: '2026-01-01'}}",
    "fra/a"
)]
#[case::without_any_creation_time_too(
    "{fra/b: {nodeName: node-1}, ams/c: {nodeName: node-1}, fra/a: {nodeName: node-1}}",
    "ams/c"
)]
#[case::one_that_is_being_deleted_has_no_claim(
    "{fra/a: {nodeName: node-1, created: '2026-01-01', deleting: true}, fra/b: {nodeName: node-1, created: '2026-01-02'}}",
    "fra/b"
)]
#[case::one_in_maintenance_has(
    "{fra/a: {nodeName: node-1, created: '2026-01-01', maintenance: true}, fra/b: {nodeName: node-1, created: '2026-01-02'}}",
    "fra/a"
)]
#[case::one_without_a_data_center_has(
    "{fra/a: {nodeName: node-1, created: '2026-01-01', dataCenter: typo}, fra/b: {nodeName: node-1, created: '2026-01-02'}}",
    "fra/a"
)]
fn of_two_hosts_with_one_node(#[case] hosts: &str, #[case] winner: &str) {
    let mut objects = objects(&format!("hall: {{hosts: {hosts}}}"));
    for _ in 0..2 {
        let (namespace, name) = winner.split_once('/').expect("a namespace");
        assert_eq!(owners_of_nodes(&objects.hosts)["node-1"], (namespace, name));
        for host in plan_all(&objects).hosts {
            let claimed = host.plan.reason.is_some_and(|reason| reason == EmptyReason::NodeClaimed);
            assert_eq!(claimed, (&*host.namespace, &*host.name) != (namespace, name), "{}", host.name);
        }
        objects.hosts.reverse();
    }
}

#[test]
fn node_claimed_precedes_other_reasons_and_names_the_owner() {
    let yaml = "
        hall:
          storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}]}]}]
          hosts:
            first: {nodeName: node-1, created: '2026-01-01'}
            second: {nodeName: node-1, created: '2026-01-02', maintenance: true}
            third: {nodeName: node-1, dataCenter: typo}
            fourth: {nodeName: node-2}
        ";
    check(
        yaml,
        "
        first:
          array @alpha 10.0.1.10:3260,1 by default
        fourth:
          array @alpha 10.0.1.10:3260,1 by default
        second: NodeClaimed
        third: NodeClaimed
        ! Host second: NodeClaimed
        ! Host third: NodeClaimed
        ",
    );
    let messages: Vec<String> = plan_all(&objects(yaml)).problems.into_iter().map(|problem| problem.message).collect();
    let message = "node node-1 is served as Host fra/first, which comes first (the older, then by namespace and name); delete one of the two";
    assert_eq!(messages, [message, message]);
}
