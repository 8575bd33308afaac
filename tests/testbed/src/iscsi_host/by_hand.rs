//! An administrator's commands on a host, and its sessions, paths and maps as the host's own tools show them.

use std::{collections::BTreeSet, time::Duration};

use crate::{Guest, eventually};

/// Enough for iscsid to notice a dead portal (10 s) and for multipathd to react, on an emulated host and a busy
/// machine.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// A target with two LUNs.
pub const ALPHA: &str = "iqn.2026-11.com.example:alpha";

/// A target with one LUN.
pub const BETA: &str = "iqn.2026-11.com.example:beta";

/// Logs in to a target through a portal, bound to an interface.
pub async fn log_in(guest: &Guest, target: &str, portal: &str, interface: &str) {
    let record = format!("iscsiadm -m node -T {target} -p {portal},1 -I hand.{interface}");
    let command = format!(
        "set -e
         if ! iscsiadm -m iface -I hand.{interface} >/dev/null 2>&1; then
           iscsiadm -m iface -I hand.{interface} --op=new
           iscsiadm -m iface -I hand.{interface} -n iface.net_ifacename -v {interface} --op=update
         fi
         {record} --op=new
         {record} -n node.session.timeo.replacement_timeout -v 5 --op=update
         {record} --login"
    );
    guest.run_ok(&command).await.unwrap();
}

/// The sessions in sysfs: `INTERFACE STATE ADDRESS TARGET` each, sorted.
pub async fn sessions(guest: &Guest) -> Vec<String> {
    let each = "cd /sys/class/iscsi_session
        for session in session*; do
          [ -e $session ] || continue
          connection=/sys/class/iscsi_connection/connection${session#session}:0
          echo $(cat $session/ifacename $session/state $connection/persistent_address $session/targetname)
        done";
    let mut sessions: Vec<_> = guest.run_ok(each).await.unwrap().lines().map(str::to_owned).collect();
    sessions.sort();
    sessions
}

/// The kernel's names of the sessions. A new session always has a new name.
pub async fn session_numbers(guest: &Guest) -> BTreeSet<String> {
    guest.run_ok("ls /sys/class/iscsi_session").await.unwrap().lines().map(str::to_owned).collect()
}

/// Waits until the host has exactly these sessions, in the form of [`sessions`].
pub async fn until_sessions(guest: &Guest, wanted: &[String]) {
    eventually(&format!("exactly {wanted:?}"), PATIENCE, async || {
        let found = sessions(guest).await;
        if found == wanted { Ok(()) } else { Err(format!("{found:#?}")) }
    })
    .await;
}

/// The states of the paths of all maps in multipathd: `MAP DM-STATE CHECKER-STATE` each, sorted.
pub async fn paths(guest: &Guest) -> Vec<String> {
    let paths = guest.run_ok("multipathd show paths raw format '%w %t %T'").await.unwrap();
    let mut paths: Vec<_> = paths.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    paths.sort();
    paths
}

/// Waits until exactly these numbers of paths are ready and have failed.
pub async fn until_paths(guest: &Guest, ready: usize, failed: usize) {
    eventually(&format!("{ready} paths ready, {failed} failed"), PATIENCE, async || {
        let paths = paths(guest).await;
        let ends = |state: &str| paths.iter().filter(|path| path.ends_with(state)).count();
        if (ends("active ready"), ends("failed faulty")) == (ready, failed) && paths.len() == ready + failed {
            Ok(())
        } else {
            Err(format!("{paths:#?}"))
        }
    })
    .await;
}

/// The device of a map with this number of paths.
pub async fn device(guest: &Guest, paths: usize) -> String {
    let maps = guest.run_ok("multipathd show maps raw format '%w %N'").await.unwrap();
    let map = maps.lines().find_map(|map| map.trim_end().strip_suffix(&format!(" {paths}"))).unwrap();
    format!("/dev/mapper/{map}")
}

/// The disks of a target through an interface record, by LUN.
pub async fn disks_of(guest: &Guest, record: &str, target: &str) -> Vec<String> {
    let each = format!(
        "cd /sys/class/iscsi_session
        for session in session*; do
          [ \"$(cat $session/ifacename $session/targetname)\" = {record}$'\\n'{target} ] || continue
          for disk in $session/device/target*/*/block/*; do basename $disk; done
        done"
    );
    guest.run_ok(&each).await.unwrap().lines().map(str::to_owned).collect()
}

/// The maps over the disks of a target through `mb.san1`, by LUN.
pub async fn maps_of(guest: &Guest, target: &str) -> Vec<String> {
    let mut maps = Vec::new();
    for disk in disks_of(guest, "mb.san1", target).await {
        let name = guest.run_ok(&format!("cat /sys/block/{disk}/holders/dm-*/dm/name")).await.unwrap();
        maps.push(format!("/dev/mapper/{}", name.trim_end()));
    }
    maps
}
