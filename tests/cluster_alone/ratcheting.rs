//! Objects of an older version, which the schema of this version would refuse at creation, can still be used and edited.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use multibond_testbed::eventually;
use serde_json::{Value, json};

use super::{
    control_plane,
    site::{PATIENCE, Site, condition, controller, fixtures, paths, ready},
};

const STORAGE_SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/storage";
const GOOD: &str = "iqn.2003-01.org.example:array";
const BAD: &str = "iqn.2003-01.org.example:/../../escape";

/// Exchanges the schema of `DataCenter.spec.storage`, and returns the one before.
async fn exchange_schema(client: Client, schema: &Value) -> Value {
    let crds: Api<CustomResourceDefinition> = Api::all(client);
    let name = "datacenters.multibond.dev";
    let before = serde_json::to_value(crds.get(name).await.unwrap()).unwrap().pointer(STORAGE_SCHEMA).unwrap().clone();
    let steps = json!([{"op": "replace", "path": STORAGE_SCHEMA, "value": schema}]);
    let patch: Patch<Value> = Patch::Json(serde_json::from_value(steps).unwrap());
    crds.patch(name, &PatchParams::default(), &patch).await.unwrap();
    before
}

fn storage(targets: &[&str]) -> Value {
    let targets: Vec<Value> = targets
        .iter()
        .map(|iqn| json!({"iqn": iqn, "portals": [{"address": "10.0.1.10"}, {"address": "10.0.2.10"}]}))
        .collect();
    json!({"spec": {"storage": [{"name": "array", "targets": targets}]}})
}

#[tokio::test]
async fn a69_what_a_new_schema_refuses_stays_and_can_be_edited_elsewhere() {
    let cluster = control_plane(|_| true).await;
    let site = Site::on(cluster, "a69").await;
    site.apply(fixtures::TWO_FABRICS).await;
    let api = site.api("DataCenter").await;
    let write = async |patch: &Value| api.patch("dc", &PatchParams::default(), &Patch::Merge(patch)).await;

    let anything = json!({"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let strict = exchange_schema(cluster.client().await.unwrap(), &anything).await;
    // The API server needs a moment to use another schema.
    eventually("the old schema takes it", PATIENCE, async || write(&storage(&[GOOD, BAD])).await).await;
    exchange_schema(cluster.client().await.unwrap(), &strict).await;
    let another = storage(&[GOOD, BAD, "iqn.2003-01.org.example:/more"]);
    // Without being stored: what is stored is not judged again.
    let try_out = PatchParams { dry_run: true, ..PatchParams::default() };
    let refused = eventually("the new schema refuses another one", PATIENCE, async || {
        api.patch("dc", &try_out, &Patch::Merge(&another)).await.err().ok_or("it was accepted")
    })
    .await
    .to_string();
    assert!(refused.contains("spec.storage[0].targets[2].iqn"), "{refused}");

    let _controller = controller(cluster, &[]).await;
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[fixtures::HOST_ON_BOTH, &fixtures::bond("san-a, san-b")].concat()).await;
    let invalid = |center: &Value| condition(center, "StorageValid")["reason"] == "InvalidTargetName";
    site.until("named", "DataCenter", "dc", invalid).await;
    let connected = |host: &Value| paths(host).iter().filter(|path| path.ends_with("Connected")).count() == 2;
    site.until("the good target is connected", "Host", "w1", connected).await;

    write(&json!({"spec": {"description": "an edit of something else"}})).await.unwrap();
    write(&storage(&[GOOD])).await.unwrap();
    site.until("mended", "DataCenter", "dc", |center| ready(center) && !invalid(center)).await;
    let refused = write(&storage(&[GOOD, BAD])).await.unwrap_err().to_string();
    assert!(refused.contains("spec.storage[0].targets[1].iqn"), "{refused}");
}
