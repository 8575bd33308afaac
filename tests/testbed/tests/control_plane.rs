//! The control plane behaves as the tests of Multibond rely on.
#![allow(clippy::unwrap_used, reason = "what serves a test fails it")]

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use multibond_testbed::{ControlPlane, Options, Process, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

async fn cluster() -> &'static ControlPlane {
    ControlPlane::shared(async || Ok(Options::default())).await.unwrap()
}

async fn config_map(api: &Api<ConfigMap>, value: Value) -> Result<ConfigMap, kube::Error> {
    api.create(&PostParams::default(), &serde_json::from_value(value).unwrap()).await
}

#[tokio::test]
async fn control_plane_is_ready_and_reports_its_version() {
    let cluster = cluster().await;
    assert_eq!(cluster.kubectl(["get", "--raw", "/readyz"], "").await.unwrap().success().unwrap(), "ok");
    let version = cluster.client().await.unwrap().apiserver_version().await.unwrap();
    assert_eq!((version.git_version.as_str(), version.major.as_str(), version.minor.as_str()), ("v1.36.3", "1", "36"));
}

#[tokio::test]
async fn owned_objects_are_deleted_with_their_owner() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("owners").await.unwrap();
    let api = Api::namespaced(cluster.client().await.unwrap(), &namespace);
    let owner = config_map(&api, json!({"metadata": {"name": "owner"}})).await.unwrap();
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid().unwrap()});
    config_map(&api, json!({"metadata": {"name": "owned", "ownerReferences": [reference]}})).await.unwrap();
    config_map(&api, json!({"metadata": {"name": "free"}})).await.unwrap();

    api.delete("owner", &DeleteParams::default()).await.unwrap();

    eventually("only what has no owner is left", SOON, async || {
        let names: Vec<_> =
            api.list(&kube::api::ListParams::default()).await?.iter().map(ResourceExt::name_any).collect();
        anyhow::ensure!(names == ["free"], "{names:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn namespace_deletion_removes_its_objects() {
    let cluster = cluster().await;
    let client = cluster.client().await.unwrap();
    let namespace = cluster.namespace("doomed").await.unwrap();
    config_map(&Api::namespaced(client.clone(), &namespace), json!({"metadata": {"name": "inside"}})).await.unwrap();

    let namespaces: Api<Namespace> = Api::all(client);
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();

    eventually("the namespace is gone", SOON, async || match namespaces.get_opt(&namespace).await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn policies_distinguish_nodes_by_token() {
    let cluster = cluster().await;
    let client = cluster.client().await.unwrap();
    let namespace = cluster.namespace("nodes").await.unwrap();
    let node_name = "request.userInfo.extra[?'authentication.kubernetes.io/node-name'][?0].orValue('')";
    let manifests = [
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent", "namespace": namespace}}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "agent", "namespace": namespace},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "agent", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "agent"},
            "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": namespace}],
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "own-node"},
            "spec": {"policyName": "own-node", "validationActions": ["Deny"]},
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "own-node"},
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "resourceRules": [{
                        "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"],
                    }],
                },
                "validations": [{
                    "expression": format!("object.metadata.name == {node_name}"),
                    "message": "only its own node's",
                }],
            },
        }),
    ];
    cluster.apply_all(&manifests).await.unwrap();

    for (node, admitted) in [(Some("n1"), true), (Some("n2"), false), (None, false)] {
        let token = cluster.service_account_token(&namespace, "agent", node).await.unwrap();
        let agent = Api::namespaced(cluster.client_for_token(&token).await.unwrap(), &namespace);
        let answer = config_map(&agent, json!({"metadata": {"name": "n1"}})).await;
        match answer {
            Ok(_) => assert!(admitted, "{node:?} was admitted"),
            Err(error) => {
                assert!(!admitted, "{node:?} was refused: {error}");
                assert!(error.to_string().contains("only its own node's"), "{node:?}: {error}");
            }
        }
    }
    let policies: Api<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy> = Api::all(client);
    eventually("the policy's expressions are checked", SOON, async || {
        let status = policies.get("own-node").await?.status.unwrap_or_default();
        anyhow::ensure!(status.observed_generation == Some(1), "{status:?}");
        anyhow::Ok(status.type_checking)
    })
    .await;
}

#[tokio::test]
async fn a_user_has_only_the_rights_that_were_given() {
    let cluster = cluster().await;
    let can_i = |user: &'static str, groups: &'static [&'static str]| async move {
        let kubeconfig = cluster.kubeconfig_as(user, groups).unwrap();
        let answer = cluster.kubectl_as(&kubeconfig, ["auth", "can-i", "delete", "nodes"], "").await.unwrap();
        answer.stdout.trim().to_owned()
    };
    assert_eq!(can_i("alice", &["developers"]).await, "no");
    assert_eq!(can_i("root", &["system:masters"]).await, "yes");
}

#[tokio::test]
async fn api_server_restart_keeps_its_data() {
    let cluster = ControlPlane::start(Options::default()).await.unwrap();
    let namespace = cluster.namespace("kept").await.unwrap();
    let namespaces: Api<Namespace> = Api::all(cluster.client().await.unwrap());

    cluster.stop_api_server();
    assert!(namespaces.get(&namespace).await.is_err());

    cluster.start_api_server().await.unwrap();
    assert_eq!(namespaces.get(&namespace).await.unwrap().name_any(), namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client().await.unwrap(), &namespace);
    eventually("the controller manager is back too", SOON, async || accounts.get("default").await).await;
}

#[tokio::test]
async fn processes_can_be_watched_and_terminated() {
    const NO_ENVIRONMENT: [(&str, &str); 0] = [];
    let script = "trap 'echo bye; exit 7' TERM; echo hello $NAME; while :; do sleep 0.1; done";
    let process = Process::spawn("sh", ["-c", script], [("NAME", "you")], "polite").unwrap();
    eventually("it has said hello", SOON, async || match process.log() {
        log if log == "hello you\n" => Ok(()),
        log => Err(log),
    })
    .await;
    assert!(process.alive());
    assert_eq!(process.term(SOON).await.unwrap().code(), Some(7));
    assert!(process.log_tail().ends_with("bye") && !process.alive());

    let process = Process::spawn("sleep", ["1000"], NO_ENVIRONMENT, "stubborn").unwrap();
    process.kill();
    assert_eq!(process.exit_status().unwrap().code(), None);
}
