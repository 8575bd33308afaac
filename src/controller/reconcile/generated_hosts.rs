//! The Hosts that are generated for `DataCenter.spec.hosts`: one for each Node that matches.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::{
    api::ObjectMeta,
    core::{Selector, SelectorExt as _},
};

use super::{
    action::{Action, EventSpec, Outcome, Requires, Step},
    aggregate::few_names,
    ownership::owner_reference,
};
use crate::{
    api::{
        DataCenter, Host, NODE_GONE_ANNOTATION, ObjectKey, ObjectKind,
        condition::{ConditionUpdate, Status},
        ownership::{self, is_generated_for},
        reason::{ConditionType, EventReason, Reason},
    },
    controller::{
        index::Index,
        store::watched::{is_being_deleted, labels},
    },
    ops::Now,
};

/// A generated Host is deleted only this long after its Node: a Node that is reinstalled comes back.
const NODE_GONE_GRACE: Duration = Duration::from_secs(600);

/// Creates missing Hosts, and deletes Hosts whose Node has been gone for long. Returns the `HostsMade` condition;
/// `None` for a data center that generates no Hosts.
pub(super) fn reconcile(
    index: &Index,
    key: &ObjectKey,
    data_center: &DataCenter,
    now: Now,
    outcome: &mut Outcome,
) -> Option<ConditionUpdate> {
    let condition = data_center.spec.hosts.is_some().then(|| create_missing(index, key, data_center, outcome));
    let hosts = generated_for(index, key).into_iter().filter(|(_, host)| !is_being_deleted(&host.metadata));
    let (mut deleted, mut deletions) = (Vec::new(), Vec::new());
    for (host_key, host) in hosts {
        let uid = host.metadata.uid.clone();
        if *host.spec.data_center != *key.name {
            let note = format!(
                "spec.dataCenter was {}, and is {} again: this Host was created for that data center",
                host.spec.data_center, key.name
            );
            let event = EventSpec::normal(EventReason::HostMovedBack, note);
            let (key, data_center) = (host_key.clone(), key.name.to_string());
            outcome.push(Action::MoveHost { key, uid: uid.clone(), data_center, event });
        }
        let node = index.nodes.get(&ObjectKey::new("", &host.spec.node_name));
        let matches = node.is_some_and(|node| selects(data_center, &node.metadata));
        match (matches, node_gone_since(&host.metadata)) {
            (true, None) => {}
            (true, Some(_)) => outcome.push(Action::NodeGone { key: host_key, uid, since: None }),
            (false, None) => outcome.push(Action::NodeGone { key: host_key, uid, since: Some(now.wall) }),
            (false, Some(since)) => {
                let until = since.saturating_add(NODE_GONE_GRACE).unwrap_or(Timestamp::MAX);
                if now.wall >= until {
                    deleted.push(host_key.name.to_string());
                    let delete = Action::Delete { kind: ObjectKind::Host, key: host_key, uid };
                    deletions.push(delete);
                } else {
                    outcome.recheck(until);
                }
            }
        }
    }
    outcome.extend(deletions);
    let note = || format!("deleted the Hosts of Nodes that are gone or no longer match: {}", few_names(&deleted));
    tell(key, data_center, EventReason::HostsDeleted, deleted.len(), note, outcome);
    condition
}

/// Adds the Event about the last steps of the outcome, so that many hosts are one Event: published if one of them succeeds.
fn tell(
    key: &ObjectKey,
    data_center: &DataCenter,
    reason: EventReason,
    steps: usize,
    note: impl FnOnce() -> String,
    outcome: &mut Outcome,
) {
    if steps == 0 {
        return;
    }
    let (uid, event) = (data_center.metadata.uid.clone(), EventSpec::normal(reason, note()));
    let action = Action::PublishEvent { kind: ObjectKind::DataCenter, key: key.clone(), uid, event, once: false };
    outcome.steps.push(Step { action, requires: Requires::AnyOfLast(steps) });
}

/// Whether a data center wants a Host for a Node.
fn selects(data_center: &DataCenter, node: &ObjectMeta) -> bool {
    let selector = data_center.spec.hosts.as_ref().map(|hosts| Selector::try_from(hosts.node_selector.clone()));
    // The schema refuses selectors that cannot be read.
    matches!(selector, Some(Ok(selector)) if node.deletion_timestamp.is_none() && selector.matches(labels(node)))
}

/// Creates the Hosts that are missing. The condition says which cannot be created.
fn create_missing(index: &Index, key: &ObjectKey, data_center: &DataCenter, outcome: &mut Outcome) -> ConditionUpdate {
    let mut nodes: Vec<(&ObjectKey, &ObjectMeta)> = index
        .nodes
        .iter()
        .map(|(node, part)| (node, &part.metadata))
        .filter(|(_, metadata)| selects(data_center, metadata))
        .collect();
    nodes.sort_by_key(|(node, _)| *node);
    let mut problems: BTreeMap<Reason, Vec<String>> = BTreeMap::new();
    let mut created = Vec::new();
    for (node, metadata) in nodes {
        if has_host(index, key, &node.name) {
            continue;
        }
        let host_key = key.beside(node.name.clone());
        if let Some(other) = index.hosts.get(&host_key) {
            let (reason, message) = name_taken(index, &host_key, other, metadata);
            problems.entry(reason).or_default().push(message);
            continue;
        }
        if let Some(error) = index.create_error(key, &host_key) {
            problems.entry(Reason::HostRefused).or_default().push(format!("{}: {error}", node.name));
        }
        created.push(node.name.to_string());
        outcome.push(Action::CreateHost {
            key: host_key,
            data_center: key.name.to_string(),
            node: node.name.to_string(),
            owner: owner_reference(data_center),
        });
    }
    let note = || format!("created a Host for each Node that spec.hosts matches: {}", few_names(&created));
    tell(key, data_center, EventReason::HostsCreated, created.len(), note, outcome);
    let kind = ConditionType::HostsMade;
    let Some(first) = problems.keys().next().copied() else {
        return ConditionUpdate::new(kind, Status::True, Reason::Made, "every Node that matches has its Host");
    };
    let all: Vec<String> = problems.iter().map(|(reason, nodes)| describe(*reason, nodes)).collect();
    ConditionUpdate::new(kind, Status::False, first, all.join("; "))
}

/// Names Nodes that have no Host for this reason, and says what to do.
fn describe(reason: Reason, nodes: &[String]) -> String {
    let nodes = few_names(nodes);
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

/// Why no Host can be created: another Host has the Node's name, and it is not this data center's Host for the Node.
fn name_taken(index: &Index, host_key: &ObjectKey, other: &Host, node: &ObjectMeta) -> (Reason, String) {
    let name = &host_key.name;
    let generated_for = ownership::generated_for(&other.metadata);
    let owner = generated_for.and_then(|owner| index.data_centers.get(&host_key.beside(owner)));
    match generated_for {
        Some(owner_name) if owner.is_some_and(|owner| selects(owner, node)) => {
            (Reason::NodesSelectedTwice, format!("{name} (Host of data center {owner_name})"))
        }
        Some(_) | None => {
            let Host { spec, .. } = other;
            (Reason::HostNameTaken, format!("{name} (of node {} in data center {})", spec.node_name, spec.data_center))
        }
    }
}

/// Whether a node has a Host in the data center: the generated Host, or a Host of a user with any name.
fn has_host(index: &Index, dc_key: &ObjectKey, node: &str) -> bool {
    let generated = index.hosts.get(&dc_key.beside(node)).is_some_and(|host| {
        is_generated_for(&host.metadata, &dc_key.namespace, &dc_key.name) && host.spec.node_name == node
    });
    let mut others = index.hosts_of_node(node).filter(|host| host.namespace == dc_key.namespace);
    generated || others.any(|key| index.hosts.get(key).is_some_and(|host| *host.spec.data_center == *dc_key.name))
}

/// The Hosts that were generated for a data center, sorted.
pub(super) fn generated_for<'a>(index: &'a Index, key: &ObjectKey) -> Vec<(ObjectKey, &'a Host)> {
    let hosts = index.hosts.iter();
    let hosts = hosts.filter(|(_, host)| is_generated_for(&host.metadata, &key.namespace, &key.name));
    let mut hosts: Vec<(ObjectKey, &Host)> = hosts.map(|(key, host)| (key.clone(), host)).collect();
    hosts.sort_by(|a, b| a.0.cmp(&b.0));
    hosts
}

fn node_gone_since(metadata: &ObjectMeta) -> Option<Timestamp> {
    metadata.annotations.as_ref()?.get(NODE_GONE_ANNOTATION)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::MADE_FOR_LABEL,
        controller::fixtures::{NOW, applied, node, object},
    };

    fn data_center(name: &str, selector: &Value) -> Value {
        let spec = if selector.is_null() { json!({}) } else { json!({"hosts": {"nodeSelector": selector}}) };
        object("DataCenter", name, &spec)
    }

    fn host(name: &str, node: &str, data_center: &str, generated: bool) -> Value {
        let mut host = object("Host", name, &json!({"dataCenter": data_center, "nodeName": node}));
        if generated {
            host["metadata"]["labels"] = json!({MADE_FOR_LABEL: data_center});
        }
        host
    }

    /// Nodes `n1` and `n2`, without labels: an empty selector selects both.
    fn index(objects: Vec<Value>) -> Index {
        let mut index = Index::default();
        for object in [node("n1"), node("n2")].into_iter().chain(objects) {
            index.apply(applied(object), NOW);
        }
        index
    }

    fn decide(index: &Index) -> (Option<ConditionUpdate>, Outcome) {
        let key = ObjectKey::new("ns", "one");
        let mut outcome = Outcome::default();
        let condition = reconcile(index, &key, index.data_centers.get(&key).unwrap(), NOW, &mut outcome);
        (condition, outcome)
    }

    /// The condition of data center `one`, and the Hosts that it creates.
    fn one(index: &Index) -> (Option<String>, Vec<String>) {
        let (condition, outcome) = decide(index);
        let created = outcome.steps.iter().filter_map(|step| step.action.created_host());
        let line =
            |update: ConditionUpdate| format!("{} {}: {}", update.status.as_str(), update.reason, update.message);
        (condition.map(line), created.map(|host| host.name.to_string()).collect())
    }

    #[track_caller]
    fn check(objects: Vec<Value>, says: &[&str], creates: &[&str]) {
        let (condition, names) = one(&index(objects));
        let condition = condition.unwrap();
        assert_eq!(names, creates, "{condition}");
        for words in says {
            assert!(condition.contains(words), "{condition}");
        }
    }

    #[test]
    fn a_data_center_that_generates_no_hosts_has_no_condition_about_them() {
        assert_eq!(one(&index(vec![data_center("one", &Value::Null)])), (None, vec![]));
    }

    #[test]
    fn every_node_that_matches_has_its_host_or_gets_one() {
        let generated = host("n1", "n1", "one", true);
        check(vec![data_center("one", &json!({})), generated], &["True Made"], &["n2"]);
        let of_a_user = host("my-own", "n1", "one", false);
        check(vec![data_center("one", &json!({})), of_a_user], &["True Made"], &["n2"]);
    }

    #[test]
    fn a_node_that_two_data_centers_select_is_named_with_the_one_that_has_it() {
        let both = vec![data_center("one", &json!({})), data_center("two", &json!({})), host("n1", "n1", "two", true)];
        check(both, &["False NodesSelectedTwice", "n1 (Host of data center two)"], &["n2"]);
        // The other does not select it any more, and its Host has not gone yet.
        let leaving = vec![
            data_center("one", &json!({})),
            data_center("two", &json!({"matchLabels": {"a": "b"}})),
            host("n1", "n1", "two", true),
        ];
        check(leaving, &["False HostNameTaken", "n1 (of node n1 in data center two)"], &["n2"]);
    }

    #[test]
    fn a_users_host_that_takes_the_name_of_a_node_is_named() {
        let elsewhere = vec![data_center("one", &json!({})), host("n1", "n1", "two", false)];
        check(elsewhere, &["False HostNameTaken", "n1 (of node n1 in data center two)"], &["n2"]);
        let other_node = vec![data_center("one", &json!({})), host("n1", "other", "one", false)];
        check(other_node, &["False HostNameTaken", "n1 (of node other in data center one)"], &["n2"]);
    }

    #[test]
    fn a_host_that_the_api_server_refuses_is_named_with_its_answer() {
        let (key, n2) = (ObjectKey::new("ns", "one"), ObjectKey::new("ns", "n2"));
        let mut index = index(vec![data_center("one", &json!({})), host("n1", "n1", "one", true)]);
        index.take_pending();
        let errors = || BTreeMap::from([(n2.clone(), "exceeded quota".to_owned())]);
        index.set_create_errors(&key, errors());
        assert_eq!(index.take_pending().debounced.len(), 1);
        index.set_create_errors(&key, errors());
        assert_eq!(index.take_pending().debounced.len(), 0, "the same answer again is no news");
        let (condition, created) = one(&index);
        let condition = condition.unwrap();
        assert!(condition.contains("False HostRefused") && condition.contains("n2: exceeded quota"), "{condition}");
        assert_eq!(created, ["n2"], "and it is tried again");
        index.set_create_errors(&key, BTreeMap::new());
        assert_eq!(index.take_pending().debounced.len(), 1);
        assert!(one(&index).0.unwrap().contains("True Made"));
    }

    #[test]
    fn a_generated_host_is_deleted_ten_minutes_after_its_node_is_gone() {
        let mut orphan = host("n9", "n9", "one", true);
        let names = |outcome: Outcome| crate::controller::fixtures::actions(&outcome);
        let only = |orphan: &Value| decide(&index(vec![data_center("one", &Value::Null), orphan.clone()])).1;
        assert_eq!(names(only(&orphan)), ["node-gone"]);
        orphan["metadata"]["annotations"] = json!({NODE_GONE_ANNOTATION: "1969-12-31T23:50:01Z"});
        let waiting = only(&orphan);
        assert_eq!((names(only(&orphan)), waiting.recheck_at), (vec![], Timestamp::from_second(1).ok()));
        orphan["metadata"]["annotations"] = json!({NODE_GONE_ANNOTATION: "1969-12-31T23:50:00Z"});
        assert_eq!(names(only(&orphan)), ["delete", "event"]);
    }

    #[test]
    fn the_hosts_that_are_created_are_one_event() {
        let (_, outcome) = decide(&index(vec![data_center("one", &json!({}))]));
        assert_eq!(crate::controller::fixtures::actions(&outcome), ["create-host", "create-host", "event"]);
        let Step { action: Action::PublishEvent { event, once, .. }, requires } = &outcome.steps[2] else { panic!() };
        assert_eq!((event.reason, *once, *requires), ("HostsCreated", false, Requires::AnyOfLast(2)));
        assert!(event.note.ends_with(": n1, n2"), "{}", event.note);
    }

    #[test]
    fn a_host_that_is_moved_back_has_an_event_with_both_data_centers() {
        let moved = host("n1", "n1", "two", true);
        let mut moved = moved;
        moved["metadata"]["labels"] = json!({MADE_FOR_LABEL: "one"});
        let (_, outcome) = decide(&index(vec![data_center("one", &Value::Null), moved]));
        let event = outcome.steps.iter().find_map(|step| match &step.action {
            Action::MoveHost { event, .. } => Some(event),
            _ => None,
        });
        assert_eq!(event.unwrap().reason, "HostMovedBack");
        assert!(event.unwrap().note.contains("was two, and is one again"), "{event:?}");
    }
}
