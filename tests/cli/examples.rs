//! `examples/` is what a new user applies first: it must plan without any problem.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::multibond;

#[test]
fn the_examples_have_no_problems() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut plan = multibond(&["plan", "-o", "json", "-f"]);
    let output = plan.arg(examples).assert().success().get_output().stdout.clone();
    let report: Value = serde_json::from_slice(&output).unwrap();

    assert_eq!(report["problems"], Value::Array(Vec::new()));
    let paths: BTreeMap<&str, Vec<String>> = report["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|host| (host["name"].as_str().unwrap(), host["paths"].as_array().unwrap().iter().map(shown).collect()))
        .collect();
    let through = |a: &str, b: &str| {
        let portals = [("10.0.1.10", a), ("10.0.1.11", a), ("10.0.2.10", b), ("10.0.2.11", b)];
        portals.map(|(address, way)| format!("{address}:3260 through {way}")).to_vec()
    };
    let expected = BTreeMap::from([
        ("worker-1", through("ens2f0 san-a", "ens2f1 san-b")),
        ("worker-2", through("ens5f0 san-a", "ens5f1 san-b")),
        ("worker-3", through("default default", "default default")),
    ]);
    assert_eq!(paths, expected);
}

fn shown(path: &Value) -> String {
    let [interface, network] = ["interface", "network"].map(|field| path[field].as_str().unwrap_or("default"));
    format!("{} through {interface} {network}", path["portal"].as_str().unwrap())
}
