//! The columns of `kubectl get`, for objects whose status an older controller has written.

use serde_json::{Value, json};

use crate::cluster;

/// Creates an object with the status that version 0.1.0 wrote, and returns its row in the table.
async fn row(namespace: &str, kind: &str, spec: Value, status: Value) -> Vec<String> {
    let cluster = cluster().await;
    let kubectl = async |arguments: &[&str], stdin: &str| {
        let all = [&["--namespace", namespace], arguments].concat();
        cluster.kubectl(&all, stdin).await.unwrap().success().unwrap()
    };
    let object = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    kubectl(&["create", "-f", "-"], &object.to_string()).await;
    let resource = format!("{kind}.multibond.dev");
    let patch = json!({"status": status}).to_string();
    kubectl(&["patch", &resource, "x", "--subresource=status", "--type=merge", "-p", &patch], "").await;
    let table = kubectl(&["get", &resource, "x", "--no-headers"], "").await;
    table.split_whitespace().map(str::to_owned).collect()
}

fn conditions(conditions: &[(&str, &str, &str)]) -> Value {
    let one = |(kind, status, reason): &(&str, &str, &str)| {
        json!({"type": kind, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    conditions.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_an_older_controller_print_all_but_the_new_texts() {
    let namespace = cluster().await.namespace("columns").await.unwrap();
    let bad = conditions(&[("Ready", "True", "Ready"), ("FullyConnected", "False", "PathsFailed")]);
    let bond = json!({"hosts": {}, "paths": {}, "networks": [], "summary": {"hosts": "2/3", "paths": "6/8"},
        "conditions": bad});
    let spec = json!({"dataCenter": "dc", "networks": ["san-a"]});
    let columns = row(&namespace, "IscsiBond", spec, bond).await;
    assert_eq!(columns[..6], ["x", "dc", "2/3", "6/8", "True", "PathsFailed"]);

    let bad = conditions(&[("Ready", "True", "Degraded"), ("FullyConnected", "False", "PathsFailed")]);
    let host = json!({"phase": "Degraded", "summary": {"paths": "3/4"}, "conditions": bad});
    let columns = row(&namespace, "Host", json!({"dataCenter": "dc", "nodeName": "n"}), host).await;
    assert_eq!(columns[..5], ["x", "dc", "n", "Degraded", "3/4"]);

    let network = json!({"hosts": 3, "bonds": ["storage"], "conditions": conditions(&[("Ready", "True", "Ready")])});
    let columns = row(&namespace, "Network", json!({"dataCenter": "dc"}), network).await;
    assert_eq!(columns[..4], ["x", "dc", "3", "True"]);
}
