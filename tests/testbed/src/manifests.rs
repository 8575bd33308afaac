//! Charts and manifests.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::discovery::{ApiCapabilities, Scope, pinned_kind};
use kube::runtime::wait::Condition;
use kube::runtime::wait::conditions::is_crd_established;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::binaries::{Binaries, Tool};
use crate::command::run;
use crate::control_plane::ControlPlane;
use crate::eventually::poll;

/// How long the API server may take until an accepted object is in effect.
const PATIENCE: Duration = Duration::from_secs(30);

/// The manifests that Helm renders from the chart in the directory `chart` with `values`, for a release `multibond` in
/// `namespace`. The first one is the namespace, which `helm install --create-namespace` would create.
///
/// # Errors
/// If Helm refuses the chart or the values.
pub async fn render_chart(chart: &Path, namespace: &str, values: &Value) -> Result<Vec<Value>> {
    let rendered = render(chart, namespace, values).await?;
    let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    Ok(std::iter::once(home).chain(rendered.into_iter().filter(|object| !is_hook(object))).collect())
}

/// The hooks, which [`render_chart`] leaves out: objects that exist only for a while, such as during an uninstall.
///
/// # Errors
/// If Helm refuses the chart or the values.
pub async fn render_hooks(chart: &Path, namespace: &str, values: &Value) -> Result<Vec<Value>> {
    Ok(render(chart, namespace, values).await?.into_iter().filter(is_hook).collect())
}

async fn render(chart: &Path, namespace: &str, values: &Value) -> Result<Vec<Value>> {
    let binaries = tokio::task::spawn_blocking(Binaries::locate).await??;
    let mut helm = Command::new(binaries.path(Tool::Helm));
    helm.args(["template", "multibond"]).arg(chart).args(["--namespace", namespace, "--values", "-"]);
    helm.args(["--include-crds", "--kube-version", Tool::KubeApiserver.version()?]);
    let text = run(&mut helm, &values.to_string()).await?.success()?;
    let rendered: Vec<Value> =
        serde_saphyr::from_multiple(&text).context("Helm rendered something that is not YAML")?;
    // A template that renders to nothing leaves an empty document.
    Ok(rendered.into_iter().filter(Value::is_object).collect())
}

fn is_hook(object: &Value) -> bool {
    object["metadata"]["annotations"]["helm.sh/hook"].is_string()
}

impl ControlPlane {
    /// Applies `manifests` in the necessary order, and returns when they have taken effect: CRDs are established,
    /// and admission policies are enforced.
    ///
    /// # Errors
    /// If one of them is refused.
    pub async fn apply_all(&self, manifests: &[Value]) -> Result<()> {
        self.apply_kinds(manifests).await?;
        self.apply_others(manifests).await
    }

    /// The first half of [`ControlPlane::apply_all`]: the objects that others depend on.
    pub(crate) async fn apply_kinds(&self, manifests: &[Value]) -> Result<()> {
        let first: Vec<_> = manifests.iter().filter(|manifest| comes_first(manifest)).collect();
        self.apply(&first).await?;
        let crds: Api<CustomResourceDefinition> = Api::all(self.client().await?);
        for name in first.iter().filter(|manifest| kind(manifest) == "CustomResourceDefinition").map(|crd| name(crd)) {
            poll(PATIENCE, async || match crds.get(name).await {
                Ok(crd) if is_crd_established().matches_object(Some(&crd)) => Ok(()),
                Ok(crd) => Err(format!("{:?}", crd.status)),
                Err(error) => Err(error.to_string()),
            })
            .await
            .map_err(|seen| anyhow!("the CRD {name} is not established: {seen}"))?;
        }
        Ok(())
    }

    /// The second half: all the others.
    pub(crate) async fn apply_others(&self, manifests: &[Value]) -> Result<()> {
        let then: Vec<_> = manifests.iter().filter(|manifest| !comes_first(manifest)).collect();
        self.apply(&then).await?;
        if then.iter().any(|manifest| kind(manifest).starts_with("ValidatingAdmissionPolicy")) {
            self.await_policies().await?;
        }
        Ok(())
    }

    /// Server-side apply with strict field validation, as in kubectl.
    async fn apply(&self, manifests: &[&Value]) -> Result<()> {
        let client = self.client().await?;
        let how = PatchParams::apply("multibond-testbed").force().validation_strict();
        let mut known = HashMap::new();
        for manifest in manifests {
            let object: DynamicObject = serde_json::from_value((*manifest).clone())
                .with_context(|| format!("this is not a Kubernetes object: {manifest}"))?;
            let types = object.types.clone().with_context(|| format!("no apiVersion and kind: {manifest}"))?;
            let (resource, capabilities) = match known.entry(types) {
                Entry::Occupied(found) => found.into_mut(),
                Entry::Vacant(new) => {
                    let discovered = discover(&client, &GroupVersionKind::try_from(new.key())?).await?;
                    new.insert(discovered)
                }
            };
            let api: Api<DynamicObject> = match (&capabilities.scope, &object.metadata.namespace) {
                (Scope::Cluster, _) => Api::all_with(client.clone(), resource),
                (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, resource),
                (Scope::Namespaced, None) => Api::default_namespaced_with(client.clone(), resource),
            };
            api.patch(name(manifest), &how, &Patch::Apply(&object))
                .await
                .with_context(|| format!("cannot apply {} {}", kind(manifest), name(manifest)))?;
        }
        Ok(())
    }

    /// The API server loads new policies about once a second, all at once, and does not report it. So one more policy
    /// is created last: when it is enforced, those before it are too.
    ///
    /// # Errors
    /// If it is not enforced in time.
    pub async fn await_policies(&self) -> Result<()> {
        let client = self.client().await?;
        let name = &format!("multibond-testbed-{}", self.next_number());
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
        policies.create(&PostParams::default(), &serde_json::from_value(last_policy(name))?).await?;
        bindings.create(&PostParams::default(), &serde_json::from_value(last_binding(name))?).await?;

        let config_maps: Api<ConfigMap> = Api::namespaced(client, "default");
        let refused = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let enforced = poll(PATIENCE, async || match config_maps.create(&dry_run, &refused).await {
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

fn comes_first(manifest: &Value) -> bool {
    matches!(kind(manifest), "Namespace" | "CustomResourceDefinition")
}

/// A kind that a CRD has just established takes a moment to be discovered.
async fn discover(client: &Client, kind: &GroupVersionKind) -> Result<(ApiResource, ApiCapabilities)> {
    poll(PATIENCE, async || pinned_kind(client, kind).await)
        .await
        .map_err(|error| anyhow!("the API server does not know {}/{}: {error}", kind.api_version(), kind.kind))
}

fn kind(manifest: &Value) -> &str {
    manifest["kind"].as_str().unwrap_or_default()
}

fn name(manifest: &Value) -> &str {
    manifest["metadata"]["name"].as_str().unwrap_or_default()
}
