//! `multibond status` against a real API server. The rendering is tested next to its code.

use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;
use multibond::api;
use multibond_testbed::{ControlPlane, Options};
use serde_json::Value;

/// Exit code, standard output and standard error of `multibond status`.
async fn status(kubeconfig: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multibond"));
    command.arg("status").arg("--kubeconfig").arg(kubeconfig).args(arguments).timeout(Duration::from_secs(60));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_that_a_cluster_is_unreachable_or_has_no_multibond() {
    let cluster = ControlPlane::start(Options::default()).await.unwrap();
    let (code, stdout, stderr) = status(&cluster.kubeconfig(), &[]).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("Multibond is not installed") && stderr.contains("multibond crds"), "{stderr}");

    cluster.stop_api_server();
    let (code, stdout, stderr) = status(&cluster.kubeconfig(), &[]).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("cannot be reached") && stderr.contains("refused"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");

    let (code, _, stderr) = status(Path::new("/nowhere/kubeconfig"), &[]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("--kubeconfig /nowhere/kubeconfig"), "{stderr}");
    assert_eq!(stderr.matches("No such file").count(), 1, "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_what_may_be_read_and_names_the_rest() {
    let manifests = api::crds().iter().map(serde_json::to_value).collect::<Result<_, _>>().unwrap();
    let cluster = ControlPlane::start(Options { manifests, ..Options::default() }).await.unwrap();
    let kubeconfig = cluster.kubeconfig();

    let (code, stdout, _) = status(&kubeconfig, &[]).await;
    assert_eq!((code, stdout.as_str()), (0, "Nothing of Multibond in namespace default; -A shows all namespaces.\n"));
    let (code, stdout, _) = status(&kubeconfig, &["-A"]).await;
    assert_eq!((code, stdout.as_str()), (0, "Nothing of Multibond in any namespace.\n"));

    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/data/frankfurt");
    let directory = Path::new(fixtures);
    cluster.kubectl(["create", "namespace", "storage"], "").await.unwrap().success().unwrap();
    for file in ["data-center.yaml", "networks.yaml", "hosts.yaml", "bonds.yml"] {
        let file = directory.join(file);
        let file = file.to_str().unwrap();
        cluster.kubectl(["create", "--filename", file], "").await.unwrap().success().unwrap();
    }
    let (code, stdout, stderr) = status(&kubeconfig, &["-n", "storage"]).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    insta::assert_snapshot!("status_of_what_was_just_created", stdout);
    let (code, stdout, stderr) = status(&kubeconfig, &["-n", "storage", "--as", "nobody"]).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("no permission to read anything") && stderr.contains("\"nobody\""), "{stderr}");
    assert!(!stdout.contains('\x1b'), "colours without a terminal");
    let (_, everywhere, _) = status(&kubeconfig, &["-A", "-o", "json"]).await;
    let everywhere: Value = serde_json::from_str(&everywhere).unwrap();
    assert_eq!(everywhere["dataCenters"][0]["hosts"].as_array().unwrap().len(), 5);

    let rule = [
        "create",
        "role",
        "reader",
        "--namespace=storage",
        "--verb=list",
        "--resource=datacenters.multibond.dev,iscsibonds.multibond.dev",
    ];
    cluster.kubectl(rule, "").await.unwrap().success().unwrap();
    let binding = ["create", "rolebinding", "reader", "--namespace=storage", "--role=reader", "--user=reader"];
    cluster.kubectl(binding, "").await.unwrap().success().unwrap();
    let reader = cluster.kubeconfig_as("reader", &[]).unwrap();
    let (code, stdout, _) = status(&reader, &["-n", "storage"]).await;
    assert_eq!(code, 0);
    assert!(stdout.contains("DataCenter storage/frankfurt") && stdout.contains("IscsiBond  everything"), "{stdout}");
    assert!(stdout.contains("not shown: hosts.multibond.dev is forbidden"), "{stdout}");
    let (code, stdout, stderr) = status(&reader, &["-n", "default"]).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("no permission to read anything") && stderr.contains("forbidden"), "{stderr}");
}
