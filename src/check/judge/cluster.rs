//! The cluster, and what an installation meets there.

use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::version::Info,
};

use super::{about, key};
use crate::{
    api::VERSION,
    check::{
        Check, Finding, Line,
        facts::{Facts, Unseen},
        rights::{NAMESPACE, Right},
    },
};

/// The oldest Kubernetes that will do; the chart says so too.
const OLDEST: (u32, u32) = (1, 32);

pub(super) fn lines(facts: &Facts) -> Vec<Line> {
    let answers = match &facts.server {
        Err(unseen @ Unseen::Failed(_)) => vec![unseen.finding()],
        // Who is refused something has been answered.
        Ok(_) | Err(_) => Vec::new(),
    };
    let (major, minor) = OLDEST;
    let upgrade = format!("upgrade the cluster to Kubernetes {major}.{minor} or newer");
    vec![
        Check::ServerAnswers.line(answers, "is it the right cluster (--kubeconfig, --context), and is it up?"),
        about_version(facts, &upgrade),
        about(Check::PoliciesServed, &facts.policies, &upgrade, |served| {
            let refusal = "it does not serve admissionregistration.k8s.io/v1 validatingadmissionpolicies";
            if *served { Vec::new() } else { vec![Finding::error(refusal)] }
        }),
    ]
}

fn about_version(facts: &Facts, upgrade: &str) -> Line {
    // That it does not answer has been said.
    if let Err(Unseen::Failed(_)) = facts.server {
        return Check::KubernetesVersion.line(vec![Unseen::Unasked.finding()], upgrade);
    }
    about(Check::KubernetesVersion, &facts.server, upgrade, |info| {
        let found = info.git_version.clone();
        vec![if version(info) >= Some(OLDEST) { Finding::ok(found) } else { Finding::error(found) }]
    })
}

/// Some distributions write `32+`.
fn version(info: &Info) -> Option<(u32, u32)> {
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok();
    Some((number(&info.major)?, number(&info.minor)?))
}

/// What is asked before an installation.
pub(super) fn before(facts: &Facts) -> Vec<Line> {
    let administrator = "let somebody with the rights of cluster-admin install the chart";
    let may = |check| may(facts, check, administrator);
    let namespace = &facts.namespace;
    let admit = format!(
        "kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=privileged --overwrite; one that is being deleted must be gone first"
    );
    vec![
        may(Check::MayDefineKinds),
        may(Check::MayMakeRoles),
        may(Check::MayGrant),
        may(Check::MayMakePolicies),
        may(Check::MayMakeObjects),
        about(Check::NamespaceAdmits, &facts.home, &admit, |home| {
            vec![home.as_ref().map_or_else(|| Finding::ok(format!("{namespace} is not there yet")), admits)]
        }),
        about(
            Check::DefinitionsFree,
            &facts.definitions,
            "the documentation says for each case what to do",
            |definitions| definitions.iter().filter_map(|it| in_the_way(it, namespace)).collect(),
        ),
    ]
}

fn may(facts: &Facts, check: Check, hint: &str) -> Line {
    about(check, &facts.rights, hint, |rights| {
        let namespace_is_there = !matches!(facts.home, Ok(None));
        let missing = |(right, allowed): &&(Right, bool)| {
            right.check == check && !allowed && !(*right == NAMESPACE && namespace_is_there)
        };
        let missing: Vec<&Right> = rights.iter().filter(missing).map(|(right, _)| right).collect();
        let of_kind = |rights: &[&Right]| {
            let verbs: Vec<&str> = rights.iter().map(|right| right.verb).collect();
            let place = if rights[0].namespaced { format!(" in namespace {}", facts.namespace) } else { String::new() };
            let text = format!("you may not {} {}{place}", verbs.join(", "), rights[0].plural);
            // Who has all rights that the chart grants may grant them.
            if check == Check::MayGrant { Finding::warning(text) } else { Finding::error(text) }
        };
        missing.chunk_by(|a, b| (a.group, a.plural) == (b.group, b.plural)).map(of_kind).collect()
    })
}

/// Agents are privileged pods.
fn admits(home: &Namespace) -> Finding {
    let labels = home.metadata.labels.as_ref();
    let enforced = labels.and_then(|labels| labels.get("pod-security.kubernetes.io/enforce")).map(String::as_str);
    let name = key(&home.metadata);
    match enforced {
        _ if home.metadata.deletion_timestamp.is_some() => Finding::error(format!("{name} is being deleted")),
        Some(level @ ("baseline" | "restricted")) => {
            Finding::error(format!("{name} refuses privileged pods: pod-security.kubernetes.io/enforce is {level}"))
        }
        Some(level) => Finding::ok(format!("{name} enforces {level}")),
        None => Finding::ok(format!("{name} enforces what the cluster does by default")),
    }
}

fn in_the_way(definition: &CustomResourceDefinition, namespace: &str) -> Option<Finding> {
    let name = key(&definition.metadata);
    if definition.metadata.deletion_timestamp.is_some() {
        return Some(Finding::error(format!("{name} is being deleted")));
    }
    let stored = definition.status.as_ref().and_then(|status| status.stored_versions.as_ref());
    let unknown: Vec<&str> = stored.into_iter().flatten().map(String::as_str).filter(|it| *it != VERSION).collect();
    if !unknown.is_empty() {
        let versions = unknown.join(", ");
        return Some(Finding::error(format!(
            "{name} has objects of version {versions}, and this Multibond knows {VERSION} only"
        )));
    }
    let manager = definition.metadata.labels.as_ref().and_then(|labels| labels.get("app.kubernetes.io/managed-by"));
    let annotations = definition.metadata.annotations.as_ref();
    let home = annotations.and_then(|annotations| annotations.get("meta.helm.sh/release-namespace"));
    let of_our_release = manager.is_some_and(|it| it == "Helm") && home.is_some_and(|home| home == namespace);
    let text =
        format!("{name} was not made by Helm for namespace {namespace}, and Helm does not take it over by itself");
    (!of_our_release).then(|| Finding::warning(text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api,
        check::{
            Outcome, Stage,
            judge::fixture::{empty_cluster, line, read},
            rights::rights,
        },
    };

    #[test]
    fn an_empty_cluster_and_its_administrator_are_ready() {
        let report = crate::check::judge(&empty_cluster(), Stage::Before);
        let bad: Vec<_> = report.lines.iter().filter(|line| line.outcome != Outcome::Ok).collect();
        assert!(bad.is_empty() && report.outcome == Outcome::Ok, "{bad:#?}");
        assert_eq!(report.lines.len(), 12);
    }

    #[test]
    fn the_oldest_kubernetes_is_the_charts() {
        let chart = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/charts/multibond/Chart.yaml")).unwrap();
        assert!(chart.contains(&format!("kubeVersion: \">={}.{}.0-0\"", OLDEST.0, OLDEST.1)), "{chart}");
    }

    #[rstest]
    #[case("1", "32", Outcome::Ok)]
    #[case("1", "36", Outcome::Ok)]
    #[case("1", "32+", Outcome::Ok)]
    #[case("2", "0", Outcome::Ok)]
    #[case("1", "31", Outcome::Error)]
    #[case("1", "9+", Outcome::Error)]
    #[case("", "", Outcome::Error)]
    fn a_cluster_must_be_new_enough(#[case] major: &str, #[case] minor: &str, #[case] expected: Outcome) {
        let mut facts = empty_cluster();
        let info = Info { major: major.to_owned(), minor: minor.to_owned(), ..Info::default() };
        facts.server = Ok(info);
        assert_eq!(line(&facts, Stage::Before, Check::KubernetesVersion).outcome, expected);
        assert_eq!(line(&facts, Stage::After, Check::KubernetesVersion).outcome, expected);
    }

    #[test]
    fn without_admission_policies_nothing_guards_the_agents() {
        let facts = Facts { policies: Ok(false), ..empty_cluster() };
        assert_eq!(line(&facts, Stage::Before, Check::PoliciesServed).outcome, Outcome::Error);
    }

    #[test]
    fn a_cluster_that_does_not_answer_is_the_only_error() {
        let mut facts = Facts::unasked("multibond-system", Timestamp::UNIX_EPOCH);
        facts.server = Err(Unseen::Failed("connection refused".to_owned()));
        for stage in [Stage::Before, Stage::After] {
            let report = crate::check::judge(&facts, stage);
            let (first, rest) = report.lines.split_first().unwrap();
            assert_eq!((first.check, first.outcome), (Check::ServerAnswers, Outcome::Error));
            assert_eq!(first.found, ["connection refused"]);
            for line in rest {
                assert_eq!((line.outcome, &line.found[0][..]), (Outcome::Skipped, "the API server does not answer"));
            }
        }
    }

    #[rstest]
    #[case(Check::MayDefineKinds, Outcome::Error, "you may not create, patch, delete customresourcedefinitions")]
    #[case(Check::MayMakeRoles, Outcome::Error, "you may not create, patch, delete clusterroles")]
    #[case(Check::MayGrant, Outcome::Warning, "you may not escalate, bind clusterroles")]
    #[case(Check::MayMakePolicies, Outcome::Error, "you may not create, patch, delete validatingadmissionpolicies")]
    #[case(
        Check::MayMakeObjects,
        Outcome::Error,
        "you may not create, patch, delete roles in namespace multibond-system"
    )]
    fn each_right_that_is_missing_is_named(#[case] check: Check, #[case] expected: Outcome, #[case] first: &str) {
        let facts = Facts { rights: Ok(rights().into_iter().map(|right| (right, false)).collect()), ..empty_cluster() };
        let line = line(&facts, Stage::Before, check);
        assert_eq!((line.outcome, &line.found[0][..]), (expected, first));
    }

    #[test]
    fn a_namespace_must_be_made_only_where_there_is_none() {
        let all_but_one = || rights().into_iter().map(|right| (right, right != NAMESPACE)).collect();
        let mut facts = Facts { rights: Ok(all_but_one()), ..empty_cluster() };
        let refused = line(&facts, Stage::Before, Check::MayMakeObjects);
        assert_eq!(refused.found, ["you may not create namespaces"]);
        facts.home = Ok(Some(Namespace::default()));
        assert_eq!(line(&facts, Stage::Before, Check::MayMakeObjects).outcome, Outcome::Ok);
    }

    #[rstest]
    #[case(json!({"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}), Outcome::Ok)]
    #[case(json!({}), Outcome::Ok)]
    #[case(json!({"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}), Outcome::Error)]
    #[case(json!({"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}), Outcome::Error)]
    #[case(json!({"deletionTimestamp": "2026-01-31T12:00:00Z"}), Outcome::Error)]
    fn a_namespace_must_admit_privileged_pods(#[case] metadata: Value, #[case] expected: Outcome) {
        let home = read(json!({"metadata": metadata}));
        let facts = Facts { home: Ok(Some(home)), ..empty_cluster() };
        assert_eq!(line(&facts, Stage::Before, Check::NamespaceAdmits).outcome, expected);
    }

    #[test]
    fn crds_are_in_the_way_when_helm_cannot_take_them_over_and_when_they_are_newer() {
        let outcome = |change: &dyn Fn(&mut CustomResourceDefinition)| {
            let mut definitions = api::crds();
            for definition in &mut definitions {
                let helm = ("app.kubernetes.io/managed-by".to_owned(), "Helm".to_owned());
                let home = ("meta.helm.sh/release-namespace".to_owned(), "multibond-system".to_owned());
                definition.metadata.labels = Some([helm].into());
                definition.metadata.annotations = Some([home].into());
                change(definition);
            }
            let facts = Facts { definitions: Ok(definitions), ..empty_cluster() };
            line(&facts, Stage::Before, Check::DefinitionsFree).outcome
        };
        assert_eq!(outcome(&|_| {}), Outcome::Ok);
        assert_eq!(outcome(&|crd| crd.metadata.labels = None), Outcome::Warning);
        assert_eq!(outcome(&|crd| crd.metadata.annotations = None), Outcome::Warning);
        assert_eq!(outcome(&|crd| crd.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH))), Outcome::Error);
        let stores = |versions: &'static [&str]| {
            move |crd: &mut CustomResourceDefinition| {
                let versions = versions.iter().map(ToString::to_string).collect();
                crd.status.get_or_insert_default().stored_versions = Some(versions);
            }
        };
        assert_eq!(outcome(&stores(&["v1alpha1"])), Outcome::Ok);
        assert_eq!(outcome(&stores(&["v1alpha1", "v1"])), Outcome::Error);
    }
}
