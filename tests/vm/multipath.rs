//! What is said of dm-multipath, against what it says itself.

use multibond_testbed::{Nic, eventually};
use serde_json::Value;

use crate::{
    by_hand::{ALPHA, PATIENCE, paths},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
    site::{condition, reason},
};

/// Waits until the Host tells of as many paths of each map, and as many active ones, as multipathd does, and as wanted.
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

/// Waits for a reason of `HostPrepared`, and returns its message. What multipathd does is announced by nobody, so
/// something else is: the agent looks at everything then.
async fn until_prepared(node: &RealNode, wanted: &str) -> String {
    node.guest.run_ok("udevadm trigger --action=change --subsystem-match=block").await.unwrap();
    let is_said = |host: &Value| reason(host, "HostPrepared") == wanted;
    let host = node.site.until(wanted, "Host", "w1", is_said).await;
    condition(&host, "HostPrepared")["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn multipath_is_reported_as_multipathd_has_it_and_a_lost_session_within_seconds_of_the_kernels_mark() {
    let node = RealNode::new("multipath").await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.start_agent("").await;
    node.until_paths("2/2").await;
    until_maps(&node, 2, 2).await;

    node.guest.set_link(Nic::San2, false).await.unwrap();
    let lost = node.until_path("10.0.102.1:3260", "Failed", Some("PortalUnreachable")).await;
    let since: k8s_openapi::jiff::Timestamp = lost["since"].as_str().unwrap().parse().unwrap();
    let mark = node.guest.run_ok("journalctl --dmesg --output=short-unix | grep 'detected conn error'").await.unwrap();
    let mark: i64 = mark.split('.').next().unwrap().parse().unwrap();
    let after = since.as_second() - mark;
    assert!(after <= 5, "seen within 2 s, and reported when it has lasted 3 s: {after}");
    until_maps(&node, 2, 1).await;
    node.guest.set_link(Nic::San2, true).await.unwrap();
    node.until_paths("2/2").await;
    until_maps(&node, 2, 2).await;

    until_prepared(&node, "Prepared").await;
    node.guest.run_ok("systemctl stop multipathd.socket multipathd.service").await.unwrap();
    let message = until_prepared(&node, "MultipathdMissing").await;
    assert!(message.contains("multipathd does not run"), "{message}");
    let set = |value: &str| format!("sed -i 's/find_multipaths .*/find_multipaths {value}/' /etc/multipath.conf");
    node.guest.run_ok(&format!("{} && systemctl start multipathd.service", set("strict"))).await.unwrap();
    let message = until_prepared(&node, "FindMultipaths").await;
    assert!(message.contains("find_multipaths"), "{message}");
    node.guest.run_ok(&format!("{} && multipathd reconfigure", set("no"))).await.unwrap();
    until_prepared(&node, "Prepared").await;
    node.until_paths("2/2").await;
}
