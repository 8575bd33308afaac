//! Planned paths are connected, and paths that are not planned are logged out.

use serde_json::json;

use crate::{
    by_hand::{ALPHA, device, session_numbers, sessions, until_paths, until_sessions},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
    writer::Writer,
};

/// The sessions of the bond's two paths.
const BOUND: [&str; 2] = ["mb.san1 LOGGED_IN 10.0.101.1", "mb.san2 LOGGED_IN 10.0.102.1"];
/// The sessions without a bond.
const DEFAULT: [&str; 2] = ["mb.default LOGGED_IN 10.0.101.1", "mb.default LOGGED_IN 10.0.102.1"];

/// Sessions with the target alpha, as [`sessions`] lists them.
fn with_alpha(paths: [&str; 2]) -> [String; 2] {
    paths.map(|path| format!("{path} {ALPHA}"))
}

#[tokio::test]
async fn a10_a11_a12_a16_sessions_follow_maintenance_bond_and_addresses() {
    let node = RealNode::new("connect").await;
    node.guest.run_ok("ip address flush dev san2 scope global").await.unwrap();
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    maintain(&node, true).await;
    node.start_agent("").await;
    node.site.until_phase("w1", "Maintenance").await;
    assert_eq!(sessions(&node.guest).await, [""; 0]);

    // The first time: the network has never been on san2 before.
    a12_a_path_appears_with_its_address_and_fails_without(&node).await;
    disconnect(&node).await;
    a16_default_sessions_retire_for_a_bond_and_return_when_it_goes(&node).await;
    disconnect(&node).await;
    a10_activation_connects_all_paths_and_maintenance_ends_them(&node).await;
    a11_a_network_added_to_a_bond_touches_no_other_path(&node).await;
}

async fn maintain(node: &RealNode, maintenance: bool) {
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": maintenance}})).await;
}

async fn disconnect(node: &RealNode) {
    maintain(node, true).await;
    node.until_nothing_is_connected().await;
    assert_eq!(sessions(&node.guest).await, [""; 0]);
}

async fn a12_a_path_appears_with_its_address_and_fails_without(node: &RealNode) {
    maintain(node, false).await;
    node.until_paths("1/1").await;

    node.guest.run_ok("ip address add 10.0.102.101/24 dev san2").await.unwrap();
    node.until_paths("2/2").await;

    let log_out = format!("iscsiadm -m node -T {ALPHA} -I mb.san2 -u");
    node.guest.run_ok(&format!("ip address del 10.0.102.101/24 dev san2 && {log_out}")).await.unwrap();
    node.until_path("10.0.102.1:3260", "Failed", Some("NoAddress")).await;
    assert_eq!(sessions(&node.guest).await, [format!("mb.san1 LOGGED_IN 10.0.101.1 {ALPHA}")]);
    node.guest.run_ok("ip address add 10.0.102.101/24 dev san2").await.unwrap();
    node.until_paths("2/2").await;
}

async fn a16_default_sessions_retire_for_a_bond_and_return_when_it_goes(node: &RealNode) {
    node.site.delete("IscsiBond", "storage").await;
    node.site.until_gone("IscsiBond", "storage").await;
    maintain(node, false).await;
    node.until_paths("2/2").await;
    assert_eq!(sessions(&node.guest).await, with_alpha(DEFAULT));
    until_paths(&node.guest, 4, 0).await;
    let writer = Writer::start(&node.guest, &device(&node.guest, 2).await).await;

    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    until_sessions(&node.guest, &with_alpha(BOUND)).await;
    writer.until_passes(2).await;

    node.site.delete("IscsiBond", "storage").await;
    until_sessions(&node.guest, &with_alpha(DEFAULT)).await;
    writer.until_passes(2).await;
    writer.finish().await;
    node.until_paths("2/2").await;
}

async fn a10_activation_connects_all_paths_and_maintenance_ends_them(node: &RealNode) {
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    maintain(node, false).await;
    until_sessions(&node.guest, &with_alpha(BOUND)).await;
    node.until_paths("2/2").await;
    assert_eq!(sessions(&node.guest).await, with_alpha(BOUND));
    until_paths(&node.guest, 4, 0).await;

    disconnect(node).await;
    assert_eq!(node.guest.run("iscsiadm -m node").await.unwrap().code, Some(21), "no record is left");
}

async fn a11_a_network_added_to_a_bond_touches_no_other_path(node: &RealNode) {
    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a"]}})).await;
    maintain(node, false).await;
    node.until_paths("1/1").await;
    let first = session_numbers(&node.guest).await;

    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a", "san-b"]}})).await;
    node.until_paths("2/2").await;
    let both = session_numbers(&node.guest).await;
    assert!(first.len() == 1 && first.is_subset(&both) && both.len() == 2, "{first:?} and then {both:?}");
    until_paths(&node.guest, 4, 0).await;
}
