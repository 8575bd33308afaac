//! What fails, how soon that is known, and that it comes back by itself.

use std::time::{Duration, Instant};

use multibond_testbed::Nic;
use serde_json::{Value, json};

use crate::{
    by_hand::{ALPHA, device, log_in, sessions, until_paths, until_sessions},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode, path},
    writer::Writer,
};

/// A node whose target is connected through both fabrics.
async fn connected(name: &str) -> RealNode {
    let node = RealNode::new(name).await;
    node.start_agent("").await;
    until_connected(&node).await;
    node
}

async fn until_connected(node: &RealNode) {
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.until_paths("2/2").await;
    until_paths(&node.guest, 4, 0).await;
}

#[tokio::test]
async fn a18_a_target_without_any_path_makes_its_host_nonoperational_and_it_recovers_by_itself() {
    let node = connected("dark").await;
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

#[tokio::test]
async fn a20_a_session_that_somebody_ends_is_restored_and_what_is_not_ours_is_never_touched() {
    let node = connected("theirs").await;
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

#[tokio::test]
async fn a22_dead_portals_delay_no_other_and_are_known_within_ten_seconds() {
    let node = RealNode::new("dead").await;
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
        // Where the tool takes too long to say why, the path has failed before for that.
        let dead = node.until_path(portal, "Failed", Some("PortalUnreachable")).await;
        let later = time_of(&dead["since"]) - good;
        assert!(later < 10, "known {later} s after the good paths");
    }
    node.guest.drop_nothing().await.unwrap();
    node.until_paths("4/4").await;
}

/// Seconds, for differences.
fn time_of(text: &Value) -> i64 {
    text.as_str().unwrap().parse::<k8s_openapi::jiff::Timestamp>().unwrap().as_second()
}

#[tokio::test]
async fn a34_input_and_output_goes_on_while_any_one_cable_portal_or_device_fails_and_comes_back() {
    let node = connected("goes-on").await;
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

#[tokio::test]
async fn a26_an_agent_that_is_stopped_or_killed_and_starts_again_costs_no_session_and_no_login() {
    let node = connected("again").await;
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

#[tokio::test]
async fn a21_an_idle_agent_starts_no_tool_and_writes_nothing() {
    let node = RealNode::new("idle").await;
    // With the lease that agents have by themselves: a short one may run out on a busy machine, and that is written.
    node.start_agent_by("", "").await;
    until_connected(&node).await;
    // The last that is written of a host that connects: its maps follow its sessions by seconds.
    let complete = |map: &Value| map["paths"] == 2 && map["active"] == 2;
    let all_told = |host: &Value| {
        host["status"]["multipath"].as_array().is_some_and(|maps| maps.len() == 2 && maps.iter().all(complete))
    };
    node.site.until("both maps with both paths", "Host", "w1", all_told).await;
    // Every start of the tool is noted from now on.
    node.guest
        .run_ok(
            "mv /usr/sbin/iscsiadm /usr/sbin/iscsiadm.real
             printf '#!/bin/sh\\necho \"$*\" >>/run/iscsiadm.calls\\nexec iscsiadm.real \"$@\"\\n' >/usr/sbin/iscsiadm
             chmod 755 /usr/sbin/iscsiadm",
        )
        .await
        .unwrap();
    let before = node.site.get("Host", "w1").await;
    let ticks = cpu_of_agent(&node).await;
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let used = cpu_of_agent(&node).await - ticks;
    println!("{used} ticks of 10 ms in {:?}", begun.elapsed());
    println!("{}", node.guest.run_ok("grep -E 'VmHWM|Rss' /proc/$(pidof multibond-node)/status").await.unwrap());
    assert_eq!(node.site.get("Host", "w1").await, before);
    assert_eq!(node.guest.run("cat /run/iscsiadm.calls").await.unwrap().stdout, "");
}

/// The CPU time that the agent has used, in ticks of 10 ms.
async fn cpu_of_agent(node: &RealNode) -> u64 {
    let stat = node.guest.run_ok("cat /proc/$(pidof multibond-node)/stat").await.unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
