//! A31: the life of a release. No session is lost, and no object is left that cannot be deleted.
//!
//! The control plane of the tests runs no pods, so the test does the kubelet's work: it starts the program with the
//! service accounts of the pods, stops it when the pods are deleted, and runs the pod of the job at uninstall.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use multibond_testbed::{ControlPlane, Options, Process, eventually};
use serde_json::{Value, json};

use crate::site::{self, PATIENCE, Site, multibond, our_taint, storage_operational, taints};
use crate::{SYSTEM, chart};

/// Two hosts: one is connected to both portals, the other one reaches no portal and is tainted.
const DATA_CENTER: &str = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: dc}
spec:
  nonOperationalAfterSeconds: 0
  nonOperationalTaint: NoSchedule
  storage:
  - name: array
    targets:
    - {iqn: 'iqn.2003-01.org.example:array', portals: [{address: 10.0.1.10}, {address: 10.0.1.11}]}
---
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-a}
spec: {dataCenter: dc}
---
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: storage}
spec: {dataCenter: dc, networks: [san-a]}
---
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w1}
spec: {dataCenter: dc, nodeName: '{ns}-w1', interfaces: [{name: ens1, networks: [san-a]}]}
---
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w2}
spec: {dataCenter: dc, nodeName: '{ns}-w2', interfaces: [{name: ens1, networks: [san-a]}]}
";

/// A cluster without Multibond.
async fn empty_cluster() -> &'static ControlPlane {
    let options = Options { controllers: vec!["job-controller".to_owned()], ..Options::default() };
    Box::leak(Box::new(ControlPlane::start(options).await.unwrap()))
}

async fn helm(cluster: &ControlPlane, args: &[&str]) -> String {
    let args = args.iter().chain(&["--namespace", SYSTEM]);
    cluster.helm(args).await.unwrap().success().unwrap()
}

async fn kubectl(cluster: &ControlPlane, args: &[&str]) -> String {
    cluster.kubectl(args, "").await.unwrap().success().unwrap()
}

/// Runs `helm uninstall`. Meanwhile the processes that run are stopped, and the pod of the job runs. Returns the job's
/// log.
async fn uninstall(cluster: &ControlPlane, running: Vec<Process>) -> String {
    let kubelet = async {
        let pod = eventually("the job at uninstall has a pod", PATIENCE, async || {
            let pods: Api<Pod> = Api::namespaced(cluster.client().await?, SYSTEM);
            let found = pods.list(&ListParams::default().labels("job-name=multibond-release")).await?.items.pop();
            found.ok_or_else(|| anyhow::anyhow!("none"))
        })
        .await;
        let spec = pod.spec.unwrap();
        let account = spec.service_account_name.unwrap();
        let (args, user) = (spec.containers[0].args.clone().unwrap(), as_account(cluster, &account).await);
        let job = Process::spawn(multibond(), args, [("KUBECONFIG", user)], "release").unwrap();
        for process in running {
            process.term(PATIENCE).await.unwrap();
        }
        let ended = job.exited(PATIENCE).await.unwrap();
        let phase = if ended.success() { "Succeeded" } else { "Failed" };
        let pods: Api<Pod> = Api::namespaced(cluster.client().await.unwrap(), SYSTEM);
        let status = Patch::Merge(json!({"status": {"phase": phase}}));
        pods.patch_status(&pod.metadata.name.unwrap(), &PatchParams::default(), &status).await.unwrap();
        assert!(ended.success(), "{}", job.log());
        job.log()
    };
    let uninstall = helm(cluster, &["uninstall", "multibond"]);
    let (_, said) = tokio::join!(uninstall, kubelet);
    said
}

async fn as_account(cluster: &ControlPlane, account: &str) -> std::path::PathBuf {
    let token = cluster.service_account_token(SYSTEM, account, None).await.unwrap();
    cluster.kubeconfig_for_token(&token).unwrap()
}

/// Runs `multibond release` as the administrator. Returns exit status and log.
async fn release(cluster: &ControlPlane, more: &[&str]) -> (ExitStatus, String) {
    release_as(&cluster.kubeconfig(), more).await
}

async fn release_as(kubeconfig: &Path, more: &[&str]) -> (ExitStatus, String) {
    let args = [&["release", "--namespace", SYSTEM], more].concat();
    let process = Process::spawn(multibond(), args, [("KUBECONFIG", kubeconfig)], "by-hand").unwrap();
    (process.exited(PATIENCE).await.unwrap(), process.log())
}

/// Objects with our finalizer, and Nodes with our taint or condition.
async fn held(site: &Site) -> Vec<String> {
    let mut held = Vec::new();
    for (kind, name) in [("DataCenter", "dc"), ("Network", "san-a"), ("Host", "w1"), ("Host", "w2")] {
        if !site.get(kind, name).await["metadata"]["finalizers"].is_null() {
            held.push(format!("{kind} {name}"));
        }
    }
    for name in ["w1", "w2"] {
        let node = site.until_node("there", name, |_| true).await;
        let marked = our_taint(&node).is_some() || storage_operational(&node).is_some();
        held.extend(marked.then(|| format!("Node {name}")));
    }
    held
}

/// Waits until controller and agents have nothing left to do.
async fn until_settled(site: &Site) {
    site.until_phase("w1", "Up").await;
    site.until_phase("w2", "NonOperational").await;
    site.until_node("with the verdict", "w1", |node| storage_operational(node).is_some()).await;
    site.until_node("tainted", "w2", |node| our_taint(node).is_some()).await;
    eventually("every object has its finalizer, and every Node its condition", PATIENCE, async || {
        let held = held(site).await;
        if held.len() == 6 { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a31_no_helm_command_loses_a_session() {
    let cluster = empty_cluster().await;
    let current = chart().display().to_string();
    let (_directory, older) = older_chart();
    helm(cluster, &["install", "multibond", &older, "--create-namespace"]).await;
    assert_eq!(short_names(cluster, "networks").await, "[\"older\"]");

    // Declare a data center.
    let site = Site::on(cluster, "site").await;
    site.faults("faults: [{host: '{ns}-w2', fault: Unreachable}]");
    let mut controller = site::controller(cluster, &[]).await;
    let mut agents = site.agents(&["w1", "w2"]).await;
    site.taint_node("w2", "example.com/other").await;
    site.apply(DATA_CENTER).await;
    until_settled(&site).await;
    let (before, sessions) = (uids(cluster).await, site.held("w1"));
    assert_eq!(sessions.as_array().unwrap().len(), 2, "{sessions}");

    // Upgrade, upgrade with another value, roll back, upgrade: each restarts the pods, and changes the CRDs too.
    for (change, short_name) in [
        (&["upgrade", "multibond", &current][..], "mbnet"),
        (&["upgrade", "multibond", &current, "--set", "rbac.aggregate=true"], "mbnet"),
        (&["rollback", "multibond", "1"], "older"),
        (&["upgrade", "multibond", &current], "mbnet"),
    ] {
        helm(cluster, change).await;
        assert_eq!(short_names(cluster, "networks").await, format!("[\"{short_name}\"]"), "{change:?}");
        controller.term(PATIENCE).await.unwrap();
        agents.term(PATIENCE).await.unwrap();
        (controller, agents) = (site::controller(cluster, &[]).await, site.simulate());
        until_settled(&site).await;
    }
    assert_eq!((uids(cluster).await, site.held("w1")), (before.clone(), sessions.clone()));

    // `multibond release` lists what it would remove, and refuses while a controller leads.
    let (would, said) = release(cluster, &["--dry-run"]).await;
    assert_eq!((would.code(), said.lines().count()), (Some(2), 7), "{said}");
    let (refused, said) = release(cluster, &["--wait", "0s"]).await;
    assert!(refused.code() == Some(1) && said.contains("still leads in namespace multibond-system"), "{said}");
    assert_eq!(held(&site).await.len(), 6);

    // Uninstall.
    let said = uninstall(cluster, vec![controller, agents]).await;
    for what in
        ["finalizer of DataCenter", "finalizer of Network", "finalizer of Host", "condition of Node", "taint of Node"]
    {
        assert!(said.contains(&format!("released the {what}")), "{what}: {said}");
    }
    assert!(said.contains("7 released, 0 still held"), "{said}");
    assert_eq!(held(&site).await, Vec::<String>::new());
    let tainted = site.until_node("there", "w2", |_| true).await;
    assert!(taints(&tainted).any(|taint| taint.key == "example.com/other"), "a taint of others was removed");
    assert_eq!((uids(cluster).await, site.held("w1")), (before.clone(), sessions.clone()));
    let left = "serviceaccounts,deployments,daemonsets,jobs,roles,rolebindings,clusterroles,clusterrolebindings,\
        validatingadmissionpolicies,validatingadmissionpolicybindings";
    let left = kubectl(cluster, &["get", left, "--all-namespaces", "-o", "name"]).await;
    assert!(!left.contains("multibond"), "{left}");
    let (again, said) = release(cluster, &[]).await;
    assert!(again.success() && said.contains("0 released, 0 still held"), "{said}");

    // Install again over the objects that are left; the new service accounts have new tokens.
    helm(cluster, &["install", "multibond", &current]).await;
    let (controller, agents) = (site::controller(cluster, &[]).await, site.agents(&["w1", "w2"]).await);
    until_settled(&site).await;
    assert_eq!((uids(cluster).await, site.held("w1")), (before, sessions.clone()));

    // Remove everything.
    uninstall(cluster, vec![controller, agents]).await;
    assert_eq!(site.held("w1"), sessions);
    kubectl(cluster, &["delete", "crd", "--wait", "--timeout=60s", "-l", "app.kubernetes.io/name=multibond"]).await;
    kubectl(cluster, &["delete", "namespace", "--wait", "--timeout=60s", SYSTEM, &site.namespace]).await;
}

/// What an administrator deletes to remove Multibond.
#[derive(Clone, Copy, Debug)]
enum Step {
    Chart,
    Crds,
    DataCenters,
    System,
}

#[tokio::test]
async fn a31_no_order_of_deletion_hangs() {
    use Step::{Chart, Crds, DataCenters, System};
    let cluster = empty_cluster().await;
    cluster.apply_all(&may_look()).await.unwrap();
    let onlooker = cluster.kubeconfig_as("onlooker", &[]).unwrap();
    for order in [
        &[Chart, Crds, DataCenters, System][..],
        &[Chart, DataCenters, System, Crds],
        &[Crds, Chart, DataCenters, System],
        &[DataCenters, Chart, Crds, System],
        // Without Helm: the test runs `multibond release` in place of the job.
        &[System, Crds, DataCenters],
        &[System, DataCenters, Crds],
    ] {
        helm(cluster, &["install", "multibond", &chart().display().to_string(), "--create-namespace"]).await;
        let site = Site::on(cluster, "site").await;
        site.faults("faults: [{host: '{ns}-w2', fault: Unreachable}]");
        let mut running = vec![site::controller(cluster, &[]).await, site.agents(&["w1", "w2"]).await];
        site.apply(DATA_CENTER).await;
        until_settled(&site).await;
        for step in order {
            // Do not wait for one deletion before the next.
            let delete = async |what: &[&str]| kubectl(cluster, &[&["delete", "--wait=false"], what].concat()).await;
            match step {
                Chart => drop(uninstall(cluster, std::mem::take(&mut running)).await),
                Crds => drop(delete(&["crd", "-l", "app.kubernetes.io/name=multibond"]).await),
                DataCenters => drop(delete(&["namespace", &site.namespace]).await),
                System => {
                    delete(&["namespace", SYSTEM]).await;
                    for process in std::mem::take(&mut running) {
                        process.term(PATIENCE).await.unwrap();
                    }
                }
            }
        }
        let by_hand = !order.iter().any(|step| matches!(step, Chart));
        if by_hand {
            let (ended, said) = release_as(&onlooker, &[]).await;
            assert_eq!(ended.code(), Some(1), "{order:?}: {said}");
            assert!(said.contains("still held: the taint of Node") && said.contains("cannot patch resource"), "{said}");
            let (ended, said) = release(cluster, &[]).await;
            assert!(ended.success(), "{order:?}: {said}");
        }
        let gone = ["wait", "--for=delete", "--timeout=60s"];
        kubectl(cluster, &[&gone[..], &["crd", "-l", "app.kubernetes.io/name=multibond"]].concat()).await;
        for namespace in [SYSTEM, &site.namespace] {
            kubectl(cluster, &[&gone[..], &["namespace", namespace]].concat()).await;
        }
        for name in ["w1", "w2"] {
            let node = site.until_node("there", name, |_| true).await;
            assert!(our_taint(&node).is_none() && storage_operational(&node).is_none(), "{order:?}: {node:?}");
        }
        if by_hand {
            // Cluster-wide objects, which Helm would have deleted.
            let rest = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
            kubectl(cluster, &["delete", rest, "-l", "app.kubernetes.io/name=multibond"]).await;
        }
    }
}

/// The user `onlooker` may read everything that `multibond release` looks at, and change nothing.
fn may_look() -> [Value; 2] {
    let rbac = "rbac.authorization.k8s.io";
    let metadata = json!({"name": "onlooker"});
    let rules = json!([
        {"apiGroups": ["multibond.dev"], "resources": ["*"], "verbs": ["list"]},
        {"apiGroups": ["", "coordination.k8s.io"], "resources": ["nodes", "namespaces", "leases"], "verbs": ["get", "list"]},
    ]);
    [
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": metadata, "rules": rules}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "onlooker"},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "onlooker"}]}),
    ]
}

/// The chart with another short name in a CRD, as an earlier version might have had.
fn older_chart() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    copy(&chart(), directory.path());
    let networks = directory.path().join("files/crds/networks.multibond.dev.yaml");
    let text = fs::read_to_string(&networks).unwrap();
    assert!(text.contains("- mbnet"), "{text}");
    fs::write(networks, text.replace("- mbnet", "- older")).unwrap();
    let path = directory.path().display().to_string();
    (directory, path)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn short_names(cluster: &ControlPlane, plural: &str) -> String {
    let crd = format!("crd/{plural}.multibond.dev");
    kubectl(cluster, &["get", &crd, "-o", "jsonpath={.spec.names.shortNames}"]).await
}

/// Kind, name and uid of every object of the four kinds, one per line.
async fn uids(cluster: &ControlPlane) -> String {
    let template = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid}{\"\\n\"}{end}";
    kubectl(cluster, &["get", "multibond", "--all-namespaces", "-o", template]).await
}
