//! The example repository: it renders, an API server accepts all of it, and the references between its parts are valid.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use multibond_testbed::Tool;
use serde_json::{Value, json};

use crate::{cluster, root};

fn example() -> PathBuf {
    root().join("examples/gitops")
}

/// The directories that Kustomize builds.
fn kustomizations(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.is_dir()).flat_map(|path| kustomizations(&path)).collect();
    if directory.join("kustomization.yaml").is_file() {
        found.push(directory.to_owned());
    }
    found.sort();
    found
}

async fn rendered(directory: &Path) -> (String, Vec<Value>) {
    let cluster = cluster().await;
    let helm = cluster.binaries().path(Tool::Helm).display().to_string();
    let directory = directory.display().to_string();
    let args = ["kustomize", "--enable-helm", "--helm-command", &helm, &directory];
    let text = cluster.kubectl(args, "").await.unwrap().success().unwrap();
    let objects = serde_saphyr::from_multiple(&text).unwrap();
    (text, objects)
}

#[tokio::test]
async fn all_of_the_example_repository_is_accepted() {
    let cluster = cluster().await;
    let directories = kustomizations(&example());
    assert!(directories.len() >= 8, "{directories:?}");
    for directory in directories {
        let (text, objects) = rendered(&directory).await;
        // A dry run creates no namespace for the next dry run.
        let namespaces: BTreeSet<_> =
            objects.iter().filter_map(|object| object["metadata"]["namespace"].as_str()).collect();
        let namespaces: Vec<_> = namespaces
            .iter()
            .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
            .collect();
        cluster.apply_all(&namespaces).await.unwrap();
        let args = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"];
        let accepted = cluster.kubectl(args, &text).await.unwrap().success();
        let accepted = accepted.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        assert_eq!(accepted.lines().count(), objects.len(), "{}: {accepted}", directory.display());
    }
}

#[tokio::test]
async fn example_data_centers_are_planned_without_problems_once_their_hosts_are_known() {
    let (frankfurt, berlin) = (plan_of("frankfurt", "").await, plan_of("berlin", "").await);
    assert_eq!(reasons(&frankfurt), ["HostsUnknown"]);
    let host = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Host",
        "metadata": {"name": "worker-1", "namespace": "frankfurt"},
        "spec": {"dataCenter": "iscsi", "nodeName": "worker-1"},
        "status": {"interfaces": [{"name": "ens2f0", "addresses": ["10.0.1.21/24"]},
            {"name": "ens2f1", "addresses": ["10.0.2.21/24"]}]}});
    let known = plan_of("frankfurt", &format!("\n---\n{host}\n")).await;
    for (report, hosts, paths) in [(known, 1, 4), (berlin, 2, 2)] {
        assert_eq!(reasons(&report), [""; 0], "{report}");
        let planned: Vec<_> = report["hosts"].as_array().unwrap().iter().map(|host| &host["paths"]).collect();
        assert_eq!(planned.len(), hosts);
        assert!(planned.iter().all(|planned| planned.as_array().unwrap().len() == paths), "{planned:?}");
    }
}

/// What `multibond plan` says of an example data center with these objects added.
async fn plan_of(name: &str, added: &str) -> Value {
    let (text, _) = rendered(&example().join("data-centers").join(name)).await;
    let mut plan = Command::new(env!("CARGO_BIN_EXE_multibond"));
    let output = plan.args(["plan", "-o", "json", "-f", "-"]).write_stdin(text + added).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn reasons(report: &Value) -> Vec<&str> {
    report["problems"].as_array().unwrap().iter().map(|problem| problem["reason"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_path_given_to_an_engine_exists() {
    let mut paths = Vec::new();
    for directory in ["flux", "flux/install", "argocd"] {
        for object in rendered(&example().join(directory)).await.1 {
            let spec = &object["spec"];
            let (path, repository) = match object["kind"].as_str().unwrap() {
                "Kustomization" => (&spec["path"], "clusters"),
                "Application" => (&spec["source"]["path"], spec["source"]["repoURL"].as_str().unwrap()),
                "HelmRelease" => (&spec["chart"]["spec"]["chart"], "multibond"),
                _ => continue,
            };
            let from = if repository.contains("clusters") { example() } else { root() };
            paths.push(from.join(path.as_str().unwrap()));
        }
    }
    assert_eq!(paths.len(), 7, "{paths:?}");
    for path in paths {
        assert!(path.is_dir(), "{}", path.display());
    }
}
