//! The chart: its manifests, whether an API server accepts them, and A31: install, upgrade, rollback, uninstall and
//! reinstall lose no session and leave no object that cannot be deleted.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod acceptance;
mod alerts;
mod check;
mod lifecycle;
mod monitoring;
mod rendering;
mod values;
mod workloads;

use std::path::PathBuf;

use multibond_testbed::{render_chart, render_hooks, site};
use serde_json::{Value, json};

/// The namespace of the release.
const SYSTEM: &str = "multibond-system";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    root().join("charts/multibond")
}

async fn rendered(values: Value) -> Vec<Value> {
    render_chart(&chart(), SYSTEM, &values).await.unwrap()
}

/// The objects that Helm creates at uninstall.
async fn hooks(values: Value) -> Vec<Value> {
    render_hooks(&chart(), SYSTEM, &values).await.unwrap()
}

/// Values with every option that adds an object or a field.
fn all_options() -> Value {
    json!({
        "commonLabels": {"team": "storage"},
        "image": {"repository": "registry.example/multibond", "digest": format!("sha256:{}", "0".repeat(64)),
            "pullSecrets": [{"name": "registry"}]},
        "listenAddress": "[::]",
        "log": {"format": "json", "filter": "info,multibond=debug"},
        "controller": {"replicas": 3, "nodeSelector": {"zone": "a"}, "serviceAccount": {"annotations": {"a": "b"}},
            "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]},
        "agent": {"nodeSelector": {"storage": "iscsi"}, "maxUnavailable": "10%", "hostTools": "chroot=/tools",
            "extraVolumes": [{"name": "tools", "hostPath": {"path": "/opt/open-iscsi"}}],
            "extraVolumeMounts": [{"name": "tools", "mountPath": "/tools"}], "affinity": {"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions":
                [{"key": "hall", "operator": "NotIn", "values": ["3"]}]}]}}}},
        "portals": {"allowed": ["10.0.0.0/16", "fd00:1::/64"], "denied": ["10.96.0.0/12"],
            "byNamespace": {"frankfurt": ["10.0.1.0/24"], "munich": ["10.0.2.0/24"]}},
        "rbac": {"aggregate": true},
        "monitoring": {"serviceMonitor": {"enabled": true, "labels": {"prometheus": "main"}},
            "rules": {"enabled": true, "labels": {"prometheus": "main"}, "runbookUrl": "https://wiki.example/storage"}, "dashboard": {"enabled": true}},
    })
}

fn of_kind(objects: &[Value], kind: &str) -> Vec<Value> {
    objects.iter().filter(|object| object["kind"] == kind).cloned().collect()
}
