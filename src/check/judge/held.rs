//! What is not let go: deletions that hang, and marks on Nodes that nobody takes off.

use jiff::{SignedDuration, Timestamp};
use kube::{Resource, api::ObjectMeta};

use super::{Renewal, key, leader};
use crate::{
    api::{FINALIZER, NODE_CONDITION, NODE_TAINT, NodePart, has_finalizer},
    check::{
        Check, Finding, Line,
        facts::{Facts, Listed, Seen, Unseen},
    },
    ops::age,
};

/// Longer than a deletion waits, unless it was told otherwise.
const LONG: SignedDuration = SignedDuration::from_mins(5);

pub(super) fn lines(facts: &Facts) -> Vec<Line> {
    let release =
        "start a controller, or let go of everything: `multibond release --dry-run`, then `multibond release`";
    // Nobody but a leader lets go. Where leases may not be read, there may be one.
    let led = facts.leases.as_ref().map_or(true, |leases| matches!(leader(leases, facts.now), Renewal::Alive(_)));
    vec![
        Check::DeletionsEnd.line(deletions(facts, led), release),
        Check::MarksExplained.line(marks(facts, led), release),
    ]
}

fn deletions(facts: &Facts, led: bool) -> Vec<Finding> {
    let Facts { data_centers, networks, hosts, bonds, .. } = facts;
    let mut findings = Vec::new();
    let mut held = 0;
    let mut look = |kind: &str, metadata: &ObjectMeta| {
        findings.extend(hanging(kind, metadata, led, facts.now));
        held += usize::from(metadata.deletion_timestamp.is_none() && has_finalizer(metadata));
    };
    let unseen: Vec<Finding> =
        [each(data_centers, &mut look), each(networks, &mut look), each(hosts, &mut look), each(bonds, &mut look)]
            .into_iter()
            .flatten()
            .collect();
    if held > 0 && !led {
        let text = format!(
            "no controller leads, and objects hold the finalizer {FINALIZER}, {held} in all: a deletion would hang"
        );
        findings.push(Finding::warning(text));
    }
    findings.into_iter().chain(unseen).collect()
}

/// Looks at all objects of a kind. One that is gone holds nothing.
fn each<K: Resource<DynamicType = ()>>(
    listed: &Seen<Listed<K>>,
    look: &mut impl FnMut(&str, &ObjectMeta),
) -> Option<Finding> {
    match listed {
        Ok(listed) => {
            listed.metadata().for_each(|metadata| look(&K::kind(&()), metadata));
            None
        }
        Err(Unseen::UnknownKind) => None,
        Err(unseen) => Some(unseen.finding()),
    }
}

/// What is to be said of an object that is being deleted.
fn hanging(kind: &str, metadata: &ObjectMeta, led: bool, now: Timestamp) -> Option<Finding> {
    let since = metadata.deletion_timestamp.as_ref()?.0;
    let long = now.duration_since(since) > LONG;
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    let others: Vec<&str> = finalizers.iter().map(String::as_str).filter(|name| *name != FINALIZER).collect();
    let what = format!("{kind} {} is being deleted for {}", key(metadata), age(since, now));
    if has_finalizer(metadata) && !led {
        Some(Finding::error(format!("{what}, and no controller leads that would let it go")))
    } else if has_finalizer(metadata) && long {
        Some(Finding::warning(format!("{what}, longer than the controller waits by default")))
    } else if !others.is_empty() && long {
        Some(Finding::warning(format!("{what}, and waits for finalizers of others: {}", others.join(", "))))
    } else {
        None
    }
}

fn marks(facts: &Facts, led: bool) -> Vec<Finding> {
    let nodes = match &facts.nodes {
        Ok(nodes) => nodes,
        Err(unseen) => return vec![unseen.finding()],
    };
    let named = |node: &str| match &facts.hosts {
        Ok(hosts) => hosts.objects.iter().any(|host| host.spec.node_name == node) || !hosts.broken.is_empty(),
        // Without the kind there is no Host; otherwise there may be one.
        Err(unseen) => *unseen != Unseen::UnknownKind,
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
            (false, _) => "no controller leads that would take it off",
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
        Outcome, Stage,
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
    #[case::just_begun(Some(10), &[FINALIZER], true, Outcome::Ok)]
    #[case::waited_for_too_long(Some(400), &[FINALIZER], true, Outcome::Warning)]
    #[case::nobody_works_on_it(Some(10), &[FINALIZER], false, Outcome::Error)]
    #[case::another_has_just_begun(Some(10), &["example.com/x"], false, Outcome::Ok)]
    #[case::another_holds_it(Some(400), &["example.com/x"], true, Outcome::Warning)]
    #[case::it_lives(None, &[FINALIZER], true, Outcome::Ok)]
    #[case::it_lives_and_could_not_be_deleted(None, &[FINALIZER], false, Outcome::Warning)]
    #[case::it_lives_and_is_free(None, &[], false, Outcome::Ok)]
    fn a_deletion_that_hangs_is_told(
        #[case] seconds_ago: Option<i64>,
        #[case] finalizers: &[&str],
        #[case] led: bool,
        #[case] expected: Outcome,
    ) {
        let mut facts = Facts { networks: Ok(network(seconds_ago, finalizers)), ..working() };
        if !led {
            facts.leases = Ok(Vec::new());
        }
        for stage in [Stage::Before, Stage::After] {
            let line = line(&facts, stage, Check::DeletionsEnd);
            assert_eq!(line.outcome, expected, "{:?}", line.found);
        }
    }

    #[test]
    fn an_object_that_cannot_be_decoded_hangs_like_any_other() {
        let metadata = network(Some(10), &[FINALIZER]).objects.remove(0).metadata;
        let networks = Listed { objects: Vec::new(), broken: vec![(metadata, "bad".to_owned())] };
        let facts = Facts { networks: Ok(networks), leases: Ok(Vec::new()), ..working() };
        let line = line(&facts, Stage::After, Check::DeletionsEnd);
        assert_eq!(
            (line.outcome, &line.found[0][..]),
            (Outcome::Error, "Network ns/san-a is being deleted for 10s, and no controller leads that would let it go")
        );
    }

    #[test]
    fn where_leases_may_not_be_read_there_may_be_a_controller() {
        let facts = Facts {
            networks: Ok(network(Some(10), &[FINALIZER])),
            leases: Err(Unseen::Forbidden("list leases".to_owned())),
            ..working()
        };
        assert_eq!(line(&facts, Stage::After, Check::DeletionsEnd).outcome, Outcome::Ok);
    }

    #[rstest]
    #[case::of_a_host("w1", true, Outcome::Ok)]
    #[case::of_no_host("w9", true, Outcome::Warning)]
    #[case::of_a_host_and_nobody_takes_it_off("w1", false, Outcome::Warning)]
    fn a_mark_that_nobody_explains_is_told(
        #[values(
            json!({"spec": {"taints": [{"key": NODE_TAINT, "effect": "NoSchedule"}]}}),
            json!({"status": {"conditions": [{"type": NODE_CONDITION, "status": "True"}]}})
        )]
        mut node: Value,
        #[case] name: &str,
        #[case] led: bool,
        #[case] expected: Outcome,
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
    fn without_crds_nothing_is_held_but_nodes_may_be_marked() {
        let mut facts = Facts { leases: Ok(Vec::new()), ..working() };
        (facts.networks, facts.hosts) = (Err(Unseen::UnknownKind), Err(Unseen::UnknownKind));
        (facts.data_centers, facts.bonds) = (Err(Unseen::UnknownKind), Err(Unseen::UnknownKind));
        facts.nodes = Ok(vec![read(json!({"metadata": {"name": "w1"},
            "spec": {"taints": [{"key": NODE_TAINT, "effect": "NoSchedule"}]}}))]);
        assert_eq!(line(&facts, Stage::Before, Check::DeletionsEnd).outcome, Outcome::Ok);
        assert_eq!(line(&facts, Stage::Before, Check::MarksExplained).outcome, Outcome::Warning);
    }
}
