//! Small data centers for tests to start with.

/// Two fabrics told apart by subnets, one target with a portal on each.
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
";

/// A host that carries both networks.
pub const HOST_ON_BOTH: &str = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w1}
spec:
  dataCenter: dc
  nodeName: '{ns}-w1'
  interfaces: [{name: ens1, networks: [san-a]}, {name: ens2, networks: [san-b]}]
---
";

/// Hosts with these names, each of which carries both networks.
pub fn hosts_on_both(names: &[impl AsRef<str>]) -> String {
    let host = |name: &str| {
        let interfaces = "[{name: ens1, networks: [san-a]}, {name: ens2, networks: [san-b]}]";
        let spec = format!("{{dataCenter: dc, nodeName: '{{ns}}-{name}', interfaces: {interfaces}}}");
        format!("---\napiVersion: multibond.dev/v1alpha1\nkind: Host\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    names.iter().map(|name| host(name.as_ref())).collect()
}

/// A host that carries the first network only.
pub const HOST_ON_A: &str = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w2}
spec:
  dataCenter: dc
  nodeName: '{ns}-w2'
  interfaces: [{name: ens1, networks: [san-a]}, {name: mgmt, networks: []}]
---
";

/// The facts of a host on neither network: its interface is outside of every subnet.
pub const HOST_ON_NEITHER: &str = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w3}
spec: {dataCenter: dc, nodeName: '{ns}-w3', interfaces: [{name: mgmt, networks: []}]}
---
";

/// A bond named `storage` over these networks.
pub fn bond(networks: &str) -> String {
    format!(
        "
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {{name: storage}}
spec: {{dataCenter: dc, networks: [{networks}]}}
---
"
    )
}
