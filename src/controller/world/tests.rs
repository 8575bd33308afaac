use std::time::Duration;

use serde_json::{Value, json};

use super::*;

const NOW: Moment = Moment { wall: Timestamp::UNIX_EPOCH, uptime: Duration::ZERO };

fn object<K: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: &Value) -> Watched<K> {
    let object = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "ns"}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_data_center_that_is_gone_is_forgotten_with_the_last_object_that_names_it() {
    let mut world = World::default();
    let in_dc = json!({"dataCenter": "dc", "networks": []});
    let host = json!({"dataCenter": "dc", "nodeName": "h"});
    let center = || object("DataCenter", "dc", &json!({}));
    world.apply(Change::DataCenter(Event::Applied(center())), NOW);
    world.apply(Change::Network(Event::Applied(object("Network", "n", &json!({"dataCenter": "dc"})))), NOW);
    world.apply(Change::Bond(Event::Applied(object("IscsiBond", "b", &in_dc))), NOW);
    world.apply(Change::Host(Event::Applied(object("Host", "h", &host))), NOW);
    world.apply(Change::DataCenter(Event::Deleted(center())), NOW);
    assert_eq!(world.centers.len(), 1, "others name it");
    world.apply(Change::Network(Event::Deleted(object("Network", "n", &json!({"dataCenter": "dc"})))), NOW);
    world.apply(Change::Bond(Event::Deleted(object("IscsiBond", "b", &in_dc))), NOW);
    assert_eq!(world.centers.len(), 1, "a Host names it");
    world.apply(Change::Host(Event::Deleted(object("Host", "h", &host))), NOW);
    assert_eq!(world.centers.len(), 0);

    world.apply(Change::DataCenter(Event::Applied(center())), NOW);
    world.apply(Change::DataCenter(Event::Deleted(center())), NOW);
    assert_eq!(world.centers.len(), 0, "nothing ever named it");
}

#[test]
fn a_host_that_moves_from_one_data_center_to_another_is_planned_anew_there() {
    let mut world = World::default();
    for name in ["one", "two"] {
        world.apply(Change::DataCenter(Event::Applied(object("DataCenter", name, &json!({})))), NOW);
    }
    let stamp = |name| world.center(&ObjectKey::new("ns", name)).unwrap().stamp;
    assert_ne!(stamp("one"), stamp("two"), "a plan of the one is none of the other");
}

#[test]
fn the_deletion_of_an_object_that_has_come_back_under_its_name_waits_anew() {
    let at = |seconds| Moment { uptime: Duration::from_secs(seconds), ..NOW };
    let key = ObjectKey::new("ns", "n");
    let network = |uid: &str, version: &str, deleted: Option<&str>| {
        let object = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Network",
            "metadata": {"name": "n", "namespace": "ns", "uid": uid, "resourceVersion": version,
                "deletionTimestamp": deleted},
            "spec": {"dataCenter": "dc"}});
        Change::Network(Event::Applied(serde_json::from_value(object).unwrap()))
    };
    let mut world = World::default();
    world.apply(network("u1", "1", Some("2026-01-01T00:00:00Z")), NOW);
    assert_eq!(world.waits_since(Kind::Network, &key, at(10)), at(10).uptime);
    world.apply(network("u1", "2", Some("2026-01-01T00:00:00Z")), NOW);
    assert_eq!(world.waits_since(Kind::Network, &key, at(20)), at(10).uptime);
    // The watch was away, and has missed that the first is gone.
    world.apply(network("u2", "3", None), NOW);
    world.apply(network("u2", "4", Some("2026-01-01T01:00:00Z")), NOW);
    assert_eq!(world.waits_since(Kind::Network, &key, at(500)), at(500).uptime);
}
