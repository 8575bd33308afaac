//! Missing CRDs and missing permissions are logged once, do not stop other work, and recover.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::{Api, api::PostParams};
use multibond_testbed::{ControlPlane, eventually};
use serde_json::{Value, json};

use super::{
    A, B, connected, control_plane, count_in_log, fixtures,
    site::{self, PATIENCE, SYSTEM, Site, condition, controller, paths, phase, ready, reason, until_ready_says},
};

const BONDS: &str = "iscsibonds.multibond.dev";
const DEFAULT: [&str; 2] = ["10.0.1.10:3260 - Connected", "10.0.2.10:3260 - Connected"];

fn is_crd_of_bonds(manifest: &Value) -> bool {
    manifest["kind"] == "CustomResourceDefinition" && manifest["metadata"]["name"] == BONDS
}

async fn install_bonds(cluster: &ControlPlane) {
    let mut manifests = site::options().await.unwrap().manifests;
    manifests.retain(is_crd_of_bonds);
    cluster.apply_all(&manifests).await.unwrap();
}

#[tokio::test]
async fn a30_missing_or_recreated_crd_is_logged_once_and_recovers() {
    let cluster = control_plane(|manifest| !is_crd_of_bonds(manifest)).await;
    let leader = controller(cluster, &["--deletion-timeout", "8s"]).await;
    until_ready_says(&leader, "503", "waiting for the first list of iscsibonds").await;
    let site = Site::on(cluster, "a30-crd").await;
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[fixtures::TWO_FABRICS, fixtures::HOST_ON_BOTH].concat()).await;
    let center = site.until("frozen", "DataCenter", "dc", |center| reason(center, "Ready") == "Frozen").await;
    let message = condition(&center, "Ready")["message"].as_str().unwrap();
    assert!(message.starts_with("iscsibonds cannot be listed"), "{message}");
    assert_eq!(site.get("Host", "w1").await["status"]["plan"], Value::Null, "it is not connected without its bonds");
    // Other work continues: a deleted network is removed.
    site.delete("Network", "san-b").await;
    site.until_gone("Network", "san-b").await;

    install_bonds(cluster).await;
    site.until("thawed", "DataCenter", "dc", ready).await;
    until_ready_says(&leader, "200", "leader").await;
    assert_eq!(count_in_log(&leader, "a watch has failed"), 1, "{}", leader.log());
    site.apply(&[fixtures::TWO_FABRICS, &fixtures::bond("san-a, san-b")].concat()).await;
    site.until("connected", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;

    site.kubectl(&["delete", "crd", BONDS, "--timeout=60s"], "").await;
    until_ready_says(&leader, "503", "watching iscsibonds").await;
    // Deleting the CRD deletes all bonds.
    site.until("on its default network", "Host", "w1", |host| paths(host) == DEFAULT).await;
    install_bonds(cluster).await;
    until_ready_says(&leader, "200", "leader").await;
    let bond = fixtures::bond("san-a, san-b");
    eventually("the API server takes bonds again", PATIENCE, async || {
        let applied = cluster.kubectl(["-n", &site.namespace, "apply", "-f", "-"], &bond).await?;
        applied.success()
    })
    .await;
    site.until("connected again", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;
}

/// Removes the matching rules from the controller's role. Returns the role as it was before.
async fn forbid(cluster: &ControlPlane, forbidden: impl Fn(&PolicyRule) -> bool) -> ClusterRole {
    let roles: Api<ClusterRole> = Api::all(cluster.client().await.unwrap());
    let before = roles.get("multibond-controller").await.unwrap();
    let mut role = before.clone();
    role.rules.iter_mut().for_each(|rules| rules.retain(|rule| !forbidden(rule)));
    roles.replace("multibond-controller", &PostParams::default(), &role).await.unwrap();
    before
}

async fn allow(cluster: &ControlPlane, mut before: ClusterRole) {
    let roles: Api<ClusterRole> = Api::all(cluster.client().await.unwrap());
    before.metadata.resource_version = None;
    roles.replace("multibond-controller", &PostParams::default(), &before).await.unwrap();
}

fn names(rule: &PolicyRule, resource: &str) -> bool {
    rule.resources.iter().flatten().any(|name| name == resource)
}

/// Sets whether the controller may list and watch leases.
async fn watch_leases(cluster: &ControlPlane, allowed: bool) {
    let roles: Api<Role> = Api::namespaced(cluster.client().await.unwrap(), SYSTEM);
    let mut role = roles.get("multibond-controller").await.unwrap();
    for verbs in role.rules.iter_mut().flatten().filter(|rule| names(rule, "leases")).map(|rule| &mut rule.verbs) {
        verbs.retain(|verb| verb != "list" && verb != "watch");
        if allowed {
            verbs.extend(["list".to_owned(), "watch".to_owned()]);
        }
    }
    roles.replace("multibond-controller", &PostParams::default(), &role).await.unwrap();
}

#[tokio::test]
async fn a30_paths_and_deletions_work_without_permission_on_nodes_and_leases() {
    let cluster = control_plane(|_| true).await;
    let before =
        forbid(cluster, |rule| names(rule, "nodes") || names(rule, "nodes/status") || names(rule, "events")).await;
    watch_leases(cluster, false).await;
    let leader = controller(cluster, &["--deletion-timeout", "8s"]).await;
    until_ready_says(&leader, "503", "watching nodes").await;
    let says = until_ready_says(&leader, "503", "watching leases").await;
    assert!(says.contains("watching nodes"), "{says}");
    let site = Site::on(cluster, "a30-verbs").await;
    let _agents = site.agents(&["w1", "w2"]).await;
    let bond = fixtures::bond("san-a, san-b");
    site.apply(&[fixtures::TWO_FABRICS, fixtures::HOST_ON_BOTH, fixtures::HOST_ON_A, &bond].concat()).await;
    site.until("connected", "Host", "w1", |host| paths(host) == [A, B] && phase(host) == "Unknown").await;
    site.delete("Host", "w2").await;
    site.until_gone("Host", "w2").await;
    site.delete("Network", "san-b").await;
    site.until_gone("Network", "san-b").await;

    allow(cluster, before).await;
    watch_leases(cluster, true).await;
    site.until_phase("w1", "Up").await;
    site.until_node("the condition is set", "w1", |node| site::storage_operational(node).is_some()).await;
    until_ready_says(&leader, "200", "leader").await;
    for plural in ["nodes", "leases"] {
        let times = count_in_log(&leader, &format!("a watch has failed; trying again kind=\"{plural}\""));
        assert_eq!(times, 1, "{plural}: {}", leader.log());
    }
}

#[tokio::test]
async fn a30_forbidden_write_is_reported_once_and_retried_when_allowed() {
    let cluster = control_plane(|_| true).await;
    let before = forbid(cluster, |rule| names(rule, "nodes/status")).await;
    let leader = controller(cluster, &["--deletion-timeout", "8s"]).await;
    let (site, _agents, _) = connected(cluster, "a30-write").await;
    until_ready_says(&leader, "200", "writing Node (node-condition)").await;
    site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    site.until_phase("w1", "Maintenance").await;
    site.patch("Host", "w1", json!({"spec": {"maintenance": false}})).await;
    site.until("connected", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;
    assert_eq!(count_in_log(&leader, "a write has failed; trying again"), 1, "{}", leader.log());

    allow(cluster, before).await;
    for node in ["w1", "n1"] {
        site.until_node("the condition is set", node, |node| site::storage_operational(node).is_some()).await;
    }
    let says = until_ready_says(&leader, "200", "leader").await;
    eventually("readiness has nothing to add", PATIENCE, async || {
        let (_, body) = site::get(&site::address(&leader).await, "/readyz").await?;
        if body == "leader\n" { Ok(()) } else { Err(format!("{body}, after {says}")) }
    })
    .await;
}
