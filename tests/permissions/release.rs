//! The job that `helm uninstall` runs at the end: it removes finalizers and taints, and may do nothing else.

use kube::Client;
use multibond_testbed::{eventually, render_hooks};
use serde_json::{Value, json};

use crate::attempt::Outcome::{May, MayNot};
use crate::attempt::{api, check, create, delete, get, list, patch, patch_status, replace};
use crate::namespaces::{
    Namespaces, SOON, SYSTEM, bond, chap_secret, data_center_of, directory, host, is_allowed, lease, network, node,
};

/// Its account and its rights, as Helm makes them for it.
async fn release(namespaces: &Namespaces) -> Client {
    let mut hooks = render_hooks(&directory(), SYSTEM, &json!({})).await.unwrap();
    hooks.retain(|object| object["kind"] != "Job");
    namespaces.make(&hooks).await;
    let token = namespaces.cluster.service_account_token(SYSTEM, "multibond-release", None).await.unwrap();
    let client = namespaces.cluster.client_for_token(&token).await.unwrap();
    for question in [
        json!({"verb": "list", "group": "", "resource": "nodes"}),
        json!({"verb": "create", "group": "coordination.k8s.io", "resource": "leases", "namespace": SYSTEM}),
    ] {
        eventually("the rights are in force", SOON, async || is_allowed(&client, &question).await).await;
    }
    client
}

/// An object with its version, as one that is replaced must have it.
async fn stored(namespaces: &Namespaces, object: &Value) -> Value {
    let admin = namespaces.cluster.client().await.unwrap();
    let name = object["metadata"]["name"].as_str().unwrap();
    serde_json::to_value(api(&admin, object).get(name).await.unwrap()).unwrap()
}

#[tokio::test]
async fn a29_release_job_has_only_the_permissions_it_needs() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let client = release(&namespaces).await;
    let free = json!({"metadata": {"finalizers": null}});
    let untainted = json!({"spec": {"taints": null}});
    let unmarked = json!({"conditions": [{"type": "multibond.dev/StorageOperational", "status": "Unknown"}]});
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let leases = [lease(SYSTEM, "multibond-controller"), lease(SYSTEM, "agent-worker-1")];
    namespaces.make(&leases).await;
    let led = stored(&namespaces, &leases[0]).await;
    check(
        "the release",
        &client,
        &[
            (list(&data_center_of(&namespaces.away, "any")), May),
            (list(&network(home, "any", "any")), May),
            (list(&host(home, "any", "any")), May),
            // Also while the chart's policies are still in force.
            (patch(&data_center_of(home, "frankfurt"), free.clone()), May),
            (patch(&network(home, "san-fra", "frankfurt"), free.clone()), May),
            (patch(&host(home, "host-1", "worker-1"), free.clone()), May),
            (list(&node("any")), May),
            (patch(&node("worker-1"), untainted), May),
            (patch_status(&node("worker-1"), &unmarked), May),
            (get(&namespace(SYSTEM)), May),
            (replace(&led), May),
            (get(&namespace(home)), MayNot("cannot get resource \"namespaces\"")),
            (replace(&leases[1]), MayNot("cannot update resource \"leases\"")),
            (delete(&lease(SYSTEM, "multibond-controller")), MayNot("cannot delete resource \"leases\"")),
            (create(&lease(home, "new")), MayNot("cannot create resource \"leases\"")),
            (list(&bond(home, "any", "any")), MayNot("cannot list resource \"iscsibonds\"")),
            (patch(&bond(home, "bond-fra", "frankfurt"), free), MayNot("cannot patch resource \"iscsibonds\"")),
            (delete(&data_center_of(home, "frankfurt")), MayNot("cannot delete resource \"datacenters\"")),
            (delete(&host(home, "host-1", "worker-1")), MayNot("cannot delete resource \"hosts\"")),
            (create(&host(home, "new", "worker-1")), MayNot("cannot create resource \"hosts\"")),
            (
                patch_status(&host(home, "host-1", "worker-1"), &json!({"phase": "Up"})),
                MayNot("cannot patch resource \"hosts/status\""),
            ),
            (delete(&node("worker-1")), MayNot("cannot delete resource \"nodes\"")),
            (get(&chap_secret(home)), MayNot("cannot get resource \"secrets\"")),
        ],
    )
    .await;
}
