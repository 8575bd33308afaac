//! All kinds of portal addresses and target names.

use serde_json::json;

use crate::{
    by_hand::{ALPHA, sessions},
    damage::a25_damaged_records_and_a_stale_lock_fail_only_their_paths,
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
};

#[tokio::test]
async fn a24_a25_all_kinds_of_names_connect_and_damaged_records_are_reported() {
    let node = RealNode::new("names").await;
    a24_all_kinds_of_portal_and_target_names_connect_and_are_adopted(&node).await;
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    node.until_nothing_is_connected().await;
    node.stop_agent().await;
    node.guest.run_ok("rm -f /etc/iscsi/ifaces/mb.*").await.unwrap();
    a25_damaged_records_and_a_stale_lock_fail_only_their_paths(&node).await;
}

async fn a24_all_kinds_of_portal_and_target_names_connect_and_are_adopted(node: &RealNode) {
    node.guest.run_ok("echo fd00:102::3 san.example.com >>/etc/hosts").await.unwrap();
    node.guest.run_ok("tgtadm --mode portal --op new --param portal=0.0.0.0:3261").await.unwrap();
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    for (network, subnets) in
        [("san-a", ["10.0.101.0/24", "fd00:101::/64"]), ("san-b", ["10.0.102.0/24", "fd00:102::/64"])]
    {
        node.site.patch("Network", network, json!({"spec": {"subnets": subnets}})).await;
    }
    let storage = json!([{"name": "array", "targets": [
        {"iqn": ALPHA, "portals": [
            {"address": "10.0.101.1"}, {"address": "10.0.101.1", "port": 3261}, {"address": "fd00:102::1"}]},
        {"iqn": "eui.02004567a425678d", "portals": [{"address": "10.0.101.2"}]},
        {"iqn": "naa.52004567ba64678d", "portals": [{"address": "fd00:102::2"}]},
        {"iqn": "iqn.2026-11.com.example:beta", "portals": [
            {"address": "san.example.com", "network": "san-b"},
            {"address": "nowhere.example.com", "network": "san-a"}]},
    ]}]);
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
    node.start_agent("").await;
    let unknown = node.until_path("nowhere.example.com:3260", "Failed", Some("NameNotResolved")).await;
    assert!(unknown["message"].as_str().unwrap().contains("nowhere.example.com"), "{unknown}");
    node.until_paths("6/7").await;

    node.guest.run_ok("echo 10.0.101.3 nowhere.example.com >>/etc/hosts").await.unwrap();
    node.until_paths("7/7").await;
    let connected = [
        "mb.san1 LOGGED_IN 10.0.101.1 iqn.2026-11.com.example:alpha",
        "mb.san1 LOGGED_IN 10.0.101.1 iqn.2026-11.com.example:alpha",
        "mb.san1 LOGGED_IN 10.0.101.2 eui.02004567a425678d",
        "mb.san1 LOGGED_IN 10.0.101.3 iqn.2026-11.com.example:beta",
        "mb.san2 LOGGED_IN fd00:102::1 iqn.2026-11.com.example:alpha",
        "mb.san2 LOGGED_IN fd00:102::2 naa.52004567ba64678d",
        "mb.san2 LOGGED_IN fd00:102::3 iqn.2026-11.com.example:beta",
    ];
    assert_eq!(sessions(&node.guest).await, connected);

    let held = node.guest.run_ok("ls /sys/class/iscsi_session").await.unwrap();
    node.kill_agent().await;
    // Another answer of DNS, and none, take no session away.
    node.guest.run_ok("sed -i 's/fd00:102::3 san/fd00:102::4 san/; /nowhere/d' /etc/hosts").await.unwrap();
    node.site.until_phase("w1", "Unknown").await;
    node.start_agent("").await;
    node.site.until_phase("w1", "Up").await;
    node.until_paths("7/7").await;
    assert_eq!(node.guest.run_ok("ls /sys/class/iscsi_session").await.unwrap(), held);
}
