use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::controller::{
    engine::queue::Queue,
    reconcile::{Settings, data_center, host, iscsi_bond},
    store::watched::Watched,
};

const NOW: Now = Now { wall: Timestamp::UNIX_EPOCH, monotonic: Duration::ZERO };

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
    let at = |seconds| Now { monotonic: Duration::from_secs(seconds), ..NOW };
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
    assert_eq!(world.waits_since(Kind::Network, &key, at(10)), at(10).monotonic);
    world.apply(network("u1", "2", Some("2026-01-01T00:00:00Z")), NOW);
    assert_eq!(world.waits_since(Kind::Network, &key, at(20)), at(10).monotonic);
    // The watch was away, and has missed that the first is gone.
    world.apply(network("u2", "3", None), NOW);
    world.apply(network("u2", "4", Some("2026-01-01T01:00:00Z")), NOW);
    assert_eq!(world.waits_since(Kind::Network, &key, at(500)), at(500).monotonic);
}

/// Looks at everything that waits, as the engine does, and returns what it looked at besides Hosts.
fn settle(world: &mut World) -> Vec<Key> {
    const SETTINGS: Settings = Settings { deletion_timeout: Duration::from_secs(120) };
    let (mut queue, mut now) = (Queue::default(), Duration::ZERO);
    let mut looked_at = Vec::new();
    loop {
        let dirty = world.take_dirty();
        let hosts = dirty.hosts.into_iter().map(|host| Key::Object(Kind::Host, host));
        dirty.now.into_iter().chain(hosts).for_each(|key| queue.add(key));
        dirty.sums.into_iter().for_each(|key| queue.add_sum(key, now));
        let Some(key) = queue.pop(now) else {
            let Some(due) = queue.next_due() else { return looked_at };
            now = due;
            continue;
        };
        match &key {
            Key::Object(Kind::Host, host) => {
                if let (_, Some(state)) = host::reconcile(world, host, &SETTINGS, NOW) {
                    world.decided(host.clone(), state);
                }
                continue;
            }
            Key::Object(Kind::IscsiBond, bond) => drop(iscsi_bond::reconcile(world, bond, NOW)),
            Key::Object(Kind::DataCenter, center) => drop(data_center::reconcile(world, center, &SETTINGS, NOW)),
            Key::Object(Kind::Network, _) | Key::Node(_) => {}
        }
        looked_at.push(key);
    }
}

/// A data center with a bond, and hosts that the bond does not concern.
fn world_of_hosts(count: usize) -> World {
    let mut world = World::listed(NOW);
    world.apply(Change::DataCenter(Event::Applied(object("DataCenter", "dc", &json!({})))), NOW);
    world.apply(bond_of(&["n"]), NOW);
    for at in 0..count {
        let name = format!("h{at}");
        let host = object("Host", &name, &json!({"dataCenter": "dc", "nodeName": name}));
        world.apply(Change::Host(Event::Applied(host)), NOW);
    }
    settle(&mut world);
    world
}

fn bond_of(networks: &[&str]) -> Change {
    Change::Bond(Event::Applied(object("IscsiBond", "b", &json!({"dataCenter": "dc", "networks": networks}))))
}

#[test]
fn a_bond_that_changes_has_sums_made_once_and_no_node_looked_at_whose_host_it_does_not_concern() {
    let bond = || Key::Object(Kind::IscsiBond, ObjectKey::new("ns", "b"));
    let mut world = world_of_hosts(100);
    world.apply(bond_of(&["n", "m"]), NOW);
    let looked_at = settle(&mut world);
    assert!(!looked_at.iter().any(|key| matches!(key, Key::Node(_))), "{looked_at:?}");
    let looks = looked_at.iter().filter(|key| **key == bond()).count();
    assert_eq!(looks, 2, "at once, and when all hosts have their plans: {looked_at:?}");
    let sums = world.sums(&ObjectKey::new("ns", "dc"));
    assert!(sums.is_some_and(|sums| sums.current), "the last look was after the last host");
}

#[test]
fn a_data_center_that_taints_otherwise_has_the_nodes_of_all_its_hosts_looked_at() {
    let mut world = world_of_hosts(3);
    let spec = json!({"nonOperationalTaint": "NoExecute"});
    world.apply(Change::DataCenter(Event::Applied(object("DataCenter", "dc", &spec))), NOW);
    let looked_at = settle(&mut world);
    let nodes = looked_at.iter().filter(|key| matches!(key, Key::Node(_))).count();
    assert_eq!(nodes, 3, "{looked_at:?}");
}

#[test]
fn hosts_whose_plans_a_change_makes_others_are_told_from_those_that_it_leaves_alone() {
    let mut world = world_of_hosts(100);
    let target = json!({"iqn": "iqn.2026-11.com.example:t", "portals": [{"address": "10.0.0.1"}]});
    let storage = json!({"storage": [{"name": "array", "targets": [target]}], "defaultNetwork": "Never"});
    world.apply(Change::DataCenter(Event::Applied(object("DataCenter", "dc", &storage))), NOW);
    world.apply(Change::Network(Event::Applied(object("Network", "m", &json!({"dataCenter": "dc"})))), NOW);
    let carrier = json!({"dataCenter": "dc", "nodeName": "z", "interfaces": [{"name": "eth1", "networks": ["m"]}]});
    world.apply(Change::Host(Event::Applied(object("Host", "z", &carrier))), NOW);
    world.apply(bond_of(&[]), NOW);
    settle(&mut world);
    world.apply(bond_of(&["m"]), NOW);
    let hosts = world.take_dirty().hosts;
    let (concerned, others) = host::concerned(&world, hosts);
    assert_eq!(concerned, [ObjectKey::new("ns", "z")]);
    assert_eq!(others.len(), 100);
}
