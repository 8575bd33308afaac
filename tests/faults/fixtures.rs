//! The small data center that most tests start from.

pub const TARGET: &str = "iqn.2003-01.org.example:array";

/// Two fabrics, one target with a portal on each, a bond over both, and two hosts on both.
pub const TWO_FABRICS: &str = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: dc}
spec:
  nonOperationalAfterSeconds: 2
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
kind: IscsiBond
metadata: {name: storage}
spec: {dataCenter: dc, networks: [san-a, san-b]}
---
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w1}
spec:
  dataCenter: dc
  nodeName: '{ns}-w1'
  interfaces: [{name: ens1, networks: [san-a]}, {name: ens2, networks: [san-b]}]
---
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w2}
spec:
  dataCenter: dc
  nodeName: '{ns}-w2'
  interfaces: [{name: ens1, networks: [san-a]}, {name: ens2, networks: [san-b]}]
";
