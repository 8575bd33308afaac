//! One host in each state that statuses of another version can be misread in.

use multibond_testbed::site::{condition, phase, ready, reason};
use serde_json::{Value, json};

use super::site::Site;

/// The nodes, which are the names of the Hosts too.
pub const NODES: [&str; 10] = ["up", "lost", "degraded", "resting", "busy", "kept", "down", "keyed", "bare", "edited"];

/// The data centers. Objects of one that is Frozen are not followed, so what could freeze it has one of its own.
pub const DATA_CENTERS: [&str; 6] = ["plain", "held", "dead", "secret", "bare", "edited"];

/// The hosts whose state does not change, with their data center.
const HOSTS: [(&str, &str); 10] = [
    ("up", "plain"),
    ("lost", "plain"),
    ("degraded", "plain"),
    ("resting", "plain"),
    ("busy", "plain"),
    ("kept", "held"),
    ("down", "dead"),
    ("keyed", "secret"),
    ("bare", "bare"),
    ("edited", "edited"),
];

/// A data center over two networks; `number` tells the addresses apart.
fn data_center(name: &str, number: usize, has_bond: bool) -> String {
    let (a, b) = (number * 2, number * 2 + 1);
    let target = format!("iqn.2003-01.org.example:{name}");
    let network = |suffix: &str, subnet: usize| {
        format!(
            "---\napiVersion: multibond.dev/v1alpha1\nkind: Network\nmetadata: {{name: {name}-{suffix}}}\n\
             spec: {{dataCenter: {name}, subnets: [10.1.{subnet}.0/24]}}\n"
        )
    };
    let bond = format!(
        "---\napiVersion: multibond.dev/v1alpha1\nkind: IscsiBond\nmetadata: {{name: {name}}}\n\
         spec: {{dataCenter: {name}, networks: [{name}-a, {name}-b]}}\n"
    );
    let (after, taint) = if name == "dead" { (0, "NoSchedule") } else { (3600, "None") };
    format!(
        "---\napiVersion: multibond.dev/v1alpha1\nkind: DataCenter\nmetadata: {{name: {name}}}\nspec:\n  \
         nonOperationalAfterSeconds: {after}\n  nonOperationalTaint: {taint}\n  storage:\n  - name: array\n    targets:\n    \
         - {{iqn: '{target}', portals: [{{address: 10.1.{a}.10}}, {{address: 10.1.{b}.10}}]}}\n{}{}{}",
        network("a", a),
        network("b", b),
        if has_bond { &bond } else { "" }
    )
}

fn host((name, data_center): (&str, &str)) -> String {
    let interfaces =
        format!("[{{name: ens1, networks: [{data_center}-a]}}, {{name: ens2, networks: [{data_center}-b]}}]");
    format!(
        "---\napiVersion: multibond.dev/v1alpha1\nkind: Host\nmetadata: {{name: {name}}}\n\
         spec: {{dataCenter: {data_center}, nodeName: '{{ns}}-{name}', interfaces: {interfaces}}}\n"
    )
}

/// Connects all hosts, and then brings each into its state.
pub async fn declare(site: &Site) {
    let data_centers = DATA_CENTERS.iter().enumerate();
    let mut yaml: String = data_centers.map(|(number, name)| data_center(name, number + 1, *name != "bare")).collect();
    yaml.extend(HOSTS.map(host));
    site.apply(&yaml).await;
    for name in NODES {
        site.until("Up", "Host", name, |host| phase(host) == "Up" && ready(host)).await;
    }
    site.faults(
        "faults:
- {host: lost, fault: Unreachable}
- {host: down, fault: Unreachable}
- {host: degraded, interface: ens2, fault: Unreachable}
- {host: busy, fault: InUse}",
    );
    for name in ["lost", "degraded", "down"] {
        site.until("without a session", "Host", name, |host| phase(host) != "Up").await;
    }
    for name in ["resting", "busy"] {
        site.patch("Host", name, json!({"spec": {"maintenance": true}})).await;
    }
    // A name that resolves to nothing, and a Secret that does not exist: both while sessions live.
    site.patch("IscsiBond", "held", json!({"spec": {"networks": ["gone"]}})).await;
    let portals = [json!({"address": "10.1.8.10"}), json!({"address": "10.1.9.10"})];
    let target = json!({"iqn": "iqn.2003-01.org.example:secret", "portals": portals, "secretRef": {"name": "chap"}});
    let storage = json!([{"name": "array", "targets": [target]}]);
    site.patch("DataCenter", "secret", json!({"spec": {"storage": storage}})).await;
}

/// Whether a host shows its state, whatever the versions of those who write it.
pub fn is_in_state(name: &str, host: &Value) -> bool {
    let operational = condition(host, "Operational")["status"].as_str().unwrap_or_default();
    match name {
        "lost" => phase(host) == "Connecting" && operational == "Unknown",
        "degraded" => phase(host) == "Degraded" && operational == "True",
        "resting" => phase(host) == "Maintenance" && ready(host),
        "busy" => phase(host) == "Maintenance" && reason(host, "Ready") == "Disconnecting",
        "down" => phase(host) == "NonOperational",
        "kept" => phase(host) == "Up",
        _ => phase(host) == "Up" && ready(host),
    }
}
