//! Restarts, kills and outages of agent, iscsid and API server: the same end state, and I/O goes on without an error.

use std::time::Duration;

use multibond_testbed::{Chance, Nic, rounds};
use serde_json::json;

use crate::{
    by_hand::{ALPHA, BETA, maps_of, sessions, until_paths, until_sessions},
    failures::until_connected,
    node::RealNode,
    writer::Writer,
};

/// The two planned sessions, in the form of [`sessions`].
fn both() -> [String; 2] {
    ["mb.san1 LOGGED_IN 10.0.101.1", "mb.san2 LOGGED_IN 10.0.102.1"].map(|path| format!("{path} {ALPHA}"))
}

#[tokio::test]
async fn a26_restarts_and_outages_cost_no_session_and_no_byte() {
    let node = RealNode::new("restarts").await;
    node.start_agent("").await;
    until_connected(&node).await;
    let device = maps_of(&node.guest, ALPHA).await.remove(0);
    a26_an_agent_without_api_server_keeps_its_sessions_and_catches_up(&node, &device).await;
    until_paths(&node.guest, 4, 0).await;
    a26_an_agent_killed_at_any_point_of_edits_converges(&node, &device).await;
    a26_iscsid_that_restarts_or_is_down_costs_no_session(&node, &device).await;
}

async fn held(node: &RealNode) -> String {
    node.guest.run_ok("ls /sys/class/iscsi_session").await.unwrap()
}

async fn a26_an_agent_without_api_server_keeps_its_sessions_and_catches_up(node: &RealNode, device: &str) {
    let writer = Writer::start(&node.guest, device).await;
    node.cut_off_api_server().await;
    node.site.until_phase("w1", "Unknown").await;
    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a"]}})).await;
    node.guest.run_ok(&format!("iscsiadm -m node -T {ALPHA} -I mb.san2 -u")).await.unwrap();
    until_sessions(&node.guest, &both()).await;
    writer.until_passes(2).await;

    node.reach_api_server().await;
    node.site.until_phase("w1", "Up").await;
    until_sessions(&node.guest, &both()[..1]).await;
    writer.finish().await;

    // An agent that starts without the API server changes nothing.
    node.kill_agent().await;
    node.cut_off_api_server().await;
    node.start_agent("").await;
    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a", "san-b"]}})).await;
    node.site.until_phase("w1", "Unknown").await;
    assert_eq!(sessions(&node.guest).await, both()[..1]);
    node.reach_api_server().await;
    node.until_paths("2/2").await;
}

async fn a26_an_agent_killed_at_any_point_of_edits_converges(node: &RealNode, device: &str) {
    let writer = Writer::start(&node.guest, device).await;
    let mut chance = Chance::new();
    for _ in 0..rounds(3) {
        let networks = chance.one_of(&[&["san-a"][..], &["san-b"], &["san-a", "san-b"], &[]]);
        node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": networks}})).await;
        chance.pause(Duration::from_secs(4)).await;
        node.kill_agent().await;
        node.start_agent("").await;
    }
    // An iscsiadm killed during a change of a record leaves its lock behind.
    node.kill_agent().await;
    node.guest.run_ok("cd /run/lock/iscsi && touch lock && (ln lock lock.write || test -e lock.write)").await.unwrap();
    node.start_agent("").await;
    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a", "san-b"]}})).await;
    until_sessions(&node.guest, &both()).await;
    node.until_paths("2/2").await;
    node.site.until_phase("w1", "Up").await;
    writer.until_passes(1).await;
    writer.finish().await;
    let records = ["10.0.101.1:3260,1", "10.0.102.1:3260,1"].map(|portal| format!("{portal} {ALPHA}"));
    node.until_records(&records).await;
    until_paths(&node.guest, 4, 0).await;
}

async fn a26_iscsid_that_restarts_or_is_down_costs_no_session(node: &RealNode, device: &str) {
    let writer = Writer::start(&node.guest, device).await;
    let before = held(node).await;
    node.guest.run_ok("systemctl restart iscsid").await.unwrap();
    writer.until_passes(1).await;
    until_sessions(&node.guest, &both()).await;
    assert_eq!(held(node).await, before, "no session is new");

    node.stop_iscsid().await;
    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-b"]}})).await;
    let storage = json!([{"name": "array", "targets": [
        {"iqn": ALPHA, "portals": [{"address": "10.0.101.1"}, {"address": "10.0.102.1"}]},
        {"iqn": BETA, "portals": [{"address": "10.0.102.2"}]},
    ]}]);
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
    node.until_path("10.0.102.2:3260", "Failed", Some("InitiatorDown")).await;
    node.until_path("10.0.101.1:3260", "Retained", Some("InitiatorDown")).await;
    // Without iscsid a lost session does not return, so the surplus one must stay.
    node.guest.set_link(Nic::San2, false).await.unwrap();
    node.until_path("10.0.102.1:3260", "Failed", Some("PortalUnreachable")).await;
    node.guest.set_link(Nic::San2, true).await.unwrap();
    until_paths(&node.guest, 2, 2).await;
    writer.until_passes(2).await;

    node.start_iscsid().await;
    let [_, alpha] = both();
    until_sessions(&node.guest, &[alpha, format!("mb.san2 LOGGED_IN 10.0.102.2 {BETA}")]).await;
    node.until_paths("2/2").await;
    node.site.until_phase("w1", "Up").await;
    writer.until_passes(1).await;
    writer.finish().await;
}
