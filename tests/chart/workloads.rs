//! The pods: arguments that the binary understands, and what each may do to its node.

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::{all_options, hooks, of_kind, rendered};

fn container(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]["containers"][0]
}

#[tokio::test]
async fn the_programs_of_the_image_understand_the_arguments_of_every_container() {
    for values in [json!({}), all_options()] {
        let objects = [rendered(values.clone()).await, hooks(values).await].concat();
        let workloads = ["Deployment", "DaemonSet", "Job"].map(|kind| of_kind(&objects, kind)).concat();
        assert_eq!(workloads.len(), 3);
        for workload in &workloads {
            // What the image runs by itself, and what it has beside that (Containerfile).
            let program = match &container(workload)["command"] {
                Value::Null => env!("CARGO_BIN_EXE_multibond"),
                command if *command == json!(["/multibond-node"]) => env!("CARGO_BIN_EXE_multibond-node"),
                other => panic!("the image has no {other}"),
            };
            let args = container(workload)["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
            // It reads them all before it finds that this is no pod.
            let refused =
                Command::new(program).args(args).env_clear().env("MULTIBOND_NODE_NAME", "worker-1").assert().code(1);
            let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
            assert!(said.contains("no cluster to talk to"), "{}: {said}", workload["metadata"]["name"]);
        }
    }
}

#[tokio::test]
async fn the_agent_is_given_the_node_and_nothing_of_its_files() {
    let objects = rendered(json!({})).await;
    let [agent] = &of_kind(&objects, "DaemonSet")[..] else { panic!("one DaemonSet") };
    let pod = &agent["spec"]["template"]["spec"];
    assert_eq!((&pod["hostNetwork"], &pod["hostPID"]), (&json!(true), &json!(true)));
    assert_eq!(pod["volumes"].as_array().unwrap().len(), 1, "{}", pod["volumes"]);
    assert_eq!(pod["volumes"][0]["hostPath"]["path"], "/dev/mapper");
    assert_eq!(container(agent)["volumeMounts"][0]["readOnly"], true);
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]), "every taint, Multibond's own included");
    assert_eq!(agent["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"], 1);
    let node = json!([{"name": "MULTIBOND_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]);
    assert_eq!(container(agent)["env"], node);
}

#[tokio::test]
async fn the_controller_outlives_a_node_and_tolerates_the_taint_that_it_puts() {
    let objects = rendered(json!({})).await;
    let [controller] = &of_kind(&objects, "Deployment")[..] else { panic!("one Deployment") };
    assert_eq!(controller["spec"]["replicas"], 2);
    let pod = &controller["spec"]["template"]["spec"];
    let ours = json!({"key": "multibond.dev/non-operational", "operator": "Exists"});
    assert_eq!(pod["tolerations"], json!([ours]));
    // Whatever selects its pods selects them all, and no others.
    let labels = &controller["spec"]["template"]["metadata"]["labels"];
    let [budget] = &of_kind(&objects, "PodDisruptionBudget")[..] else { panic!("one budget") };
    let spread = &pod["topologySpreadConstraints"][0];
    let apart = &pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    for selector in [
        &controller["spec"]["selector"],
        &budget["spec"]["selector"],
        &spread["labelSelector"],
        &apart["podAffinityTerm"]["labelSelector"],
    ] {
        assert_eq!(&selector["matchLabels"], labels);
    }
}

#[tokio::test]
async fn the_image_is_named_by_the_version_by_a_tag_or_by_a_digest() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let version = env!("CARGO_PKG_VERSION");
    for (image, expected) in [
        (json!({}), format!("localhost/multibond:{version}")),
        (json!({"repository": "r.example/m", "tag": "edge"}), "r.example/m:edge".to_owned()),
        (json!({"repository": "r.example/m", "tag": "edge", "digest": digest}), format!("r.example/m@{digest}")),
    ] {
        let objects = rendered(json!({"image": image})).await;
        for kind in ["Deployment", "DaemonSet"] {
            assert_eq!(container(&of_kind(&objects, kind)[0])["image"], expected);
        }
    }
}
