//! What an administrator or a distribution has set on a host: said before it hurts.

use multibond_testbed::Guest;
use serde_json::{Value, json};

use crate::{
    by_hand::{ALPHA, device, until_paths, until_sessions},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
    site::{condition, reason},
};

/// Waits until `HostPrepared` has this reason, and returns its message.
async fn until_prepared(node: &RealNode, wanted: &str) -> String {
    let is_wanted = |host: &Value| {
        let found = reason(host, "HostPrepared");
        found == wanted
    };
    // Nothing announces a changed file; the agent looks again with the next event.
    node.guest.spawn("events", "while sleep 5; do ip link set mgmt alias $RANDOM; done").await.unwrap();
    let host = node.site.until(wanted, "Host", "w1", is_wanted).await;
    node.guest.run_ok("systemctl stop events").await.unwrap();
    condition(&host, "HostPrepared")["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a55_what_the_host_has_set_is_said_and_goes_with_its_cause() {
    let node = RealNode::new("settings").await;
    a_storage_address_on_a_macvlan_carries_its_network(&node).await;
    until_paths(&node.guest, 4, 0).await;
    a55_a_read_only_database_is_said(&node).await;
    a55_a_file_that_is_no_record_is_said(&node).await;
    a55_a_service_that_logs_out_at_shutdown_is_said(&node).await;
    a55_disks_that_multipathd_is_told_to_leave_alone_are_said(&node).await;
    a55_safe_logout_is_said_before_it_keeps_a_path(&node).await;
    records_of_another_version_of_open_iscsi_are_removed(&node).await;
}

async fn a_storage_address_on_a_macvlan_carries_its_network(node: &RealNode) {
    let make = "set -e
        ip link add stor0 link san1 type macvlan mode passthru
        ip address flush dev san1 scope global
        ip link set stor0 up && ip address add 10.0.101.101/24 dev stor0";
    node.guest.run_ok(make).await.unwrap();
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.start_agent("").await;
    node.until_paths("2/2").await;
}

/// The directory of open-iscsi's database: Debian 12 and 13 have different ones.
async fn database(guest: &Guest) -> String {
    let find = "for it in /var/lib/iscsi /etc/iscsi; do [ -d $it/nodes ] && echo $it && break; done";
    guest.run_ok(find).await.unwrap().trim().to_owned()
}

async fn a55_a_read_only_database_is_said(node: &RealNode) {
    let database = database(&node.guest).await;
    let mount = format!("mount --bind {database} {database} && mount -o remount,bind,ro {database}");
    node.guest.run_ok(&mount).await.unwrap();
    let message = until_prepared(node, "ReadOnlyDatabase").await;
    assert!(message.contains(&database), "{message}");
    node.guest.run_ok(&format!("umount {database}")).await.unwrap();
    until_prepared(node, "Prepared").await;
}

async fn a55_a_file_that_is_no_record_is_said(node: &RealNode) {
    let file = format!("{}/nodes/notes.txt", database(&node.guest).await);
    node.guest.run_ok(&format!("echo remember >{file}")).await.unwrap();
    let message = until_prepared(node, "UnusableRecord").await;
    assert!(message.contains(&file), "{message}");
    node.guest.run_ok(&format!("rm {file}")).await.unwrap();
    until_prepared(node, "Prepared").await;
}

/// Follows docs/hosts.md, with the service of the distribution.
async fn a55_a_service_that_logs_out_at_shutdown_is_said(node: &RealNode) {
    node.guest.run_ok("systemctl start open-iscsi.service").await.unwrap();
    let message = until_prepared(node, "LogoutAtShutdown").await;
    assert!(message.contains("open-iscsi.service") && message.contains("kubepods.slice"), "{message}");
    let wait = "set -e
        mkdir -p /etc/systemd/system/open-iscsi.service.d
        printf '[Unit]\nBefore=kubepods.slice machine.slice\n' >/etc/systemd/system/open-iscsi.service.d/multibond.conf
        systemctl daemon-reload
        systemctl show --property=Before --value open-iscsi.service | grep --word-regexp kubepods.slice";
    node.guest.run_ok(wait).await.unwrap();
    until_prepared(node, "Prepared").await;
    node.until_paths("2/2").await;
}

async fn a55_disks_that_multipathd_is_told_to_leave_alone_are_said(node: &RealNode) {
    let blacklist = "cp /etc/multipath.conf /root/multipath.conf
        printf 'blacklist {\\n devnode \"^sd[a-z0-9]+\"\\n}\\n' >>/etc/multipath.conf && multipathd reconfigure";
    node.guest.run_ok(blacklist).await.unwrap();
    let message = until_prepared(node, "Blacklisted").await;
    assert!(message.contains("/etc/multipath.conf"), "{message}");
    node.guest.run_ok("cp /root/multipath.conf /etc/multipath.conf && multipathd reconfigure").await.unwrap();
    until_prepared(node, "Prepared").await;
    until_paths(&node.guest, 4, 0).await;
}

async fn a55_safe_logout_is_said_before_it_keeps_a_path(node: &RealNode) {
    let set = "echo 'iscsid.safe_logout = Yes' >>/etc/iscsi/iscsid.conf && systemctl restart iscsid.service";
    node.guest.run_ok(set).await.unwrap();
    until_prepared(node, "SafeLogout").await;
    node.until_paths("2/2").await;
    let map = device(&node.guest, 2).await;
    node.guest.run_ok(&format!("mkfs.ext4 -q {map} && mount {map} /mnt")).await.unwrap();
    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a"]}})).await;
    // Before that, the session may be coming back after the restart of iscsid, or udev may have its disk open.
    let says_what_to_set = |path: &Value| {
        path["portal"] == "10.0.102.1:3260"
            && path["state"] == "Retained"
            && path["message"].as_str().is_some_and(|message| message.contains("set iscsid.safe_logout = No"))
    };
    let is_said =
        |host: &Value| host["status"]["connections"].as_array().is_some_and(|paths| paths.iter().any(says_what_to_set));
    node.site.until("the path says what to set", "Host", "w1", is_said).await;
    let unset = "sed -i '/safe_logout/d' /etc/iscsi/iscsid.conf && systemctl restart iscsid.service";
    node.guest.run_ok(unset).await.unwrap();
    until_prepared(node, "Prepared").await;
    until_sessions(&node.guest, &[format!("mb.stor0 LOGGED_IN 10.0.101.1 {ALPHA}")]).await;
    node.guest.run_ok("umount /mnt").await.unwrap();
}

async fn records_of_another_version_of_open_iscsi_are_removed(node: &RealNode) {
    let database = database(&node.guest).await;
    let older = format!("sed -i 's/^node.discovery_type = .*/node.discovery_type = slp/' {database}/nodes/*/*/mb.*");
    node.guest.run_ok(&older).await.unwrap();
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": []}})).await;
    node.until_nothing_is_connected().await;
    node.until_records(&[]).await;
    let left = node.guest.run_ok(&format!("find {database}/nodes -type f")).await.unwrap();
    assert_eq!(left, "", "{}", node.guest.log("agent").await.unwrap());
}
