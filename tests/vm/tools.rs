//! The agent in a pod: how it reaches the host's open-iscsi.

use multibond_testbed::{Guest, eventually};
use serde_json::{Value, json};

use crate::{
    by_hand::{ALPHA, PATIENCE, sessions},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
    same_subnet::a35_two_interfaces_in_one_subnet_are_warned_of_with_working_advice,
};

/// The files of the agent's pod: the program (with its libraries, as it is not the static one here) and the mounts of
/// the chart. open-iscsi is only below `/host`.
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

/// A process of an unprivileged pod that is named iscsid, with an iscsiadm in the directory that is searched first.
const IMPOSTOR: &str = "
    mkdir -p /srv/impostor
    cp /bin/sleep /srv/impostor/iscsid
    printf '#!/bin/sh\\nid >/srv/impostor/ran\\n' >/srv/impostor/iscsiadm
    chmod +x /srv/impostor/iscsiadm
    exec unshare --mount --net --pid --fork --mount-proc bash -c '
        mount --bind /srv/impostor /usr/local/sbin
        exec setpriv --reuid 65534 --clear-groups --bounding-set=-all --no-new-privs iscsid 600
    '
";

/// Puts the pod's files on the host.
async fn make_pod(guest: &Guest) {
    guest.run_ok(POD).await.unwrap();
    let found = guest.run(&format!("{IN_POD} multibond-node enter / iscsiadm")).await.unwrap();
    assert_eq!(found.code, Some(127), "the image has no open-iscsi: {found:?}");
}

#[tokio::test]
async fn a35_agent_in_a_pod_uses_host_tools_and_advises_on_one_subnet() {
    let node = RealNode::new("tools").await;
    a_process_that_calls_itself_iscsid_gets_nothing_run_as_root(&node).await;
    an_agent_in_a_pod_runs_the_hosts_tools_by_nsenter_and_by_chroot(&node).await;
    node.stop_agent().await;
    a35_two_interfaces_in_one_subnet_are_warned_of_with_working_advice(&node).await;
}

/// Needs a host where iscsid does not run, for example because it is started on demand: no other process has that name.
async fn a_process_that_calls_itself_iscsid_gets_nothing_run_as_root(node: &RealNode) {
    make_pod(&node.guest).await;
    node.stop_iscsid().await;
    node.guest.spawn("impostor", IMPOSTOR).await.unwrap();
    eventually("the impostor runs", PATIENCE, async || node.guest.run_ok("pgrep --exact iscsid").await).await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.start_agent_by(IN_POD, "").await;
    let has_version = |host: &Value| host["status"]["agent"]["initiator"].is_string();
    node.site.until("the version of iscsiadm", "Host", "w1", has_version).await;
    node.stop_agent().await;
    assert_eq!(node.guest.run("cat /srv/impostor/ran").await.unwrap().stdout, "", "its iscsiadm was run");
    let log = node.guest.log("agent").await.unwrap();
    assert!(log.contains("a process that is named iscsid is not the host's; it is ignored"), "{log}");
    node.guest.run_ok("systemctl stop impostor").await.unwrap();
    node.start_iscsid().await;
}

async fn an_agent_in_a_pod_runs_the_hosts_tools_by_nsenter_and_by_chroot(node: &RealNode) {
    node.start_agent_by(IN_POD, "").await;
    let host = node.until_paths("2/2").await;
    let version = node.guest.run_ok("iscsiadm --version").await.unwrap();
    let version = version.trim().rsplit(' ').next().unwrap();
    assert_eq!(host["status"]["agent"]["initiator"], format!("open-iscsi {version} (nsenter)"));
    assert_eq!(host["status"]["agent"]["initiatorName"], node.initiator_name());
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    node.until_nothing_is_connected().await;
    node.stop_agent().await;

    node.start_agent_by(IN_POD, "--host-tools chroot").await;
    let chroot = format!("open-iscsi {version} (chroot /host)");
    node.site.until(&chroot, "Host", "w1", |host| host["status"]["agent"]["initiator"] == chroot).await;
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": false}})).await;
    let host = node.until_paths("2/2").await;
    assert_eq!(host["status"]["agent"]["initiatorName"], node.initiator_name());
    let bound = ["mb.san1 LOGGED_IN 10.0.101.1", "mb.san2 LOGGED_IN 10.0.102.1"];
    assert_eq!(sessions(&node.guest).await, bound.map(|path| format!("{path} {ALPHA}")));
}
