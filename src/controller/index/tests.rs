use serde_json::{Value, json};

use super::*;
use crate::controller::{
    fixtures::{NOW, applied, at, key, object, read},
    store::watched::Watched,
};

#[test]
fn the_index_of_a_data_center_goes_with_the_last_object_that_names_it() {
    let mut index = Index::default();
    let data_center = || object("DataCenter", "dc", &json!({}));
    let network = || object("Network", "n", &json!({"dataCenter": "dc"}));
    let bond = || object("IscsiBond", "b", &json!({"dataCenter": "dc", "networks": []}));
    let host = || object("Host", "h", &json!({"dataCenter": "dc", "nodeName": "h"}));
    for object in [data_center(), network(), bond(), host()] {
        index.apply(applied(object), NOW);
    }
    index.apply(Change::DataCenter(Event::Deleted(read(data_center()))), NOW);
    assert_eq!(index.by_data_center.len(), 1, "others name it");
    index.apply(Change::Network(Event::Deleted(read(network()))), NOW);
    index.apply(Change::Bond(Event::Deleted(read(bond()))), NOW);
    assert_eq!(index.by_data_center.len(), 1, "a Host names it");
    index.apply(Change::Host(Event::Deleted(read(host()))), NOW);
    assert_eq!(index.by_data_center.len(), 0);

    index.apply(applied(data_center()), NOW);
    index.apply(Change::DataCenter(Event::Deleted(read(data_center()))), NOW);
    assert_eq!(index.by_data_center.len(), 0, "nothing ever named it");
}

#[test]
fn each_data_center_has_plan_epochs_of_its_own() {
    let mut index = Index::default();
    for name in ["one", "two"] {
        index.apply(applied(object("DataCenter", name, &json!({}))), NOW);
    }
    let epoch = |name| index.data_center(&ObjectKey::new("ns", name)).unwrap().plan_epoch;
    assert_ne!(epoch("one"), epoch("two"), "a plan of the one is none of the other");
}

#[test]
fn an_object_that_is_created_again_has_a_deletion_timeout_of_its_own() {
    let network = |uid: &str, version: &str, deleted: Option<&str>| {
        let mut object: Value = object("Network", "n", &json!({"dataCenter": "dc"}));
        let metadata = &mut object["metadata"];
        (metadata["uid"], metadata["resourceVersion"]) = (json!(uid), json!(version));
        metadata["deletionTimestamp"] = json!(deleted);
        applied(object)
    };
    let deletion = || Memo { deletion: true, ..Memo::default() };
    let (key, object_key) = (key(ObjectKind::Network, "n"), ObjectKey::new("ns", "n"));
    let mut index = Index::default();
    index.apply(network("u1", "1", Some("2026-01-01T00:00:00Z")), NOW);
    index.remember(&key, deletion(), at(10));
    index.apply(network("u1", "2", Some("2026-01-01T00:00:00Z")), NOW);
    index.remember(&key, deletion(), at(20));
    assert_eq!(index.deletion_since(ObjectKind::Network, &object_key), Some(at(10).monotonic));
    // The watch was interrupted, and has missed the deletion of the first object.
    index.apply(network("u2", "3", None), NOW);
    assert_eq!(index.deletion_since(ObjectKind::Network, &object_key), None);
    index.apply(network("u2", "4", Some("2026-01-01T01:00:00Z")), NOW);
    index.remember(&key, deletion(), at(500));
    assert_eq!(index.deletion_since(ObjectKind::Network, &object_key), Some(at(500).monotonic));
}

#[test]
fn the_answer_to_a_write_for_a_deleted_object_is_ignored() {
    let mut index = Index::default();
    let host: Watched<Host> = read(object("Host", "h", &json!({"dataCenter": "dc", "nodeName": "h"})));
    index.apply_written(Written::Host(host), Instant::now());
    assert!(index.hosts.get(&ObjectKey::new("ns", "h")).is_none());
}

#[test]
fn a_network_wakes_the_bonds_that_name_it_in_other_data_centers() {
    let mut index = Index::default();
    let bond = object("IscsiBond", "b", &json!({"dataCenter": "other", "networks": ["n"]}));
    index.apply(applied(bond), NOW);
    index.take_pending();
    index.apply(applied(object("Network", "n", &json!({"dataCenter": "dc"}))), NOW);
    assert!(index.take_pending().now.contains(&key(ObjectKind::IscsiBond, "b")));
}

/// A network that could not be decoded when it was first seen.
fn undecodable_network() -> Value {
    object("Network", "n", &json!({"dataCenter": "dc", "subnets": 7}))
}

fn versioned(mut object: Value, version: &str) -> Change {
    object["metadata"]["resourceVersion"] = json!(version);
    applied(object)
}

fn plan_epoch(index: &Index, name: &str) -> Option<u64> {
    index.data_center(&ObjectKey::new("ns", name)).map(|center| center.plan_epoch)
}

#[test]
fn a_network_repaired_into_another_data_center_changes_the_plans_of_both() {
    let mut index = Index::listed(NOW);
    for name in ["dc", "other"] {
        index.apply(applied(object("DataCenter", name, &json!({}))), NOW);
    }
    index.apply(versioned(undecodable_network(), "1"), NOW);
    let before = ["dc", "other"].map(|name| plan_epoch(&index, name));
    index.apply(versioned(object("Network", "n", &json!({"dataCenter": "other"})), "2"), NOW);
    let after = ["dc", "other"].map(|name| plan_epoch(&index, name));
    assert!(before[0] != after[0] && before[1] != after[1], "{before:?} {after:?}");
}

#[test]
fn a_data_center_freezes_with_a_network_whose_newest_version_names_another() {
    let mut index = Index::listed(NOW);
    index.apply(applied(object("DataCenter", "dc", &json!({}))), NOW);
    index.apply(versioned(object("Network", "n", &json!({"dataCenter": "dc"})), "1"), NOW);
    index.take_pending();
    index.apply(versioned(object("Network", "n", &json!({"dataCenter": "other", "subnets": 7})), "2"), NOW);
    assert!(index.frozen(&ObjectKey::new("ns", "dc")).is_some());
    assert!(index.take_pending().now.contains(&key(ObjectKind::DataCenter, "dc")), "its status says so");
}

#[test]
fn a_host_that_can_be_decoded_at_last_wakes_the_others_of_its_node() {
    let mut index = Index::listed(NOW);
    let host = |name: &str, extra: Value| {
        let mut spec = json!({"dataCenter": name, "nodeName": "w1"});
        spec["maintenance"] = extra;
        object("Host", name, &spec)
    };
    index.apply(versioned(host("a", json!(false)), "1"), NOW);
    index.apply(versioned(host("b", json!("no")), "2"), NOW);
    index.take_pending();
    index.apply(versioned(host("b", json!(false)), "3"), NOW);
    assert!(index.take_pending().now.contains(&key(ObjectKind::Host, "a")), "one of them has the node");
}

#[test]
fn a_new_leader_reconciles_what_it_could_never_decode() {
    let mut index = Index::listed(NOW);
    index.apply(applied(undecodable_network()), NOW);
    index.take_pending();
    index.resume(NOW);
    assert!(index.take_pending().now.contains(&key(ObjectKind::Network, "n")));
}

#[test]
fn hosts_that_were_refused_are_not_remembered_of_a_data_center_that_is_gone() {
    let (mut index, dc_key) = (Index::listed(NOW), ObjectKey::new("ns", "dc"));
    let refused = || [(ObjectKey::new("ns", "w1"), "a quota".to_owned())].into();
    index.set_create_errors(&dc_key, refused());
    assert_eq!(index.create_error(&dc_key, &ObjectKey::new("ns", "w1")), None);
    index.apply(applied(object("DataCenter", "dc", &json!({}))), NOW);
    index.set_create_errors(&dc_key, refused());
    assert_eq!(index.create_error(&dc_key, &ObjectKey::new("ns", "w1")), Some("a quota"));
}
