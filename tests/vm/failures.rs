//! Failures of portals, cables and sessions: they are reported in time, and paths recover.

use multibond_testbed::Nic;
use serde_json::{Value, json};

use crate::{
    by_hand::{ALPHA, device, log_in, sessions, until_paths, until_sessions},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode, path},
    writer::Writer,
};

/// Waits until the target is connected through both fabrics.
pub async fn until_connected(node: &RealNode) {
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.until_paths("2/2").await;
    until_paths(&node.guest, 4, 0).await;
}

#[tokio::test]
async fn a18_a20_a22_dead_portals_and_lost_sessions_are_reported_and_recover() {
    let node = RealNode::new("failures").await;
    a22_dead_portals_delay_no_other_and_are_known_within_ten_seconds(&node).await;
    until_connected(&node).await;
    a18_a_target_without_a_path_makes_its_host_nonoperational_for_a_while(&node).await;
    a20_an_ended_session_is_restored_and_foreign_ones_are_left_alone(&node).await;
}

#[tokio::test]
async fn a26_a34_io_continues_through_path_failures_and_agent_restarts() {
    let node = RealNode::new("goes-on").await;
    node.start_agent("").await;
    until_connected(&node).await;
    a34_io_continues_while_any_one_path_fails_and_returns(&node).await;
    until_paths(&node.guest, 4, 0).await;
    a26_an_agent_that_is_stopped_or_killed_costs_no_session(&node).await;
}

async fn a22_dead_portals_delay_no_other_and_are_known_within_ten_seconds(node: &RealNode) {
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    let portals = ["10.0.101.1", "10.0.101.2", "10.0.102.1", "10.0.102.2"].map(|address| json!({"address": address}));
    let storage = json!([{"name": "array", "targets": [{"iqn": ALPHA, "portals": portals}]}]);
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
    for portal in ["10.0.101.2", "10.0.102.2"] {
        node.guest.drop_packets_to(portal).await.unwrap();
    }
    node.start_agent("").await;
    let host = node.until_paths("2/4").await;
    let good = time_of(&path(&host, "10.0.101.1:3260")["since"]);
    for portal in ["10.0.101.2:3260", "10.0.102.2:3260"] {
        // If iscsiadm is slow to give the reason, the path first fails with a time-out.
        let dead = node.until_path(portal, "Failed", Some("PortalUnreachable")).await;
        let later = time_of(&dead["since"]) - good;
        assert!(later < 10, "known {later} s after the good paths");
    }
    node.guest.drop_nothing().await.unwrap();
    node.until_paths("4/4").await;
}

/// The time in seconds, to compute differences.
fn time_of(text: &Value) -> i64 {
    text.as_str().unwrap().parse::<k8s_openapi::jiff::Timestamp>().unwrap().as_second()
}

async fn a18_a_target_without_a_path_makes_its_host_nonoperational_for_a_while(node: &RealNode) {
    for portal in ["10.0.101.1", "10.0.102.1"] {
        node.guest.drop_packets_to(portal).await.unwrap();
    }
    let host = node.site.until_phase("w1", "NonOperational").await;
    let conditions = host["status"]["conditions"].as_array().unwrap();
    let operational = conditions.iter().find(|condition| condition["type"] == "Operational").unwrap();
    assert_eq!(
        (operational["status"].as_str(), operational["reason"].as_str()),
        (Some("False"), Some("StorageUnreachable"))
    );
    let message = operational["message"].as_str().unwrap();
    assert!([ALPHA, "10.0.101.1:3260", "10.0.102.1:3260"].iter().all(|word| message.contains(word)), "{message}");

    node.guest.drop_nothing().await.unwrap();
    node.site.until_phase("w1", "Up").await;
    node.until_paths("2/2").await;
}

async fn a20_an_ended_session_is_restored_and_foreign_ones_are_left_alone(node: &RealNode) {
    log_in(&node.guest, "iqn.2026-11.com.example:beta", "10.0.101.2:3260", "san1").await;
    let theirs = "hand.san1 LOGGED_IN 10.0.101.2 iqn.2026-11.com.example:beta".to_owned();
    let ours = ["mb.san1 LOGGED_IN 10.0.101.1", "mb.san2 LOGGED_IN 10.0.102.1"].map(|path| format!("{path} {ALPHA}"));
    let all = [std::slice::from_ref(&theirs), &ours[..]].concat();
    until_sessions(&node.guest, &all).await;

    node.guest.run_ok(&format!("iscsiadm -m node -T {ALPHA} -I mb.san2 -u")).await.unwrap();
    until_sessions(&node.guest, &all).await;

    node.site.delete("Host", "w1").await;
    node.site.until_gone("Host", "w1").await;
    until_sessions(&node.guest, &[theirs]).await;
    let records = node.guest.run_ok("iscsiadm -m node").await.unwrap();
    assert_eq!(records, "10.0.101.2:3260,1 iqn.2026-11.com.example:beta\n");
}

async fn a34_io_continues_while_any_one_path_fails_and_returns(node: &RealNode) {
    let device = device(&node.guest, 2).await;
    for nic in [Nic::San1, Nic::San2] {
        let writer = Writer::start(&node.guest, &device).await;
        node.guest.set_link(nic, false).await.unwrap();
        node.site.until_phase("w1", "Degraded").await;
        writer.until_passes(2).await;
        node.guest.set_link(nic, true).await.unwrap();
        node.site.until_phase("w1", "Up").await;
        writer.finish().await;
    }
    let writer = Writer::start(&node.guest, &device).await;
    node.guest.drop_packets_to("10.0.101.1").await.unwrap();
    node.site.until_phase("w1", "Degraded").await;
    writer.until_passes(2).await;
    node.guest.drop_nothing().await.unwrap();
    node.site.until_phase("w1", "Up").await;
    node.guest.run_ok("ip link set san2 down").await.unwrap();
    node.site.until_phase("w1", "Degraded").await;
    writer.until_passes(2).await;
    node.guest.run_ok("ip link set san2 up").await.unwrap();
    node.site.until_phase("w1", "Up").await;
    writer.finish().await;
    assert_eq!(sessions(&node.guest).await.len(), 2);
}

async fn a26_an_agent_that_is_stopped_or_killed_costs_no_session(node: &RealNode) {
    let held = node.guest.run_ok("ls /sys/class/iscsi_session").await.unwrap();
    let writer = Writer::start(&node.guest, &device(&node.guest, 2).await).await;
    node.stop_agent().await;
    node.site.until_phase("w1", "Unknown").await;
    node.start_agent("").await;
    node.site.until_phase("w1", "Up").await;
    node.kill_agent().await;
    node.site.until_phase("w1", "Unknown").await;
    node.start_agent("").await;
    node.site.until_phase("w1", "Up").await;
    writer.finish().await;
    assert_eq!(node.guest.run_ok("ls /sys/class/iscsi_session").await.unwrap(), held);
}
