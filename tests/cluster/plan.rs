//! `multibond plan` and the controller make the same plans from the same objects.

use std::path::Path;

use assert_cmd::Command;
use multibond_testbed::{
    eventually,
    site::{self, PATIENCE, Site, condition},
};
use serde_json::{Value, json};

/// The objects of `tests/cli/data/frankfurt`, moved to the test's own namespace and nodes.
fn manifests(namespace: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/data/frankfurt");
    let read = |name: &&str| std::fs::read_to_string(directory.join(name)).unwrap();
    let files: Vec<String> =
        ["data-center.yaml", "networks.yaml", "hosts.yaml", "bonds.yml"].iter().map(read).collect();
    let here = files.join("---\n").replace("namespace: storage", &format!("namespace: {namespace}"));
    here.replace("nodeName: ", &format!("nodeName: {namespace}-"))
}

fn plan(text: String) -> Value {
    let output =
        Command::new(site::multibond()).args(["plan", "-o", "json", "-f", "-"]).write_stdin(text).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A host's work as `multibond plan` prints it.
fn planned(host: &Value) -> Value {
    json!({"revision": host["revision"], "hold": host["hold"], "paths": host["paths"], "networks": host["networks"]})
}

/// A host's work as the controller has written it.
fn written(host: &Value) -> Value {
    let status = &host["status"];
    let mut paths = status["plan"]["paths"].clone();
    for path in paths.as_array_mut().into_iter().flatten() {
        // These fields are absent in an object and null in the output of `multibond plan`.
        for name in ["interface", "network"] {
            let value = path[name].take();
            path[name] = value;
        }
    }
    let networks = status["networks"].as_array().cloned().unwrap_or_default();
    json!({"revision": status["plan"]["revision"], "hold": status["plan"]["hold"], "paths": paths, "networks": networks})
}

#[tokio::test(flavor = "multi_thread")]
async fn a33_plan_from_files_equals_the_controllers_plan() {
    let site = Site::new("plan").await;
    site.facts(
        "facts:\n\
         - {node: {ns}-worker-2, interfaces: [{name: ens5f0, mac: \"02:00:00:00:00:01\", mtu: 9000, up: true, addresses: [10.0.1.22/24]}]}\n\
         - {node: {ns}-worker-3, interfaces: []}\n",
    );
    // No agent runs on worker-4, so it reports no interfaces.
    let _agents = site.agents(&["worker-1", "worker-2", "worker-3", "worker-5"]).await;
    let files = manifests(&site.namespace);
    site.apply(&files).await;

    eventually("the controller's plans are those of the files", PATIENCE, async || {
        let plan = plan(files.clone());
        for host in plan["hosts"].as_array().unwrap() {
            let name = host["name"].as_str().unwrap();
            let object = site.get("Host", name).await;
            if host["reason"] == "InterfacesUnknown" {
                // Until its interfaces are known, its plan must have no paths.
                if object["status"]["plan"]["paths"].as_array().is_some_and(|paths| !paths.is_empty()) {
                    return Err(format!("{name} has paths"));
                }
                continue;
            }
            let (expected, found) = (planned(host), written(&object));
            if expected != found {
                return Err(format!("{name}: files: {expected:#}\ncluster: {found:#}"));
            }
        }
        Ok(())
    })
    .await;

    let exported = site.kubectl(&["get", "multibond", "-o", "yaml"], "").await;
    let (mut in_cluster, in_files) = (plan(exported), plan(files));
    // Only agents know whether they can use a Secret.
    in_cluster["problems"].as_array_mut().unwrap().retain(|problem| problem["reason"] != "SecretNotFound");
    assert_eq!(in_cluster, in_files, "what is in the cluster is what is in the files");
    let problems = in_files["problems"].as_array().unwrap();
    let problem = problems.iter().find(|problem| problem["reason"] == "NetworkNotFound").unwrap();
    let name = problem["name"].as_str().unwrap();
    let bond = site
        .until("says what is wrong", "IscsiBond", name, |it| condition(it, "NetworksResolved")["status"] == "False");
    assert_eq!(condition(&bond.await, "NetworksResolved")["message"], problem["message"]);
}
