//! The controller: the verbs it uses, and no more.

use kube::Client;
use serde_json::{Value, json};

use crate::attempt::Outcome::{May, MayNot};
use crate::attempt::{api, apply_status, check, create, delete, get, list, patch, patch_status, replace};
use crate::namespaces::{Namespaces, SYSTEM, bond, chap_secret, data_center_of, host, lease, network, node};

async fn controller(namespaces: &Namespaces) -> Client {
    let token = namespaces.cluster.service_account_token(SYSTEM, "multibond-controller", None).await.unwrap();
    namespaces.cluster.client_for_token(&token).await.unwrap()
}

fn kept() -> Value {
    json!({"metadata": {"finalizers": ["multibond.dev/disconnect"]}})
}

async fn owned_by_frankfurt(namespaces: &Namespaces) -> Value {
    let frankfurt = data_center_of(&namespaces.home, "frankfurt");
    let admin = namespaces.cluster.client().await.unwrap();
    let uid = api(&admin, &frankfurt).get("frankfurt").await.unwrap().metadata.uid;
    json!({"metadata": {"ownerReferences": [{"apiVersion": "multibond.dev/v1alpha1", "kind": "DataCenter",
        "name": "frankfurt", "uid": uid, "controller": true, "blockOwnerDeletion": true}]}})
}

#[tokio::test]
async fn a29_the_controller_has_the_verbs_that_it_uses() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let owned = owned_by_frankfurt(&namespaces).await;
    let frankfurt = data_center_of(home, "frankfurt");
    let (san, storage) = (network(home, "san-fra", "frankfurt"), bond(home, "bond-fra", "frankfurt"));
    let (worker, made) = (host(home, "host-1", "worker-1"), host(home, "made", "worker-2"));
    let mut made_with_owner = made.clone();
    made_with_owner["metadata"]["ownerReferences"] = owned["metadata"]["ownerReferences"].clone();
    let gone_since = json!({"metadata": {"annotations": {"multibond.dev/node-gone-since": "2026-01-01T00:00:00Z"}}});
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": home},
        "action": "Connect", "reason": "Up", "type": "Normal", "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "multibond.dev/controller", "reportingInstance": "pod",
        "regarding": {"apiVersion": "multibond.dev/v1alpha1", "kind": "Host", "name": "host-1", "namespace": home}});
    let tainted = json!({"spec": {"taints": [{"key": "multibond.dev/non-operational", "effect": "NoSchedule"}]}});
    let condition = json!({"conditions": [{"type": "multibond.dev/StorageOperational", "status": "True"}]});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}});
    let of_a_gone_node = lease(SYSTEM, "agent-gone");
    namespaces.make(std::slice::from_ref(&of_a_gone_node)).await;
    let mut table = vec![
        (patch(&frankfurt, kept()), May),
        (patch(&san, kept()), May),
        (patch(&worker, kept()), May),
        (patch(&worker, gone_since), May),
        (patch(&san, owned.clone()), May),
        (patch(&storage, owned.clone()), May),
        (patch(&worker, owned), May),
        (patch(&storage, json!({"spec": {"networks": ["san-b"]}})), May),
        (delete(&san), May),
        (delete(&storage), May),
        (delete(&worker), May),
        (create(&made), May),
        (create(&made_with_owner), May),
        (get(&node("worker-1")), May),
        (patch(&node("worker-1"), tainted), May),
        (patch_status(&node("worker-1"), &condition), May),
        (get(&namespace), May),
        (list(&namespace), May),
        (create(&event), May),
        (create(&lease(SYSTEM, "multibond-controller")), May),
        (list(&lease(SYSTEM, "any")), May),
        (delete(&of_a_gone_node), May),
    ];
    for object in [&frankfurt, &san, &storage, &worker] {
        table.extend([
            (get(object), May),
            (list(object), May),
            (apply_status(object, &json!({"conditions": []})), May),
        ]);
    }
    check("the controller", &controller(&namespaces).await, &table).await;
}

#[tokio::test]
async fn a29_the_controller_has_no_other_verb() {
    let namespaces = Namespaces::new().await;
    let home = &namespaces.home;
    let frankfurt = data_center_of(home, "frankfurt");
    check(
        "the controller",
        &controller(&namespaces).await,
        &[
            (create(&data_center_of(home, "berlin")), MayNot("cannot create resource \"datacenters\"")),
            (delete(&frankfurt), MayNot("cannot delete resource \"datacenters\"")),
            (replace(&frankfurt), MayNot("cannot update resource \"datacenters\"")),
            (create(&network(home, "new", "frankfurt")), MayNot("cannot create resource \"networks\"")),
            (create(&bond(home, "new", "frankfurt")), MayNot("cannot create resource \"iscsibonds\"")),
            (replace(&bond(home, "bond-fra", "frankfurt")), MayNot("cannot update resource \"iscsibonds\"")),
            (get(&chap_secret(home)), MayNot("cannot get resource \"secrets\"")),
            (list(&chap_secret(SYSTEM)), MayNot("cannot list resource \"secrets\"")),
            (replace(&node("worker-1")), MayNot("cannot update resource \"nodes\"")),
            (delete(&node("worker-1")), MayNot("cannot delete resource \"nodes\"")),
            (create(&lease(home, "new")), MayNot("cannot create resource \"leases\"")),
        ],
    )
    .await;
}
