//! Argo CD's health checks, run as Argo CD runs them, on real objects.

use std::collections::BTreeMap;
use std::fs;

use kube::api::{Patch, PatchParams, PostParams};
use mlua::{Lua, LuaOptions, LuaSerdeExt as _, StdLib, Table};
use multibond::api;
use multibond::api::reason::{EmptyReason, Reason};
use serde_json::{Value, json};

use crate::fixtures::{BOND, DATA_CENTER, HOST, SAN_A, SAN_B};
use crate::site::{Site, condition, phase, ready, reason};
use crate::{cluster, new_site, root};

const KINDS: [(&str, &str, &str); 4] = [
    ("DataCenter", "dc", DATA_CENTER),
    ("Network", "san-a", SAN_A),
    ("Host", "w1", HOST),
    ("IscsiBond", "storage", BOND),
];

fn script(name: &str) -> String {
    fs::read_to_string(root().join("examples/gitops/argocd/health").join(name)).unwrap()
}

/// Status and message that a script returns. It has only the libraries that Argo CD provides.
fn run(script: &str, object: &Value) -> (String, String) {
    let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default()).unwrap();
    lua.globals().set("obj", lua.to_value(object).unwrap()).unwrap();
    let health: Table = lua.load(script).eval().unwrap();
    (health.get("status").unwrap(), health.get("message").unwrap())
}

fn health(object: &Value) -> (String, String) {
    run(&script("multibond.lua"), object)
}

fn assert_health(object: &Value, status: &str, message: &str) {
    let (found, says) = health(object);
    assert!(found == status && says.contains(message), "{found}: {says}\n{object:#}");
}

/// Waits for a reason of Ready, and checks the health of the object.
async fn until_health(site: &Site, kind: &str, name: &str, because: &str, status: &str, message: &str) {
    let object = site.until(because, kind, name, |object| reason(object, "Ready") == because).await;
    assert_health(&object, status, message);
}

#[tokio::test]
async fn a32_argo_cd_health_matches_every_state_of_every_kind() {
    let site = new_site("a32-health").await;

    // New objects, before any reconcile.
    for (kind, _, yaml) in KINDS {
        let object = serde_saphyr::from_str(&yaml.replace("{ns}", &site.namespace)).unwrap();
        let born = PostParams { dry_run: true, ..PostParams::default() };
        let born = serde_json::to_value(site.api(kind).await.create(&born, &object).await.unwrap()).unwrap();
        assert_eq!(reason(&born, "Ready"), "Pending", "{born:#}");
        assert_health(&born, "Progressing", "Waiting for the controller");
    }

    // Wait for objects that the same sync may bring.
    site.apply(&[SAN_A, BOND].join("---")).await;
    until_health(&site, "Network", "san-a", "DataCenterNotFound", "Progressing", "dc").await;
    until_health(&site, "IscsiBond", "storage", "DataCenterNotFound", "Progressing", "dc").await;
    site.apply(DATA_CENTER).await;
    until_health(&site, "IscsiBond", "storage", "NetworkNotFound", "Progressing", "san-b").await;
    site.apply(&[SAN_B, HOST].join("---")).await;
    until_health(&site, "Host", "w1", "AgentMissing", "Progressing", "no agent").await;

    let agents = site.agents(&["w1"]).await;
    for (kind, name, _) in KINDS {
        let object = site.until("ready", kind, name, ready).await;
        assert_health(&object, "Healthy", condition(&object, "Ready")["message"].as_str().unwrap());
        // A change before its reconcile.
        let edit = Patch::Merge(json!({"spec": edit(kind)}));
        let how = PatchParams { dry_run: true, ..PatchParams::default() };
        let changed = site.api(kind).await.patch(name, &how, &edit).await.unwrap();
        assert_health(&serde_json::to_value(changed).unwrap(), "Progressing", "Waiting for the controller");
    }

    // A broken cable does not block a sync; a host without storage does.
    site.faults("faults: [{host: w1, portal: '10.0.2.10:3260', fault: Unreachable}]");
    until_health(&site, "Host", "w1", "Degraded", "Healthy", "10.0.2.10:3260").await;
    site.faults("faults: [{host: w1, fault: Unreachable}]");
    until_health(&site, "Host", "w1", "StorageUnreachable", "Degraded", "iqn.2003-01.org.example:array").await;
    until_health(&site, "IscsiBond", "storage", "HostsNonOperational", "Degraded", "w1").await;

    // Maintenance: first until everything is disconnected, then for the rest of it.
    site.faults("faults: []");
    site.until_phase("w1", "Up").await;
    site.faults("faults: [{host: w1, portal: '10.0.1.10:3260', fault: InUse}]");
    site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    until_health(&site, "Host", "w1", "Disconnecting", "Progressing", "still connected").await;
    site.faults("faults: []");
    until_health(&site, "Host", "w1", "Maintenance", "Healthy", "nothing is connected").await;

    // While they are deleted.
    site.patch("Host", "w1", json!({"spec": {"maintenance": false}})).await;
    site.until("up again", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;
    agents.pause().unwrap();
    site.delete("Network", "san-a").await;
    until_health(&site, "Network", "san-a", "Deleting", "Progressing", "waiting for").await;
    until_health(&site, "Host", "w1", "AgentSilent", "Progressing", "has stopped renewing its lease").await;
}

/// A change of any kind of object.
fn edit(kind: &str) -> Value {
    match kind {
        "Host" => json!({"maintenance": true}),
        _ => json!({"description": "another"}),
    }
}

#[test]
fn degraded_health_in_argo_cd_matches_the_documentation() {
    let page = fs::read_to_string(root().join("docs/gitops.md")).unwrap();
    let section = page.split_once("\n## Health\n").unwrap().1.split("\n## ").next().unwrap();
    let listed = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: Vec<_> = listed.collect();
    let reasons = Reason::ALL.iter().map(|word| word.as_str());
    let reasons: Vec<_> = reasons.chain(EmptyReason::ALL.iter().map(|word| word.as_str())).collect();
    for word in &listed {
        assert!(reasons.contains(word), "{word} is no reason");
    }
    for word in reasons {
        for (status, expected) in [
            ("False", if listed.contains(&word) { "Degraded" } else { "Progressing" }),
            ("Unknown", "Progressing"),
            ("True", "Healthy"),
        ] {
            let conditions = json!([
                {"type": "Operational", "status": "False", "reason": "StorageUnreachable", "message": "another"},
                {"type": "Ready", "status": status, "reason": word, "message": "why"},
            ]);
            let object =
                json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "conditions": conditions}});
            assert_eq!(health(&object), (expected.to_owned(), "why".to_owned()), "{status} {word}");
        }
    }
}

#[test]
fn application_health_follows_its_status() {
    let health = |object: Value| run(&script("application.lua"), &object);
    let waiting = ("Progressing".to_owned(), "Waiting for the first comparison".to_owned());
    assert_eq!(health(json!({})), waiting);
    assert_eq!(health(json!({"status": {"health": {}}})), waiting);
    let degraded = json!({"status": {"health": {"status": "Degraded", "message": "a host"}}});
    assert_eq!(health(degraded), ("Degraded".to_owned(), "a host".to_owned()));
    let healthy = json!({"status": {"health": {"status": "Healthy"}}});
    assert_eq!(health(healthy), ("Healthy".to_owned(), String::new()));
}

#[tokio::test]
async fn health_checks_are_added_to_argo_cd_and_nothing_else_changes() {
    let cluster = cluster().await;
    let settings = "
apiVersion: v1
kind: Namespace
metadata: {name: argocd}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-cm, namespace: argocd}
data: {url: 'https://argocd.example'}
";
    let kubectl = async |args: &[&str], stdin: &str| cluster.kubectl(args, stdin).await.unwrap().success().unwrap();
    kubectl(&["apply", "-f", "-"], settings).await;
    let checks = root().join("examples/gitops/argocd/health").display().to_string();
    let rendered = kubectl(&["kustomize", &checks], "").await;
    let patch =
        ["patch", "configmap", "argocd-cm", "--namespace", "argocd", "--type=merge", "--patch-file", "/dev/stdin"];
    kubectl(&patch, &rendered).await;

    let found = kubectl(&["get", "configmap", "argocd-cm", "--namespace", "argocd", "-o", "json"], "").await;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["metadata"]["labels"]["app.kubernetes.io/part-of"], "argocd");
    let key = |group: &str, kind: &str| format!("resource.customizations.health.{group}_{kind}");
    let ours = api::crds().into_iter().map(|crd| key(&crd.spec.group, &crd.spec.names.kind));
    let mut expected: BTreeMap<_, _> = ours.map(|key| (key, script("multibond.lua"))).collect();
    expected.insert(key("argoproj.io", "Application"), script("application.lua"));
    expected.insert("url".to_owned(), "https://argocd.example".to_owned());
    assert_eq!(found["data"], json!(expected));
}
