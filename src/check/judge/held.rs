//! Deletions that are stuck, and taints and conditions on Nodes that nobody removes ("marks").

use jiff::{SignedDuration, Timestamp};
use kube::{Resource, api::ObjectMeta};

use super::{LeaseState, key, leader};
use crate::{
    api::{FINALIZER, NODE_CONDITION, NODE_TAINT, NodePart, has_finalizer},
    check::{
        Check, Finding, Line,
        facts::{ClusterFacts, Fact, Listed, Unavailable},
    },
    ops::age,
};

/// After this time a deletion counts as stuck: longer than the controller waits by default.
const STUCK_AFTER: SignedDuration = SignedDuration::from_mins(5);

pub(super) fn lines(facts: &ClusterFacts) -> Vec<Line> {
    let release = "start a controller, or remove all finalizers and marks: `multibond release --dry-run`, then `multibond release`";
    // Only a leader removes finalizers. Without permission to read leases, assume that there is one.
    let led = facts.leases.as_ref().map_or(true, |leases| matches!(leader(leases, facts.now), LeaseState::Held(_)));
    vec![
        Check::DeletionsEnd.line(deletions(facts, led), release),
        Check::MarksExplained.line(marks(facts, led), release),
    ]
}

fn deletions(facts: &ClusterFacts, led: bool) -> Vec<Finding> {
    let ClusterFacts { data_centers, networks, hosts, bonds, .. } = facts;
    let mut findings = Vec::new();
    let mut held = 0;
    let mut look = |kind: &str, metadata: &ObjectMeta| {
        findings.extend(hanging(kind, metadata, led, facts.now));
        held += usize::from(metadata.deletion_timestamp.is_none() && has_finalizer(metadata));
    };
    let unavailable: Vec<Finding> =
        [each(data_centers, &mut look), each(networks, &mut look), each(hosts, &mut look), each(bonds, &mut look)]
            .into_iter()
            .flatten()
            .collect();
    if held > 0 && !led {
        let text = format!("no controller leads; objects with the finalizer {FINALIZER} ({held}) could not be deleted");
        findings.push(Finding::warning(text));
    }
    findings.into_iter().chain(unavailable).collect()
}

/// Visits all objects of a kind. A kind that does not exist has none.
fn each<K: Resource<DynamicType = ()>>(
    listed: &Fact<Listed<K>>,
    look: &mut impl FnMut(&str, &ObjectMeta),
) -> Option<Finding> {
    match listed {
        Ok(listed) => {
            listed.metadata().for_each(|metadata| look(&K::kind(&()), metadata));
            None
        }
        Err(Unavailable::UnknownKind) => None,
        Err(unavailable) => Some(unavailable.finding()),
    }
}

/// A finding on an object in deletion, if it is stuck.
fn hanging(kind: &str, metadata: &ObjectMeta, led: bool, now: Timestamp) -> Option<Finding> {
    let since = metadata.deletion_timestamp.as_ref()?.0;
    let long = now.duration_since(since) > STUCK_AFTER;
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    let others: Vec<&str> = finalizers.iter().map(String::as_str).filter(|name| *name != FINALIZER).collect();
    let what = format!("{kind} {} is being deleted, for {} now", key(metadata), age(since, now));
    if has_finalizer(metadata) && !led {
        Some(Finding::error(format!("{what}; no controller leads that would remove its finalizer")))
    } else if has_finalizer(metadata) && long {
        Some(Finding::warning(format!("{what}, longer than the controller waits by default")))
    } else if !others.is_empty() && long {
        Some(Finding::warning(format!("{what}; it waits for other finalizers: {}", others.join(", "))))
    } else {
        None
    }
}

fn marks(facts: &ClusterFacts, led: bool) -> Vec<Finding> {
    let nodes = match &facts.nodes {
        Ok(nodes) => nodes,
        Err(unavailable) => return vec![unavailable.finding()],
    };
    let named = |node: &str| match &facts.hosts {
        Ok(hosts) => hosts.objects.iter().any(|host| host.spec.node_name == node) || !hosts.broken.is_empty(),
        // Without the CRD there is no Host; after any other failure there may be one.
        Err(unavailable) => *unavailable != Unavailable::UnknownKind,
    };
    let finding = |node: &NodePart| {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let tainted =
            node.spec.taints.iter().any(|taint| taint.key == NODE_TAINT).then(|| format!("the taint {NODE_TAINT}"));
        let marked = node.status.conditions.iter().any(|condition| condition.kind == NODE_CONDITION);
        let marked = marked.then(|| format!("the condition {NODE_CONDITION}"));
        let marks: Vec<String> = [tainted, marked].into_iter().flatten().collect();
        let why = match (led, named(name)) {
            (true, true) => return None,
            (true, false) => "no Host names it",
            (false, _) => "no controller leads that would remove it",
        };
        (!marks.is_empty()).then(|| Finding::warning(format!("Node {name} has {}, and {why}", marks.join(" and "))))
    };
    nodes.iter().filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::check::{
        CheckOutcome, Stage,
        judge::fixture::{NOW, host, line, read, with_hosts, working},
    };

    fn network(seconds_ago: Option<i64>, finalizers: &[&str]) -> Listed<crate::api::Network> {
        let now: Timestamp = NOW.parse().unwrap();
        let deleted = seconds_ago.map(|seconds| (now - SignedDuration::from_secs(seconds)).to_string());
        let network = read(json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Network",
            "metadata": {"name": "san-a", "namespace": "ns", "deletionTimestamp": deleted, "finalizers": finalizers},
            "spec": {"dataCenter": "dc"}}));
        Listed { objects: vec![network], broken: Vec::new() }
    }

    #[rstest]
    #[case::just_begun(Some(10), &[FINALIZER], true, CheckOutcome::Ok)]
    #[case::waited_for_too_long(Some(400), &[FINALIZER], true, CheckOutcome::Warning)]
    #[case::nobody_works_on_it(Some(10), &[FINALIZER], false, CheckOutcome::Error)]
    #[case::another_has_just_begun(Some(10), &["example.com/x"], false, CheckOutcome::Ok)]
    #[case::another_holds_it(Some(400), &["example.com/x"], true, CheckOutcome::Warning)]
    #[case::it_lives(None, &[FINALIZER], true, CheckOutcome::Ok)]
    #[case::it_lives_and_could_not_be_deleted(None, &[FINALIZER], false, CheckOutcome::Warning)]
    #[case::it_lives_and_is_free(None, &[], false, CheckOutcome::Ok)]
    fn a_deletion_that_is_stuck_is_reported(
        #[case] seconds_ago: Option<i64>,
        #[case] finalizers: &[&str],
        #[case] led: bool,
        #[case] expected: CheckOutcome,
    ) {
        let mut facts = ClusterFacts { networks: Ok(network(seconds_ago, finalizers)), ..working() };
        if !led {
            facts.leases = Ok(Vec::new());
        }
        for stage in [Stage::Before, Stage::After] {
            let line = line(&facts, stage, Check::DeletionsEnd);
            assert_eq!(line.outcome, expected, "{:?}", line.found);
        }
    }

    #[test]
    fn a_deletion_can_be_stuck_though_its_object_cannot_be_decoded() {
        let metadata = network(Some(10), &[FINALIZER]).objects.remove(0).metadata;
        let networks = Listed { objects: Vec::new(), broken: vec![(metadata, "bad".to_owned())] };
        let facts = ClusterFacts { networks: Ok(networks), leases: Ok(Vec::new()), ..working() };
        let line = line(&facts, Stage::After, Check::DeletionsEnd);
        assert_eq!(
            (line.outcome, &line.found[0][..]),
            (
                CheckOutcome::Error,
                "Network ns/san-a is being deleted, for 10s now; no controller leads that would remove its finalizer"
            )
        );
    }

    #[test]
    fn without_permission_to_read_leases_a_leader_is_assumed() {
        let facts = ClusterFacts {
            networks: Ok(network(Some(10), &[FINALIZER])),
            leases: Err(Unavailable::Forbidden("list leases".to_owned())),
            ..working()
        };
        assert_eq!(line(&facts, Stage::After, Check::DeletionsEnd).outcome, CheckOutcome::Ok);
    }

    #[rstest]
    #[case::of_a_host("w1", true, CheckOutcome::Ok)]
    #[case::of_no_host("w9", true, CheckOutcome::Warning)]
    #[case::of_a_host_and_nobody_takes_it_off("w1", false, CheckOutcome::Warning)]
    fn a_mark_on_a_node_without_a_host_is_reported(
        #[values(
            json!({"spec": {"taints": [{"key": NODE_TAINT, "effect": "NoSchedule"}]}}),
            json!({"status": {"conditions": [{"type": NODE_CONDITION, "status": "True"}]}})
        )]
        mut node: Value,
        #[case] name: &str,
        #[case] led: bool,
        #[case] expected: CheckOutcome,
    ) {
        node["metadata"] = json!({"name": name});
        let mut facts = with_hosts(working(), [host("h1", "w1", json!({}))]);
        facts.nodes = Ok(vec![read(node)]);
        if !led {
            facts.leases = Ok(Vec::new());
        }
        let line = line(&facts, Stage::After, Check::MarksExplained);
        assert_eq!(line.outcome, expected, "{:?}", line.found);
    }

    #[test]
    fn without_crds_only_marks_on_nodes_can_be_left() {
        let mut facts = ClusterFacts { leases: Ok(Vec::new()), ..working() };
        (facts.networks, facts.hosts) = (Err(Unavailable::UnknownKind), Err(Unavailable::UnknownKind));
        (facts.data_centers, facts.bonds) = (Err(Unavailable::UnknownKind), Err(Unavailable::UnknownKind));
        facts.nodes = Ok(vec![read(json!({"metadata": {"name": "w1"},
            "spec": {"taints": [{"key": NODE_TAINT, "effect": "NoSchedule"}]}}))]);
        assert_eq!(line(&facts, Stage::Before, Check::DeletionsEnd).outcome, CheckOutcome::Ok);
        assert_eq!(line(&facts, Stage::Before, Check::MarksExplained).outcome, CheckOutcome::Warning);
    }
}
