//! Tests of the loop without a clock and without an API server: which objects a change reconciles, and how often.

use serde_json::json;

use super::*;
use crate::{
    api::ObjectKey,
    controller::{
        fixtures::{NOW, TARGET, applied, cluster, decide, key, object, storage},
        reconcile::aggregates,
    },
};

/// Reconciles everything that is pending, as the engine does, until nothing is. Returns what it reconciled besides Hosts.
fn settle(index: &mut Index) -> Vec<Key> {
    let (mut queue, mut now) = (Queue::default(), Duration::ZERO);
    let mut reconciled = Vec::new();
    loop {
        let pending = index.take_pending();
        let hosts = pending.hosts.into_iter().map(|host| Key::Object(ObjectKind::Host, host));
        let item = |key| Item { key, namespace: "ns".into() };
        pending.now.into_iter().chain(hosts).for_each(|key| queue.add(item(key)));
        pending.debounced.into_iter().for_each(|key| queue.add_debounced(item(key), now));
        let Some(Item { key, .. }) = queue.pop(now, &Slots::default()) else {
            let Some(due) = queue.next_due() else { return reconciled };
            now = due;
            continue;
        };
        decide(index, &key, NOW);
        if !matches!(key, Key::Object(ObjectKind::Host, _)) {
            reconciled.push(key);
        }
    }
}

/// A data center with a bond, and hosts that the bond does not concern.
fn index_of_hosts(count: usize) -> Index {
    let mut index = cluster([object("DataCenter", "dc", &json!({})), bond(&["n"])]);
    for at in 0..count {
        let name = format!("h{at}");
        let host = object("Host", &name, &json!({"dataCenter": "dc", "nodeName": name}));
        index.apply(applied(host), NOW);
    }
    settle(&mut index);
    index
}

fn bond(networks: &[&str]) -> serde_json::Value {
    object("IscsiBond", "b", &json!({"dataCenter": "dc", "networks": networks}))
}

#[test]
fn a_bond_change_computes_aggregates_once_and_wakes_no_node() {
    let mut index = index_of_hosts(100);
    index.apply(applied(bond(&["n", "m"])), NOW);
    let reconciled = settle(&mut index);
    assert!(!reconciled.iter().any(|key| matches!(key, Key::Node(_))), "{reconciled:?}");
    let times = reconciled.iter().filter(|reconciled| **reconciled == key(ObjectKind::IscsiBond, "b")).count();
    assert_eq!(times, 2, "at once, and when all hosts have their plans: {reconciled:?}");
    let aggregates = aggregates(&index, &ObjectKey::new("ns", "dc"));
    assert!(aggregates.is_some_and(|aggregates| aggregates.current), "the last time was after the last host");
}

#[test]
fn a_change_of_the_taint_wakes_the_nodes_of_all_hosts_of_the_data_center() {
    let mut index = index_of_hosts(3);
    index.apply(applied(object("DataCenter", "dc", &json!({"nonOperationalTaint": "NoExecute"}))), NOW);
    let reconciled = settle(&mut index);
    let nodes = reconciled.iter().filter(|key| matches!(key, Key::Node(_))).count();
    assert_eq!(nodes, 3, "{reconciled:?}");
}

#[test]
fn hosts_whose_plans_changed_are_found_among_all_hosts() {
    let mut index = index_of_hosts(100);
    let spec = json!({"storage": storage("10.0.0.1"), "defaultNetwork": "Never"});
    index.apply(applied(object("DataCenter", "dc", &spec)), NOW);
    index.apply(applied(object("Network", "m", &json!({"dataCenter": "dc"}))), NOW);
    let interfaces = json!([{"name": "eth1", "networks": ["m"]}]);
    let spec = json!({"dataCenter": "dc", "nodeName": "z", "interfaces": interfaces});
    index.apply(applied(object("Host", "z", &spec)), NOW);
    index.apply(applied(bond(&[])), NOW);
    settle(&mut index);
    index.apply(applied(bond(&["m"])), NOW);
    let hosts = index.take_pending().hosts;
    let (changed, others) = partition_changed(&index, hosts);
    assert_eq!(changed, [ObjectKey::new("ns", "z")]);
    assert_eq!(others.len(), 100);
}

#[test]
fn a_failed_session_is_counted_in_the_aggregates_of_its_bond() {
    let spec = json!({"storage": storage("10.0.0.1")});
    let mut host = object(
        "Host",
        "h",
        &json!({"dataCenter": "dc", "nodeName": "h",
        "interfaces": [{"name": "eth1", "networks": ["n"]}]}),
    );
    host["status"] = json!({"connections": [{"target": TARGET, "portal": "10.0.0.1:3260", "tpgt": 1,
        "interface": "eth1", "state": "Failed", "reason": "PortalUnreachable", "since": "1970-01-01T00:00:00Z"}]});
    let mut index = cluster([
        object("DataCenter", "dc", &spec),
        object("Network", "n", &json!({"dataCenter": "dc"})),
        bond(&["n"]),
        host,
        crate::controller::fixtures::lease("h", 40),
    ]);
    settle(&mut index);
    let aggregates = aggregates(&index, &ObjectKey::new("ns", "dc")).unwrap();
    let bond = &aggregates.bonds["b"];
    assert_eq!((bond.paths.desired, bond.paths.connected, bond.failed), (1, 0, 1));
    assert_eq!((bond.hosts.total, aggregates.carriers["n"]), (1, 1));
}

#[test]
fn a_thousand_changes_of_bonds_mark_what_shows_the_plans_once() {
    let mut index = index_of_hosts(3);
    let named = |name: &str, networks: &[&str]| {
        applied(object("IscsiBond", name, &json!({"dataCenter": "dc", "networks": networks})))
    };
    for number in 0..1000 {
        index.apply(named(&format!("b{number}"), &["n"]), NOW);
    }
    settle(&mut index);
    for number in 0..1000 {
        index.apply(named(&format!("b{number}"), &["m"]), NOW);
    }
    let marked = index.take_pending().now.len();
    assert!(marked <= 1001 + 1000 + 1, "each bond because of itself, and all of them once: {marked}");
}

/// One edit makes all bonds of a namespace write. A Host of another namespace has its turn after one of them.
#[test]
fn a_flood_of_one_namespace_does_not_hold_up_the_hosts_of_another() {
    let mut index = index_of_hosts(0);
    for number in 0..1500 {
        let spec = json!({"dataCenter": "dc", "networks": ["x"]});
        index.apply(applied(object("IscsiBond", &format!("b{number}"), &spec)), NOW);
    }
    settle(&mut index);
    let mut queue = Queue::default();
    index.apply(applied(object("Network", "x", &json!({"dataCenter": "other"}))), NOW);
    for key in index.take_pending().now {
        queue.add(Item { key, namespace: "ns".into() });
    }
    assert!(queue.len() > 1500, "{}", queue.len());
    queue.add(host_item(ObjectKey::new("victim", "h")));
    let order = std::iter::from_fn(|| queue.pop(Duration::ZERO, &Slots::default()));
    let before = order.take_while(|item| &*item.namespace != "victim").count();
    assert_eq!(before, 1);
}
