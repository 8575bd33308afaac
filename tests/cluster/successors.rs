//! A decision about a deleted object is not applied to a new object of the same name.

use kube::api::PatchParams;
use multibond::ops::patch::status_patch;
use serde_json::{Value, json};

use super::site::Site;

/// Deletes an object and creates it again. Returns the first one.
async fn recreate(site: &Site, kind: &str, name: &str, manifest: &str) -> Value {
    site.apply(manifest).await;
    let first = site.get(kind, name).await;
    site.delete(kind, name).await;
    site.until_gone(kind, name).await;
    site.apply(manifest).await;
    first
}

/// Writes these fields as a controller or an agent that has not yet seen the deletion of the first object.
async fn write_to_the_first(site: &Site, kind: &str, name: &str, first: &Value, fields: &Value) {
    let patch = status_patch(first["metadata"]["uid"].as_str(), fields.as_object().unwrap()).unwrap();
    let refused = site.api(kind).await.patch_status(name, &PatchParams::default(), &patch).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 422), "{refused:?}");
}

#[tokio::test]
async fn status_for_a_deleted_uid_is_not_written_to_its_successor() {
    let site = Site::new("successors").await;
    let bond = "
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: storage}
spec: {dataCenter: dc, networks: [san-a]}
";
    let first = recreate(&site, "IscsiBond", "storage", bond).await;
    let reconciled = |object: &Value| object["status"]["observedGeneration"] == 1;
    site.until("reconciled", "IscsiBond", "storage", reconciled).await;
    write_to_the_first(&site, "IscsiBond", "storage", &first, &json!({"observedGeneration": 99})).await;
    assert!(reconciled(&site.get("IscsiBond", "storage").await));

    let host = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: worker-1}
spec: {dataCenter: dc, nodeName: worker-1}
";
    let first = recreate(&site, "Host", "worker-1", host).await;
    write_to_the_first(&site, "Host", "worker-1", &first, &json!({"agent": {"version": "stale"}})).await;
    assert!(site.get("Host", "worker-1").await["status"]["agent"].is_null());
}
