//! The real binary against a faulty control plane: CRDs that are missing, objects that cannot be
//! decoded, permissions that are removed. Each test has its own control plane.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod absence;
mod controller_away;
mod freezing;
mod ratcheting;
mod restore;

use multibond_testbed::{
    ControlPlane, Process,
    site::{self, Site, fixtures, paths, ready},
};
use serde_json::Value;

const A: &str = "10.0.1.10:3260 ens1 Connected";
const B: &str = "10.0.2.10:3260 ens2 Connected";

/// A control plane for one test, with these objects of the chart; it ends with this process.
async fn control_plane(wanted: impl Fn(&Value) -> bool) -> &'static ControlPlane {
    let mut options = site::options().await.unwrap();
    options.manifests.retain(wanted);
    Box::leak(Box::new(ControlPlane::start(options).await.unwrap()))
}

/// A second data center in the namespace. Its host must not be affected.
const NEIGHBOUR: &str = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: neighbour}
spec:
  storage:
  - {name: array, targets: [{iqn: 'iqn.2003-01.org.example:other', portals: [{address: 10.0.9.10}]}]}
---
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: n1}
spec: {dataCenter: neighbour, nodeName: '{ns}-n1', interfaces: [{name: ens1, networks: []}]}
---
";

/// A host on two fabrics and a neighbour, both connected. Returns the first host.
async fn connected(cluster: &'static ControlPlane, name: &str) -> (Site, Process, Value) {
    let site = Site::on(cluster, name).await;
    let agents = site.agents(&["w1", "n1"]).await;
    site.apply(&[fixtures::TWO_FABRICS, fixtures::HOST_ON_BOTH, NEIGHBOUR, &fixtures::bond("san-a, san-b")].concat())
        .await;
    let host = site.until("connected", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;
    site.until_phase("n1", "Up").await;
    (site, agents, host)
}

/// How often a text occurs in the log.
fn count_in_log(controller: &Process, words: &str) -> usize {
    controller.log().matches(words).count()
}
