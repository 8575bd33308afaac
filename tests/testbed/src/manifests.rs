//! Charts and manifests.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::binaries::{Binaries, Tool};
use crate::command::run;
use crate::control_plane::ControlPlane;
use crate::eventually::poll;

/// What the chart in the directory `chart` renders to with `values`, for a release `multibond` in `namespace`, by
/// Helm itself. The namespace comes first, as `helm install --create-namespace` would make it.
///
/// # Errors
/// If Helm refuses the chart or the values.
pub async fn render_chart(chart: &Path, namespace: &str, values: &Value) -> Result<Vec<Value>> {
    let binaries = tokio::task::spawn_blocking(Binaries::locate).await??;
    let mut helm = Command::new(binaries.path(Tool::Helm));
    helm.args(["template", "multibond"]).arg(chart).args(["--namespace", namespace, "--values", "-"]);
    helm.args(["--include-crds", "--no-hooks", "--kube-version", Tool::KubeApiserver.version()?]);
    let text = run(&mut helm, &values.to_string()).await?.success()?;
    let rendered: Vec<Value> =
        serde_saphyr::from_multiple(&text).context("Helm rendered something that is not YAML")?;
    let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    // A template that renders to nothing leaves an empty document.
    Ok(std::iter::once(home).chain(rendered.into_iter().filter(Value::is_object)).collect())
}

impl ControlPlane {
    /// Applies `manifests` in an order that works, and returns when they have taken effect: CRDs are established,
    /// and admission policies are enforced.
    ///
    /// # Errors
    /// If one of them is refused.
    pub async fn apply_all(&self, manifests: &[Value]) -> Result<()> {
        let (first, then): (Vec<_>, Vec<_>) =
            manifests.iter().partition(|manifest| matches!(kind(manifest), "Namespace" | "CustomResourceDefinition"));
        self.apply(&first).await?;
        let crds: Vec<_> = first.iter().filter(|manifest| kind(manifest) == "CustomResourceDefinition").collect();
        if !crds.is_empty() {
            let names = crds.iter().map(|crd| format!("crd/{}", crd["metadata"]["name"].as_str().unwrap_or_default()));
            let wait = ["wait", "--for=condition=Established", "--timeout=30s"].map(str::to_owned);
            self.kubectl(wait.into_iter().chain(names), "").await?.success()?;
        }
        self.apply(&then).await?;
        if then.iter().any(|manifest| kind(manifest).starts_with("ValidatingAdmissionPolicy")) {
            self.await_policies().await?;
        }
        Ok(())
    }

    async fn apply(&self, manifests: &[&Value]) -> Result<()> {
        if manifests.is_empty() {
            return Ok(());
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests});
        let args = ["apply", "--server-side", "--force-conflicts", "--field-manager=multibond-testbed", "-f", "-"];
        self.kubectl(args, &list.to_string()).await?.success()?;
        Ok(())
    }

    /// The API server takes up new policies about once a second, all at once, and does not say when. So one more is
    /// made, last, and when that is enforced, those before it are.
    async fn await_policies(&self) -> Result<()> {
        let client = self.client().await?;
        let name = &format!("multibond-testbed-{}", self.next_number());
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
        policies.create(&PostParams::default(), &serde_json::from_value(last_policy(name))?).await?;
        bindings.create(&PostParams::default(), &serde_json::from_value(last_binding(name))?).await?;

        let config_maps: Api<ConfigMap> = Api::namespaced(client, "default");
        let refused = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let enforced = poll(Duration::from_secs(30), async || match config_maps.create(&dry_run, &refused).await {
            Err(kube::Error::Api(status)) if status.message.contains(name.as_str()) => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(_) => Err("what a policy denies was admitted".to_owned()),
        })
        .await;

        bindings.delete(name, &DeleteParams::default()).await?;
        policies.delete(name, &DeleteParams::default()).await?;
        enforced.map_err(|seen| anyhow!("the admission policies are not enforced: {seen}"))
    }
}

fn last_policy(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]},
            ]},
            "matchConditions": [{"name": "its-own", "expression": format!("object.metadata.name == '{name}'")}],
            "validations": [{"expression": "false"}],
        },
    })
}

fn last_binding(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}})
}

fn kind(manifest: &Value) -> &str {
    manifest["kind"].as_str().unwrap_or_default()
}
