//! Deletions by the cluster itself, which no policy may block: of namespaces, and of objects with an owner.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
use multibond_testbed::eventually;
use rstest::rstest;
use serde_json::{Value, json};

use crate::attempt::Outcome::{May, MayNot};
use crate::attempt::{api, check, delete, patch};
use crate::namespaces::{Namespaces, Right, SOON, bond, data_center_of, network};

async fn exists(namespaces: &Namespaces, object: &Value) -> anyhow::Result<bool> {
    let name = object["metadata"]["name"].as_str().unwrap();
    Ok(api(&namespaces.cluster.client().await?, object).get_opt(name).await?.is_some())
}

async fn delete_namespace(namespaces: &Namespaces, name: &str) {
    let namespaces: Api<Namespace> = Api::all(namespaces.cluster.client().await.unwrap());
    namespaces.delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a29_namespace_deletion_removes_bonds_and_networks() {
    let namespaces = Namespaces::new().await;
    delete_namespace(&namespaces, &namespaces.home).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespaces.home}});
    eventually("the namespace is gone", SOON, async || {
        anyhow::ensure!(!exists(&namespaces, &namespace).await?, "it is still there");
        Ok(())
    })
    .await;
}

#[rstest]
#[case::in_the_background(PropagationPolicy::Background)]
#[case::in_the_foreground(PropagationPolicy::Foreground)]
#[tokio::test]
async fn a29_bonds_and_networks_are_deleted_with_their_owner(#[case] how: PropagationPolicy) {
    let namespaces = Namespaces::new().await;
    let objects = own_by_frankfurt(&namespaces).await;
    delete_frankfurt(&namespaces, how).await;
    eventually("what the data center owns is gone", SOON, async || {
        for object in &objects {
            anyhow::ensure!(!exists(&namespaces, object).await?, "still there: {object}");
        }
        Ok(())
    })
    .await;
    assert!(exists(&namespaces, &bond(&namespaces.home, "bond-muc", "munich")).await.unwrap());
}

#[tokio::test]
async fn a29_bonds_and_networks_can_be_orphaned() {
    let namespaces = Namespaces::new().await;
    let objects = own_by_frankfurt(&namespaces).await;
    delete_frankfurt(&namespaces, PropagationPolicy::Orphan).await;
    let client = namespaces.cluster.client().await.unwrap();
    eventually("the data center is gone, and owns nothing any more", SOON, async || {
        anyhow::ensure!(
            !exists(&namespaces, &data_center_of(&namespaces.home, "frankfurt")).await?,
            "it is still there"
        );
        for object in &objects {
            let metadata = api(&client, object).get(object["metadata"]["name"].as_str().unwrap()).await?.metadata;
            anyhow::ensure!(metadata.owner_references.unwrap_or_default().is_empty(), "still owned: {object}");
        }
        Ok(())
    })
    .await;
}

async fn own_by_frankfurt(namespaces: &Namespaces) -> [Value; 2] {
    let client = namespaces.cluster.client().await.unwrap();
    let frankfurt = api(&client, &data_center_of(&namespaces.home, "frankfurt")).get("frankfurt").await.unwrap();
    let owner = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "DataCenter", "name": "frankfurt",
        "uid": frankfurt.metadata.uid, "blockOwnerDeletion": true});
    let patch = Patch::Merge(json!({"metadata": {"ownerReferences": [owner]}}));
    let objects = [network(&namespaces.home, "san-fra", "frankfurt"), bond(&namespaces.home, "bond-fra", "frankfurt")];
    for object in &objects {
        let name = object["metadata"]["name"].as_str().unwrap();
        api(&client, object).patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
    objects
}

async fn delete_frankfurt(namespaces: &Namespaces, how: PropagationPolicy) {
    let client = namespaces.cluster.client().await.unwrap();
    let how = DeleteParams { propagation_policy: Some(how), ..DeleteParams::default() };
    api(&client, &data_center_of(&namespaces.home, "frankfurt")).delete("frankfurt", &how).await.unwrap();
}

/// Permission to delete bonds and networks, without any permission on data centers.
fn only_deletes(namespace: &str) -> Right<'_> {
    Right::Rules(
        namespace,
        json!([{"apiGroups": ["multibond.dev"], "resources": ["networks", "iscsibonds"], "verbs": ["delete", "patch"]}]),
    )
}

#[tokio::test]
async fn a29_controller_manager_may_delete_under_any_of_its_users() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let (san, storage) = (network(home, "san-fra", "frankfurt"), bond(home, "bond-fra", "frankfurt"));
    let system_users = [
        "system:kube-controller-manager",
        "system:serviceaccount:kube-system:namespace-controller",
        "system:serviceaccount:kube-system:generic-garbage-collector",
    ];
    let subjects =
        system_users.map(|user| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}));
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "subjects": subjects,
        "metadata": {"name": "system-users", "namespace": home},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deleter"}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "deleter", "namespace": home},
        "rules": [{"apiGroups": ["multibond.dev"], "resources": ["networks", "iscsibonds"], "verbs": ["delete", "patch"]}]});
    namespaces.make(&[role, binding]).await;
    let deleter = namespaces.person("deleter", &[only_deletes(home)]).await;

    let without_finalizers = json!({"metadata": {"finalizers": null}});
    let attempts =
        [patch(&storage, without_finalizers.clone()), patch(&san, without_finalizers), delete(&storage), delete(&san)];
    for user in system_users {
        let client = namespaces.cluster.client_as(user, &["system:authenticated"]).await.unwrap();
        check(user, &client, &attempts.clone().map(|attempt| (attempt, May))).await;
    }
    // The same permissions are not enough for any other user.
    check("a deleter", &deleter, &attempts.map(|attempt| (attempt, MayNot("spec.dataCenter: ")))).await;
}

/// Control planes differ in the user that deletes the objects of a namespace.
#[tokio::test]
async fn a29_bonds_in_a_terminating_namespace_can_be_deleted() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let storage = bond(home, "bond-fra", "frankfurt");
    let client = namespaces.cluster.client().await.unwrap();
    let finalizer = |value: Value| Patch::Merge(json!({"metadata": {"finalizers": value}}));
    let bonds = api(&client, &storage);
    bonds.patch("bond-fra", &PatchParams::default(), &finalizer(json!(["example.com/wait"]))).await.unwrap();
    let deleter = namespaces.person("deleter", &[only_deletes(home)]).await;

    check("a deleter", &deleter, &[(delete(&storage), MayNot("spec.dataCenter: "))]).await;
    delete_namespace(&namespaces, home).await;
    eventually("the policy sees the terminating namespace", SOON, async || bonds_deletable(&deleter, &storage).await)
        .await;

    bonds.patch("bond-fra", &PatchParams::default(), &finalizer(Value::Null)).await.unwrap();
}

async fn bonds_deletable(client: &kube::Client, storage: &Value) -> Result<(), kube::Error> {
    api(client, storage).delete("bond-fra", &DeleteParams::default().dry_run()).await.map(drop)
}
