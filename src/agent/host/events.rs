//! Tells that something of the host may have changed.
//!
//! The kernel announces links and addresses (`rtnetlink(7)`), and sessions, connections, disks and maps as they come
//! and go (uevents). What it does not announce is that a session was lost: `scsi_transport_iscsi` tells iscsid of a
//! connection's error (`NETLINK_ISCSI`, `ISCSI_KEVENT_CONN_ERROR`) *before* iscsid lets it mark the session, sends no
//! uevent for the mark, and nothing at all when the session is back. Listening there would tell too early, receive
//! login exchanges that are nobody else's business, and keep the kernel from seeing that iscsid is not there. So the
//! `state` of each session is read once a second: a few microseconds each.

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

/// How often the states of the sessions are read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longer than any uevent; of a longer message the end is of no interest.
const MESSAGE: usize = 8 * 1024;

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`.
const LINKS_AND_ADDRESSES: u32 = 0x1 | 0x10 | 0x100;
/// The kernel's own uevents, not those that udev passes on.
const KERNEL_UEVENTS: u32 = 0x1;
/// Subsystems of which the inventory is made.
const SUBSYSTEMS: [&[u8]; 3] = [b"iscsi_session", b"iscsi_connection", b"block"];

/// Changes whenever the host may have. It ends with the runtime that it was called in, or with its last receiver.
///
/// # Errors
/// When the kernel gives no socket to listen on.
pub fn watch(sys: &Path) -> io::Result<watch::Receiver<()>> {
    let network = listen(NETLINK_ROUTE, LINKS_AND_ADDRESSES)?;
    let devices = listen(NETLINK_KOBJECT_UEVENT, KERNEL_UEVENTS)?;
    let changes = watch::Sender::new(());
    let receiver = changes.subscribe();
    let sys = sys.to_owned();
    tokio::spawn(async move {
        tokio::select! {
            () = changes.closed() => {}
            () = announce(&network, "links and addresses", |_| true, &changes) => {}
            () = announce(&devices, "sessions, disks and maps", concerns, &changes) => {}
            () = look(&sys, &changes) => {}
        }
    });
    Ok(receiver)
}

fn listen(protocol: isize, groups: u32) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
    Ok(socket)
}

/// Passes on what is heard, for ever.
async fn announce(socket: &TokioSocket, of: &str, concerns: impl Fn(&[u8]) -> bool, changes: &watch::Sender<()>) {
    let mut message = Vec::with_capacity(MESSAGE);
    loop {
        message.clear();
        match socket.recv(&mut message).await {
            Ok(()) if !concerns(&message) => continue,
            Ok(()) => {}
            // More has happened than the socket could keep.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {}
            Err(error) => {
                warn!(%error, "the kernel tells no more of {of}; changes are found within a minute");
                return pending().await;
            }
        }
        changes.send_replace(());
    }
}

/// A uevent: `ACTION@DEVPATH` and variables, each ended by a zero.
fn concerns(message: &[u8]) -> bool {
    let subsystem = message.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"SUBSYSTEM="));
    subsystem.is_some_and(|subsystem| SUBSYSTEMS.contains(&subsystem))
}

async fn look(sys: &Path, changes: &watch::Sender<()>) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = session_states(sys);
    loop {
        tick.tick().await;
        let found = session_states(sys);
        if found != known {
            known = found;
            changes.send_replace(());
        }
    }
}

/// The `state` of every session.
fn session_states(sys: &Path) -> Vec<(String, Option<String>)> {
    let class = sys.join("class/iscsi_session");
    let state = |name: String| {
        let state = attribute(&class.join(&name).join("state")).unwrap_or_default();
        (name, state)
    };
    names(&class).unwrap_or_default().into_iter().map(state).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn uevent(variables: &[&str]) -> Vec<u8> {
        variables.iter().flat_map(|variable| variable.bytes().chain([0])).collect()
    }

    #[test]
    fn sessions_connections_disks_and_maps_concern_the_inventory_and_nothing_else_does() {
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
            assert_eq!(concerns(&uevent(&variables)), expected, "{variables:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_is_lost_is_announced_within_two_seconds_of_the_kernels_mark() {
        let sys = tempfile::tempdir().unwrap();
        let session = sys.path().join("class/iscsi_session/session1");
        fs::create_dir_all(&session).unwrap();
        fs::write(session.join("state"), "LOGGED_IN\n").unwrap();
        let changes = watch::Sender::new(());
        let mut receiver = changes.subscribe();
        let root = sys.path().to_owned();
        tokio::spawn(async move { look(&root, &changes).await });
        let quiet = tokio::time::timeout(Duration::from_mins(1), receiver.changed()).await;
        assert!(quiet.is_err(), "nothing has changed");

        fs::write(session.join("state"), "FAILED\n").unwrap();
        tokio::time::timeout(Duration::from_secs(2), receiver.changed()).await.unwrap().unwrap();
        fs::remove_dir_all(&session).unwrap();
        tokio::time::timeout(Duration::from_secs(2), receiver.changed()).await.unwrap().unwrap();
    }
}
