//! A36: nodes whose services restart, and that are drained, deleted or lose power.

use crate::{
    nodes::{CONTROLLER, Nodes},
    workloads::a_map_in_a_pod_loses_no_byte_and_no_session,
};

#[tokio::test]
async fn a36_sessions_survive_restarts_drain_and_node_deletion_and_a_power_cut() {
    let mut nodes = Nodes::connected("outages").await;
    a_map_in_a_pod_loses_no_byte_and_no_session(&nodes).await;
    a_drain_costs_no_session_and_moves_the_controller(&nodes).await;
    a_deleted_node_costs_no_session_and_comes_back(&nodes).await;
    a_power_cut_is_known_and_made_good(&mut nodes).await;
}

async fn a_drain_costs_no_session_and_moves_the_controller(nodes: &Nodes) {
    let before = nodes.sessions().await;
    let agent = nodes.agent("node-2").await.metadata.uid;
    nodes.kubectl(&["drain", "node-2", "--ignore-daemonsets", "--timeout=3m"]).await;
    assert!(nodes.pods(CONTROLLER, "node-2").await.is_empty());
    assert_eq!(nodes.agent("node-2").await.metadata.uid, agent);
    nodes.kubectl(&["uncordon", "node-2"]).await;
    nodes.until_connected().await;
    assert_eq!(nodes.sessions().await, before);
}

async fn a_deleted_node_costs_no_session_and_comes_back(nodes: &Nodes) {
    let before = nodes.sessions().await;
    let uid = nodes.kubectl(&["get", "node", "node-2", "-o", "jsonpath={.metadata.uid}"]).await;
    nodes.kubectl(&["delete", "node", "node-2"]).await;
    nodes.guests[1].run_ok("systemctl restart kubelet").await.unwrap();
    nodes.until_node_other_than("node-2", &uid).await;
    nodes.until_connected().await;
    assert_eq!(nodes.sessions().await, before);
}

async fn a_power_cut_is_known_and_made_good(nodes: &mut Nodes) {
    let [other, _] = nodes.sessions().await;
    let agent = nodes.agent("node-2").await;
    nodes.guests[1].power_off();
    nodes.site.until_phase("two", "Unknown").await;
    nodes.guests[1].power_on().await.unwrap();
    nodes.until_other_agent("node-2", &agent).await;
    nodes.until_connected().await;
    assert_eq!(nodes.sessions().await[0], other);
}
