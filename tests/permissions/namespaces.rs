//! The cluster that the permissions are tried in: the chart as it renders by default, data centers, and people.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::api::PostParams;
use kube::{Api, Client};
use multibond_testbed::{ControlPlane, Options, eventually, render_chart};
use serde_json::{Value, json};

/// Where the chart is installed.
pub const SYSTEM: &str = "multibond-system";
/// The time limit for work of the control plane itself.
pub const SOON: Duration = Duration::from_secs(30);

const RBAC: &str = "rbac.authorization.k8s.io";

/// Where the chart is.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/multibond")
}

/// The chart, as `values` have it.
pub async fn chart(values: &Value) -> Vec<Value> {
    render_chart(&directory(), SYSTEM, values).await.unwrap()
}

pub async fn cluster() -> &'static ControlPlane {
    let options = async || {
        Ok(Options {
            manifests: chart(&json!({})).await,
            // Some distributions have it on, and then owner references cost more permissions.
            api_server_args: vec!["--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned()],
            ..Options::default()
        })
    };
    ControlPlane::shared(options).await.unwrap()
}

/// Two namespaces: `home` with the data centers frankfurt and munich, `away` with tokyo.
pub struct Namespaces {
    pub cluster: &'static ControlPlane,
    pub home: String,
    pub away: String,
}

impl Namespaces {
    pub async fn new() -> Self {
        let cluster = cluster().await;
        let home = cluster.namespace("home").await.unwrap();
        let away = cluster.namespace("away").await.unwrap();
        let namespaces = Namespaces { cluster, home, away };
        let mut objects: Vec<Value> = ["worker-1", "worker-2"].map(node).into();
        for (namespace, data_center, tag) in [
            (&namespaces.home, "frankfurt", "fra"),
            (&namespaces.home, "munich", "muc"),
            (&namespaces.away, "tokyo", "tok"),
        ] {
            objects.push(data_center_of(namespace, data_center));
            objects.push(network(namespace, &format!("san-{tag}"), data_center));
            objects.push(bond(namespace, &format!("bond-{tag}"), data_center));
        }
        objects.push(host(&namespaces.home, "host-1", "worker-1"));
        objects.push(host(&namespaces.home, "host-2", "worker-2"));
        namespaces.make(&objects).await;
        namespaces
    }

    pub async fn make(&self, objects: &[Value]) {
        self.cluster.apply_all(objects).await.unwrap();
    }

    /// A user with a token and these permissions, all of them in force.
    pub async fn person(&self, name: &str, rights: &[Right<'_>]) -> Client {
        let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": self.home});
        let mut objects = vec![json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata":
            {"name": name, "namespace": self.home}})];
        // The authorizer sees each of the four kinds in its own order. When it has seen the last object of each kind,
        // it has seen all earlier ones.
        let canary =
            json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": ["get"]}]);
        let last = [Right::Rules(&self.home, canary.clone()), Right::RulesEverywhere(canary)];
        for (number, right) in rights.iter().chain(&last).enumerate() {
            objects.extend(right.manifests(&format!("{}-{name}-{number}", self.home), &subject));
        }
        self.make(&objects).await;
        let token = self.cluster.service_account_token(&self.home, name, None).await.unwrap();
        let client = self.cluster.client_for_token(&token).await.unwrap();
        for namespace in [self.home.as_str(), self.away.as_str()] {
            let question = json!({"verb": "get", "resource": "configmaps", "name": name, "namespace": namespace});
            eventually("the rights are in force", SOON, async || is_allowed(&client, &question).await).await;
        }
        client
    }

    /// The agent of a node, or one whose token names no node.
    pub async fn agent(&self, node: Option<&str>) -> Client {
        let token = self.cluster.service_account_token(SYSTEM, "multibond-agent", node).await.unwrap();
        self.cluster.client_for_token(&token).await.unwrap()
    }
}

/// Whether a right has reached the authorizer.
pub async fn is_allowed(client: &Client, question: &Value) -> anyhow::Result<()> {
    let review: SelfSubjectAccessReview = serde_json::from_value(json!({"spec": {"resourceAttributes": question}}))?;
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    anyhow::ensure!(answer.status.is_some_and(|status| status.allowed), "not allowed: {question}");
    Ok(())
}

/// A permission that a test grants to a user.
pub enum Right<'a> {
    /// A cluster role, bound in a namespace.
    Role(&'a str, &'a str),
    /// Rules of its own, in a namespace.
    Rules(&'a str, Value),
    /// Rules of its own, in the whole cluster.
    RulesEverywhere(Value),
}

impl Right<'_> {
    fn manifests(&self, name: &str, subject: &Value) -> Vec<Value> {
        let (role_kind, role, namespace, rules) = match self {
            Right::Role(namespace, role) => ("ClusterRole", *role, Some(*namespace), None),
            Right::Rules(namespace, rules) => ("Role", name, Some(*namespace), Some(rules)),
            Right::RulesEverywhere(rules) => ("ClusterRole", name, None, Some(rules)),
        };
        let api_version = format!("{RBAC}/v1");
        let binding_kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
        let metadata = namespace.map_or_else(|| json!({"name": name}), |home| json!({"name": name, "namespace": home}));
        let own_role = rules
            .map(|rules| json!({"apiVersion": api_version, "kind": role_kind, "metadata": metadata, "rules": rules}));
        let binding = json!({"apiVersion": api_version, "kind": binding_kind, "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": role_kind, "name": role}, "subjects": [subject]});
        own_role.into_iter().chain([binding]).collect()
    }
}

pub fn data_center_of(namespace: &str, name: &str) -> Value {
    ours(
        "DataCenter",
        namespace,
        name,
        &json!({"storage": [{"name": "array", "targets": [
            {"iqn": format!("iqn.2003-01.org.example:{name}"), "portals": [{"address": "10.0.1.10"}]},
        ]}]}),
    )
}

pub fn network(namespace: &str, name: &str, data_center: &str) -> Value {
    ours("Network", namespace, name, &json!({"dataCenter": data_center}))
}

pub fn bond(namespace: &str, name: &str, data_center: &str) -> Value {
    ours("IscsiBond", namespace, name, &json!({"dataCenter": data_center, "networks": ["san-a", "san-b"]}))
}

/// A host of frankfurt.
pub fn host(namespace: &str, name: &str, node: &str) -> Value {
    ours("Host", namespace, name, &json!({"dataCenter": "frankfurt", "nodeName": node}))
}

pub fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}

pub fn lease(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": namespace},
        "spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 15}})
}

pub fn chap_secret(namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "array-chap", "namespace": namespace},
        "type": "kubernetes.io/iscsi-chap",
        "stringData": {"node.session.auth.username": "worker", "node.session.auth.password": "not-so-secret"}})
}

fn ours(kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "multibond.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

/// The same object with another spec.
pub fn with_spec(object: &Value, patch: &Value) -> Value {
    let mut object = object.clone();
    for (field, value) in patch.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}
