//! Data centers as short YAML in, reports as short text out.
//!
//! A fixture is a map of data centers. Each has the fields of its spec and, beside them, `networks`, `bonds` and `hosts`
//! by name, each with the fields of theirs. `@` stands for `iqn.2003-01.org.example:`. On every object: `namespace`
//! (default `fra`), `deleting`, `created`; on a data center `absent`, which leaves out the object itself; on a host `status`,
//! and `nodeName` (default `node-of-NAME`).

use std::fmt::Write as _;

use multibond::{
    api::{CarriedNetwork, CarrySource, PlannedPath, SessionSettings},
    planner::{HostPlan, Objects, PlanReport, PlannedHost, Problem, plan_all},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

const IQN: &str = "iqn.2003-01.org.example:";

/// The objects of a fixture.
pub fn objects(yaml: &str) -> Objects {
    let data_centers: Map<String, Value> =
        serde_saphyr::from_str(&yaml.replace('@', IQN)).expect("the fixture is YAML");
    let mut objects = Objects::default();
    for (data_center, value) in data_centers {
        let mut spec = map(value);
        let namespace = spec.get("namespace").cloned().unwrap_or(json!("fra"));
        let absent = spec.remove("absent").is_some();
        let inside = |kind: &str, (name, value): (String, Value)| {
            let mut fields = map(value);
            fields.entry("namespace").or_insert(namespace.clone());
            fields.entry("dataCenter").or_insert(json!(data_center));
            if kind == "Host" {
                fields.entry("nodeName").or_insert(json!(format!("node-of-{name}")));
            }
            (kind.to_owned(), name, fields)
        };
        for (kind, name, fields) in take(&mut spec, "networks").map(|item| inside("Network", item)) {
            objects.networks.push(object(&kind, &name, fields));
        }
        for (kind, name, fields) in take(&mut spec, "bonds").map(|item| inside("IscsiBond", item)) {
            objects.bonds.push(object(&kind, &name, fields));
        }
        for (kind, name, fields) in take(&mut spec, "hosts").map(|item| inside("Host", item)) {
            objects.hosts.push(object(&kind, &name, fields));
        }
        if !absent {
            objects.data_centers.push(object("DataCenter", &data_center, spec));
        }
    }
    objects
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        other => panic!("a map is expected, not {other}"),
    }
}

fn take(fields: &mut Map<String, Value>, key: &str) -> impl Iterator<Item = (String, Value)> + use<> {
    map(fields.remove(key).unwrap_or_default()).into_iter()
}

fn object<K: DeserializeOwned>(kind: &str, name: &str, mut spec: Map<String, Value>) -> K {
    // A key may be `NAMESPACE/NAME`, so that two hosts can have the same name.
    let (prefix, name) = name.split_once('/').map_or((None, name), |(namespace, name)| (Some(namespace), name));
    let mut metadata = json!({"name": name, "namespace": spec.remove("namespace").unwrap_or(json!("fra"))});
    if let Some(namespace) = prefix {
        metadata["namespace"] = json!(namespace);
    }
    if spec.remove("deleting").is_some() {
        metadata["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
    }
    if let Some(created) = spec.remove("created") {
        metadata["creationTimestamp"] = json!(format!("{}T00:00:00Z", created.as_str().expect("a date")));
    }
    let status = spec.remove("status");
    let mut object = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    if let Some(status) = status {
        object["status"] = status;
    }
    serde_json::from_value(object).unwrap_or_else(|error| panic!("{kind} {name}: {error}"))
}

/// Asserts what all hosts of a fixture do, and which problems there are (kind, name and reason).
#[track_caller]
pub fn check(yaml: &str, expected: &str) {
    check_objects(&objects(yaml), expected);
}

/// Asserts what all hosts do, and which problems there are (kind, name and reason).
#[track_caller]
pub fn check_objects(objects: &Objects, expected: &str) {
    let lines: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let found = render(&plan_all(objects));
    assert_eq!(found.trim_end(), lines.join("\n"), "\nfound:\n{found}");
}

/// The plan of the only host of a fixture.
pub fn only_plan(yaml: &str) -> HostPlan {
    let mut report = plan_all(&objects(yaml));
    assert_eq!(report.hosts.len(), 1, "one host is expected");
    report.hosts.remove(0).plan
}

/// A report as text, line by line; nothing of a plan is left out but its revision, and who holds its
/// targets.
pub fn render(report: &PlanReport) -> String {
    let mut text = String::new();
    for host in &report.hosts {
        render_host(&mut text, host).expect("writing to a string cannot fail");
    }
    for Problem { kind, namespace: _, name, reason, message: _ } in &report.problems {
        writeln!(text, "! {kind} {name}: {reason}").expect("writing to a string cannot fail");
    }
    text.replace(IQN, "@")
}

fn render_host(text: &mut String, host: &PlannedHost) -> std::fmt::Result {
    let PlannedHost { namespace: _, name, data_center: _, plan } = host;
    let HostPlan { reason, networks, hold, hold_portals: _, held_by: _, no_network, paths, uses, session, revision: _ } =
        plan;
    match reason {
        Some(reason) => writeln!(text, "{name}: {reason}")?,
        None => writeln!(text, "{name}:")?,
    }
    if *session != SessionSettings::default() {
        let SessionSettings {
            login_timeout_seconds: login,
            replacement_timeout_seconds: replacement,
            noop_interval_seconds: interval,
            noop_timeout_seconds: timeout,
        } = session;
        writeln!(text, "session {login} {replacement} {interval} {timeout}")?;
    }
    for CarriedNetwork { name, interface, source, address } in networks.iter() {
        match (source, address) {
            (CarrySource::Spec, None) => writeln!(text, "carries {name} on {interface} by spec")?,
            (CarrySource::Subnet, Some(address)) => writeln!(text, "carries {name} on {interface} by {address}")?,
            other => panic!("{other:?} makes no sense"),
        }
    }
    for path in paths.iter() {
        let PlannedPath { target, portal, tpgt, interface, network, storage, bonds, chap_secret } = path;
        write!(text, "{storage} {target} {portal},{tpgt}")?;
        match (interface, network) {
            (Some(interface), Some(network)) => write!(text, " through {interface} ({network})")?,
            (None, None) => write!(text, " by default")?,
            other => panic!("{other:?} makes no sense"),
        }
        write!(text, "{}", if bonds.is_empty() { String::new() } else { format!(" for {}", bonds.join(", ")) })?;
        writeln!(text, "{}", chap_secret.as_ref().map(|secret| format!(" with {secret}")).unwrap_or_default())?;
    }
    for target in hold {
        writeln!(text, "holds {target}")?;
    }
    for target in no_network {
        writeln!(text, "no network for {target}")?;
    }
    if !uses.is_empty() {
        let uses: Vec<String> = uses.iter().map(|(bond, network)| format!("{bond}/{network}")).collect();
        writeln!(text, "uses {}", uses.join(" "))?;
    }
    Ok(())
}
