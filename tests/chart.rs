//! The chart: what it renders to, and A31 as far as there is something to install: Helm installs, upgrades, rolls back,
//! uninstalls and installs again, and no data center is lost.
#![allow(clippy::unwrap_used, reason = "what serves a test fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use multibond::api;
use multibond_testbed::{ControlPlane, Options, render_chart};
use serde_json::{Value, json};

const SYSTEM: &str = "multibond-system";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    root().join("charts/multibond")
}

async fn rendered(values: Value) -> Vec<Value> {
    render_chart(&chart(), SYSTEM, &values).await.unwrap()
}

fn files_in(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect()
}

fn of_kind(objects: &[Value], kind: &str) -> Vec<Value> {
    objects.iter().filter(|object| object["kind"] == kind).cloned().collect()
}

#[test]
fn the_charts_copy_of_the_crds_is_the_one_in_crds() {
    assert!(
        files_in(&chart().join("files/crds")) == files_in(&root().join("crds")),
        "Helm cannot read outside of the chart, so that it has a copy of crds/, and this one is not it: run \
         `cargo run -- crds --out-dir charts/multibond/files/crds` and commit the difference"
    );
}

#[tokio::test]
async fn the_crds_pass_through_helm_unchanged_and_are_kept_when_it_uninstalls() {
    let crds = of_kind(&rendered(json!({})).await, "CustomResourceDefinition");
    let specs: BTreeMap<_, _> =
        crds.iter().map(|crd| (crd["metadata"]["name"].as_str().unwrap().to_owned(), crd["spec"].clone())).collect();
    let expected: BTreeMap<_, _> = api::crds()
        .into_iter()
        .map(|crd| (crd.metadata.name.clone().unwrap(), serde_json::to_value(crd.spec).unwrap()))
        .collect();
    assert_eq!(without_float_bounds(&json!(specs)), without_float_bounds(&json!(expected)));
    for crd in &crds {
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{}", crd["metadata"]);
    }

    let without = rendered(json!({"crds": {"install": false}})).await;
    assert_eq!(of_kind(&without, "CustomResourceDefinition"), Vec::<Value>::new());
}

/// 1 and 1.0 are one bound in two spellings.
fn without_float_bounds(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(without_float_bounds).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| (name.clone(), without_float_bounds(field))).collect()
        }
        other => other.clone(),
    }
}

#[tokio::test]
async fn it_renders_the_same_each_time_each_object_once_and_labelled() {
    let values = json!({"commonLabels": {"team": "storage"}});
    let objects = rendered(values.clone()).await;
    assert_eq!(objects, rendered(values).await);

    // The namespace is the testbed's.
    let ours: Vec<_> = objects.iter().filter(|object| object["kind"] != "Namespace").collect();
    let names: BTreeSet<_> =
        ours.iter().map(|object| format!("{} {}", object["kind"], object["metadata"]["name"])).collect();
    assert_eq!(names.len(), ours.len(), "{names:#?}");
    for object in ours {
        let labels = &object["metadata"]["labels"];
        assert_eq!((&labels["app.kubernetes.io/name"], &labels["team"]), (&json!("multibond"), &json!("storage")));
    }
}

#[tokio::test]
async fn the_names_of_accounts_and_namespace_reach_bindings_and_policies() {
    let values =
        json!({"controller": {"serviceAccount": {"name": "brain"}}, "agent": {"serviceAccount": {"name": "hand"}}});
    let objects = render_chart(&chart(), "storage", &values).await.unwrap();
    let text = serde_json::to_string(&objects).unwrap();
    for default in ["multibond-system", "serviceaccount:storage:multibond-"] {
        assert!(!text.contains(default), "{default} is written down somewhere");
    }
    let subjects: BTreeSet<_> = objects
        .iter()
        .filter_map(|object| object["subjects"].as_array())
        .flatten()
        .map(|subject| format!("{}/{}", subject["namespace"].as_str().unwrap(), subject["name"].as_str().unwrap()))
        .collect();
    assert_eq!(subjects, BTreeSet::from(["storage/brain".to_owned(), "storage/hand".to_owned()]));
    assert!(
        text.contains("system:serviceaccount:storage:brain") && text.contains("system:serviceaccount:storage:hand")
    );
}

#[tokio::test]
async fn values_that_nobody_reads_are_refused() {
    let typo = render_chart(&chart(), SYSTEM, &json!({"crds": {"instal": false}})).await.unwrap_err();
    assert!(typo.to_string().contains("instal"), "{typo}");
}

#[tokio::test]
async fn a31_helm_comes_and_goes_and_no_data_center_is_lost() {
    let cluster = ControlPlane::start(Options::default()).await.unwrap();
    let current = chart().display().to_string();
    let (_directory, older) = older_chart();
    let helm = async |args: &[&str]| {
        let args = args.iter().chain(&["--namespace", SYSTEM]);
        cluster.helm(args).await.unwrap().success().unwrap()
    };

    helm(&["install", "multibond", &older, "--create-namespace"]).await;
    assert_eq!(short_names(&cluster, "networks").await, "[\"older\"]");
    apply_examples(&cluster).await;
    let before = uids(&cluster).await;
    assert_eq!(before.lines().count(), 7, "{before}");

    helm(&["upgrade", "multibond", &current]).await;
    assert_eq!(short_names(&cluster, "networks").await, "[\"mbnet\"]", "an upgrade includes the CRDs");
    helm(&["upgrade", "multibond", &current, "--set", "rbac.aggregate=true"]).await;
    helm(&["rollback", "multibond", "2"]).await;
    assert_eq!(uids(&cluster).await, before);

    helm(&["uninstall", "multibond"]).await;
    assert_eq!(uids(&cluster).await, before, "uninstalling takes no data center along");
    let left = cluster
        .kubectl(
            ["get", "validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles", "-o", "name"],
            "",
        )
        .await
        .unwrap()
        .success()
        .unwrap();
    assert!(!left.contains("multibond"), "{left}");

    helm(&["install", "multibond", &current]).await;
    apply_examples(&cluster).await;
    assert_eq!(uids(&cluster).await, before);
}

/// The chart with a CRD as an earlier version might have had it.
fn older_chart() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    copy(&chart(), directory.path());
    let networks = directory.path().join("files/crds/networks.multibond.dev.yaml");
    let text = fs::read_to_string(&networks).unwrap();
    assert!(text.contains("- mbnet"), "{text}");
    fs::write(networks, text.replace("- mbnet", "- older")).unwrap();
    let path = directory.path().display().to_string();
    (directory, path)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn short_names(cluster: &ControlPlane, plural: &str) -> String {
    let crd = format!("crd/{plural}.multibond.dev");
    let args = ["get", &crd, "-o", "jsonpath={.spec.names.shortNames}"];
    cluster.kubectl(args, "").await.unwrap().success().unwrap()
}

/// As a new user does it, and as strict about fields as the server can be.
async fn apply_examples(cluster: &ControlPlane) {
    let examples = root().join("examples").display().to_string();
    let args = ["apply", "--server-side", "--validate=strict", "-f", &examples];
    cluster.kubectl(args, "").await.unwrap().success().unwrap();
}

/// Every object of the four kinds, one a line.
async fn uids(cluster: &ControlPlane) -> String {
    let template = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid}{\"\\n\"}{end}";
    let args = ["get", "multibond", "--all-namespaces", "-o", template];
    cluster.kubectl(args, "").await.unwrap().success().unwrap()
}
