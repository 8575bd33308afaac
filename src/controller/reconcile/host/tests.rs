use serde_json::{Value, json};

use super::*;
use crate::{
    api::FINALIZER,
    controller::fixtures::{
        NOW, TARGET, actions, applied, cluster, condition, decide, key, lease, message, object, status, storage,
    },
};

/// A data center with this many targets of 32 portals, and a host that uses the default network.
fn index(targets: usize) -> Index {
    let portals: Vec<Value> = (1..=32).map(|last| json!({"address": format!("10.0.1.{last}")})).collect();
    let target = |number| json!({"iqn": format!("iqn.2003-01.org.example:{number}"), "portals": portals});
    let targets: Vec<Value> = (0..targets).map(target).collect();
    let storage = json!({"storage": [{"name": "array", "targets": targets}]});
    cluster([object("DataCenter", "dc", &storage), host(&json!({}))])
}

fn host(status: &Value) -> Value {
    let mut host = object("Host", "h1", &json!({"dataCenter": "dc", "nodeName": "h1"}));
    host["metadata"]["finalizers"] = json!([FINALIZER]);
    host["status"] = status.clone();
    host
}

fn set_status(index: &mut Index, status: &Value) {
    index.apply(applied(host(status)), NOW);
}

/// The status that is written, if one is, with the plan that stays.
fn written(index: &mut Index) -> Option<Value> {
    let host = index.hosts.get(&ObjectKey::new("ns", "h1"));
    let plan = json!(host.and_then(|host| host.status.as_ref()?.plan.as_ref()));
    let mut written = status(decide(index, &key(ObjectKind::Host, "h1"), NOW))?;
    written.as_object_mut()?.entry("plan").or_insert(plan);
    Some(written)
}

#[test]
fn a_plan_that_stays_as_it_is_is_not_written_again() {
    let mut index = index(1);
    let part = written(&mut index).unwrap();
    set_status(&mut index, &part);
    index.apply(applied(object("Network", "bad", &json!({"dataCenter": "dc", "subnets": 7}))), NOW);
    let mut host = host(&part);
    host["spec"]["maintenance"] = json!(true);
    host["metadata"]["generation"] = json!(2);
    index.apply(applied(host), NOW);
    let frozen = status(decide(&mut index, &key(ObjectKind::Host, "h1"), NOW)).unwrap();
    assert_eq!((condition(&frozen, "Ready"), frozen.get("plan")), (("False", "Frozen"), None));
}

#[test]
fn the_sequence_of_plans_starts_again_after_the_largest_number() {
    let mut index = index(1);
    let mut status = written(&mut index).unwrap();
    assert_eq!(status["plan"]["sequence"], 1);
    status["plan"]["revision"] = json!("another");
    for (before, after) in [(1, 2), (i64::MAX, 1)] {
        status["plan"]["sequence"] = json!(before);
        set_status(&mut index, &status);
        assert_eq!(written(&mut index).unwrap()["plan"]["sequence"], after);
    }
}

#[test]
fn a_plan_that_is_too_large_is_reported_once_and_not_written() {
    let mut index = index(128);
    let part = written(&mut index).unwrap();
    assert_eq!(part["plan"], Value::Null);
    assert_eq!(condition(&part, "Ready"), ("False", "PlanTooLarge"));
    assert_eq!(condition(&part, "Operational"), ("Unknown", "PlanTooLarge"));
    set_status(&mut index, &part);
    assert_eq!(written(&mut index), None);
}

#[test]
fn a_host_whose_plan_becomes_too_large_keeps_its_previous_plan() {
    let part = written(&mut index(1)).unwrap();
    assert_eq!(part["plan"]["paths"].as_array().unwrap().len(), 32);
    let mut index = index(128);
    set_status(&mut index, &part);
    let kept = written(&mut index).unwrap();
    assert_eq!(kept["plan"], part["plan"]);
    assert_eq!(condition(&kept, "Ready"), ("False", "PlanTooLarge"));
    assert_ne!(condition(&kept, "Operational").1, "PlanTooLarge");
    set_status(&mut index, &kept);
    assert_eq!(written(&mut index), None);
}

#[test]
fn a_host_that_moves_and_whose_plan_is_too_large_leaves_its_old_data_center() {
    let part = written(&mut index(1)).unwrap();
    let mut index = index(128);
    let mut before = part.clone();
    before["dataCenter"] = json!("other");
    set_status(&mut index, &before);
    let moved = written(&mut index).unwrap();
    assert_eq!(moved["plan"]["paths"], json!([]));
    assert_ne!(moved["plan"]["sequence"], part["plan"]["sequence"]);
    assert_eq!(condition(&moved, "Operational"), ("Unknown", "PlanTooLarge"));
    set_status(&mut index, &moved);
    assert_eq!(written(&mut index), None);
}

#[test]
fn the_status_of_a_host_is_written_to_the_object_with_its_uid_only() {
    let steps = decide(&mut index(1), &key(ObjectKind::Host, "h1"), NOW).steps;
    let [step] = &steps[..] else { panic!("{steps:?}") };
    assert!(matches!(&step.action, Action::WriteStatus { uid: Some(uid), .. } if uid == "h1"), "{step:?}");
}

#[test]
fn a_new_host_gets_its_finalizer_before_its_status() {
    let mut fresh = host(&json!({}));
    fresh["metadata"]["finalizers"] = json!([]);
    let mut index = cluster([object("DataCenter", "dc", &json!({"storage": storage("10.0.0.1")})), fresh]);
    assert_eq!(actions(&decide(&mut index, &key(ObjectKind::Host, "h1"), NOW)), ["finalizers", "status"]);
}

#[test]
fn a_host_with_all_paths_connected_is_up_and_gets_one_event() {
    let mut index = cluster([
        object("DataCenter", "dc", &json!({"storage": storage("10.0.0.1")})),
        host(&json!({})),
        lease("h1", 40),
    ]);
    let mut status = written(&mut index).unwrap();
    status["connections"] = json!([{"target": TARGET, "portal": "10.0.0.1:3260", "tpgt": 1, "state": "Connected",
        "sessionID": 1, "since": "1970-01-01T00:00:00Z"}]);
    status["agent"] = json!({"observedRevision": status["plan"]["revision"], "observedSequence": 1});
    set_status(&mut index, &status);
    let outcome = decide(&mut index, &key(ObjectKind::Host, "h1"), NOW);
    let [Action::WriteStatus { event: Some(event), .. }] =
        &outcome.steps.iter().map(|step| &step.action).collect::<Vec<_>>()[..]
    else {
        panic!("{outcome:?}")
    };
    assert_eq!((event.reason, event.warning), ("Up", false));
    assert_eq!(super::super::super::fixtures::status(outcome).unwrap()["phase"], "Up");
}

/// Networks and bonds of which each asks for every path.
fn crowd(bonds: usize) -> Vec<Value> {
    let names: Vec<String> = (0..64).map(|number| format!("n{number}")).collect();
    let network = |name: &String| object("Network", name, &json!({"dataCenter": "dc", "subnets": ["0.0.0.0/0"]}));
    let bond = |number| object("IscsiBond", &format!("b{number}"), &json!({"dataCenter": "dc", "networks": names}));
    names.iter().map(network).chain((0..bonds).map(bond)).collect()
}

#[test]
fn a_host_keeps_its_plan_while_too_many_bonds_ask_for_its_paths() {
    let mut index = index(64);
    let report = json!({"interfaces": [{"name": "ens1", "addresses": ["10.0.1.200/24"]}]});
    set_status(&mut index, &report);
    for object in crowd(1) {
        index.apply(applied(object), NOW);
    }
    index.apply(applied(object("DataCenter", "dc", &json!({"storage": storage("10.0.1.1")}))), NOW);
    let before = written(&mut index).unwrap();
    assert_eq!(before["plan"]["paths"].as_array().unwrap().len(), 1);
    assert_eq!(before["networks"].as_array().unwrap().len(), 64);

    let mut status = before.clone();
    status["interfaces"] = report["interfaces"].clone();
    set_status(&mut index, &status);
    for object in crowd(500) {
        index.apply(applied(object), NOW);
    }
    let after = written(&mut index).unwrap();
    assert_eq!((&after["plan"], &after["networks"]), (&before["plan"], &before["networks"]));
    assert_eq!(condition(&after, "Ready"), ("False", "PlanTooLarge"));
    assert!(message(&after, "Ready").contains("name bonds 32500 times"), "{}", message(&after, "Ready"));

    // Without a plan the host waits, and nothing is written for the agent.
    index.apply(applied(lease("h1", 40)), NOW);
    set_status(&mut index, &report);
    let fresh = written(&mut index).unwrap();
    assert_eq!((&fresh["plan"], &fresh["phase"]), (&Value::Null, &json!("Connecting")));
}

#[test]
fn a_data_center_with_too_many_networks_and_its_bonds_say_so() {
    let mut index = cluster([object("DataCenter", "dc", &json!({"storage": storage("10.0.0.1")})), host(&json!({}))]);
    for number in 0..=crate::planner::MAX_NETWORKS {
        index.apply(applied(object("Network", &format!("n{number}"), &json!({"dataCenter": "dc"}))), NOW);
    }
    index.apply(applied(object("IscsiBond", "b", &json!({"dataCenter": "dc", "networks": ["n0"]}))), NOW);
    for (kind, name) in [(ObjectKind::DataCenter, "dc"), (ObjectKind::IscsiBond, "b"), (ObjectKind::Host, "h1")] {
        let written = status(decide(&mut index, &key(kind, name), NOW)).unwrap();
        assert_eq!(condition(&written, "Ready"), ("False", "PlanTooLarge"), "{kind}");
        assert!(message(&written, "Ready").contains("1025 Networks"), "{kind}");
    }
}

#[test]
fn a_map_that_mixes_disks_of_two_storages_is_named_with_one_event() {
    let storage = |name: &str| {
        json!({"name": name, "targets": [
            {"iqn": format!("iqn.2003-01.org.example:{name}"), "portals": [{"address": "10.0.1.10"}]},
        ]})
    };
    let storages = json!({"storage": [storage("ours"), storage("theirs")]});
    let mut index = cluster([object("DataCenter", "dc", &storages), host(&json!({}))]);
    let mut reported = written(&mut index).unwrap();
    let entry = |name: &str, disk: &str| {
        json!({"wwid": "3600a", "target": format!("iqn.2003-01.org.example:{name}"), "paths": 1, "active": 1,
            "disks": [disk]})
    };
    reported["interfaces"] = json!([]);
    reported["multipath"] = json!([entry("ours", "sda"), entry("theirs", "sdb")]);
    set_status(&mut index, &reported);
    let event = |outcome: &Outcome| {
        let writes = outcome.steps.iter().filter_map(|step| match &step.action {
            Action::WriteStatus { event, .. } => event.clone(),
            _ => None,
        });
        writes.filter(|event| event.reason == "SharedWWID").map(|event| (event.warning, event.note)).next()
    };
    let first = decide(&mut index, &key(ObjectKind::Host, "h1"), NOW);
    let (warning, note) = event(&first).unwrap();
    assert!(warning && note.contains("sda of iqn.2003-01.org.example:ours (storage ours)"), "{note}");
    let mut part = status(first).unwrap();
    assert_eq!(condition(&part, "HostPrepared"), ("False", "SharedWWID"));
    part["interfaces"] = json!([]);
    part["multipath"] = reported["multipath"].clone();
    part["phase"] = json!("Up");
    set_status(&mut index, &part);
    assert_eq!(event(&decide(&mut index, &key(ObjectKind::Host, "h1"), NOW)), None, "it is known");
}

/// Connections to the portals that end so, with their states and reasons.
fn connections(paths: &[(u8, &str, Option<&str>)]) -> Value {
    let one = |(last, state, reason): &(u8, &str, Option<&str>)| {
        json!({"target": "iqn.2003-01.org.example:0", "portal": format!("10.0.1.{last}:3260"), "tpgt": 1, "state": state,
            "reason": reason, "since": "1970-01-01T00:00:00Z",
            "sessionID": matches!(*state, "Connected" | "Retained").then_some(last)})
    };
    paths.iter().map(one).collect()
}

/// What is written next, after the agent has carried out the plan with these connections.
fn reported(index: &mut Index, host_status: &Value, connections: &Value) -> Value {
    let mut status = host_status.clone();
    status["connections"] = connections.clone();
    let plan = &host_status["plan"];
    status["agent"] = json!({"observedRevision": plan["revision"], "observedSequence": plan["sequence"]});
    set_status(index, &status);
    match written(index) {
        Some(part) => {
            status.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
            status
        }
        None => status,
    }
}

#[test]
fn the_reason_of_a_host_is_what_its_phase_does_not_say() {
    let mut index = index(1);
    index.apply(applied(lease("h1", 40)), NOW);
    let planned = written(&mut index).unwrap();
    assert_eq!(planned["summary"], json!({"paths": "0/32", "reason": "Progressing"}));
    let with = |states: &[(u8, &str, Option<&str>)]| {
        let mut all: Vec<_> = (1..=32).map(|last| (last, "Connected", None)).collect();
        for state in states {
            all[usize::from(state.0) - 1] = *state;
        }
        connections(&all)
    };
    for (changed, phase, reason) in [
        (vec![], "Up", Value::Null),
        (vec![(1, "Failed", Some("PortalUnreachable"))], "Degraded", json!("PortalUnreachable")),
        (
            vec![
                (1, "Failed", Some("AuthenticationFailed")),
                (2, "Failed", Some("PortalUnreachable")),
                (3, "Failed", Some("PortalUnreachable")),
            ],
            "Degraded",
            json!("PortalUnreachable,AuthenticationFailed"),
        ),
        ((1..=32).map(|last| (last, "Failed", Some("Timeout"))).collect(), "NonOperational", json!("Timeout")),
    ] {
        let status = reported(&mut index, &planned, &with(&changed));
        assert_eq!((&status["phase"], &status["summary"]["reason"]), (&json!(phase), &reason), "{changed:?}");
    }
}

#[test]
fn a_host_in_maintenance_has_an_event_when_it_is_blocked_and_when_it_is_ready() {
    let mut index = index(1);
    index.apply(applied(lease("h1", 40)), NOW);
    let spec = json!({"dataCenter": "dc", "nodeName": "h1", "maintenance": true});
    let mut step = |status: &Value| {
        let mut host = host(status);
        host["spec"] = spec.clone();
        index.apply(applied(host), NOW);
        let outcome = decide(&mut index, &key(ObjectKind::Host, "h1"), NOW);
        let event = outcome.steps.iter().find_map(|step| match &step.action {
            Action::WriteStatus { event, .. } => event.as_ref().map(|event| (event.warning, event.reason)),
            _ => None,
        });
        let mut after = status.clone();
        if let Some(part) = super::super::super::fixtures::status(outcome) {
            after.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        }
        (event, after)
    };
    let one = |state: &str| connections(&[(1, state, Some("InUse"))]);
    let (event, mut status) = step(&json!({"phase": "Up", "connections": one("Disconnecting")}));
    assert_eq!(event, Some((false, "Maintenance")));
    assert_eq!(status["summary"], json!({"reason": "Disconnecting"}));
    status["connections"] = one("Retained");
    status["agent"] = json!({"observedRevision": status["plan"]["revision"], "observedSequence": 1});
    let (event, mut status) = step(&status);
    assert_eq!(event, Some((true, "MaintenanceBlocked")));
    assert_eq!(status["summary"], json!({"paths": "1 kept", "reason": "InUse"}));
    assert_eq!(step(&status).0, None, "it is known");
    status["connections"] = json!([]);
    let (event, status) = step(&status);
    assert_eq!(event, Some((false, "MaintenanceReady")));
    assert_eq!(status["summary"], Value::Null);
    assert_eq!(step(&status).0, None, "it is known");
}
