//! The kernel's own target (LIO), where it behaves otherwise than tgt: portal groups with numbers of their own.

use multibond_testbed::{Guest, Nic};
use serde_json::{Value, json};

use crate::{
    by_hand::{maps_of, sessions, until_paths, until_sessions},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode, path},
    writer::Writer,
};

const GROUPS: &str = "iqn.2026-11.com.example:groups";

/// A target with one LUN, whose portal on fabric 1 is in portal group 2, and the one on fabric 2 in 1046.
async fn start_target(guest: &Guest) {
    let script = format!(
        "set -e
         modprobe iscsi_target_mod
         mkdir -p /run/config && mount -t configfs none /run/config
         target=/run/config/target lun=/run/config/target/core/rd_mcp_0/disk
         mkdir -p $lun $target/iscsi/{GROUPS}
         echo rd_pages=4096 >$lun/control
         echo groups >$lun/wwn/vpd_unit_serial
         echo 1 >$lun/enable
         for group in 2@10.0.101.1 1046@10.0.102.1; do
           tpg=$target/iscsi/{GROUPS}/tpgt_${{group%@*}}
           mkdir $tpg && mkdir $tpg/lun/lun_0
           ln -s $lun $tpg/lun/lun_0/disk
           echo 0 >$tpg/attrib/authentication
           echo 1 >$tpg/attrib/generate_node_acls
           echo 1 >$tpg/attrib/cache_dynamic_acls
           echo 0 >$tpg/attrib/demo_mode_write_protect
           # The portal is in the network namespace of whoever makes it.
           nsenter --net=/run/netns/array mkdir $tpg/np/${{group#*@}}:3261
           echo 1 >$tpg/enable
         done"
    );
    guest.run_ok(&script).await.unwrap();
}

async fn plan(node: &RealNode, first_tag: u16) {
    let portals = json!([{"address": "10.0.101.1", "port": 3261, "tpgt": first_tag},
        {"address": "10.0.102.1", "port": 3261, "tpgt": 1046}]);
    let storage = json!([{"name": "array", "targets": [{"iqn": GROUPS, "portals": portals}]}]);
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
}

fn both() -> [String; 2] {
    ["mb.san1 LOGGED_IN 10.0.101.1", "mb.san2 LOGGED_IN 10.0.102.1"].map(|path| format!("{path} {GROUPS}"))
}

fn tag(host: &Value, portal: &str) -> u64 {
    path(host, portal)["tpgt"].as_u64().unwrap()
}

/// Ends the session through san1; the agent makes a new one.
async fn end_first_session(node: &RealNode) {
    node.guest.run_ok(&format!("iscsiadm -m node -T {GROUPS} -I mb.san1 -u")).await.unwrap();
}

#[tokio::test]
async fn a64_portal_groups_are_what_the_target_answers() {
    let node = RealNode::new("groups").await;
    start_target(&node.guest).await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    plan(&node, 1).await;
    node.start_agent("").await;
    let host = node.until_paths("2/2").await;
    assert_eq!((tag(&host, "10.0.101.1:3261"), tag(&host, "10.0.102.1:3261")), (2, 1046));
    until_paths(&node.guest, 2, 0).await;
    let device = maps_of(&node.guest, GROUPS).await.remove(0);
    iscsid_that_restarts_finds_the_sessions_of_groups(&node, &device).await;
    a_number_in_the_data_center_admits_no_other_group(&node).await;
}

async fn iscsid_that_restarts_finds_the_sessions_of_groups(node: &RealNode, device: &str) {
    let writer = Writer::start(&node.guest, device).await;
    // The first login was planned with tag 1: its record has the tag that the target answered.
    let records = ["10.0.101.1:3261,2", "10.0.102.1:3261,1046"].map(|portal| format!("{portal} {GROUPS}"));
    node.until_records(&records).await;
    let before = node.guest.run_ok("ls /sys/class/iscsi_session").await.unwrap();
    node.guest.run_ok("systemctl restart iscsid").await.unwrap();
    node.guest.set_link(Nic::San1, false).await.unwrap();
    node.until_path("10.0.101.1:3261", "Failed", Some("PortalUnreachable")).await;
    node.guest.set_link(Nic::San1, true).await.unwrap();
    node.until_paths("2/2").await;
    until_sessions(&node.guest, &both()).await;
    assert_eq!(node.guest.run_ok("ls /sys/class/iscsi_session").await.unwrap(), before, "no session is new");
    // iscsid takes defaults for a session whose record it does not find (usr/iscsid.c, sync_session), and says so.
    let log = node.guest.run_ok("journalctl --unit iscsid --output cat").await.unwrap();
    assert!(log.contains("is operational now") && !log.contains("Could not read data from db"), "{log}");
    writer.until_passes(1).await;
    until_paths(&node.guest, 2, 0).await;
    end_first_session(node).await;
    until_sessions(&node.guest, &both()).await;
    node.until_paths("2/2").await;
    until_paths(&node.guest, 2, 0).await;
    node.until_records(&records).await;
    writer.finish().await;
}

async fn a_number_in_the_data_center_admits_no_other_group(node: &RealNode) {
    plan(node, 7).await;
    end_first_session(node).await;
    let refused = node.until_path("10.0.101.1:3261", "Failed", Some("TargetNotFound")).await;
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("portal group 2") && message.contains("says 7"), "{message}");
    assert_eq!(sessions(&node.guest).await, both()[1..]);
    plan(node, 2).await;
    node.until_paths("2/2").await;
}
