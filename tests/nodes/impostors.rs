//! Pods that pass themselves off as the daemons of their node.

use multibond_testbed::{Guest, eventually};
use serde_json::{Value, json};

use crate::{
    by_hand::ALPHA,
    nodes::{NODES, Nodes},
    site::{PATIENCE, condition, reason},
};

/// The daemons that the agent looks for. Each runs the tool beside it in the image.
const DAEMONS: [(&str, &str); 2] = [("iscsid", "iscsiadm"), ("multipathd", "multipathd")];
const UNITS: &str = "iscsid.socket iscsid.service multipathd.socket multipathd.service";

/// Makes an image with programs that have the names of the daemons and of a tool, and with tools of its own in the directory
/// that is searched first. A tool leaves a file in the pod's volume when it is run. The node itself does not see the tools.
const IMAGE: &str = "unshare --mount bash -c '
    set -e
    mkdir /run/impostor
    cp /usr/local/sbin/import-image /run/impostor
    mount -t tmpfs tmpfs /srv
    mount -t tmpfs tmpfs /usr/local/sbin
    for name in iscsid multipathd iscsiadm; do cp /bin/sleep /srv/$name; done
    for tool in iscsiadm multipathd; do
        printf \"#!/bin/sh\\n: >/evidence/$tool\\n\" >/usr/local/sbin/$tool
        chmod +x /usr/local/sbin/$tool
    done
    /run/impostor/import-image localhost/impostor:1 \"[]\" /srv/* /usr/local/sbin/* /bin/sh /usr/bin/perl
    rm -r /run/impostor
'";

/// Pods without capabilities. The first one is admitted by the Pod Security standard *restricted*, in a namespace that
/// enforces it. The second one is in the host's network and sees the host's processes: it is root with the names of the
/// daemons, and another user where iscsid listens, who would note what a login says to him.
const PODS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: tenant, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: tenant, namespace: tenant}
---
apiVersion: v1
kind: Pod
metadata: {name: impostors, namespace: tenant}
spec:
  nodeName: node-1
  serviceAccountName: tenant
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 65534, seccompProfile: {type: RuntimeDefault}}
  volumes: [{name: evidence, emptyDir: {}}]
  containers:
  - &container
    name: iscsid
    image: localhost/impostor:1
    imagePullPolicy: Never
    command: [/srv/iscsid, '3600']
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: evidence, mountPath: /evidence}]
  - <<: *container
    name: multipathd
    command: [/srv/multipathd, '3600']
  - <<: *container
    name: iscsiadm
    command: [/srv/iscsiadm, '3600']
---
apiVersion: v1
kind: Namespace
metadata: {name: insiders}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: insiders, namespace: insiders}
---
apiVersion: v1
kind: Pod
metadata: {name: impostors, namespace: insiders}
spec:
  nodeName: node-1
  serviceAccountName: insiders
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  hostNetwork: true
  hostPID: true
  volumes: [{name: evidence, emptyDir: {}}]
  containers:
  - &container
    name: iscsid
    image: localhost/impostor:1
    imagePullPolicy: Never
    command: [/srv/iscsid, '3600']
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: evidence, mountPath: /evidence}]
  - <<: *container
    name: multipathd
    command: [/srv/multipathd, '3600']
  - <<: *container
    name: listener
    securityContext: {runAsUser: 65534, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    command:
    - /usr/bin/perl
    - -e
    - |
      socket(S, 1, 1, 0) and bind(S, pack("S a*", 1, "\0ISCSIADM_ABSTRACT_NAMESPACE")) and listen(S, 9) or die $!;
      while (accept(C, S)) { sysread(C, $said, 65536); open(F, ">/evidence/told"); close(F) }
"#;
const PODS_BY_NAMESPACE: [&str; 2] = ["tenant", "insiders"];

/// Why the agent ignores their processes.
const REASONS: [&str; 2] = ["it runs as user 65534, not as root", "it is in the cgroup of a pod"];

/// A lock that a killed iscsiadm has left.
const LEAVE_LOCK: &str = "mkdir -p /run/lock/iscsi && touch --date='1 hour ago' /run/lock/iscsi/lock{,.write}";

/// The pods run on a node whose own daemons do not run, as before the first use where systemd starts them on demand.
pub async fn pods_named_like_a_daemon_get_nothing_and_are_logged(nodes: &Nodes) {
    let before = nodes.sessions().await;
    let ([guest, _], (node, host)) = (&nodes.guests, NODES[0]);
    guest.run_ok(IMAGE).await.unwrap();
    guest.run_ok(&format!("systemctl mask --quiet --runtime --now {UNITS}")).await.unwrap();
    nodes.kubectl_apply(PODS).await;
    for namespace in PODS_BY_NAMESPACE {
        let namespace = format!("--namespace={namespace}");
        nodes.kubectl(&[&namespace, "wait", "--for=condition=Ready", "--timeout=5m", "pod/impostors"]).await;
    }

    // A new agent knows no daemon, and looks for them.
    let agent = nodes.agent(node).await;
    nodes.kubectl(&["delete", "pod", agent.metadata.name.as_deref().unwrap()]).await;
    nodes.until_other_agent(node, &agent).await;
    let has_looked = |host: &Value| reason(host, "HostPrepared") == "MultipathdMissing";
    let found = nodes.site.until("no multipathd", "Host", host, has_looked).await;
    assert!(found["status"]["agent"]["initiator"].is_string(), "the host's own iscsiadm was run: {found}");
    let message = condition(&found, "HostPrepared")["message"].to_string();
    assert!(message.contains("is ignored, because it is in the cgroup of a pod"), "{message}");
    for daemon in DAEMONS.map(|(daemon, _)| daemon) {
        for reason in REASONS {
            let line = format!("a process that is named {daemon} is not the host's; it is ignored.*{reason}");
            let logs = "/var/log/pods/multibond-system_multibond-agent-*/agent/*.log";
            eventually(&line, PATIENCE, async || guest.run_ok(&format!("grep --quiet \"{line}\" {logs}")).await).await;
        }
    }
    a_login_says_nothing_to_another_user(nodes).await;
    assert_eq!(evidence(guest).await, "", "what is a pod's was run, or was told something");
    the_tools_would_have_left_evidence(guest).await;

    for namespace in PODS_BY_NAMESPACE {
        nodes.kubectl(&[&format!("--namespace={namespace}"), "delete", "pod", "impostors", "--wait"]).await;
    }
    guest.run_ok(&format!("systemctl unmask --quiet --runtime {UNITS} && systemctl start {UNITS}")).await.unwrap();
    nodes.until_connected().await;
    assert_eq!(nodes.sessions().await, before);
}

/// One more path, whose record needs the lock, and whose login needs iscsid.
async fn a_login_says_nothing_to_another_user(nodes: &Nodes) {
    let guest = &nodes.guests[0];
    guest.run_ok(&format!("grep --quiet @ISCSIADM_ABSTRACT_NAMESPACE /proc/net/unix && {LEAVE_LOCK}")).await.unwrap();
    let storage = |portals: &[&str]| {
        let portals: Vec<_> = portals.iter().map(|address| json!({"address": address})).collect();
        json!({"spec": {"storage": [{"name": "array", "targets": [{"iqn": ALPHA, "portals": portals}]}]}})
    };
    let planned = ["10.0.101.1", "10.0.102.1", "10.0.101.2"];
    nodes.site.patch("DataCenter", "hall", storage(&planned)).await;
    let refused = |host: &Value| {
        let connections = host["status"]["connections"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_new = |path: &&Value| path["portal"] == "10.0.101.2:3260";
        connections.iter().find(is_new).is_some_and(|path| path["reason"] == "InitiatorDown")
    };
    let host = nodes.site.until("no login", "Host", NODES[0].1, refused).await;
    assert!(host["status"].to_string().contains("a process of user 65534 listens in place of iscsid"), "{host}");
    let lock = guest.run("test -e /run/lock/iscsi/lock.write").await.unwrap();
    assert_eq!(lock.code, Some(1), "a process named iscsiadm does not keep the lock");
    nodes.site.patch("DataCenter", "hall", storage(&planned[..2])).await;
}

/// Runs the tools as an agent would that enters the namespaces of the pods' processes.
async fn the_tools_would_have_left_evidence(guest: &Guest) {
    for (daemon, tool) in DAEMONS {
        let enter = format!("nsenter --mount --target $(pgrep --exact --newest {daemon}) /usr/local/sbin/{tool}");
        guest.run_ok(&enter).await.unwrap();
    }
    assert_eq!(evidence(guest).await, "iscsiadm\nmultipathd\n");
}

/// The names of the pods' tools that were run, and `told` if one of them was told something.
async fn evidence(guest: &Guest) -> String {
    let files = "find /var/lib/kubelet/pods/*/volumes/kubernetes.io~empty-dir/evidence -type f -printf '%f\\n' | sort";
    guest.run_ok(files).await.unwrap()
}
