//! What people have declared: whether it can be read, and what its conditions say.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, api::ObjectMeta};

use super::{key, shortened};
use crate::{
    api::{
        DataCenter, IscsiBond, Network,
        reason::{ConditionType, Reason},
    },
    check::{
        Check, Finding, Line,
        facts::{Facts, Listed, Seen},
    },
};

/// How long a controller may take until it has looked at what is new.
const LOOKED_AT_AFTER: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn lines(facts: &Facts) -> Vec<Line> {
    let Facts { data_centers, networks, hosts, bonds, .. } = facts;
    let undecodable =
        [broken(data_centers), broken(networks), broken(bonds), broken(hosts)].into_iter().flatten().collect();
    let complaints = [
        complaining(facts, data_centers, |it: &DataCenter| Some(&it.status.as_ref()?.conditions)),
        complaining(facts, networks, |it: &Network| Some(&it.status.as_ref()?.conditions)),
        complaining(facts, bonds, |it: &IscsiBond| Some(&it.status.as_ref()?.conditions)),
    ];
    vec![
        Check::ObjectsReadable
            .line(undecodable, "correct or delete the object: until then its data center stands still"),
        Check::ConditionsHold.line(
            complaints.into_iter().flatten().collect(),
            "the reference says what each reason means: docs/reference.md#reasons-of-conditions",
        ),
    ]
}

fn broken<K: Resource<DynamicType = ()>>(listed: &Seen<Listed<K>>) -> Vec<Finding> {
    match listed {
        Ok(listed) => {
            let text = |(metadata, why): &(ObjectMeta, String)| {
                format!("{} {}: {}", K::kind(&()), key(metadata), shortened(why))
            };
            listed.broken.iter().map(|broken| Finding::error(text(broken))).collect()
        }
        Err(unseen) => vec![unseen.finding()],
    }
}

fn complaining<K>(
    facts: &Facts,
    listed: &Seen<Listed<K>>,
    conditions: impl Fn(&K) -> Option<&Vec<Condition>>,
) -> Vec<Finding>
where
    K: Resource<DynamicType = ()>,
{
    let listed = match listed {
        Ok(listed) => listed,
        Err(unseen) => return vec![unseen.finding()],
    };
    // What is being deleted has a line of its own.
    let staying = listed.objects.iter().filter(|object| object.meta().deletion_timestamp.is_none());
    let of_object = |object: &K| {
        let name = format!("{} {}", K::kind(&()), key(object.meta()));
        let conditions = conditions(object).map(Vec::as_slice).unwrap_or_default();
        let mut findings: Vec<Finding> = Vec::new();
        for condition in conditions.iter().filter(|condition| complains(condition, object.meta(), facts)) {
            let Condition { type_, status, reason, message, .. } = condition;
            let text = format!("{name}: {type_} {status}, {reason}: {}", shortened(message));
            let frozen = *reason == Reason::Frozen.as_str();
            findings.push(if frozen { Finding::error(text) } else { Finding::warning(text) });
        }
        findings
    };
    staying.flat_map(of_object).collect()
}

/// Whether a condition says something that is not said of its hosts, or of another of its conditions, as well.
fn complains(condition: &Condition, metadata: &ObjectMeta, facts: &Facts) -> bool {
    let of_hosts = [Reason::Progressing, Reason::Connecting, Reason::HostsNonOperational];
    let is = |reason: Reason| condition.reason == reason.as_str();
    if is(Reason::Pending) {
        let born = metadata.creation_timestamp.as_ref();
        return born.is_some_and(|born| facts.now.duration_since(born.0) > LOOKED_AT_AFTER);
    }
    // Ready repeats what NetworksResolved says.
    let repeats = condition.type_ == ConditionType::Ready.as_str()
        && (is(Reason::NetworkNotFound) || is(Reason::NetworkInOtherDataCenter));
    let about_paths = condition.type_ == ConditionType::FullyConnected.as_str();
    condition.status == "False" && !about_paths && !repeats && !of_hosts.into_iter().any(is)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::check::{
        Outcome, Stage,
        facts::Unseen,
        judge::fixture::{line, read, working},
    };

    fn with_bond(facts: Facts, conditions: &Value) -> Facts {
        let bond = read(json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "IscsiBond",
            "metadata": {"name": "storage", "namespace": "ns", "creationTimestamp": "2026-01-31T12:00:00Z"},
            "spec": {"dataCenter": "dc"}, "status": {"conditions": conditions}}));
        Facts { bonds: Ok(Listed { objects: vec![bond], broken: Vec::new() }), ..facts }
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": "why",
            "lastTransitionTime": "2026-01-31T12:00:00Z"})
    }

    #[test]
    fn what_cannot_be_decoded_is_named() {
        let metadata = read(json!({"name": "dc", "namespace": "ns"}));
        let data_centers = Listed { objects: Vec::new(), broken: vec![(metadata, "no storage".to_owned())] };
        let facts = Facts { data_centers: Ok(data_centers), ..working() };
        let line = line(&facts, Stage::After, Check::ObjectsReadable);
        assert_eq!((line.outcome, &line.found[0][..]), (Outcome::Error, "DataCenter ns/dc: no storage"));
    }

    #[rstest]
    #[case("NetworksResolved", "True", "Resolved", Outcome::Ok)]
    #[case("NetworksResolved", "False", "NetworkNotFound", Outcome::Warning)]
    #[case("NetworksUsed", "False", "NetworkWithoutPath", Outcome::Warning)]
    #[case("Ready", "False", "Frozen", Outcome::Error)]
    #[case("Ready", "False", "DataCenterNotFound", Outcome::Warning)]
    #[case::said_of_the_networks("Ready", "False", "NetworkNotFound", Outcome::Ok)]
    #[case::said_of_the_hosts("Ready", "False", "HostsNonOperational", Outcome::Ok)]
    #[case::said_of_the_paths("FullyConnected", "False", "PathsFailed", Outcome::Ok)]
    #[case::under_way("Ready", "False", "Progressing", Outcome::Ok)]
    fn a_condition_that_says_what_nothing_else_says_is_told(
        #[case] kind: &str,
        #[case] status: &str,
        #[case] reason: &str,
        #[case] expected: Outcome,
    ) {
        let facts = with_bond(working(), &json!([condition(kind, status, reason)]));
        let line = line(&facts, Stage::After, Check::ConditionsHold);
        assert_eq!(line.outcome, expected, "{:?}", line.found);
    }

    #[rstest]
    #[case(59, Outcome::Ok)]
    #[case(61, Outcome::Warning)]
    fn what_nobody_has_looked_at_for_a_minute_is_told(#[case] seconds: i64, #[case] expected: Outcome) {
        let born: jiff::Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let mut facts = with_bond(working(), &json!([condition("Ready", "Unknown", "Pending")]));
        facts.now = born + SignedDuration::from_secs(seconds);
        assert_eq!(line(&facts, Stage::After, Check::ConditionsHold).outcome, expected);
    }

    #[test]
    fn of_what_may_not_be_listed_nothing_is_said_and_of_the_rest_all_is() {
        let facts = Facts { networks: Err(Unseen::Forbidden("list networks".to_owned())), ..working() };
        let skipped = line(&facts, Stage::After, Check::ConditionsHold);
        assert_eq!(
            (skipped.outcome, &skipped.found[..]),
            (Outcome::Skipped, &["you may not list networks".to_owned()][..])
        );
        let facts = with_bond(facts, &json!([condition("NetworksResolved", "False", "NetworkNotFound")]));
        let both = line(&facts, Stage::After, Check::ConditionsHold);
        assert_eq!((both.outcome, both.found.len()), (Outcome::Warning, 2));
    }
}
