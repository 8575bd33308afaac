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
