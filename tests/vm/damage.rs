//! Damaged records and a stale lock.

use serde_json::json;

use crate::{
    by_hand::ALPHA,
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
};

/// Needs a host without sessions and without records of Multibond, before its agent starts.
pub async fn a25_damaged_records_and_a_stale_lock_fail_only_their_paths(node: &RealNode) {
    // Foreign: an interface record and a node record. Multibond's: a node record, and an interface record that cannot
    // be rewritten either.
    let records = node.guest.records();
    let damage = format!(
        "set -e
         nodes={records}/nodes/{ALPHA}
         mkdir -p {records}/ifaces/mb.san2/in-the-way $nodes/10.0.101.1,3260,1 $nodes/10.0.101.8,3260,1
         for record in $nodes/10.0.101.1,3260,1/mb.san1 $nodes/10.0.101.8,3260,1/theirs {records}/ifaces/theirs; do
           head -c 1000 /dev/urandom >$record
         done"
    );
    node.guest.run_ok(&damage).await.unwrap();
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": false}})).await;
    node.start_agent("").await;
    let bad = node.until_path("10.0.102.1:3260", "Failed", Some("InvalidRecord")).await;
    assert!(bad["message"].as_str().unwrap().contains("mb.san2"), "{bad}");
    node.until_path("10.0.101.1:3260", "Connected", None).await;
    node.guest.run_ok(&format!("rm -r {records}/ifaces/mb.san2")).await.unwrap();
    node.until_paths("2/2").await;
    let theirs = format!("test -s {records}/nodes/{ALPHA}/10.0.101.8,3260,1/theirs -a -s {records}/ifaces/theirs");
    node.guest.run_ok(&theirs).await.unwrap();

    // While any iscsiadm runs, it may hold the lock.
    node.guest.run_ok("cp /usr/bin/sleep /root/iscsiadm").await.unwrap();
    node.guest.spawn("holder", "exec /root/iscsiadm infinity").await.unwrap();
    node.guest.run_ok("cd /run/lock/iscsi && touch lock && ln lock lock.write").await.unwrap();
    let portals = ["10.0.101.1", "10.0.102.1", "10.0.102.2"].map(|address| json!({"address": address}));
    let storage = json!([{"name": "array", "targets": [{"iqn": ALPHA, "portals": portals}]}]);
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
    let locked = node.until_path("10.0.102.2:3260", "Failed", Some("DatabaseLocked")).await;
    assert!(locked["message"].as_str().unwrap().contains("/run/lock/iscsi/lock.write"), "{locked}");
    node.until_paths("2/3").await;
    node.guest.run_ok("systemctl stop holder").await.unwrap();
    node.until_paths("3/3").await;
}
