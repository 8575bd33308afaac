//! Notices changes of the host.
//!
//! The kernel announces changes of links and addresses (`rtnetlink(7)`), and sessions, connections, disks and maps that
//! appear or vanish (uevents). It does not announce that a session failed or recovered. `scsi_transport_iscsi` only tells
//! iscsid about a connection error (`NETLINK_ISCSI`, `ISCSI_KEVENT_CONN_ERROR`). Listening to that socket is not an
//! option: the message comes before the state of the session changes, nothing comes when the session recovers, the
//! socket carries the credentials of logins, and the kernel would no longer notice that iscsid does not run. So the
//! `state` of each session is read once per second; that takes a few microseconds.

use std::{future::pending, io, path::Path, time::Duration};

use rtnetlink::sys::{
    AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket,
    protocols::{NETLINK_KOBJECT_UEVENT, NETLINK_ROUTE},
};
use rustix::io::Errno;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::warn;

use super::sysfs::{attribute, names};

/// The interval at which the states of the sessions are read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Longer than any uevent. The end of a longer message is not needed.
const MESSAGE_SIZE: usize = 8 * 1024;

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`.
const LINKS_AND_ADDRESSES: u32 = 0x1 | 0x10 | 0x100;
/// The uevents of the kernel, not those that udev sends.
const KERNEL_UEVENTS: u32 = 0x1;
/// The subsystems that an inventory is read from.
const SUBSYSTEMS: [&[u8]; 3] = [b"iscsi_session", b"iscsi_connection", b"block"];

/// Returns a channel that changes whenever the host may have changed. The task behind it ends when the last receiver is
/// dropped.
///
/// # Errors
/// If the kernel refuses a netlink socket.
pub fn watch(sys: &Path) -> io::Result<watch::Receiver<()>> {
    let network = listen(NETLINK_ROUTE, LINKS_AND_ADDRESSES)?;
    let devices = listen(NETLINK_KOBJECT_UEVENT, KERNEL_UEVENTS)?;
    let changes = watch::Sender::new(());
    let receiver = changes.subscribe();
    let sys = sys.to_owned();
    tokio::spawn(async move {
        tokio::select! {
            () = changes.closed() => {}
            () = forward(&network, "links and addresses", |_| true, &changes) => {}
            () = forward(&devices, "sessions, disks and maps", is_relevant, &changes) => {}
            () = poll_session_states(&sys, &changes) => {}
        }
    });
    Ok(receiver)
}

fn listen(protocol: isize, groups: u32) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
    Ok(socket)
}

/// Forwards events for ever.
async fn forward(socket: &TokioSocket, what: &str, is_relevant: impl Fn(&[u8]) -> bool, changes: &watch::Sender<()>) {
    let mut message = Vec::with_capacity(MESSAGE_SIZE);
    loop {
        message.clear();
        match socket.recv(&mut message).await {
            Ok(()) if !is_relevant(&message) => continue,
            Ok(()) => {}
            // The socket's buffer was full and events were lost: report a change.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {}
            Err(error) => {
                warn!(%error, "cannot receive events about {what} any more; changes are found within a minute");
                return pending().await;
            }
        }
        changes.send_replace(());
    }
}

/// Whether a uevent concerns the inventory. Its format: `ACTION@DEVPATH` and variables, each with a final zero.
fn is_relevant(message: &[u8]) -> bool {
    let subsystem = message.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"SUBSYSTEM="));
    subsystem.is_some_and(|subsystem| SUBSYSTEMS.contains(&subsystem))
}

async fn poll_session_states(sys: &Path, changes: &watch::Sender<()>) {
    let mut tick = interval(POLL_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = session_states(sys);
    loop {
        tick.tick().await;
        let found = session_states(sys);
        if found != last {
            last = found;
            changes.send_replace(());
        }
    }
}

/// The `state` of every session.
fn session_states(sys: &Path) -> Vec<(String, Option<String>)> {
    let class = sys.join("class/iscsi_session");
    let sessions = names(&class).unwrap_or_default().into_iter();
    sessions
        .map(|name| {
            let state = attribute(&class.join(&name).join("state")).unwrap_or_default();
            (name, state)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fuzz::{Parsed, fuzz};

    fn uevent(variables: &[&str]) -> Vec<u8> {
        variables.iter().flat_map(|variable| variable.bytes().chain([0])).collect()
    }

    #[test]
    fn only_events_of_sessions_connections_disks_and_maps_are_relevant() {
        let session = "add@/devices/platform/host2/session1/iscsi_session/session1";
        let map = "change@/devices/virtual/block/dm-0";
        let cases = [
            (vec![session, "ACTION=add", "SUBSYSTEM=iscsi_session", "SEQNUM=1"], true),
            (vec!["add@/devices/x", "ACTION=add", "SUBSYSTEM=iscsi_connection"], true),
            (vec![map, "ACTION=change", "SUBSYSTEM=block", "DM_ACTION=PATH_FAILED"], true),
            (vec!["change@/devices/battery", "ACTION=change", "SUBSYSTEM=power_supply"], false),
            (vec!["add@/devices/block", "ACTION=add"], false),
            (vec![], false),
        ];
        for (variables, expected) in cases {
            assert_eq!(is_relevant(&uevent(&variables)), expected, "{variables:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_a_sessions_state_is_noticed_within_two_seconds() {
        let sys = tempfile::tempdir().unwrap();
        let session = sys.path().join("class/iscsi_session/session1");
        fs::create_dir_all(&session).unwrap();
        fs::write(session.join("state"), "LOGGED_IN\n").unwrap();
        let changes = watch::Sender::new(());
        let mut receiver = changes.subscribe();
        let root = sys.path().to_owned();
        tokio::spawn(async move { poll_session_states(&root, &changes).await });
        let quiet = tokio::time::timeout(Duration::from_mins(1), receiver.changed()).await;
        assert!(quiet.is_err(), "nothing has changed");

        fs::write(session.join("state"), "FAILED\n").unwrap();
        tokio::time::timeout(Duration::from_secs(2), receiver.changed()).await.unwrap().unwrap();
        fs::remove_dir_all(&session).unwrap();
        tokio::time::timeout(Duration::from_secs(2), receiver.changed()).await.unwrap().unwrap();
    }

    fuzz! {
        any_uevent_is_read: "uevent" => |input| {
            is_relevant(input);
            Parsed::new()
        };
    }
}
