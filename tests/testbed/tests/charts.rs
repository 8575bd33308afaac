//! Charts are rendered by Helm, and what they render to takes effect.
#![allow(clippy::unwrap_used, reason = "what serves a test fails it")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt};
use multibond_testbed::{ControlPlane, Options, eventually, render_chart};
use serde_json::{Value, json};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

const CRD: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.harbour.example}
spec:
  group: harbour.example
  scope: Namespaced
  names: {kind: Boat, plural: boats, singular: boat}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

/// Its name sorts before what it needs: the order of the files must not matter.
const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: names}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [harbour.example], apiVersions: [v1], resources: [boats], operations: [CREATE]}]
  validations: [{expression: \"object.metadata.name != '{{ .Values.forbidden }}'\", message: not in this harbour}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: names}
spec: {policyName: names, validationActions: [Deny]}
{{- if .Values.never }}
---
kind: Never
{{- end }}
---
# A document with nothing in it.
";

const ACCOUNT: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: captain, namespace: {{ .Release.Namespace }}}
";

fn chart() -> TempDir {
    let chart = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| fs::write(chart.path().join(name), content).unwrap();
    fs::create_dir(chart.path().join("templates")).unwrap();
    write("Chart.yaml", "apiVersion: v2\nname: harbour\nversion: 0.1.0\n");
    write("values.yaml", "forbidden: nothing\nnever: false\n");
    write("templates/a-policy.yaml", POLICY);
    write("templates/b-account.yaml", ACCOUNT);
    write("templates/c-crd.yaml", CRD);
    chart
}

fn boats(client: kube::Client) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("harbour.example", "v1", "Boat"));
    Api::namespaced_with(client, "harbour", &resource)
}

async fn launch(boats: &Api<DynamicObject>, how: &PostParams, mut boat: Value) -> Result<DynamicObject, kube::Error> {
    boat["apiVersion"] = json!("harbour.example/v1");
    boat["kind"] = json!("Boat");
    boats.create(how, &serde_json::from_value(boat).unwrap()).await
}

#[tokio::test]
async fn rendered_chart_is_in_effect_before_the_first_test() {
    let rendered = render_chart(chart().path(), "harbour", &json!({"forbidden": "titanic"})).await.unwrap();
    let mut kinds: Vec<_> = rendered.iter().map(|manifest| manifest["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.remove(0), "Namespace");
    kinds.sort_unstable();
    let (policy, binding) = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding");
    assert_eq!(kinds, ["CustomResourceDefinition", "ServiceAccount", policy, binding]);

    let options = Options { manifests: rendered, audit: true, ..Options::default() };
    let cluster = ControlPlane::start(options).await.unwrap();
    let boats = boats(cluster.client().await.unwrap());

    // The policy is enforced.
    let really = PostParams::default();
    let refused = launch(&boats, &really, json!({"metadata": {"name": "titanic"}})).await.unwrap_err();
    assert!(refused.to_string().contains("not in this harbour"), "{refused}");
    let owner = launch(&boats, &really, json!({"metadata": {"name": "ark"}})).await.unwrap();

    // The garbage collector knows the kind.
    let reference = json!({"apiVersion": "harbour.example/v1", "kind": "Boat", "name": "ark", "uid": owner.uid()});
    launch(&boats, &really, json!({"metadata": {"name": "dinghy", "ownerReferences": [reference]}})).await.unwrap();
    boats.delete("ark", &DeleteParams::default()).await.unwrap();
    eventually("the dinghy is gone too", SOON, async || {
        let left: Vec<_> = boats.list(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect();
        anyhow::ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await;

    // The audit log has each write with its user, without dry runs.
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    launch(&boats, &dry_run, json!({"metadata": {"name": "canoe"}})).await.unwrap();
    let writes = cluster.writes().unwrap();
    let of_boats: Vec<_> = writes
        .iter()
        .filter(|write| write.resource == "boats")
        .map(|write| (write.user.as_str(), write.verb.as_str(), write.name.as_str(), write.code))
        .collect();
    let collector = "system:serviceaccount:kube-system:generic-garbage-collector";
    let expected = [
        ("admin", "create", "titanic", 422),
        ("admin", "create", "ark", 201),
        ("admin", "create", "dinghy", 201),
        ("admin", "delete", "ark", 200),
        (collector, "delete", "dinghy", 200),
    ];
    assert_eq!(of_boats, expected);
}

#[tokio::test]
async fn chart_that_helm_rejects_is_an_error_with_its_message() {
    let error = render_chart(Path::new("no/such/chart"), "harbour", &json!({})).await.unwrap_err();
    assert!(error.to_string().contains("no/such/chart"), "{error}");
}
