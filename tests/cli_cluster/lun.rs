//! `multibond lun` against a real API server. The tables and manifests are tested next to their code.

use std::time::Duration;

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::cluster;

/// Exit code, standard output and standard error of `multibond lun`.
async fn lun(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multibond"));
    command.arg("lun").args(arguments).arg("--kubeconfig").arg(cluster().await.kubeconfig());
    command.timeout(Duration::from_secs(60));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn kubectl(arguments: &[&str], stdin: &str) -> String {
    cluster().await.kubectl(arguments, stdin).await.unwrap().success().unwrap()
}

async fn create(namespace: &str, kind: &str, name: &str, spec: Value) {
    let metadata = json!({"namespace": namespace, "name": name});
    let object = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    kubectl(&["create", "-f", "-"], &object.to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a52_what_lun_pv_prints_is_taken_and_what_it_refuses_is_not_printed() {
    const WWID: &str = "360000000000000000e00000000010001";
    let namespace = cluster().await.namespace("luns").await.unwrap();
    let place = ["--namespace", &namespace];
    let iqn = "iqn.2003-01.org.example:array-a";
    let storage = json!([{"name": "array-a", "targets": [{"iqn": iqn, "portals": [{"address": "10.0.1.10"}]}]}]);
    let nodes = json!({"nodeSelector": {"matchLabels": {"storage.example.com/san": "true"}}});
    create(&namespace, "DataCenter", "dc", json!({"storage": storage, "hosts": nodes})).await;
    for name in ["w1", "w2"] {
        create(&namespace, "Host", name, json!({"dataCenter": "dc", "nodeName": name})).await;
    }
    let (code, stdout, _) = lun(&[&["list"], &place[..]].concat()).await;
    assert_eq!((code, stdout.contains("reports a LUN")), (0, true), "{stdout}");
    let report = async |host: &str| {
        let luns = json!({"summary": "1/1", "healthy": [format!("{WWID} 107374182400 2/2 {iqn}#1")]});
        let patch = json!({"status": {"luns": luns}}).to_string();
        let patch = ["patch", "mbhost", host, "--subresource=status", "--type=merge", "-p", &patch];
        kubectl(&[&patch[..], &place].concat(), "").await;
    };

    report("w1").await;
    let pv = async |more: &[&str]| lun(&[&["pv"], &place[..], more].concat()).await;
    let refused = async |more: &[&str], why: &str| {
        let (code, stdout, stderr) = pv(more).await;
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    };
    refused(&[WWID], "is missing on w2").await;
    report("w2").await;
    refused(&["36001"], &format!("they report {WWID}")).await;
    refused(&[WWID, "--storage-class", "fast"], "there is no StorageClass fast").await;
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"},
        "provisioner": "csi.example.com"});
    kubectl(&["create", "-f", "-"], &class.to_string()).await;
    refused(&[WWID, "--storage-class", "fast"], "which would make another volume").await;

    let claim = format!("{namespace}/database");
    let (code, manifests, stderr) = pv(&[WWID, "--claim", &claim]).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    kubectl(&["create", "-f", "-"], &manifests).await;
    let (_, file_system, _) = pv(&[WWID, "--filesystem", "--name", "file-system"]).await;
    kubectl(&["create", "-f", "-"], &file_system).await;
    let path = ["get", "pv", "lun-360000000000000000e00000000010001", "-o", "jsonpath={.spec.local.path}"];
    assert_eq!(kubectl(&path, "").await, format!("/dev/disk/by-id/dm-uuid-mpath-{WWID}"));
    let (_, listed, _) = lun(&[&["list", "-o", "name"], &place[..]].concat()).await;
    assert_eq!(listed, format!("{WWID}\n"));
    let (_, document, _) = lun(&[&["list", "-o", "json"], &place[..]].concat()).await;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["luns"][0]["hosts"].as_array().unwrap().len(), 2, "{document}");
}
