//! Other tools that use the same open-iscsi: theirs works as on a host without Multibond, and stays as it is.

use std::{collections::BTreeSet, time::Duration};

use multibond_testbed::{Guest, eventually};
use serde_json::{Value, json};

use crate::{
    by_hand::{ALPHA, BETA, PATIENCE, maps_of, session_numbers, sessions, until_paths, until_sessions},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
    site::{condition, reason},
    writer::Writer,
};

/// A portal on another network than the storage's.
const ELSEWHERE: &str = "10.0.2.15:3260";
/// Where others look for targets: at a planned portal, at one that is not planned, and on another network.
const DISCOVERED: [&str; 3] = ["10.0.101.1:3260", "10.0.102.5:3260", ELSEWHERE];
/// Five seconds, on a host that is not emulated.
const HEALED_WITHIN: Duration = Duration::from_secs(20);
/// The files of the database, on each distribution.
const RECORDS: &str = "find $(ls -d /etc/iscsi /var/lib/iscsi 2>/dev/null) -type f";

/// The two planned sessions, in the form of [`sessions`].
fn both() -> [String; 2] {
    ["mb.san1 LOGGED_IN 10.0.101.1", "mb.san2 LOGGED_IN 10.0.102.1"].map(|path| format!("{path} {ALPHA}"))
}

fn theirs() -> String {
    format!("default LOGGED_IN 10.0.101.1 {BETA}")
}

/// The sessions of ours and theirs, sorted.
fn all() -> [String; 3] {
    let [first, second] = both();
    [theirs(), first, second]
}

#[tokio::test]
async fn a44_a54_others_discover_and_log_in_as_without_multibond() {
    let mut node = RealNode::new("neighbours").await;
    let alone = discover_everywhere(&node.guest).await;
    assert!(alone.contains("default"), "{alone}");
    a54_a_host_with_the_old_records_is_moved_over_without_losing_a_session(&node).await;
    a44_discovery_without_interface_is_as_on_a_host_without_multibond(&node, &alone).await;
    a44_a_session_that_others_make_by_it_stays_with_its_records(&node).await;
    a51_a_foreign_session_to_a_planned_target_is_named_until_it_is_gone(&node).await;
    a54_sessions_of_hidden_interfaces_are_rescanned_and_outlive_iscsid(&node).await;
    a45_sessions_that_a_driver_logs_out_are_healed_under_io_and_named(&node).await;
    a54_a_host_that_boots_connects_again_and_leaves_no_record_in_the_end(&mut node).await;
}

/// What a discovery everywhere prints, and the records that it makes beside ours. Afterwards they are gone.
async fn discover_everywhere(guest: &Guest) -> String {
    let target = "iqn.2026-11.com.example:elsewhere";
    let serve = format!(
        "systemctl --quiet is-active elsewhere || {{
           systemd-run --quiet --unit elsewhere tgtd -f -C 1 --iscsi portal={ELSEWHERE}
           until tgtadm -C 1 --mode target --op new --tid 1 --targetname {target} 2>/dev/null; do sleep 0.1; done
           tgtadm -C 1 --mode target --op bind --tid 1 --initiator-address ALL
         }}"
    );
    guest.run_ok(&serve).await.unwrap();
    let mut found = String::new();
    for portal in DISCOVERED {
        found += &guest.run_ok(&format!("timeout 60 iscsiadm -m discovery -t sendtargets -p {portal}")).await.unwrap();
    }
    found += &guest.run_ok(&format!("{RECORDS} -path '*/nodes/*' ! -name 'mb.*' | sort")).await.unwrap();
    let forget = format!("iscsiadm -m node -I default -o delete; {RECORDS} -path '*/send_targets/*' -delete");
    guest.run_ok(&forget).await.unwrap();
    found
}

/// The records of a version that did not hide its interface records, and sessions with them.
async fn a54_a_host_with_the_old_records_is_moved_over_without_losing_a_session(node: &RealNode) {
    for (interface, portal) in [("san1", "10.0.101.1:3260,1"), ("san2", "10.0.102.1:3260,1")] {
        let record = format!("iscsiadm -m node -T {ALPHA} -I mb.{interface} -p {portal}");
        let make = format!(
            "set -e
             iscsiadm -m iface -I mb.{interface} --op=new -n iface.net_ifacename -v {interface}
             {record} --op=new
             {record} --login"
        );
        node.guest.run_ok(&make).await.unwrap();
    }
    let before = session_numbers(&node.guest).await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.start_agent("").await;
    node.until_paths("2/2").await;
    until_hidden(&node.guest).await;
    assert_eq!((sessions(&node.guest).await, session_numbers(&node.guest).await), (both().to_vec(), before));
    let listed = node.guest.run("iscsiadm -m iface").await.unwrap();
    assert_eq!((listed.code, listed.stdout.contains("mb.")), (Some(0), false), "{listed:?}");
}

async fn until_hidden(guest: &Guest) {
    eventually("hidden interface records, and marked records", PATIENCE, async || {
        let visible = format!("{RECORDS} -path '*/ifaces/mb.*' | xargs grep -l transport_name");
        let unmarked = format!("{RECORDS} -path '*/nodes/*/mb.*' | xargs grep -L 'node.discovery_port = 28002'");
        let found = guest.run_ok(&format!("{visible}; {unmarked}; true")).await.unwrap();
        if found.is_empty() { Ok(()) } else { Err(found) }
    })
    .await;
}

async fn a44_discovery_without_interface_is_as_on_a_host_without_multibond(node: &RealNode, alone: &str) {
    assert_eq!(discover_everywhere(&node.guest).await, alone);
    assert_eq!(sessions(&node.guest).await, both());
}

async fn a44_a_session_that_others_make_by_it_stays_with_its_records(node: &RealNode) {
    let use_it = format!(
        "set -e
         timeout 60 iscsiadm -m discovery -t sendtargets -p 10.0.101.1:3260
         timeout 60 iscsiadm -m node -T {BETA} -p 10.0.101.1:3260 --login"
    );
    node.guest.run_ok(&use_it).await.unwrap();
    assert_eq!(sessions(&node.guest).await, all());
    let records = format!("{RECORDS} -path '*/nodes/*' ! -name 'mb.*' | sort | xargs cat");
    let before = node.guest.run_ok(&records).await.unwrap();
    // The agent tidies its records after each new plan.
    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a"]}})).await;
    until_sessions(&node.guest, &all()[..2]).await;
    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a", "san-b"]}})).await;
    // The last report may still have the session that has just been logged out.
    until_sessions(&node.guest, &all()).await;
    node.until_paths("2/2").await;
    assert_eq!(node.guest.run_ok(&records).await.unwrap(), before);
}

/// What a driver does with the records of its discovery, for a target that Multibond keeps.
async fn a51_a_foreign_session_to_a_planned_target_is_named_until_it_is_gone(node: &RealNode) {
    let record = format!("iscsiadm -m node -T {ALPHA} -p 10.0.101.1:3260 -I default");
    node.guest.run_ok(&format!("{record} -o update -n node.startup -v automatic && {record} --login")).await.unwrap();
    let message = until_prepared(node, "ForeignSession").await;
    assert!(
        message.contains("10.0.101.1:3260") && message.contains("AutomaticRecords: there is a record"),
        "{message}"
    );
    let mut with_theirs = all().to_vec();
    with_theirs.push(format!("default LOGGED_IN 10.0.101.1 {ALPHA}"));
    with_theirs.sort();
    until_sessions(&node.guest, &with_theirs).await;
    node.guest.run_ok(&format!("{record} -o update -n node.startup -v manual && {record} --logout")).await.unwrap();
    until_prepared(node, "Prepared").await;
    assert_eq!(sessions(&node.guest).await, all());
}

/// Waits until `HostPrepared` has this reason, and returns its message.
async fn until_prepared(node: &RealNode, wanted: &str) -> String {
    let is_wanted = |host: &Value| reason(host, "HostPrepared") == wanted;
    let host = node.site.until(&format!("HostPrepared {wanted}"), "Host", "w1", is_wanted).await;
    condition(&host, "HostPrepared")["message"].as_str().unwrap_or_default().to_owned()
}

/// csi-driver-iscsi's way to give a target back: the logout and the deletion are for every interface.
async fn a45_sessions_that_a_driver_logs_out_are_healed_under_io_and_named(node: &RealNode) {
    let give_back = format!("iscsiadm -m node -T {ALPHA} --logout; iscsiadm -m node -T {ALPHA} -o delete; true");
    until_paths(&node.guest, 5, 0).await;
    let map = maps_of(&node.guest, ALPHA).await.remove(0);
    // As a virtual machine does, and not only while it writes: multipathd removes a map without paths that nobody has open.
    node.guest.spawn("user", &format!("exec sleep infinity <{map}")).await.unwrap();
    let writer = Writer::start(&node.guest, &map).await;
    let before = session_numbers(&node.guest).await;
    node.guest.run_ok(&format!("{give_back}; date +%s.%N >/run/given-back")).await.unwrap();
    until_healed(node, &before).await;
    println!("healed {} s after it", healed_after(&node.guest).await);
    writer.until_passes(1).await;
    let message = until_prepared(node, "Interference").await;
    assert!(message.contains(ALPHA) && message.contains("was logged out"), "{message}");

    // Again and again: no fight, but the target is never left without a session.
    for _ in 0..10 {
        node.guest.run_ok(&format!("{give_back}; sleep 3")).await.unwrap();
    }
    eventually("a session to the target", HEALED_WITHIN, async || {
        let found = sessions(&node.guest).await;
        if found.iter().any(|session| session.ends_with(ALPHA)) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    node.until_paths("2/2").await;
    until_sessions(&node.guest, &all()).await;
    let many =
        |host: &Value| condition(host, "HostPrepared")["message"].as_str().is_some_and(|it| it.contains(" times "));
    node.site.until("several times", "Host", "w1", many).await;
    writer.until_passes(1).await;
    writer.finish().await;
    node.guest.run_ok("systemctl stop user").await.unwrap();
}

/// When the kernel made the last disk of the new sessions, in seconds after the driver had given the target back.
async fn healed_after(guest: &Guest) -> String {
    let seconds = "journalctl --dmesg --output=short-unix | awk -v given_back=$(cat /run/given-back) \
        '/Attached SCSI disk/ { last = $1 } END { printf \"%.1f\", last - given_back }'";
    guest.run_ok(seconds).await.unwrap()
}

/// Waits until both planned sessions are there again, both of them new.
async fn until_healed(node: &RealNode, before: &BTreeSet<String>) {
    eventually("both sessions, and both new", HEALED_WITHIN, async || {
        let (now, found) = (session_numbers(&node.guest).await, sessions(&node.guest).await);
        // Theirs is the only one that stays.
        if found == all() && now.intersection(before).count() == 1 { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

async fn a54_sessions_of_hidden_interfaces_are_rescanned_and_outlive_iscsid(node: &RealNode) {
    let writer = Writer::start(&node.guest, &maps_of(&node.guest, ALPHA).await[0]).await;
    let before = session_numbers(&node.guest).await;
    for session in &before {
        let rescan = format!("iscsiadm -m session -r {} -R", session.trim_start_matches("session"));
        node.guest.run_ok(&rescan).await.unwrap();
    }
    node.guest.run_ok("systemctl restart iscsid").await.unwrap();
    writer.until_passes(1).await;
    // iscsid reads the records again when it gets a session back.
    node.guest.drop_packets_to("10.0.101.1").await.unwrap();
    node.until_path("10.0.101.1:3260", "Failed", Some("PortalUnreachable")).await;
    node.guest.drop_nothing().await.unwrap();
    node.until_paths("2/2").await;
    until_sessions(&node.guest, &all()).await;
    assert_eq!(session_numbers(&node.guest).await, before, "no session is new");
    writer.until_passes(1).await;
    writer.finish().await;
}

async fn a54_a_host_that_boots_connects_again_and_leaves_no_record_in_the_end(node: &mut RealNode) {
    node.guest.run_ok("sync").await.unwrap();
    node.guest.power_cycle().await.unwrap();
    assert_eq!(sessions(&node.guest).await, [""; 0]);
    node.start_agent("").await;
    node.until_paths("2/2").await;
    until_paths(&node.guest, 4, 0).await;
    until_hidden(&node.guest).await;
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    node.until_nothing_is_connected().await;
    let ours = format!("{RECORDS} -name 'mb.*'");
    eventually("no record of ours", Duration::from_secs(20), async || {
        let found = node.guest.run_ok(&ours).await.unwrap();
        if found.is_empty() { Ok(()) } else { Err(found) }
    })
    .await;
}
