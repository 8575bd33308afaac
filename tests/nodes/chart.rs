//! A36: from install to uninstall, with pods that end in between.

use multibond_testbed::Nic;
use serde_json::Value;

use crate::{
    by_hand::sessions,
    impostors::pods_named_like_a_daemon_get_nothing_and_are_logged,
    nodes::{AGENT, NODES, Nodes, chart},
    site::phase,
};

#[tokio::test]
async fn a36_chart_and_manifests_connect_nodes_and_pods_may_restart() {
    let nodes = Nodes::connected("chart").await;
    says_how_it_reaches_the_tools(&nodes).await;
    pods_named_like_a_daemon_get_nothing_and_are_logged(&nodes).await;
    a_pulled_cable_degrades_its_host_and_heals(&nodes).await;
    the_death_of_an_agent_costs_no_session(&nodes).await;
    an_upgrade_costs_no_session(&nodes).await;
    an_uninstall_costs_no_session_and_leaves_nothing_behind(&nodes).await;
}

async fn says_how_it_reaches_the_tools(nodes: &Nodes) {
    for (number, (_, host)) in (1..).zip(NODES) {
        let agent = nodes.site.get("Host", host).await["status"]["agent"].clone();
        assert_eq!(agent["initiatorName"], format!("iqn.2026-11.com.example:host-{number}"));
        assert!(agent["initiator"].as_str().unwrap().ends_with("(nsenter)"), "{agent}");
    }
}

async fn a_pulled_cable_degrades_its_host_and_heals(nodes: &Nodes) {
    let before = nodes.sessions().await;
    let [_, guest] = &nodes.guests;
    guest.set_link(Nic::San2, false).await.unwrap();
    nodes.site.until_phase("two", "Degraded").await;
    let states: Vec<_> = sessions(guest).await.iter().map(|s| s.split(' ').nth(1).unwrap().to_owned()).collect();
    // The kernel renames the error when it stops waiting for the session.
    assert!(states == ["LOGGED_IN", "FAILED"] || states == ["LOGGED_IN", "FREE"], "{states:?}");
    assert_eq!(phase(&nodes.site.get("Host", "one").await), "Up");
    guest.set_link(Nic::San2, true).await.unwrap();
    nodes.until_connected().await;
    assert_eq!(nodes.sessions().await, before);
}

async fn the_death_of_an_agent_costs_no_session(nodes: &Nodes) {
    let before = nodes.sessions().await;
    let (deleted, killed) = (nodes.agent("node-1").await, nodes.agent("node-2").await);
    nodes.guests[1].run_ok("pkill --signal KILL --full 'multibond-node agent'").await.unwrap();
    nodes.kubectl(&["delete", "pod", deleted.metadata.name.as_deref().unwrap()]).await;
    nodes.until_other_agent("node-1", &deleted).await;
    nodes.until_other_agent("node-2", &killed).await;
    nodes.until_connected().await;
    assert_eq!(nodes.sessions().await, before);
}

async fn an_upgrade_costs_no_session(nodes: &Nodes) {
    let before = nodes.sessions().await;
    let old = [nodes.agent("node-1").await, nodes.agent("node-2").await];
    nodes
        .helm(&["upgrade", "multibond", &chart(), "--reset-then-reuse-values", "--set", "log.format=json", "--wait"])
        .await;
    for (old, (node, _)) in old.iter().zip(NODES) {
        nodes.until_other_agent(node, old).await;
    }
    nodes.until_connected().await;
    assert_eq!(nodes.sessions().await, before);
}

async fn an_uninstall_costs_no_session_and_leaves_nothing_behind(nodes: &Nodes) {
    let before = nodes.sessions().await;
    nodes.helm(&["uninstall", "multibond"]).await;
    for (node, host) in NODES {
        assert!(nodes.pods(AGENT, node).await.is_empty());
        assert_eq!(nodes.site.get("Host", host).await["metadata"]["finalizers"], Value::Null);
    }
    assert_eq!(nodes.sessions().await, before);
}
