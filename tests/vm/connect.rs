//! What is planned is connected, and what is not planned goes.

use serde_json::json;

use crate::{
    by_hand::{ALPHA, device, sessions, until_paths, until_sessions},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
    writer::Writer,
};

#[tokio::test]
async fn a10_activation_connects_all_planned_paths_and_maintenance_ends_them() {
    let node = RealNode::new("activation").await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    node.start_agent("").await;
    node.site.until_phase("w1", "Maintenance").await;
    assert_eq!(sessions(&node.guest).await, [""; 0]);

    node.site.patch("Host", "w1", json!({"spec": {"maintenance": false}})).await;
    node.until_paths("2/2").await;
    let expected = ["mb.san1 LOGGED_IN 10.0.101.1", "mb.san2 LOGGED_IN 10.0.102.1"];
    assert_eq!(sessions(&node.guest).await, expected.map(|path| format!("{path} {ALPHA}")));
    until_paths(&node.guest, 4, 0).await;

    node.site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    node.until_nothing_is_connected().await;
    assert_eq!(sessions(&node.guest).await, [""; 0]);
    assert_eq!(node.guest.run("iscsiadm -m node").await.unwrap().code, Some(21), "no record is left");
}

#[tokio::test]
async fn a11_a_network_that_is_added_to_a_bond_brings_its_paths_and_touches_no_other() {
    let node = RealNode::new("network").await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a"]}})).await;
    node.start_agent("").await;
    node.until_paths("1/1").await;
    let first = node.guest.run_ok("ls /sys/class/iscsi_session").await.unwrap();

    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a", "san-b"]}})).await;
    node.until_paths("2/2").await;
    let both = node.guest.run_ok("ls /sys/class/iscsi_session").await.unwrap();
    assert!(both.starts_with(&first) && both.lines().count() == 2, "{first} and then {both}");
    until_paths(&node.guest, 4, 0).await;
}

#[tokio::test]
async fn a16_a_default_session_retires_when_a_bond_has_its_paths_and_returns_when_the_bond_goes() {
    let node = RealNode::new("default").await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.site.delete("IscsiBond", "storage").await;
    node.start_agent("").await;
    node.until_paths("2/2").await;
    let default = ["mb.default LOGGED_IN 10.0.101.1", "mb.default LOGGED_IN 10.0.102.1"];
    assert_eq!(sessions(&node.guest).await, default.map(|path| format!("{path} {ALPHA}")));
    until_paths(&node.guest, 4, 0).await;
    let writer = Writer::start(&node.guest, &device(&node.guest, 2).await).await;

    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    let bound = ["mb.san1 LOGGED_IN 10.0.101.1", "mb.san2 LOGGED_IN 10.0.102.1"];
    until_sessions(&node.guest, &bound.map(|path| format!("{path} {ALPHA}"))).await;
    writer.until_passes(2).await;

    node.site.delete("IscsiBond", "storage").await;
    until_sessions(&node.guest, &default.map(|path| format!("{path} {ALPHA}"))).await;
    writer.until_passes(2).await;
    writer.finish().await;
    node.until_paths("2/2").await;
}

#[tokio::test]
async fn a12_a_host_that_gains_a_network_converges_and_one_that_loses_its_device_fails_and_does_not_wander() {
    let node = RealNode::new("gains").await;
    node.guest.run_ok("ip address flush dev san2 scope global").await.unwrap();
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.start_agent("").await;
    node.until_paths("1/1").await;

    node.guest.run_ok("ip address add 10.0.102.101/24 dev san2").await.unwrap();
    node.until_paths("2/2").await;

    node.guest.run_ok("ip address del 10.0.102.101/24 dev san2 && iscsiadm -m session -r 2 -u").await.unwrap();
    node.until_path("10.0.102.1:3260", "Failed", Some("NoAddress")).await;
    assert_eq!(sessions(&node.guest).await, [format!("mb.san1 LOGGED_IN 10.0.101.1 {ALPHA}")]);
}
