//! Level K, where the control plane itself is not as it should be: kinds that are missing, objects that cannot be
//! decoded, permissions that are taken away. Each has a control plane of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod absence;
mod controller_away;
mod freezing;

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

/// One more data center in the namespace, with a host that nothing must happen to.
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

/// A host on two fabrics and a neighbour, both connected; the first as it is.
async fn connected(cluster: &'static ControlPlane, name: &str) -> (Site, Process, Value) {
    let site = Site::on(cluster, name).await;
    let agents = site.agents(&["w1", "n1"]).await;
    site.apply(&[fixtures::TWO_FABRICS, fixtures::HOST_ON_BOTH, NEIGHBOUR, &fixtures::bond("san-a, san-b")].concat())
        .await;
    let host = site.until("connected", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;
    site.until_phase("n1", "Up").await;
    (site, agents, host)
}

/// How often a log says this.
fn said(controller: &Process, words: &str) -> usize {
    controller.log().matches(words).count()
}
