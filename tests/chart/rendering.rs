//! The chart's manifests: CRDs, labels, names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use multibond::api;
use multibond_testbed::render_chart;
use serde_json::{Value, json};

use crate::{all_options, chart, of_kind, rendered, root};

fn files_in(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect()
}

#[test]
fn the_charts_copy_of_the_crds_equals_crds() {
    assert!(
        files_in(&chart().join("files/crds")) == files_in(&root().join("crds")),
        "Helm cannot read outside of the chart, so that it has a copy of crds/, and this one is not it: run \
         `cargo run -- crds --out-dir charts/multibond/files/crds` and commit the difference"
    );
}

#[tokio::test]
async fn helm_renders_the_crds_unchanged_and_keeps_them_at_uninstall() {
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

/// 1 and 1.0 are the same bound.
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
async fn rendering_is_deterministic_and_each_object_appears_once_with_labels() {
    let objects = rendered(all_options()).await;
    assert_eq!(objects, rendered(all_options()).await);

    // The testbed adds the namespace.
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
async fn bindings_and_policies_use_the_configured_names() {
    let values =
        json!({"controller": {"serviceAccount": {"name": "brain"}}, "agent": {"serviceAccount": {"name": "hand"}}});
    let objects = render_chart(&chart(), "storage", &values).await.unwrap();
    let text = serde_json::to_string(&objects).unwrap();
    for default in ["multibond-system", "serviceaccount:storage:multibond-"] {
        assert!(!text.contains(default), "{default} is hard-coded somewhere");
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
