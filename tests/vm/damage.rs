//! Records that cannot be read, and a lock that nobody gives back.

use serde_json::json;

use crate::{
    by_hand::ALPHA,
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
};

#[tokio::test]
async fn a25_a_bad_interface_record_an_unreadable_record_and_a_stale_lock_fail_what_they_concern_until_they_are_mended()
{
    let node = RealNode::new("damage").await;
    // Of somebody else: an interface record and a node record. Of ours: a node record, and an interface record that
    // cannot even be written anew.
    let damage = format!(
        "set -e
         nodes=/etc/iscsi/nodes/{ALPHA}
         mkdir -p /etc/iscsi/ifaces/mb.san2/in-the-way $nodes/10.0.101.1,3260,1 $nodes/10.0.101.8,3260,1
         for record in $nodes/10.0.101.1,3260,1/mb.san1 $nodes/10.0.101.8,3260,1/theirs /etc/iscsi/ifaces/theirs; do
           head -c 1000 /dev/urandom >$record
         done"
    );
    node.guest.run_ok(&damage).await.unwrap();
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.start_agent("").await;
    let bad = node.until_path("10.0.102.1:3260", "Failed", Some("InvalidRecord")).await;
    assert!(bad["message"].as_str().unwrap().contains("mb.san2"), "{bad}");
    node.until_path("10.0.101.1:3260", "Connected", None).await;
    node.guest.run_ok("rm -r /etc/iscsi/ifaces/mb.san2").await.unwrap();
    node.until_paths("2/2").await;
    let theirs = format!("test -s /etc/iscsi/nodes/{ALPHA}/10.0.101.8,3260,1/theirs -a -s /etc/iscsi/ifaces/theirs");
    node.guest.run_ok(&theirs).await.unwrap();

    // As long as any iscsiadm runs, it may be the one that holds the lock.
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
