//! The Hosts that are made for `DataCenter.spec.hosts`: one for every Node that matches, as far as that can be.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::{
    api::ObjectMeta,
    core::{Selector, SelectorExt as _},
};

use crate::{
    api::{
        DataCenter, Host, MADE_FOR_LABEL, NODE_GONE_ANNOTATION, ObjectKey,
        condition::{Status, Verdict},
        reason::{ConditionType, Reason},
    },
    controller::{
        index::World,
        reconcile::{
            action::{Action, Outcome},
            aggregate::shortened,
            data_center::owner_reference,
        },
        store::watched::{is_being_deleted, labels},
    },
    ops::Now,
    planner::Kind,
};

/// How long a made Host outlives its Node: a Node that is reinstalled comes back.
const NODE_GONE_GRACE: Duration = Duration::from_secs(600);

/// One Host for every Node that matches; away with those whose Node is long gone. What is said of it; nothing of a
/// data center that makes no Hosts.
pub(super) fn reconcile(
    world: &World,
    key: &ObjectKey,
    data_center: &DataCenter,
    now: Now,
    outcome: &mut Outcome,
) -> Option<Verdict> {
    let verdict = data_center.spec.hosts.is_some().then(|| make(world, key, data_center, outcome));
    let mut made: Vec<(ObjectKey, &Host)> = made_for(world, key).collect();
    made.sort_by(|a, b| a.0.cmp(&b.0));
    for (host_key, host) in made.into_iter().filter(|(_, host)| !is_being_deleted(&host.metadata)) {
        let node = world.nodes.get(&ObjectKey::new("", &host.spec.node_name));
        let gone_since = gone_since(&host.metadata);
        if *host.spec.data_center != *key.name {
            outcome.actions.push(Action::MoveHost { key: host_key.clone(), data_center: key.name.to_string() });
        }
        match (node.is_some_and(|node| selects(data_center, &node.metadata)), gone_since) {
            (true, None) => {}
            (true, Some(_)) => outcome.actions.push(Action::NodeGone { key: host_key, since: None }),
            (false, None) => outcome.actions.push(Action::NodeGone { key: host_key, since: Some(now.wall) }),
            (false, Some(since)) => {
                let until = since.saturating_add(NODE_GONE_GRACE).unwrap_or(Timestamp::MAX);
                if now.wall >= until {
                    let uid = host.metadata.uid.clone();
                    outcome.actions.push(Action::Delete { kind: Kind::Host, key: host_key, uid });
                } else {
                    outcome.recheck_at = Some(outcome.recheck_at.map_or(until, |earlier| earlier.min(until)));
                }
            }
        }
    }
    verdict
}

/// Whether a data center wants a Host for a Node.
fn selects(data_center: &DataCenter, node: &ObjectMeta) -> bool {
    let selector = data_center.spec.hosts.as_ref().map(|hosts| Selector::try_from(hosts.node_selector.clone()));
    // The schema refuses selectors that cannot be read.
    matches!(selector, Some(Ok(selector)) if node.deletion_timestamp.is_none() && selector.matches(labels(node)))
}

/// Makes the Hosts that are missing, and says which cannot be made.
fn make(world: &World, key: &ObjectKey, data_center: &DataCenter, outcome: &mut Outcome) -> Verdict {
    let mut nodes: Vec<(&ObjectKey, &ObjectMeta)> = world
        .nodes
        .iter()
        .map(|(node, part)| (node, &part.metadata))
        .filter(|(_, metadata)| selects(data_center, metadata))
        .collect();
    nodes.sort_by_key(|(node, _)| *node);
    let mut hindered: BTreeMap<Reason, Vec<String>> = BTreeMap::new();
    for (node, metadata) in nodes {
        if has_host(world, key, &node.name) {
            continue;
        }
        let host_key = key.beside(node.name.clone());
        if let Some(other) = world.hosts.get(&host_key) {
            let (reason, message) = taken(world, &host_key, other, metadata);
            hindered.entry(reason).or_default().push(message);
            continue;
        }
        if let Some(refusal) = world.refusal(key, &host_key) {
            hindered.entry(Reason::HostRefused).or_default().push(format!("{}: {refusal}", node.name));
        }
        outcome.actions.push(Action::CreateHost {
            key: host_key,
            data_center: key.name.to_string(),
            node: node.name.to_string(),
            owner: owner_reference(data_center),
        });
    }
    let kind = ConditionType::HostsMade;
    let Some(first) = hindered.keys().next().copied() else {
        return Verdict::new(kind, Status::True, Reason::Made, "every Node that matches has its Host");
    };
    let all: Vec<String> = hindered.iter().map(|(reason, nodes)| hindrance(*reason, nodes)).collect();
    Verdict::new(kind, Status::False, first, all.join("; "))
}

/// What is said of Nodes that have no Host for one reason, and what to do.
fn hindrance(reason: Reason, nodes: &[String]) -> String {
    let nodes = shortened(nodes);
    match reason {
        Reason::NodesSelectedTwice => {
            format!(
                "two data centers select one Node: {nodes}; let spec.hosts.nodeSelector of one of them leave it out"
            )
        }
        Reason::HostNameTaken => {
            format!(
                "the name of the Node's Host is taken: {nodes}; delete that Host, or let spec.hosts leave the Node out"
            )
        }
        _ => format!("the API server refuses the Host of a Node: {nodes}"),
    }
}

/// Why a Host of the Node's name, which is none of this data center's for this Node, is in the way.
fn taken(world: &World, host_key: &ObjectKey, other: &Host, node: &ObjectMeta) -> (Reason, String) {
    let name = &host_key.name;
    let made_for = labels(&other.metadata).get(MADE_FOR_LABEL);
    let maker = made_for.and_then(|maker| world.data_centers.get(&host_key.beside(maker.as_str())));
    match made_for {
        Some(maker_name) if maker.is_some_and(|maker| selects(maker, node)) => {
            (Reason::NodesSelectedTwice, format!("{name} (Host of data center {maker_name})"))
        }
        Some(_) | None => {
            let belongs =
                format!("{name} (of node {} in data center {})", other.spec.node_name, other.spec.data_center);
            (Reason::HostNameTaken, belongs)
        }
    }
}

/// Whether a node has a Host here: the one that was made for it, or a user's, of whatever name.
fn has_host(world: &World, center: &ObjectKey, node: &str) -> bool {
    let of_center = |host: &&ObjectKey| {
        host.namespace == center.namespace && world.hosts.get(host).is_some_and(|h| *h.spec.data_center == *center.name)
    };
    let is_made = |host: &Host| labels(&host.metadata).get(MADE_FOR_LABEL).is_some_and(|name| **name == *center.name);
    world.hosts.get(&center.beside(node)).is_some_and(|host| is_made(host) && host.spec.node_name == node)
        || world.hosts_of_node(node).any(|host| of_center(&host))
}

/// Hosts that were made for a data center.
pub(super) fn made_for<'a>(world: &'a World, key: &'a ObjectKey) -> impl Iterator<Item = (ObjectKey, &'a Host)> {
    world
        .hosts
        .iter()
        .filter(|(host, _)| host.namespace == key.namespace)
        .filter(|(_, host)| labels(&host.metadata).get(MADE_FOR_LABEL).is_some_and(|name| **name == *key.name))
        .map(|(host_key, host)| (host_key.clone(), host))
}

fn gone_since(metadata: &ObjectMeta) -> Option<Timestamp> {
    let annotations: &BTreeMap<String, String> = metadata.annotations.as_ref()?;
    annotations.get(NODE_GONE_ANNOTATION)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::store::{
        Change,
        watched::{Event, Watched},
    };

    const NOW: Now = Now { wall: Timestamp::UNIX_EPOCH, monotonic: Duration::ZERO };

    fn read<T: DeserializeOwned>(object: Value) -> T {
        serde_json::from_value(object).unwrap()
    }

    fn center(name: &str, selector: &Value) -> Change {
        let mut object = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "DataCenter",
            "metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": {}});
        if !selector.is_null() {
            object["spec"]["hosts"] = json!({"nodeSelector": selector});
        }
        Change::DataCenter(Event::Applied(read::<Watched<DataCenter>>(object)))
    }

    fn host(name: &str, node: &str, data_center: &str, made: bool) -> Change {
        let labels = if made { json!({MADE_FOR_LABEL: data_center}) } else { json!({}) };
        let object = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Host",
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": labels},
            "spec": {"dataCenter": data_center, "nodeName": node}});
        Change::Host(Event::Applied(read::<Watched<Host>>(object)))
    }

    /// Nodes `n1` and `n2`, both of which every selector selects that selects all.
    fn world(changes: Vec<Change>) -> World {
        let mut world = World::default();
        let node = |name: &str| Change::Node(Event::Applied(read(json!({"metadata": {"name": name}}))));
        for change in [node("n1"), node("n2")].into_iter().chain(changes) {
            world.apply(change, NOW);
        }
        world
    }

    /// What is said of data center `one`, and the Hosts that it makes.
    fn one(world: &World) -> (Option<String>, Vec<String>) {
        let key = ObjectKey::new("ns", "one");
        let mut outcome = Outcome::default();
        let verdict = reconcile(world, &key, world.data_centers.get(&key).unwrap(), NOW, &mut outcome);
        let made = outcome.actions.iter().filter_map(Action::made).map(|host| host.name.to_string()).collect();
        let line = |verdict: Verdict| format!("{} {}: {}", verdict.status.as_str(), verdict.reason, verdict.message);
        (verdict.map(line), made)
    }

    #[track_caller]
    fn check(changes: Vec<Change>, says: &[&str], makes: &[&str]) {
        let (said, made) = one(&world(changes));
        let said = said.unwrap();
        assert_eq!(made, makes, "{said}");
        for words in says {
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_data_center_that_makes_no_hosts_says_nothing_of_them() {
        assert_eq!(one(&world(vec![center("one", &Value::Null)])), (None, vec![]));
    }

    #[test]
    fn every_node_that_matches_has_its_host_or_gets_it() {
        let made = host("n1", "n1", "one", true);
        check(vec![center("one", &json!({})), made], &["True Made"], &["n2"]);
        let of_a_user = host("my-own", "n1", "one", false);
        check(vec![center("one", &json!({})), of_a_user], &["True Made"], &["n2"]);
    }

    #[test]
    fn a_node_that_two_data_centers_select_is_named_with_the_one_that_has_it() {
        let both = vec![center("one", &json!({})), center("two", &json!({})), host("n1", "n1", "two", true)];
        check(both, &["False NodesSelectedTwice", "n1 (Host of data center two)"], &["n2"]);
        // The other does not select it any more, and its Host has not gone yet.
        let leaving = vec![
            center("one", &json!({})),
            center("two", &json!({"matchLabels": {"a": "b"}})),
            host("n1", "n1", "two", true),
        ];
        check(leaving, &["False HostNameTaken", "n1 (of node n1 in data center two)"], &["n2"]);
    }

    #[test]
    fn a_users_host_of_the_nodes_name_is_named_when_it_is_of_another_data_center_or_node() {
        let elsewhere = vec![center("one", &json!({})), host("n1", "n1", "two", false)];
        check(elsewhere, &["False HostNameTaken", "n1 (of node n1 in data center two)"], &["n2"]);
        let other_node = vec![center("one", &json!({})), host("n1", "other", "one", false)];
        check(other_node, &["False HostNameTaken", "n1 (of node other in data center one)"], &["n2"]);
    }

    #[test]
    fn a_host_that_the_api_server_refuses_is_named_with_what_it_says_until_it_is_taken() {
        let (key, n2) = (ObjectKey::new("ns", "one"), ObjectKey::new("ns", "n2"));
        let mut world = world(vec![center("one", &json!({})), host("n1", "n1", "one", true)]);
        world.take_dirty();
        let refusals = || BTreeMap::from([(n2.clone(), "exceeded quota".to_owned())]);
        world.refused(&key, refusals());
        assert_eq!(world.take_dirty().sums.len(), 1);
        world.refused(&key, refusals());
        assert_eq!(world.take_dirty().sums.len(), 0, "the same again is no news");
        let (said, made) = one(&world);
        let said = said.unwrap();
        assert!(said.contains("False HostRefused") && said.contains("n2: exceeded quota"), "{said}");
        assert_eq!(made, ["n2"], "and it is tried again");
        world.refused(&key, BTreeMap::new());
        assert_eq!(world.take_dirty().sums.len(), 1);
        assert!(one(&world).0.unwrap().contains("True Made"));
    }
}
