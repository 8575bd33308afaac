//! The pods: their arguments are valid, and each has only the access to its node that it needs.

use assert_cmd::Command;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{all_options, hooks, of_kind, rendered};

fn container(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]["containers"][0]
}

#[tokio::test]
async fn the_programs_accept_the_arguments_of_every_container() {
    for values in [json!({}), all_options()] {
        let objects = [rendered(values.clone()).await, hooks(values).await].concat();
        let workloads = ["Deployment", "DaemonSet", "Job"].map(|kind| of_kind(&objects, kind)).concat();
        assert_eq!(workloads.len(), 3);
        for workload in &workloads {
            // The image's entry point, and its other program (Containerfile).
            let program = match &container(workload)["command"] {
                Value::Null => env!("CARGO_BIN_EXE_multibond"),
                command if *command == json!(["/multibond-node"]) => env!("CARGO_BIN_EXE_multibond-node"),
                other => panic!("the image has no {other}"),
            };
            let args = container(workload)["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
            // It parses all arguments before it notices that it is not in a pod.
            let refused =
                Command::new(program).args(args).env_clear().env("MULTIBOND_NODE_NAME", "worker-1").assert().code(1);
            let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
            assert!(said.contains("no cluster to talk to"), "{}: {said}", workload["metadata"]["name"]);
        }
    }
}

/// The value of `--listen`, the host that both probes connect to, and the variables that come from the pod.
fn listens(workload: &Value) -> (String, Value, Value) {
    let container = container(workload);
    let args = container["args"].as_array().unwrap().iter().filter_map(Value::as_str);
    let [address] = args.filter_map(|arg| arg.strip_prefix("--listen=")).collect::<Vec<_>>()[..] else { panic!() };
    let host = |probe: &str| container[probe]["httpGet"]["host"].clone();
    assert_eq!(host("livenessProbe"), host("readinessProbe"));
    let variables = container["env"].as_array().cloned().unwrap_or_default();
    let pod_ip = variables.into_iter().find(|variable| variable["name"] == "MULTIBOND_POD_IP");
    let field = pod_ip.map_or(Value::Null, |variable| variable["valueFrom"]["fieldRef"]["fieldPath"].clone());
    (address.to_owned(), host("livenessProbe"), field)
}

/// Kubelet connects to the pod's address unless the probe names a host. The address of a pod in the host's network is the
/// node's, and 127.0.0.1 is the node's own loopback.
#[rstest]
#[case::everywhere(json!({}), ("0.0.0.0:9809", json!(null), json!(null)), ("0.0.0.0:8080", json!(null), json!(null)))]
#[case::ipv6_only(json!({"listenAddress": "[::]"}), ("[::]:9809", json!(null), json!(null)), ("[::]:8080", json!(null), json!(null)))]
#[case::agents_on_loopback(json!({"agent": {"listenAddress": "127.0.0.1"}}),
    ("127.0.0.1:9809", json!("127.0.0.1"), json!(null)), ("0.0.0.0:8080", json!(null), json!(null)))]
#[case::agents_on_ipv6_loopback(json!({"listenAddress": "[::]", "agent": {"listenAddress": "[::1]"}}),
    ("[::1]:9809", json!("::1"), json!(null)), ("[::]:8080", json!(null), json!(null)))]
#[case::the_pods_network(json!({"listenAddress": "PodIP"}),
    ("$(MULTIBOND_POD_IP):9809", json!(null), json!("status.podIP")), ("$(MULTIBOND_POD_IP):8080", json!(null), json!("status.podIP")))]
#[tokio::test]
async fn probes_connect_to_where_the_port_listens(
    #[case] values: Value,
    #[case] agent: (&str, Value, Value),
    #[case] controller: (&str, Value, Value),
) {
    let objects = rendered(values).await;
    for (kind, (address, host, field)) in [("DaemonSet", agent), ("Deployment", controller)] {
        assert_eq!(listens(&of_kind(&objects, kind)[0]), (address.to_owned(), host, field), "{kind}");
    }
}

#[tokio::test]
async fn the_agents_get_the_same_rules_for_portals_as_the_policy() {
    let rules = async |values: Value| {
        let [agent] = &of_kind(&rendered(values).await, "DaemonSet")[..] else { panic!("one DaemonSet") };
        let arguments = container(agent)["args"].as_array().unwrap().clone();
        let found = arguments.iter().find_map(|argument| argument.as_str()?.strip_prefix("--allowed-portals="));
        found.map(|json| serde_json::from_str::<Value>(json).unwrap())
    };
    assert_eq!(rules(json!({})).await, None, "an agent has the default rules by itself");
    let portals = all_options()["portals"].clone();
    assert_eq!(rules(json!({"portals": portals})).await, Some(portals));
}

#[tokio::test]
async fn the_agent_mounts_nothing_of_the_node_but_dev_mapper() {
    let objects = rendered(json!({})).await;
    let [agent] = &of_kind(&objects, "DaemonSet")[..] else { panic!("one DaemonSet") };
    let pod = &agent["spec"]["template"]["spec"];
    assert_eq!((&pod["hostNetwork"], &pod["hostPID"]), (&json!(true), &json!(true)));
    assert_eq!(pod["volumes"].as_array().unwrap().len(), 1, "{}", pod["volumes"]);
    assert_eq!(pod["volumes"][0]["hostPath"]["path"], "/dev/mapper");
    assert_eq!(container(agent)["volumeMounts"][0]["readOnly"], true);
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]), "it tolerates every taint, also Multibond's own");
    assert_eq!(agent["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"], 1);
    let node = json!([{"name": "MULTIBOND_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]);
    assert_eq!(container(agent)["env"], node);
}

#[tokio::test]
async fn agents_are_told_where_the_tools_of_the_host_are() {
    let objects = rendered(all_options()).await;
    let [agent] = &of_kind(&objects, "DaemonSet")[..] else { panic!("one DaemonSet") };
    let arguments = container(agent)["args"].as_array().unwrap();
    assert!(arguments.contains(&json!("--host-tools=chroot=/tools")), "{arguments:?}");
    let mounts = &container(agent)["volumeMounts"];
    assert_eq!(mounts[1], json!({"name": "tools", "mountPath": "/tools"}), "{mounts}");
    let volumes = &agent["spec"]["template"]["spec"]["volumes"];
    assert_eq!(volumes[1], json!({"name": "tools", "hostPath": {"path": "/opt/open-iscsi"}}), "{volumes}");
}

#[tokio::test]
async fn the_controller_survives_a_node_and_tolerates_multibonds_taint() {
    let objects = rendered(json!({})).await;
    let [controller] = &of_kind(&objects, "Deployment")[..] else { panic!("one Deployment") };
    assert_eq!(controller["spec"]["replicas"], 2);
    let pod = &controller["spec"]["template"]["spec"];
    let ours = json!({"key": "multibond.dev/non-operational", "operator": "Exists"});
    assert_eq!(pod["tolerations"], json!([ours]));
    // Every selector selects all controller pods and no others.
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
async fn the_image_has_the_chart_version_or_a_tag_or_a_digest() {
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
