//! The order in which an engine applies objects, and which of them wait for Ready.

use multibond_testbed::Chance;
use serde_json::{Value, json};

use crate::engine::{Repository, unready};
use crate::fixtures::{A, B, BOND, DATA_CENTER, DATA_CENTER_IN_FILES, HOST, SAN_A, SAN_B};
use crate::new_site;
use crate::site::{Site, condition, paths, ready};

/// The objects, each with a directory of its own.
const PARTS: [(&str, &str); 5] = [
    ("data-center/object.yaml", DATA_CENTER),
    ("san-a/object.yaml", SAN_A),
    ("san-b/object.yaml", SAN_B),
    ("host/object.yaml", HOST),
    ("bond/object.yaml", BOND),
];

/// A workload that depends on connected hosts.
const WORKLOAD: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: workload}
";

async fn workload(site: &Site) -> bool {
    let found = site.kubectl(&["get", "configmap", "workload", "--ignore-not-found", "-o", "name"], "").await;
    !found.is_empty()
}

#[tokio::test]
#[ignore = "its engine takes minutes to build: `make gitops` runs it"]
async fn a32_objects_in_any_order_become_healthy() {
    let mut backwards: Vec<_> = PARTS.map(|(path, _)| path.split('/').next().unwrap()).to_vec();
    backwards.reverse();
    let mut shuffled = backwards.clone();
    Chance::new().shuffle(&mut shuffled);
    for order in [backwards, shuffled] {
        println!("{order:?}");
        let site = new_site("a32-order").await;
        let _agents = site.agents(&["w1"]).await;
        let repository = Repository::new(&site).await;
        repository.publish(&PARTS).await;
        // An engine sorts the objects that it applies together. So each object is applied before the engine knows the
        // next one.
        for part in &order {
            repository.kustomization(part, part, json!({"wait": false})).await;
            repository.until_ready(part).await;
        }
        for part in &order {
            repository.kustomization(part, part, json!({"wait": true})).await;
        }
        for part in &order {
            repository.until("healthy", part, |object| condition(object, "Healthy")["status"] == "True").await;
            repository.until_ready(part).await;
        }
        assert_eq!(paths(&site.get("Host", "w1").await), [A, B], "{order:?}");
    }
}

#[tokio::test]
#[ignore = "its engine takes minutes to build: `make gitops` runs it"]
async fn a32_dependents_are_applied_when_hosts_are_ready() {
    let site = new_site("a32-wait").await;
    site.faults("faults: [{host: '{ns}-w1', fault: Unreachable}]");
    let _agents = site.agents(&["w1"]).await;
    let repository = Repository::new(&site).await;
    repository.publish(&[&DATA_CENTER_IN_FILES[..], &[("workload/workload.yaml", WORKLOAD)]].concat()).await;
    repository.kustomization("workload", "workload", json!({"dependsOn": [{"name": "storage"}]})).await;
    repository.kustomization("storage", "storage", json!({"timeout": "10s"})).await;

    // It has timed out, and names what it waited for.
    let failed = |object: &Value| {
        unready(object, "HealthCheckFailed").is_some_and(|why| why.contains("IscsiBond") && why.contains("Host"))
    };
    repository.until("has waited in vain", "storage", failed).await;
    let waits = |object: &Value| unready(object, "DependencyNotReady").is_some();
    repository.until("waits for it", "workload", waits).await;
    assert!(!workload(&site).await, "it was applied before its storage was ready");
    assert_eq!(site.held_sessions("w1"), [""; 0]);

    site.faults("faults: []");
    repository.until_ready("workload").await;
    repository.until("ready", "storage", ready).await;
    assert!(workload(&site).await);
    // A path that has failed before comes back when it is tried again; one is enough to be ready.
    assert!(!site.held_sessions("w1").is_empty());
    site.until("connected", "Host", "w1", |host| paths(host) == [A, B]).await;
}
