//! The multipath status of a Host, compared with what multipathd reports; and an idle agent.

use std::time::{Duration, Instant};

use multibond_testbed::{Nic, eventually};
use serde_json::Value;

use crate::{
    by_hand::{ALPHA, PATIENCE, paths},
    failures::until_connected,
    node::RealNode,
    site::{condition, reason},
};

/// Waits until Host and multipathd agree on the paths and active paths of each map, and these are the expected ones.
async fn until_maps(node: &RealNode, wanted_paths: usize, wanted_active: usize) {
    eventually(&format!("two maps with {wanted_active} of {wanted_paths} paths active"), PATIENCE, async || {
        let theirs = paths(&node.guest).await;
        let host = node.site.get("Host", "w1").await;
        let ours: Vec<&Value> = host["status"]["multipath"].as_array().into_iter().flatten().collect();
        let is_as_multipathd_says = |map: &&Value| {
            let of_map = || theirs.iter().filter(|path| path.starts_with(map["wwid"].as_str().unwrap()));
            let active = of_map().filter(|path| path.contains(" active ")).count();
            (of_map().count(), active) == (wanted_paths, wanted_active)
                && (map["paths"].as_u64(), map["active"].as_u64()) == (Some(wanted_paths as u64), Some(active as u64))
                && map["target"] == ALPHA
        };
        if ours.len() == 2 && ours.iter().all(is_as_multipathd_says) {
            Ok(())
        } else {
            Err(format!("{ours:?}, {theirs:?}"))
        }
    })
    .await;
}

/// Waits for a reason of `HostPrepared`, and returns its message. The kernel sends no event when multipathd changes, so
/// another event is triggered: the agent then reads the whole state.
async fn until_prepared(node: &RealNode, wanted: &str) -> String {
    node.guest.run_ok("udevadm trigger --action=change --subsystem-match=block").await.unwrap();
    let is_said = |host: &Value| reason(host, "HostPrepared") == wanted;
    let host = node.site.until(wanted, "Host", "w1", is_said).await;
    condition(&host, "HostPrepared")["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a21_an_idle_agent_does_nothing_and_multipath_status_is_current() {
    let node = RealNode::new("multipath").await;
    // With the default lease: a short one may expire on a busy machine, and that causes a write.
    node.start_agent_by("", "").await;
    until_connected(&node).await;
    a21_an_idle_agent_starts_no_tool_and_writes_nothing(&node).await;
    multipath_status_follows_multipathd_and_lost_sessions_show_in_seconds(&node).await;
    a49_a_lun_that_is_taken_away_is_said_while_every_session_works(&node).await;
}

async fn a21_an_idle_agent_starts_no_tool_and_writes_nothing(node: &RealNode) {
    // The last write after a login: maps appear some seconds after sessions.
    let complete = |map: &Value| map["paths"] == 2 && map["active"] == 2;
    let all_told = |host: &Value| {
        host["status"]["multipath"].as_array().is_some_and(|maps| maps.len() == 2 && maps.iter().all(complete))
    };
    node.site.until("both maps with both paths", "Host", "w1", all_told).await;
    // From now on each start of iscsiadm is recorded.
    node.guest
        .run_ok(
            "mv /usr/sbin/iscsiadm /usr/sbin/iscsiadm.real
             printf '#!/bin/sh\\necho \"$*\" >>/run/iscsiadm.calls\\nexec iscsiadm.real \"$@\"\\n' >/usr/sbin/iscsiadm
             chmod 755 /usr/sbin/iscsiadm",
        )
        .await
        .unwrap();
    let before = node.site.get("Host", "w1").await;
    let ticks = cpu_of_agent(node).await;
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let used = cpu_of_agent(node).await - ticks;
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

async fn multipath_status_follows_multipathd_and_lost_sessions_show_in_seconds(node: &RealNode) {
    until_maps(node, 2, 2).await;

    node.guest.set_link(Nic::San2, false).await.unwrap();
    let lost = node.until_path("10.0.102.1:3260", "Failed", Some("PortalUnreachable")).await;
    let since: k8s_openapi::jiff::Timestamp = lost["since"].as_str().unwrap().parse().unwrap();
    let mark = node.guest.run_ok("journalctl --dmesg --output=short-unix | grep 'detected conn error'").await.unwrap();
    let mark: i64 = mark.split('.').next().unwrap().parse().unwrap();
    let after = since.as_second() - mark;
    assert!(after <= 5, "seen within 2 s, and reported when it has lasted 3 s: {after}");
    until_maps(node, 2, 1).await;
    node.guest.set_link(Nic::San2, true).await.unwrap();
    node.until_paths("2/2").await;
    until_maps(node, 2, 2).await;

    until_prepared(node, "Prepared").await;
    node.guest.run_ok("systemctl stop multipathd.socket multipathd.service").await.unwrap();
    let message = until_prepared(node, "MultipathdMissing").await;
    assert!(message.contains("multipathd does not run"), "{message}");
    let set = |value: &str| format!("sed -i 's/find_multipaths .*/find_multipaths {value}/' /etc/multipath.conf");
    node.guest.run_ok(&format!("{} && systemctl start multipathd.service", set("strict"))).await.unwrap();
    let message = until_prepared(node, "FindMultipaths").await;
    assert!(message.contains("find_multipaths"), "{message}");
    node.guest.run_ok(&format!("{} && multipathd reconfigure", set("no"))).await.unwrap();
    until_prepared(node, "Prepared").await;
    node.until_paths("2/2").await;
}

async fn a49_a_lun_that_is_taken_away_is_said_while_every_session_works(node: &RealNode) {
    let host = node.site.until("two LUNs", "Host", "w1", |host| host["status"]["luns"]["summary"] == "2/2").await;
    let healthy: Vec<&str> =
        host["status"]["luns"]["healthy"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(healthy.iter().all(|lun| lun.contains(" 2/2 ")), "{healthy:?}");
    let second = healthy.iter().find(|lun| lun.ends_with(&format!("{ALPHA}#2"))).unwrap();
    let (wwid, rest) = second.split_once(' ').unwrap();
    let size: i64 = rest.split(' ').next().unwrap().parse().unwrap();

    // tgtadm refuses ("still active") while a command is being served, such as a check of the path by multipathd.
    let delete = format!(
        "tid=$(tgtadm --lld iscsi --op show --mode target | awk '$1 == \"Target\" && $3 == \"{ALPHA}\" {{ print $2 + 0 }}')
         refused() {{ tgtadm --lld iscsi --op delete --mode logicalunit --tid $tid --lun 2 2>&1 | grep 'still active'; }}
         while refused; do sleep 0.2; done
         ! tgtadm --lld iscsi --op show --mode target | grep 'alpha lun 2'"
    );
    node.guest.run_ok(&delete).await.unwrap();
    let host =
        node.site.until("NoActivePath", "Host", "w1", |host| reason(host, "LunsHealthy") == "NoActivePath").await;
    let lun = &host["status"]["luns"]["problems"][0];
    assert_eq!((lun["at"][0]["lun"].as_i64(), lun["sizeBytes"].as_i64()), (Some(2), Some(size)));
    // A newer kernel asks the disks for their identity again, and tgt answers for a LUN that is gone with that of LUN 0.
    let of_lun_0 = format!("{}0", &wwid[..wwid.len() - 1]);
    let wwid = [wwid, &of_lun_0].into_iter().find(|wwid| lun["wwid"] == **wwid);
    let wwid = wwid.unwrap_or_else(|| panic!("{lun}")).to_owned();
    assert_eq!((lun["disks"].as_u64(), lun["active"].as_u64()), (Some(2), Some(0)), "{lun}");
    assert_eq!(host["status"]["luns"]["summary"], "1/2");
    assert_eq!(reason(&host, "FullyConnected"), "AllPathsConnected");
    let host = node.site.until("Degraded", "Host", "w1", |host| host["status"]["phase"] == "Degraded").await;
    assert!(condition(&host, "Ready")["message"].as_str().is_some_and(|it| it.contains(&wwid)), "{host}");
}
