//! Only surplus sessions are logged out, and none that is in use.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    by_hand::{ALPHA, BETA, disks_of, maps_of, session_numbers, sessions, until_paths, until_sessions},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
    writer::Writer,
};

pub const EUI: &str = "eui.02004567a425678d";
pub const NAA: &str = "naa.52004567ba64678d";

/// A storage with one target, behind the portals with this number in both fabrics.
fn storage(target: &str, number: u8) -> Value {
    let portals = [101, 102].map(|fabric| json!({"address": format!("10.0.{fabric}.{number}")}));
    json!({"name": format!("array-{number}"), "targets": [{"iqn": target, "portals": portals}]})
}

/// A working session through a portal in a fabric, in the form of [`sessions`].
pub fn session(fabric: u8, number: u8, target: &str) -> String {
    format!("mb.san{fabric} LOGGED_IN 10.0.10{fabric}.{number} {target}")
}

#[tokio::test]
async fn a13_a13b_only_surplus_sessions_without_a_user_are_logged_out() {
    let node = start("logout").await;
    a13_surplus_sessions_go_but_never_the_last_good_path(&node).await;
    a26_a_map_that_a_killed_agent_has_removed_is_made_again(&node).await;
    a13b_maps_are_made_again_if_their_session_stays(&node).await;
    // The last one: LVM remembers its volume on the first map.
    a13b_a_map_in_use_keeps_its_sessions_and_its_user_is_named(&node).await;
}

/// A node with a running agent.
async fn start(name: &str) -> RealNode {
    let node = RealNode::new(name).await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.start_agent("").await;
    node
}

/// Connects the node to this storage, each target through both fabrics.
async fn connect(node: &RealNode, storage: &[Value]) {
    plan_networks(node, &["san-a", "san-b"]).await;
    plan_storage(node, storage).await;
    let all = 2 * storage.len();
    node.until_paths(&format!("{all}/{all}")).await;
}

pub async fn plan_storage(node: &RealNode, storage: &[Value]) {
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
}

async fn plan_networks(node: &RealNode, networks: &[&str]) {
    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": networks}})).await;
}

/// Waits until exactly these sessions are left, and checks that none of them is new.
async fn until_left(node: &RealNode, before: &BTreeSet<String>, left: &[String]) {
    until_sessions(&node.guest, left).await;
    let now = session_numbers(&node.guest).await;
    assert!(now.is_subset(before), "{now:?} instead of some of {before:?}");
}

/// Waits until the session through a portal is kept for this reason.
pub async fn until_kept(node: &RealNode, portal: &str, why: &str) {
    let kept = node.until_path(portal, "Retained", Some("InUse")).await;
    let message = kept["message"].as_str().unwrap();
    assert!(message.contains(why), "{portal}: {message:?} instead of {why:?}");
}

/// Waits until there is no session, no map, and no record of Multibond.
pub async fn until_no_trace(node: &RealNode) {
    node.until_nothing_is_connected().await;
    assert_eq!(sessions(&node.guest).await, [""; 0]);
    let devices = node.guest.run_ok("dmsetup ls --target multipath").await.unwrap();
    assert_eq!(devices, "No devices found\n", "no map is left");
    assert_eq!(node.guest.run("iscsiadm -m node").await.unwrap().code, Some(21), "no record is left");
}

async fn a13_surplus_sessions_go_but_never_the_last_good_path(node: &RealNode) {
    let (alpha, beta) = (storage(ALPHA, 1), storage(BETA, 2));
    connect(node, &[alpha.clone(), beta.clone()]).await;
    until_paths(&node.guest, 6, 0).await;
    let [device, other] = maps_of(&node.guest, ALPHA).await.try_into().unwrap();
    let writer = Writer::start(&node.guest, &device).await;

    // A network leaves the bond, and returns.
    let before = session_numbers(&node.guest).await;
    plan_networks(node, &["san-a"]).await;
    until_left(node, &before, &[session(1, 1, ALPHA), session(1, 2, BETA)]).await;
    plan_networks(node, &["san-a", "san-b"]).await;
    node.until_paths("4/4").await;
    until_paths(&node.guest, 6, 0).await;

    // A portal, and then a storage, leave the data center.
    let before = session_numbers(&node.guest).await;
    let one_portal = json!({"name": "array-2", "targets": [{"iqn": BETA, "portals": [{"address": "10.0.101.2"}]}]});
    plan_storage(node, &[alpha.clone(), one_portal]).await;
    until_left(node, &before, &[session(1, 1, ALPHA), session(1, 2, BETA), session(2, 1, ALPHA)]).await;
    plan_storage(node, &[alpha]).await;
    until_left(node, &before, &[session(1, 1, ALPHA), session(2, 1, ALPHA)]).await;
    writer.until_passes(2).await;

    // The planned path has failed, so the surplus path is the last good one.
    node.guest.drop_packets_to("10.0.101.1").await.unwrap();
    node.until_path("10.0.101.1:3260", "Failed", Some("PortalUnreachable")).await;
    plan_networks(node, &["san-a"]).await;
    until_kept(node, "10.0.102.1:3260", "no planned path of the target is connected").await;
    writer.until_passes(2).await;
    node.guest.drop_nothing().await.unwrap();
    until_sessions(&node.guest, &[session(1, 1, ALPHA)]).await;
    plan_networks(node, &["san-a", "san-b"]).await;
    node.until_paths("2/2").await;

    // Both paths leave the plan at once, and two others take over.
    plan_storage(node, &[storage(ALPHA, 3)]).await;
    until_sessions(&node.guest, &[session(1, 3, ALPHA), session(2, 3, ALPHA)]).await;
    writer.until_passes(2).await;
    writer.finish().await;

    // Everything leaves the plan while a process has a device open.
    node.guest.spawn("holder", &format!("exec sleep infinity <{other}")).await.unwrap();
    plan_storage(node, &[]).await;
    for portal in ["10.0.101.3:3260", "10.0.102.3:3260"] {
        until_kept(node, portal, "open in sleep").await;
    }
    assert_eq!(sessions(&node.guest).await.len(), 2);
    node.guest.run_ok("systemctl stop holder").await.unwrap();
    until_no_trace(node).await;
}

/// Needs its own host: LVM remembers the maps that another scenario has used.
#[tokio::test]
async fn a13b_a_bare_disk_in_use_keeps_its_session() {
    let node = start("bare").await;
    connect(&node, &[storage(ALPHA, 1)]).await;
    until_paths(&node.guest, 4, 0).await;
    let [_, second] = maps_of(&node.guest, ALPHA).await.try_into().unwrap();
    let wwid = second.trim_start_matches("/dev/mapper/");
    // A udev worker that still reads the map would keep multipathd from removing it.
    node.guest
        .run_ok(&format!(
            "udevadm settle
             printf 'blacklist {{\\n wwid {wwid}\\n}}\\n' >>/etc/multipath.conf && multipathd reconfigure"
        ))
        .await
        .unwrap();
    until_paths(&node.guest, 2, 0).await;

    let disk = disks_of(&node.guest, "mb.san2", ALPHA).await.pop().unwrap();
    let lvm = |command: &str| format!("lvm {command} --quiet --yes --devices /dev/{disk}");
    for command in [format!("pvcreate /dev/{disk}"), format!("vgcreate bare /dev/{disk}")] {
        node.guest.run_ok(&lvm(&command)).await.unwrap();
    }
    node.guest.run_ok(&lvm("lvcreate --extents 100%FREE --name volume bare")).await.unwrap();
    plan_networks(&node, &["san-a"]).await;
    until_kept(&node, "10.0.102.1:3260", &format!("its disk {disk} is held by dm-")).await;
    node.until_paths("1/1").await;

    node.guest.run_ok(&lvm("vgremove --force bare")).await.unwrap();
    until_sessions(&node.guest, &[session(1, 1, ALPHA)]).await;
}

async fn a13b_a_map_in_use_keeps_its_sessions_and_its_user_is_named(node: &RealNode) {
    /// A target, a command that uses its first map, the reported name of this use, and a command that ends it.
    const USES: [(&str, &str, &str, &str); 4] = [
        (
            ALPHA,
            "pvcreate --quiet $map && vgcreate --quiet data $map && lvcreate --quiet --extents 100%FREE --name volume data",
            "held by dm-",
            "vgchange --quiet --activate n data",
        ),
        (
            BETA,
            "mkfs.ext4 -q $map && systemd-run --quiet --unit=apart --property=PrivateMounts=yes \
             sh -c \"mount $map /mnt && exec sleep infinity\"",
            "mounted at /mnt",
            "systemctl stop apart",
        ),
        (EUI, "mkswap $map && swapon $map", "used as swap", "swapoff --all"),
        (NAA, "losetup --find $map", "behind loop", "losetup --detach-all"),
    ];
    let storage = USES.iter().zip(1..).map(|((target, ..), number)| storage(target, number));
    connect(node, &storage.collect::<Vec<_>>()).await;
    until_paths(&node.guest, 10, 0).await;
    for (target, begin, ..) in USES {
        let map = maps_of(&node.guest, target).await.remove(0);
        node.guest.run_ok(&format!("set -e; map={map}; {begin}")).await.unwrap();
    }
    assert_eq!(node.guest.run("mountpoint --quiet /mnt").await.unwrap().code, Some(32), "not in the host's namespace");

    // All paths of each map are surplus. No path may be logged out on the ground that the other one is still there.
    plan_storage(node, &[]).await;
    for ((_, _, word, _), number) in USES.iter().zip(1..) {
        for fabric in [101, 102] {
            until_kept(node, &format!("10.0.{fabric}.{number}:3260"), word).await;
        }
    }
    let before = session_numbers(&node.guest).await;
    assert_eq!(before.len(), 8);
    let mut left = sessions(&node.guest).await;
    for (target, .., end) in USES {
        node.guest.run_ok(end).await.unwrap();
        left.retain(|session| !session.ends_with(target));
        until_left(node, &before, &left).await;
    }
    until_no_trace(node).await;
}

/// The agent was killed between the removal of a map and the logout, and the path is planned again.
async fn a26_a_map_that_a_killed_agent_has_removed_is_made_again(node: &RealNode) {
    plan_networks(node, &["san-a"]).await;
    plan_storage(node, &[storage(ALPHA, 1)]).await;
    node.until_paths("1/1").await;
    until_paths(&node.guest, 2, 0).await;
    let maps = maps_of(&node.guest, ALPHA).await;
    node.kill_agent().await;
    node.guest.run_ok(&format!("multipath -f {}", map_name(&maps[0]))).await.unwrap();
    node.start_agent("").await;
    until_paths(&node.guest, 2, 0).await;
    assert_eq!(maps_of(&node.guest, ALPHA).await, maps);
}

/// The name of a map, as the tools know it.
fn map_name(device: &str) -> &str {
    device.trim_start_matches("/dev/mapper/")
}

async fn a13b_maps_are_made_again_if_their_session_stays(node: &RealNode) {
    plan_networks(node, &["san-a"]).await;
    plan_storage(node, &[storage(ALPHA, 1)]).await;
    node.until_paths("1/1").await;
    until_paths(&node.guest, 2, 0).await;
    let [first, second] = maps_of(&node.guest, ALPHA).await.try_into().unwrap();
    // The second map cannot be removed, after the first has been.
    node.guest
        .run_ok(&format!(
            "mv /usr/sbin/multipath /usr/sbin/multipath.real
             printf '#!/bin/sh\\necho \"$*\" >>/run/multipath.calls
             [ \"$*\" = \"-f {}\" ] && echo cannot >&2 && exit 1\\nexec /usr/sbin/multipath.real \"$@\"\\n' >/usr/sbin/multipath
             chmod 755 /usr/sbin/multipath",
            map_name(&second)
        ))
        .await
        .unwrap();
    plan_storage(node, &[]).await;
    until_kept(node, "10.0.101.1:3260", "cannot be removed: cannot").await;
    until_paths(&node.guest, 2, 0).await;
    let calls = node.guest.run_ok("cat /run/multipath.calls").await.unwrap();
    assert!(calls.contains(&format!("-f {}", map_name(&first))), "the first map was removed before: {calls}");
    node.guest.run_ok("mv /usr/sbin/multipath.real /usr/sbin/multipath").await.unwrap();
    until_no_trace(node).await;
}
