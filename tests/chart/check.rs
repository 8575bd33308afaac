//! `multibond check` on a real API server: before the chart is installed, while everything works, and when parts fail.
//! The rules behind each line are tested next to their code.

use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;
use multibond_testbed::ControlPlane;
use serde_json::{Value, json};

use crate::site::{self, PATIENCE, Site, storage_operational};
use crate::{SYSTEM, chart};

/// A data center that connects everything, and hosts.
const OBJECTS: &str = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: dc}
spec:
  storage:
  - {name: array, targets: [{iqn: 'iqn.2003-01.org.example:array', portals: [{address: 10.0.1.10}]}]}
---
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w1}
spec: {dataCenter: dc, nodeName: '{ns}-w1'}
";

const HOST_WITHOUT_AGENT: &str = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w9}
spec: {dataCenter: dc, nodeName: '{ns}-w9'}
";

async fn run(kubeconfig: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multibond"));
    command.args(["check", "--namespace", SYSTEM, "--kubeconfig"]).arg(kubeconfig).args(arguments);
    command.timeout(Duration::from_secs(60));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// The result of a check.
struct Checked {
    code: i32,
    report: Value,
}

impl Checked {
    async fn new(kubeconfig: &Path, arguments: &[&str]) -> Self {
        let (code, stdout) = run(kubeconfig, &[arguments, &["-o", "json"]].concat()).await;
        Checked { code, report: serde_json::from_str(&stdout).unwrap() }
    }

    fn lines(&self) -> &[Value] {
        self.report["lines"].as_array().unwrap()
    }

    /// The lines with this result.
    fn with(&self, outcome: &str) -> Vec<&str> {
        let lines = self.lines().iter().filter(|line| line["outcome"] == outcome);
        lines.map(|line| line["check"].as_str().unwrap()).collect()
    }

    /// The finding of a line.
    fn found(&self, check: &str) -> String {
        self.lines().iter().find(|line| line["check"] == check).unwrap()["found"].to_string()
    }

    /// No error, no warning, and nothing left out.
    #[track_caller]
    fn is_well(&self) {
        assert!(self.code == 0 && self.with("ok").len() == self.lines().len(), "{}: {:#}", self.code, self.report);
    }
}

async fn kubectl(cluster: &ControlPlane, args: &[&str], stdin: &str) {
    cluster.kubectl(args, stdin).await.unwrap().success().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn check_before_installation_names_the_obstacles() {
    let cluster = ControlPlane::start(multibond_testbed::Options::default()).await.unwrap();
    let (admin, nobody) = (cluster.kubeconfig(), cluster.kubeconfig_as("nobody", &[]).unwrap());
    let (pre, post) = (&["--pre"][..], &[][..]);
    Checked::new(&admin, pre).await.is_well();

    let refused = Checked::new(&nobody, pre).await;
    assert_eq!(refused.code, 2);
    assert_eq!(refused.with("error"), ["may-define-kinds", "may-make-roles", "may-make-policies", "may-make-objects"]);
    assert_eq!(refused.with("warning"), ["may-grant"]);
    assert!(refused.with("skipped").contains(&"definitions-free"), "{:#}", refused.report);
    let objects = refused.found("may-make-objects");
    assert!(
        objects.contains("no permission to create, patch, delete deployments in namespace multibond-system"),
        "{objects}"
    );

    let missing = Checked::new(&admin, post).await;
    assert_eq!(missing.code, 2);
    assert_eq!(
        missing.with("error"),
        ["definitions-established", "policies-in-force", "controller-available", "controller-leads", "agents-ready"]
    );

    // CRDs that were applied by hand, and a namespace that admits no agent.
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    kubectl(&cluster, &["apply", "--server-side", "-f", crds], "").await;
    kubectl(&cluster, &["create", "namespace", SYSTEM], "").await;
    let enforce = |level: &str| format!("pod-security.kubernetes.io/enforce={level}");
    kubectl(&cluster, &["label", "namespace", SYSTEM, &enforce("restricted")], "").await;
    let hindered = Checked::new(&admin, pre).await;
    assert_eq!(
        (hindered.with("error"), hindered.with("warning")),
        (vec!["namespace-admits"], vec!["definitions-free"])
    );
    assert_eq!(hindered.code, 2);
    kubectl(&cluster, &["label", "namespace", SYSTEM, &enforce("privileged"), "--overwrite"], "").await;
    let warned = Checked::new(&admin, pre).await;
    assert_eq!((warned.code, warned.with("error").len(), warned.with("warning").len()), (0, 0, 1));

    // Helm adopts the CRDs in the documented way.
    let crds = ["datacenters", "networks", "hosts", "iscsibonds"].map(|plural| format!("{plural}.multibond.dev"));
    let crds: Vec<&str> = crds.iter().map(String::as_str).collect();
    kubectl(&cluster, &[&["label", "crd"], &crds[..], &["app.kubernetes.io/managed-by=Helm"]].concat(), "").await;
    let release = ["meta.helm.sh/release-name=multibond", "meta.helm.sh/release-namespace=multibond-system"];
    kubectl(&cluster, &[&["annotate", "crd"], &crds[..], &release].concat(), "").await;
    Checked::new(&admin, pre).await.is_well();
    let chart = chart().display().to_string();
    cluster.helm(["install", "multibond", &chart, "--namespace", SYSTEM]).await.unwrap().success().unwrap();

    cluster.stop_api_server();
    let away = Checked::new(&admin, post).await;
    assert_eq!((away.code, away.with("error")), (2, vec!["server-answers"]));
    assert_eq!(away.with("skipped").len(), away.lines().len() - 1);
    assert!(away.found("server-answers").contains("refused"), "{:#}", away.report);
    let (code, said) = run(Path::new("/nowhere/kubeconfig"), post).await;
    assert_eq!((code, said.as_str()), (1, ""));
}

/// Sets the status of the controller's Deployment and of the agents' `DaemonSet`, as a cluster with nodes would.
async fn workloads(cluster: &ControlPlane, agents_ready: u32) {
    let deployment = json!({"status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2}});
    let agents = json!({"status": {"currentNumberScheduled": 1, "desiredNumberScheduled": 1, "numberMisscheduled": 0,
        "numberReady": agents_ready, "updatedNumberScheduled": 1}});
    for (object, status) in [("deployment/multibond-controller", deployment), ("daemonset/multibond-agent", agents)] {
        let patch = ["-n", SYSTEM, "patch", object, "--subresource=status", "--type=merge", "-p", &status.to_string()];
        kubectl(cluster, &patch, "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_after_installation_names_what_works_and_what_fails() {
    let cluster: &'static ControlPlane =
        Box::leak(Box::new(ControlPlane::start(site::options().await.unwrap()).await.unwrap()));
    let site = Site::on(cluster, "site").await;
    let controller = site::controller(cluster, &[]).await;
    let _agents = site.agents(&["w1"]).await;
    site.apply(OBJECTS).await;
    site.until_phase("w1", "Up").await;
    site.until_node("with the verdict", "w1", |node| storage_operational(node).is_some()).await;
    workloads(cluster, 1).await;
    let admin = cluster.kubeconfig();
    Checked::new(&admin, &["--wait", "60s"]).await.is_well();

    // Without permission to read, most checks are skipped, and that is no error.
    let nobody = cluster.kubeconfig_as("nobody", &[]).unwrap();
    let blind = Checked::new(&nobody, &[]).await;
    assert_eq!((blind.code, blind.with("ok")), (0, vec!["server-answers", "kubernetes-version", "policies-served"]));
    assert_eq!(blind.with("skipped").len(), blind.lines().len() - 3);
    let (_, said) = run(&nobody, &[]).await;
    assert!(said.contains("skipped, no permission to list hosts in all namespaces"), "{said}");

    // A CRD of another version, a Host without an agent, and a node whose agent is not ready.
    let names = |short: &str| json!({"spec": {"names": {"shortNames": [short]}}}).to_string();
    let patch = async |short: &str| {
        kubectl(cluster, &["patch", "crd", "networks.multibond.dev", "--type=merge", "-p", &names(short)], "").await;
    };
    patch("older").await;
    site.apply(HOST_WITHOUT_AGENT).await;
    workloads(cluster, 0).await;
    let host = site.until("held", "Host", "w9", |host| !host["metadata"]["finalizers"].is_null()).await;
    let worse = Checked::new(&admin, &[]).await;
    assert_eq!(worse.code, 2);
    assert_eq!(worse.with("error"), ["definitions-current", "agents-ready", "agents-alive"], "{:#}", worse.report);
    let (alive, node) = (worse.found("agents-alive"), host["spec"]["nodeName"].as_str().unwrap());
    assert!(alive.contains("/w9") && alive.contains(node) && !alive.contains("/w1"), "{alive}");
    let (code, said) = run(&admin, &[]).await;
    assert!(code == 2 && said.contains("✗") && said.contains("multibond explain a-node-has-no-agent"), "{said}");
    patch("mbnet").await;
    workloads(cluster, 1).await;

    // Without a controller no finalizer is removed.
    controller.term(PATIENCE).await.unwrap();
    site.delete("Host", "w9").await;
    let left = Checked::new(&admin, &[]).await;
    assert_eq!(left.with("error"), ["controller-leads", "deletions-end"], "{:#}", left.report);
    assert_eq!(left.with("warning"), ["marks-explained"], "{:#}", left.report);
    assert!(left.found("deletions-end").contains("/w9 is being deleted"), "{:#}", left.report);
    assert_eq!(Checked::new(&admin, &["--pre"]).await.with("error"), ["deletions-end"]);
}
