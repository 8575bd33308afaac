//! What is planned is connected, and what is not planned goes.

use serde_json::json;

use crate::{
    by_hand::{ALPHA, sessions, until_paths},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
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
