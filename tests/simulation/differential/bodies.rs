//! Objects by chance: mostly valid, sometimes with a mistake.

use multibond_testbed::Chance;
use serde_json::{Value, json};

use super::requests::{BONDS, DATA_CENTERS, HOSTS, NETWORKS, NODES};

/// Times as our clients write them where seconds count.
const TIMES: [&str; 3] = ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456Z", "2026-11-02T03:04:05.999999Z"];
/// Times as our clients write them where microseconds count.
const MICRO_TIMES: [&str; 2] = ["2026-01-02T03:04:05.100000Z", "2026-11-02T03:04:05.999999Z"];

/// A new object of a kind of ours, without its metadata's name.
pub fn spec(chance: &mut Chance, plural: &str) -> Value {
    let data_center = chance.one_of(&DATA_CENTERS);
    let mut spec = match plural {
        "hosts" => {
            let mut spec = json!({"dataCenter": data_center, "nodeName": chance.one_of(&NODES)});
            if chance.below(2) == 0 {
                spec["interfaces"] = interfaces(chance);
            }
            if chance.below(3) == 0 {
                spec["maintenance"] = json!(chance.below(2) == 0);
            }
            spec
        }
        "networks" => {
            let mut spec = json!({"dataCenter": data_center});
            if chance.below(2) == 0 {
                spec["subnets"] = json!(chance.any_of(&["10.0.1.0/24", "10.0.2.0/24", "fd00::/64"]));
            }
            spec
        }
        "iscsibonds" => {
            let mut spec = json!({"dataCenter": data_center, "networks": chance.any_of(&NETWORKS)});
            if chance.below(3) == 0 {
                spec["targets"] = json!(chance.any_of(&["iqn.2003-01.org.example:a", "eui.0123456789abcdef"]));
            }
            if chance.below(3) == 0 {
                spec["pairing"] = json!(chance.one_of(&["Auto", "AllPairs"]));
            }
            spec
        }
        _ => data_center_spec(chance),
    };
    if chance.below(6) == 0 {
        mistake(chance, &mut spec);
    }
    spec
}

fn interfaces(chance: &mut Chance) -> Value {
    let names = chance.some_of(&["ens1", "ens2", "bond0.100", "bad name!"], 2);
    let one = |chance: &mut Chance, name: &str| match chance.below(3) {
        0 => json!({"name": name}),
        1 => json!({"name": name, "networks": chance.any_of(&NETWORKS)}),
        _ => json!({"name": name, "networks": null, "unknown": 1}),
    };
    names.into_iter().map(|name| one(chance, name)).collect()
}

fn data_center_spec(chance: &mut Chance) -> Value {
    let mut spec = json!({});
    if chance.below(2) == 0 {
        let mut portal = json!({"address": chance.one_of(&["10.0.1.10", "array.example.org"])});
        if chance.below(2) == 0 {
            portal["port"] = json!(chance.one_of(&[3260, 860, 0, 70000]));
        }
        let target = json!({"iqn": "iqn.2003-01.org.example:a", "portals": [portal]});
        spec["storage"] = json!([{"name": "array", "targets": [target]}]);
    }
    if chance.below(3) == 0 {
        spec["session"] = json!({"loginTimeoutSeconds": chance.one_of(&[0, 5, 60, 61])});
    }
    if chance.below(3) == 0 {
        let operator = chance.one_of(&["In", "Exists", "NotIn", "Is"]);
        let mut requirement = json!({"key": "zone", "operator": operator});
        if chance.below(2) == 0 {
            requirement["values"] = json!(["a"]);
        }
        spec["hosts"] = json!({"nodeSelector": {"matchExpressions": [requirement], "matchLabels": {"a": "b"}}});
    }
    if chance.below(4) == 0 {
        spec["defaultNetwork"] = json!(chance.one_of(&["Use", "Never", "Perhaps"]));
    }
    spec
}

/// Something that no kind has, or has otherwise.
fn mistake(chance: &mut Chance, spec: &mut Value) {
    match chance.below(7) {
        0 => drop(spec.as_object_mut().unwrap().remove("dataCenter")),
        1 => spec["dataCenter"] = json!(chance.one_of(&["Bad", "", "with.dot"])),
        2 => spec["dataCenter"] = json!(7),
        3 => spec["networks"] = json!(["san-a", "san-a"]),
        4 => spec["unknown"] = json!({"a": [1, null]}),
        5 => spec["description"] = json!("d".repeat(4001)),
        _ => spec["interfaces"] = json!([{"name": "ens1"}, {"name": "ens1"}]),
    }
}

/// Fields of a status, such as the controller and the agents write them.
pub fn status_fields(chance: &mut Chance, plural: &str) -> Vec<(&'static str, Value)> {
    let reason = chance.one_of(&["Pending", "Up", "Bad Reason"]);
    let status = chance.one_of(&["True", "False", "Unknown"]);
    let condition = json!({"type": "Ready", "status": status, "reason": reason, "message": "m",
        "lastTransitionTime": chance.one_of(&TIMES)});
    let mut fields = vec![("conditions", json!([condition]))];
    match chance.below(4) {
        0 => fields.push(("summary", json!({"hosts": "1/2", "unknown": 3}))),
        1 => fields.push(("summary", Value::Null)),
        2 => fields.push(("observedGeneration", json!(chance.one_of(&[1, 2, -1])))),
        _ => {}
    }
    if plural == "hosts" {
        match chance.below(5) {
            0 => fields.push(("phase", json!(chance.one_of(&["Up", "Pending", "NoSuchPhase"])))),
            1 => {
                let plan = json!({"revision": "r1", "paths": []});
                fields.push(("plan", if chance.below(3) == 0 { Value::Null } else { plan }));
            }
            2 => {
                let connection = json!({"portal": "10.0.1.10:3260", "target": "iqn.2003-01.org.example:a", "tpgt": 1,
                    "state": chance.one_of(&["Connected", "Failed"]), "since": chance.one_of(&TIMES)});
                fields.push(("connections", json!([connection])));
            }
            3 => fields.push(("agent", json!({"version": "1", "unusableSecrets": []}))),
            _ => fields.push(("connections", json!([]))),
        }
    }
    chance.shuffle(&mut fields);
    fields
}

/// An object of a core kind, without the name.
pub fn core(chance: &mut Chance, plural: &str, namespace: &str) -> Value {
    match plural {
        "leases" => json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": lease_spec(chance)}),
        "secrets" => {
            let mut secret =
                json!({"apiVersion": "v1", "kind": "Secret", "data": {"user": "YQ==", "password": "Yg=="}});
            if chance.below(2) == 0 {
                secret["type"] = json!("multibond.dev/chap");
            }
            secret
        }
        "nodes" => {
            let mut node = json!({"apiVersion": "v1", "kind": "Node"});
            if chance.below(2) == 0 {
                node["spec"] = json!({"taints": taints(chance)});
            }
            if chance.below(2) == 0 {
                node["metadata"]["labels"] = json!({"zone": chance.one_of(&["a", "b"])});
            }
            node
        }
        "events" => {
            let mut event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
                "eventTime": chance.one_of(&MICRO_TIMES), "reportingController": "multibond.dev/controller",
                "reportingInstance": "c-1", "action": "Reconcile", "reason": "Up", "note": "n", "type": "Normal",
                "regarding": {"apiVersion": "multibond.dev/v1alpha1", "kind": "Host", "namespace": namespace,
                    "name": chance.one_of(&HOSTS)}});
            match chance.below(6) {
                0 => event["note"] = json!("n".repeat(1025)),
                1 => event["action"] = json!(""),
                2 => event["type"] = json!("Odd"),
                3 => event["regarding"]["namespace"] = json!("elsewhere"),
                _ => {}
            }
            event
        }
        other => panic!("no body for {other}"),
    }
}

/// A lease's spec, mostly valid.
pub fn lease_spec(chance: &mut Chance) -> Value {
    let mut spec = json!({"holderIdentity": chance.one_of(&["c-1", "c-2", ""]), "leaseDurationSeconds": 15,
        "renewTime": chance.one_of(&MICRO_TIMES)});
    match chance.below(8) {
        0 => spec["leaseDurationSeconds"] = json!(0),
        1 => spec["leaseTransitions"] = json!(-1),
        2 => spec["leaseTransitions"] = json!(3),
        3 => spec["acquireTime"] = json!(chance.one_of(&MICRO_TIMES)),
        _ => {}
    }
    spec
}

/// Taints of a Node, mostly valid.
pub fn taints(chance: &mut Chance) -> Value {
    let ours = json!({"key": "multibond.dev/non-operational", "effect": chance.one_of(&["NoSchedule", "NoExecute"])});
    let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    match chance.below(6) {
        0 => json!([]),
        1 => json!([ours, not_ready]),
        2 => json!([ours]),
        3 => json!([not_ready]),
        4 => json!([{"key": "a", "effect": "Sometimes"}]),
        _ => json!([ours, ours]),
    }
}

/// A condition of a Node, or its removal.
pub fn node_condition(chance: &mut Chance) -> Value {
    let kind = chance.one_of(&["multibond.dev/StorageOperational", "Ready"]);
    if chance.below(4) == 0 {
        return json!({"type": kind, "$patch": "delete"});
    }
    let time = chance.one_of(&TIMES);
    json!({"type": kind, "status": chance.one_of(&["True", "False"]), "reason": "R", "message": "m",
        "lastTransitionTime": time, "lastHeartbeatTime": time})
}

/// The names that objects of a kind have.
pub fn names(plural: &str) -> &'static [&'static str] {
    match plural {
        "datacenters" => &DATA_CENTERS,
        "networks" => &NETWORKS,
        "iscsibonds" => &BONDS,
        "hosts" => &HOSTS,
        "nodes" => &NODES,
        _ => &["a", "b", "c"],
    }
}
