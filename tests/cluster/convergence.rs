//! Hosts come to hold the paths that are declared, whatever changes.

use super::site::{PATIENCE, Site, paths, ready};

/// Two fabrics, one target with a portal on each, a bond over both; host `w1` carries both networks.
pub const TWO_FABRICS: &str = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: dc}
spec:
  storage:
  - name: array
    targets:
    - {iqn: 'iqn.2003-01.org.example:array', portals: [{address: 10.0.1.10}, {address: 10.0.2.10}]}
---
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-a}
spec: {dataCenter: dc, subnets: [10.0.1.0/24]}
---
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-b}
spec: {dataCenter: dc, subnets: [10.0.2.0/24]}
---
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w1}
spec:
  dataCenter: dc
  nodeName: '{ns}-w1'
  interfaces: [{name: ens1, networks: [san-a]}, {name: ens2, networks: [san-b]}]
";

pub const BOND_OVER_BOTH: &str = "
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: storage}
spec: {dataCenter: dc, networks: [san-a, san-b]}
";

#[tokio::test]
async fn a10_a_new_host_connects_all_planned_paths() {
    let site = Site::new("a10").await;
    let _agents = site.agents(&["w1"]).await;
    site.apply(&format!("{TWO_FABRICS}---{BOND_OVER_BOTH}")).await;
    let host = site.until_phase("w1", "Up").await;
    assert_eq!(paths(&host), ["10.0.1.10:3260 ens1 Connected", "10.0.2.10:3260 ens2 Connected"]);
    let bond = site.until("Ready", "IscsiBond", "storage", ready).await;
    assert_eq!(bond["status"]["summary"], serde_json::json!({"hosts": "1/1", "paths": "2/2"}));
    let _ = PATIENCE;
}
