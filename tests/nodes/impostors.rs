//! Pods that pass themselves off as the daemons of their node.

use multibond_testbed::{Guest, eventually};
use serde_json::Value;

use crate::{
    nodes::{NODES, Nodes},
    site::{PATIENCE, reason},
};

/// The daemons that the agent looks for. Each runs the tool beside it in the image.
const DAEMONS: [(&str, &str); 2] = [("iscsid", "iscsiadm"), ("multipathd", "multipathd")];
const UNITS: &str = "iscsid.socket iscsid.service multipathd.socket multipathd.service";

/// Makes an image with two programs that have the names of the daemons, and with tools of its own in the directory that is
/// searched first. A tool leaves a file in the pod's volume when it is run. The node itself does not see the tools.
const IMAGE: &str = "unshare --mount bash -c '
    set -e
    mkdir /run/impostor
    cp /usr/local/sbin/import-image /run/impostor
    mount -t tmpfs tmpfs /srv
    mount -t tmpfs tmpfs /usr/local/sbin
    for daemon in iscsid multipathd; do cp /bin/sleep /srv/$daemon; done
    for tool in iscsiadm multipathd; do
        printf \"#!/bin/sh\\n: >/evidence/$tool\\n\" >/usr/local/sbin/$tool
        chmod +x /usr/local/sbin/$tool
    done
    /run/impostor/import-image localhost/impostor:1 \"[]\" /srv/* /usr/local/sbin/* /bin/sh
    rm -r /run/impostor
'";

/// A pod that the Pod Security standard *restricted* admits, in a namespace that enforces it.
const POD: &str = "
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
";

/// The pod runs on a node whose own daemons do not run, as before the first use where systemd starts them on demand.
pub async fn an_unprivileged_pod_named_like_a_daemon_gets_nothing_and_is_logged(nodes: &Nodes) {
    let before = nodes.sessions().await;
    let ([guest, _], (node, host)) = (&nodes.guests, NODES[0]);
    guest.run_ok(IMAGE).await.unwrap();
    guest.run_ok(&format!("systemctl mask --quiet --runtime --now {UNITS}")).await.unwrap();
    nodes.kubectl_apply(POD).await;
    nodes.kubectl(&["--namespace=tenant", "wait", "--for=condition=Ready", "--timeout=5m", "pod/impostors"]).await;

    // A new agent knows no daemon, and looks for them.
    let agent = nodes.agent(node).await;
    nodes.kubectl(&["delete", "pod", agent.metadata.name.as_deref().unwrap()]).await;
    nodes.until_other_agent(node, &agent).await;
    let has_looked = |host: &Value| reason(host, "HostPrepared") == "MultipathdMissing";
    let host = nodes.site.until("no multipathd", "Host", host, has_looked).await;
    assert!(host["status"]["agent"]["initiator"].is_string(), "the host's own iscsiadm was run: {host}");
    for (daemon, _) in DAEMONS {
        let line = format!("a process that is named {daemon} is not the host's; it is ignored");
        let logs = "/var/log/pods/multibond-system_multibond-agent-*/agent/*.log";
        eventually(&line, PATIENCE, async || guest.run_ok(&format!("grep --quiet \"{line}\" {logs}")).await).await;
    }
    assert_eq!(evidence(guest).await, "", "tools of a pod were run");
    the_tools_would_have_left_evidence(guest).await;

    nodes.kubectl(&["--namespace=tenant", "delete", "pod", "impostors", "--wait"]).await;
    guest.run_ok(&format!("systemctl unmask --quiet --runtime {UNITS} && systemctl start {UNITS}")).await.unwrap();
    nodes.until_connected().await;
    assert_eq!(nodes.sessions().await, before);
}

/// Runs the tools as an agent would that enters the namespaces of the pod's processes.
async fn the_tools_would_have_left_evidence(guest: &Guest) {
    for (daemon, tool) in DAEMONS {
        let enter = format!("nsenter --mount --target $(pgrep --exact --newest {daemon}) /usr/local/sbin/{tool}");
        guest.run_ok(&enter).await.unwrap();
    }
    assert_eq!(evidence(guest).await, "iscsiadm\nmultipathd\n");
}

/// The names of the pod's tools that were run.
async fn evidence(guest: &Guest) -> String {
    guest.run_ok("ls /var/lib/kubelet/pods/*/volumes/kubernetes.io~empty-dir/evidence").await.unwrap()
}
