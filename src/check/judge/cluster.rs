//! The API server, and whether Multibond can be installed.

use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::version::Info,
};

use super::{key, line_for};
use crate::{
    api::VERSION,
    check::{
        Check, Finding, Line,
        facts::{ClusterFacts, Unavailable},
        permissions::{NAMESPACE, Permission},
    },
};

/// The oldest Kubernetes that Multibond supports, as the chart says too.
const OLDEST: (u32, u32) = (1, 32);

pub(super) fn lines(facts: &ClusterFacts) -> Vec<Line> {
    let answers = match &facts.server {
        Err(unavailable @ Unavailable::Failed(_)) => vec![unavailable.finding()],
        // A refusal is an answer.
        Ok(_) | Err(_) => Vec::new(),
    };
    let (major, minor) = OLDEST;
    let upgrade = format!("upgrade the cluster to Kubernetes {major}.{minor} or newer");
    vec![
        Check::ServerAnswers
            .line(answers, "check that this is the right cluster (--kubeconfig, --context), and that it is up"),
        about_version(facts, &upgrade),
        line_for(Check::PoliciesServed, &facts.policies, &upgrade, |served| {
            let refusal =
                "the API server does not serve validatingadmissionpolicies of admissionregistration.k8s.io/v1";
            if *served { Vec::new() } else { vec![Finding::error(refusal)] }
        }),
    ]
}

fn about_version(facts: &ClusterFacts, upgrade: &str) -> Line {
    // Another line reports that the API server does not answer.
    if let Err(Unavailable::Failed(_)) = facts.server {
        return Check::KubernetesVersion.line(vec![Unavailable::NotAsked.finding()], upgrade);
    }
    line_for(Check::KubernetesVersion, &facts.server, upgrade, |info| {
        let found = info.git_version.clone();
        vec![if version(info) >= Some(OLDEST) { Finding::ok(found) } else { Finding::error(found) }]
    })
}

/// Some distributions write `32+`.
fn version(info: &Info) -> Option<(u32, u32)> {
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok();
    Some((number(&info.major)?, number(&info.minor)?))
}

/// The lines for the time before an installation.
pub(super) fn before(facts: &ClusterFacts) -> Vec<Line> {
    let administrator = "ask somebody with the role cluster-admin to install the chart";
    let may = |check| may(facts, check, administrator);
    let namespace = &facts.namespace;
    let admit = format!(
        "kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=privileged --overwrite; if the namespace is being deleted, wait until it is gone"
    );
    vec![
        may(Check::MayDefineKinds),
        may(Check::MayMakeRoles),
        may(Check::MayGrant),
        may(Check::MayMakePolicies),
        may(Check::MayMakeObjects),
        line_for(Check::NamespaceAdmits, &facts.release_namespace, &admit, |home| {
            vec![home.as_ref().map_or_else(|| Finding::ok(format!("{namespace} does not exist yet")), admits)]
        }),
        line_for(
            Check::DefinitionsFree,
            &facts.definitions,
            "the documentation says what to do in each case",
            |definitions| definitions.iter().filter_map(|it| in_the_way(it, namespace)).collect(),
        ),
    ]
}

fn may(facts: &ClusterFacts, check: Check, hint: &str) -> Line {
    line_for(check, &facts.permissions, hint, |permissions| {
        let namespace_is_there = !matches!(facts.release_namespace, Ok(None));
        let missing = |(right, allowed): &&(Permission, bool)| {
            right.check == check && !allowed && !(*right == NAMESPACE && namespace_is_there)
        };
        let missing: Vec<&Permission> = permissions.iter().filter(missing).map(|(right, _)| right).collect();
        let of_kind = |permissions: &[&Permission]| {
            let verbs: Vec<&str> = permissions.iter().map(|right| right.verb).collect();
            let place =
                if permissions[0].namespaced { format!(" in namespace {}", facts.namespace) } else { String::new() };
            let text = format!("no permission to {} {}{place}", verbs.join(", "), permissions[0].plural);
            // Only a warning: a caller who has all permissions that the chart grants can grant them too.
            if check == Check::MayGrant { Finding::warning(text) } else { Finding::error(text) }
        };
        missing.chunk_by(|a, b| (a.group, a.plural) == (b.group, b.plural)).map(of_kind).collect()
    })
}

/// Whether the namespace admits privileged pods, which the agents are.
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
        None => Finding::ok(format!("{name} enforces the default of the cluster")),
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
            "{name} has stored objects of version {versions}; this Multibond knows only {VERSION}"
        )));
    }
    let manager = definition.metadata.labels.as_ref().and_then(|labels| labels.get("app.kubernetes.io/managed-by"));
    let annotations = definition.metadata.annotations.as_ref();
    let home = annotations.and_then(|annotations| annotations.get("meta.helm.sh/release-namespace"));
    let of_our_release = manager.is_some_and(|it| it == "Helm") && home.is_some_and(|home| home == namespace);
    let text = format!("{name} was not created by Helm for namespace {namespace}; Helm does not adopt it by itself");
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
            CheckOutcome, Section, Stage,
            judge::fixture::{empty_cluster, line, read},
            permissions::required,
        },
    };

    #[test]
    fn an_empty_cluster_is_ready_for_its_administrator() {
        let report = crate::check::judge(&empty_cluster(), Stage::Before);
        let bad: Vec<_> = report.lines.iter().filter(|line| line.outcome != CheckOutcome::Ok).collect();
        assert!(bad.is_empty() && report.outcome == CheckOutcome::Ok, "{bad:#?}");
        let before = [Section::Kubernetes, Section::Permissions, Section::Place, Section::Held];
        let expected = Check::ALL.iter().copied().filter(|check| before.contains(&check.section()));
        assert!(report.lines.iter().map(|line| line.check).eq(expected), "{:#?}", report.lines);
    }

    #[test]
    fn the_oldest_kubernetes_is_that_of_the_chart() {
        let chart = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/charts/multibond/Chart.yaml")).unwrap();
        assert!(chart.contains(&format!("kubeVersion: \">={}.{}.0-0\"", OLDEST.0, OLDEST.1)), "{chart}");
    }

    #[rstest]
    #[case("1", "32", CheckOutcome::Ok)]
    #[case("1", "36", CheckOutcome::Ok)]
    #[case("1", "32+", CheckOutcome::Ok)]
    #[case("2", "0", CheckOutcome::Ok)]
    #[case("1", "31", CheckOutcome::Error)]
    #[case("1", "9+", CheckOutcome::Error)]
    #[case("", "", CheckOutcome::Error)]
    fn a_cluster_must_be_new_enough(#[case] major: &str, #[case] minor: &str, #[case] expected: CheckOutcome) {
        let mut facts = empty_cluster();
        let info = Info { major: major.to_owned(), minor: minor.to_owned(), ..Info::default() };
        facts.server = Ok(info);
        assert_eq!(line(&facts, Stage::Before, Check::KubernetesVersion).outcome, expected);
        assert_eq!(line(&facts, Stage::After, Check::KubernetesVersion).outcome, expected);
    }

    #[test]
    fn a_cluster_without_admission_policies_is_an_error() {
        let facts = ClusterFacts { policies: Ok(false), ..empty_cluster() };
        assert_eq!(line(&facts, Stage::Before, Check::PoliciesServed).outcome, CheckOutcome::Error);
    }

    #[test]
    fn without_an_answer_all_other_lines_are_skipped() {
        let mut facts = ClusterFacts::not_asked("multibond-system", Timestamp::UNIX_EPOCH);
        facts.server = Err(Unavailable::Failed("connection refused".to_owned()));
        for stage in [Stage::Before, Stage::After] {
            let report = crate::check::judge(&facts, stage);
            let (first, rest) = report.lines.split_first().unwrap();
            assert_eq!((first.check, first.outcome), (Check::ServerAnswers, CheckOutcome::Error));
            assert_eq!(first.found, ["connection refused"]);
            for line in rest {
                assert_eq!(
                    (line.outcome, &line.found[0][..]),
                    (CheckOutcome::Skipped, "the API server does not answer")
                );
            }
        }
    }

    #[rstest]
    #[case(
        Check::MayDefineKinds,
        CheckOutcome::Error,
        "no permission to create, patch, delete customresourcedefinitions"
    )]
    #[case(Check::MayMakeRoles, CheckOutcome::Error, "no permission to create, patch, delete clusterroles")]
    #[case(Check::MayGrant, CheckOutcome::Warning, "no permission to escalate, bind clusterroles")]
    #[case(
        Check::MayMakePolicies,
        CheckOutcome::Error,
        "no permission to create, patch, delete validatingadmissionpolicies"
    )]
    #[case(
        Check::MayMakeObjects,
        CheckOutcome::Error,
        "no permission to create, patch, delete roles in namespace multibond-system"
    )]
    fn each_missing_permission_is_named(#[case] check: Check, #[case] expected: CheckOutcome, #[case] first: &str) {
        let facts = ClusterFacts {
            permissions: Ok(required().into_iter().map(|right| (right, false)).collect()),
            ..empty_cluster()
        };
        let line = line(&facts, Stage::Before, check);
        assert_eq!((line.outcome, &line.found[0][..]), (expected, first));
    }

    #[test]
    fn creating_namespaces_is_needed_only_without_the_namespace() {
        let all_but_one = || required().into_iter().map(|right| (right, right != NAMESPACE)).collect();
        let mut facts = ClusterFacts { permissions: Ok(all_but_one()), ..empty_cluster() };
        let refused = line(&facts, Stage::Before, Check::MayMakeObjects);
        assert_eq!(refused.found, ["no permission to create namespaces"]);
        facts.release_namespace = Ok(Some(Namespace::default()));
        assert_eq!(line(&facts, Stage::Before, Check::MayMakeObjects).outcome, CheckOutcome::Ok);
    }

    #[rstest]
    #[case(json!({"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}), CheckOutcome::Ok)]
    #[case(json!({}), CheckOutcome::Ok)]
    #[case(json!({"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}), CheckOutcome::Error)]
    #[case(json!({"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}), CheckOutcome::Error)]
    #[case(json!({"deletionTimestamp": "2026-01-31T12:00:00Z"}), CheckOutcome::Error)]
    fn a_namespace_must_admit_privileged_pods(#[case] metadata: Value, #[case] expected: CheckOutcome) {
        let home = read(json!({"metadata": metadata}));
        let facts = ClusterFacts { release_namespace: Ok(Some(home)), ..empty_cluster() };
        assert_eq!(line(&facts, Stage::Before, Check::NamespaceAdmits).outcome, expected);
    }

    #[test]
    fn crds_block_when_helm_cannot_adopt_them_or_they_are_newer() {
        let outcome = |change: &dyn Fn(&mut CustomResourceDefinition)| {
            let mut definitions = api::crds();
            for definition in &mut definitions {
                let helm = ("app.kubernetes.io/managed-by".to_owned(), "Helm".to_owned());
                let home = ("meta.helm.sh/release-namespace".to_owned(), "multibond-system".to_owned());
                definition.metadata.labels = Some([helm].into());
                definition.metadata.annotations = Some([home].into());
                change(definition);
            }
            let facts = ClusterFacts { definitions: Ok(definitions), ..empty_cluster() };
            line(&facts, Stage::Before, Check::DefinitionsFree).outcome
        };
        assert_eq!(outcome(&|_| {}), CheckOutcome::Ok);
        assert_eq!(outcome(&|crd| crd.metadata.labels = None), CheckOutcome::Warning);
        assert_eq!(outcome(&|crd| crd.metadata.annotations = None), CheckOutcome::Warning);
        assert_eq!(
            outcome(&|crd| crd.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH))),
            CheckOutcome::Error
        );
        let stores = |versions: &'static [&str]| {
            move |crd: &mut CustomResourceDefinition| {
                let versions = versions.iter().map(ToString::to_string).collect();
                crd.status.get_or_insert_default().stored_versions = Some(versions);
            }
        };
        assert_eq!(outcome(&stores(&["v1alpha1"])), CheckOutcome::Ok);
        assert_eq!(outcome(&stores(&["v1alpha1", "v1"])), CheckOutcome::Error);
    }
}
