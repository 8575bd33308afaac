//! A small data center, one object at a time.

/// One target with a portal on each fabric.
pub const DATA_CENTER: &str = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: dc}
spec:
  nonOperationalAfterSeconds: 0
  storage:
  - name: array
    targets:
    - {iqn: 'iqn.2003-01.org.example:array', portals: [{address: 10.0.1.10}, {address: 10.0.2.10}]}
";

pub const SAN_A: &str = "
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-a}
spec: {dataCenter: dc, subnets: [10.0.1.0/24]}
";

pub const SAN_B: &str = "
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-b}
spec: {dataCenter: dc, subnets: [10.0.2.0/24]}
";

/// A host that carries both networks.
pub const HOST: &str = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w1}
spec:
  dataCenter: dc
  nodeName: '{ns}-w1'
  interfaces: [{name: ens1, networks: [san-a]}, {name: ens2, networks: [san-b]}]
";

pub const BOND: &str = "
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: storage}
spec: {dataCenter: dc, networks: [san-a, san-b]}
";

/// All objects, each with the name of its file.
pub const DATA_CENTER_IN_FILES: [(&str, &str); 5] = [
    ("storage/data-center.yaml", DATA_CENTER),
    ("storage/san-a.yaml", SAN_A),
    ("storage/san-b.yaml", SAN_B),
    ("storage/host.yaml", HOST),
    ("storage/bond.yaml", BOND),
];

/// The connected paths of the host.
pub const A: &str = "10.0.1.10:3260 ens1 Connected";
pub const B: &str = "10.0.2.10:3260 ens2 Connected";
