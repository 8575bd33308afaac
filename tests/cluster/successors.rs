//! A decision about an object is not carried out on another object that has its name since.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::site::Site;

#[tokio::test]
async fn a_status_with_the_uid_of_a_deleted_object_is_not_written_to_its_successor() {
    let site = Site::new("successors").await;
    let bond = "
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: storage}
spec: {dataCenter: dc, networks: [san-a]}
";
    site.apply(bond).await;
    let first = site.get("IscsiBond", "storage").await;
    site.delete("IscsiBond", "storage").await;
    site.until_gone("IscsiBond", "storage").await;
    site.apply(bond).await;
    let reported = |object: &serde_json::Value| object["status"]["observedGeneration"] == 1;
    site.until("reconciled", "IscsiBond", "storage", reported).await;

    // What the controller sends when it has not seen yet that the first object is gone.
    let stale = json!([
        {"op": "test", "path": "/metadata/uid", "value": first["metadata"]["uid"]},
        {"op": "add", "path": "/status/observedGeneration", "value": 99},
    ]);
    let stale = Patch::<()>::Json(serde_json::from_value(stale).unwrap());
    let bonds = site.api("IscsiBond").await;
    let refused = bonds.patch_status("storage", &PatchParams::default(), &stale).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 422), "{refused:?}");
    assert!(reported(&site.get("IscsiBond", "storage").await));
}
