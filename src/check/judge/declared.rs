//! Data centers, networks and bonds: whether they can be decoded, and what their conditions say.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, api::ObjectMeta};

use super::{key, truncated};
use crate::{
    api::{
        DataCenter, IscsiBond, Network,
        reason::{ConditionType, Reason},
    },
    check::{
        Check, Finding, Line,
        facts::{ClusterFacts, Fact, Listed},
    },
};

/// The time that a new object may stay `Pending` before that is a finding.
const PENDING_AT_MOST: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn lines(facts: &ClusterFacts) -> Vec<Line> {
    let ClusterFacts { data_centers, networks, hosts, bonds, .. } = facts;
    let undecodable =
        [broken(data_centers), broken(networks), broken(bonds), broken(hosts)].into_iter().flatten().collect();
    let unmet = [
        unmet(facts, data_centers, |it: &DataCenter| Some(&it.status.as_ref()?.conditions)),
        unmet(facts, networks, |it: &Network| Some(&it.status.as_ref()?.conditions)),
        unmet(facts, bonds, |it: &IscsiBond| Some(&it.status.as_ref()?.conditions)),
    ];
    vec![
        Check::ObjectsReadable.line(undecodable, "correct or delete the object; until then its data center is frozen"),
        Check::ConditionsHold.line(
            unmet.into_iter().flatten().collect(),
            "docs/reference.md#reasons-of-conditions explains each reason",
        ),
    ]
}

fn broken<K: Resource<DynamicType = ()>>(listed: &Fact<Listed<K>>) -> Vec<Finding> {
    match listed {
        Ok(listed) => {
            let text = |(metadata, why): &(ObjectMeta, String)| {
                format!("{} {}: {}", K::kind(&()), key(metadata), truncated(why))
            };
            listed.broken.iter().map(|broken| Finding::error(text(broken))).collect()
        }
        Err(unavailable) => vec![unavailable.finding()],
    }
}

fn unmet<K>(
    facts: &ClusterFacts,
    listed: &Fact<Listed<K>>,
    conditions: impl Fn(&K) -> Option<&Vec<Condition>>,
) -> Vec<Finding>
where
    K: Resource<DynamicType = ()>,
{
    let listed = match listed {
        Ok(listed) => listed,
        Err(unavailable) => return vec![unavailable.finding()],
    };
    // Another line is about objects in deletion.
    let staying = listed.objects.iter().filter(|object| object.meta().deletion_timestamp.is_none());
    let of_object = |object: &K| {
        let name = format!("{} {}", K::kind(&()), key(object.meta()));
        let conditions = conditions(object).map(Vec::as_slice).unwrap_or_default();
        let mut findings: Vec<Finding> = Vec::new();
        for condition in conditions.iter().filter(|condition| is_worth_a_finding(condition, object.meta(), facts)) {
            let Condition { type_, status, reason, message, .. } = condition;
            let text = format!("{name}: {type_} {status}, {reason}: {}", truncated(message));
            let frozen = *reason == Reason::Frozen.as_str();
            findings.push(if frozen { Finding::error(text) } else { Finding::warning(text) });
        }
        findings
    };
    staying.flat_map(of_object).collect()
}

/// Whether a condition is worth a finding: it is not met, and neither a Host nor another condition of the object
/// reports the same.
fn is_worth_a_finding(condition: &Condition, metadata: &ObjectMeta, facts: &ClusterFacts) -> bool {
    let of_hosts = [Reason::Progressing, Reason::Connecting, Reason::HostsNonOperational, Reason::PortalsFailed];
    let is = |reason: Reason| condition.reason == reason.as_str();
    if is(Reason::Pending) {
        let born = metadata.creation_timestamp.as_ref();
        return born.is_some_and(|born| facts.now.duration_since(born.0) > PENDING_AT_MOST);
    }
    // Ready repeats the reasons of NetworksResolved and TargetsResolved.
    let repeats = condition.type_ == ConditionType::Ready.as_str()
        && [Reason::NetworkNotFound, Reason::NetworkInOtherDataCenter, Reason::TargetNotFound].into_iter().any(is);
    let about_paths = condition.type_ == ConditionType::FullyConnected.as_str();
    condition.status == "False" && !about_paths && !repeats && !of_hosts.into_iter().any(is)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::check::{
        CheckOutcome, Stage,
        facts::Unavailable,
        judge::fixture::{line, read, working},
    };

    fn with_bond(facts: ClusterFacts, conditions: &Value) -> ClusterFacts {
        let bond = read(json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "IscsiBond",
            "metadata": {"name": "storage", "namespace": "ns", "creationTimestamp": "2026-01-31T12:00:00Z"},
            "spec": {"dataCenter": "dc"}, "status": {"conditions": conditions}}));
        ClusterFacts { bonds: Ok(Listed { objects: vec![bond], broken: Vec::new() }), ..facts }
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": "why",
            "lastTransitionTime": "2026-01-31T12:00:00Z"})
    }

    #[test]
    fn an_object_that_cannot_be_decoded_is_named() {
        let metadata = read(json!({"name": "dc", "namespace": "ns"}));
        let data_centers = Listed { objects: Vec::new(), broken: vec![(metadata, "no storage".to_owned())] };
        let facts = ClusterFacts { data_centers: Ok(data_centers), ..working() };
        let line = line(&facts, Stage::After, Check::ObjectsReadable);
        assert_eq!((line.outcome, &line.found[0][..]), (CheckOutcome::Error, "DataCenter ns/dc: no storage"));
    }

    #[rstest]
    #[case("NetworksResolved", "True", "Resolved", CheckOutcome::Ok)]
    #[case("NetworksResolved", "False", "NetworkNotFound", CheckOutcome::Warning)]
    #[case("NetworksUsed", "False", "NetworkWithoutPath", CheckOutcome::Warning)]
    #[case("Ready", "False", "Frozen", CheckOutcome::Error)]
    #[case("Ready", "False", "DataCenterNotFound", CheckOutcome::Warning)]
    #[case::said_of_the_networks("Ready", "False", "NetworkNotFound", CheckOutcome::Ok)]
    #[case::said_of_the_hosts("Ready", "False", "HostsNonOperational", CheckOutcome::Ok)]
    #[case::said_of_the_paths("FullyConnected", "False", "PathsFailed", CheckOutcome::Ok)]
    #[case::under_way("Ready", "False", "Progressing", CheckOutcome::Ok)]
    fn a_condition_is_reported_unless_another_line_says_the_same(
        #[case] kind: &str,
        #[case] status: &str,
        #[case] reason: &str,
        #[case] expected: CheckOutcome,
    ) {
        let facts = with_bond(working(), &json!([condition(kind, status, reason)]));
        let line = line(&facts, Stage::After, Check::ConditionsHold);
        assert_eq!(line.outcome, expected, "{:?}", line.found);
    }

    #[rstest]
    #[case(59, CheckOutcome::Ok)]
    #[case(61, CheckOutcome::Warning)]
    fn an_object_that_is_pending_for_a_minute_is_reported(#[case] seconds: i64, #[case] expected: CheckOutcome) {
        let born: jiff::Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let mut facts = with_bond(working(), &json!([condition("Ready", "Unknown", "Pending")]));
        facts.now = born + SignedDuration::from_secs(seconds);
        assert_eq!(line(&facts, Stage::After, Check::ConditionsHold).outcome, expected);
    }

    #[test]
    fn a_kind_that_cannot_be_listed_does_not_hide_the_others() {
        let facts = ClusterFacts { networks: Err(Unavailable::Forbidden("list networks".to_owned())), ..working() };
        let skipped = line(&facts, Stage::After, Check::ConditionsHold);
        assert_eq!(
            (skipped.outcome, &skipped.found[..]),
            (CheckOutcome::Skipped, &["no permission to list networks".to_owned()][..])
        );
        let facts = with_bond(facts, &json!([condition("NetworksResolved", "False", "NetworkNotFound")]));
        let both = line(&facts, Stage::After, Check::ConditionsHold);
        assert_eq!((both.outcome, both.found.len()), (CheckOutcome::Warning, 2));
    }
}
