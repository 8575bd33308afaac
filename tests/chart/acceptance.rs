//! A real API server accepts the chart's manifests.

use std::fs;

use multibond_testbed::{ControlPlane, Options};
use serde_json::{Value, json};

use crate::{SYSTEM, all_options, chart, hooks, of_kind, rendered, root};

/// An API server with the CRDs of the Prometheus operator, because the chart can create objects of these kinds.
async fn cluster() -> &'static ControlPlane {
    let options = async || {
        let mut manifests = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})];
        for kind in ["servicemonitors", "prometheusrules"] {
            let file = root().join(format!("tests/chart/prometheus-operator/{kind}.yaml"));
            manifests.push(serde_saphyr::from_str(&fs::read_to_string(file)?)?);
        }
        Ok(Options { manifests, ..Options::default() })
    };
    ControlPlane::shared(options).await.unwrap()
}

/// The output of `kubectl apply`, as a dry run on the server.
async fn try_to_apply(objects: &[Value]) -> anyhow::Result<String> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let args = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
    cluster().await.kubectl(args, &list).await?.success()
}

#[tokio::test]
async fn api_server_accepts_the_manifests_with_defaults_and_with_all_options() {
    for values in [json!({}), all_options()] {
        let objects = [rendered(values.clone()).await, hooks(values).await].concat();
        let accepted = try_to_apply(&objects).await.unwrap();
        assert_eq!(accepted.lines().count(), objects.len(), "{accepted}");
    }
}

#[tokio::test]
async fn only_the_agents_need_more_than_the_restricted_pod_security_standard() {
    let cluster = cluster().await;
    let admin = cluster.client().await.unwrap();
    let pods = |objects: &[Value], namespace: &str| {
        let workloads = ["Deployment", "Job", "DaemonSet"].map(|kind| of_kind(objects, kind)).concat();
        workloads.into_iter().map(|workload| {
            let name = &workload["metadata"]["name"];
            let metadata = json!({"name": name, "namespace": namespace});
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": workload["spec"]["template"]["spec"]})
        }).collect::<Vec<_>>()
    };
    let objects = [rendered(all_options()).await, hooks(all_options()).await].concat();
    for (standard, others, agent) in
        [("restricted", true, false), ("baseline", true, false), ("privileged", true, true)]
    {
        let namespace = cluster.namespace(standard).await.unwrap();
        let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": standard}}});
        let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(admin.clone());
        namespaces
            .patch(&namespace, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(label))
            .await
            .unwrap();
        for (pod, admitted) in pods(&objects, &namespace).into_iter().zip([others, others, agent]) {
            match try_to_apply(&[pod]).await {
                Ok(_) => assert!(admitted, "{standard} admits a pod that needs more"),
                Err(error) => assert!(!admitted && error.to_string().contains("violates PodSecurity"), "{error}"),
            }
        }
    }
}

#[tokio::test]
async fn helm_lint_reports_no_problem() {
    let chart = chart().display().to_string();
    let values = tempfile::NamedTempFile::new().unwrap();
    fs::write(values.path(), all_options().to_string()).unwrap();
    let values = values.path().display().to_string();
    for more in [&[][..], &["--values", &values][..]] {
        let args = [&["lint", &chart, "--strict"][..], more].concat();
        let said = cluster().await.helm(args).await.unwrap().success().unwrap();
        assert!(said.contains("0 chart(s) failed"), "{said}");
    }
}
