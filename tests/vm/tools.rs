//! The agent in a pod: how it reaches the host's open-iscsi from there.

use multibond_testbed::Guest;
use serde_json::json;

use crate::{
    by_hand::{ALPHA, sessions},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
};

/// What the agent's image has, the program alone (with its libraries: here it is not the static one), and what a pod with
/// the host's network and process IDs mounts in it. Neither open-iscsi nor its files are there, save below `/host`.
const POD: &str = "
    set -e
    mkdir -p /srv/pod/{proc,sys,dev,host,tmp,root}
    program=/usr/local/bin/multibond-node
    cp --parents $program $(ldd $program | grep -o '/[^ ]*' | sort -u) /srv/pod
    cp /root/kubeconfig /srv/pod/root
    for directory in proc sys dev; do mount --rbind /$directory /srv/pod/$directory; done
    mount --rbind / /srv/pod/host
";

/// The program that runs another in the pod, in a mount namespace of its own.
const IN_POD: &str = "unshare --mount --root=/srv/pod";

/// Puts the pod's files on the host.
async fn make_pod(guest: &Guest) {
    guest.run_ok(POD).await.unwrap();
    let found = guest.run(&format!("{IN_POD} multibond-node enter / iscsiadm")).await.unwrap();
    assert_eq!(found.code, Some(127), "the image has no open-iscsi: {found:?}");
}

#[tokio::test]
async fn an_agent_in_a_pod_reaches_the_hosts_tools_by_the_daemons_namespaces_and_by_a_chroot_and_says_which() {
    let node = RealNode::new("pod").await;
    make_pod(&node.guest).await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.start_agent_by(IN_POD, "").await;
    let host = node.until_paths("2/2").await;
    let version = node.guest.run_ok("iscsiadm --version").await.unwrap();
    let version = version.trim().rsplit(' ').next().unwrap();
    assert_eq!(host["status"]["agent"]["initiator"], format!("open-iscsi {version} (nsenter)"));
    assert_eq!(host["status"]["agent"]["initiatorName"], "iqn.2026-11.com.example:host-1");
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    node.until_nothing_is_connected().await;
    node.stop_agent().await;

    node.start_agent_by(IN_POD, "--host-tools chroot").await;
    let chroot = format!("open-iscsi {version} (chroot /host)");
    node.site.until(&chroot, "Host", "w1", |host| host["status"]["agent"]["initiator"] == chroot).await;
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": false}})).await;
    let host = node.until_paths("2/2").await;
    assert_eq!(host["status"]["agent"]["initiatorName"], "iqn.2026-11.com.example:host-1");
    let bound = ["mb.san1 LOGGED_IN 10.0.101.1", "mb.san2 LOGGED_IN 10.0.102.1"];
    assert_eq!(sessions(&node.guest).await, bound.map(|path| format!("{path} {ALPHA}")));
}
