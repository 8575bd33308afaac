//! A pod that writes to a multipath map, and what happens around it.

use multibond_testbed::{Guest, eventually};

use crate::{
    by_hand::{ALPHA, maps_of},
    nodes::Nodes,
    site::PATIENCE,
};

/// An image with the verified writer of the tests on one host, which writes to the disk that the pod gets.
const IMAGE: &str = r#"import-image localhost/writer:1 '["/bin/bash", "/usr/local/sbin/writer", "/dev/disk"]' \
    /usr/local/sbin/writer /bin/bash /usr/bin/seq /usr/bin/head /usr/bin/dd /usr/bin/cmp"#;

/// A local volume on a map, and a pod without privileges that gets it as a block device. kubelet keeps a volume of a block
/// device by a loop device over a node that has a name of its own.
const WORKLOAD: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: workload}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: workload, namespace: workload}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: map}
spec:
  capacity: {storage: 1Mi}
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  storageClassName: by-hand
  claimRef: {namespace: workload, name: map}
  local: {path: MAP}
  nodeAffinity:
    required:
      nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node-2]}]}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: map, namespace: workload}
spec:
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  storageClassName: by-hand
  volumeName: map
  resources: {requests: {storage: 1Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer, namespace: workload}
spec:
  serviceAccountName: workload
  automountServiceAccountToken: false
  restartPolicy: Never
  volumes:
  - name: map
    persistentVolumeClaim: {claimName: map}
  - name: run
    emptyDir: {}
  containers:
  - name: writer
    image: localhost/writer:1
    imagePullPolicy: Never
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeDevices: [{name: map, devicePath: /dev/disk}]
    volumeMounts: [{name: run, mountPath: /run}]
";

/// A map that kubelet has given to a pod, through restarts of everything that has started this pod.
pub async fn a_map_in_a_pod_loses_no_byte_and_no_session(nodes: &Nodes) {
    let before = nodes.sessions().await;
    let guest = &nodes.guests[1];
    guest.run_ok(&format!("modprobe loop && {IMAGE}")).await.unwrap();
    let map = maps_of(guest, ALPHA).await.remove(0);
    nodes.kubectl_apply(&WORKLOAD.replace("MAP", &map)).await;
    until_passes(guest, 1).await;

    for service in ["containerd", "kubelet"] {
        guest.run_ok(&format!("systemctl restart {service}")).await.unwrap();
        until_passes(guest, 1).await;
    }
    nodes.until_connected().await;
    assert_eq!(nodes.sessions().await, before);
    let phase =
        nodes.kubectl(&["--namespace=workload", "get", "pod", "writer", "-o", "jsonpath={.status.phase}"]).await;
    assert_eq!(phase, "Running", "the writer has found no wrong byte");
    nodes.kubectl(&["--namespace=workload", "delete", "pod", "writer", "--wait"]).await;
}

/// Waits until the pod has written and read this number of times from now on.
async fn until_passes(guest: &Guest, more: usize) {
    let before = passes(guest).await;
    eventually(&format!("{more} more passes of the pod"), PATIENCE, async || {
        let now = passes(guest).await;
        if now >= before + more { Ok(()) } else { Err(format!("{} of them", now - before)) }
    })
    .await;
}

async fn passes(guest: &Guest) -> usize {
    let count = "cat /var/log/pods/workload_writer_*/writer/*.log 2>/dev/null | grep --count ' pass ' || true";
    guest.run_ok(count).await.unwrap().trim().parse().unwrap()
}
