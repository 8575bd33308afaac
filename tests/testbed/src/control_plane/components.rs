//! The command lines of the components.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::credentials::Credentials;
use super::{Options, audit};
use crate::binaries::{Binaries, Tool};
use crate::process::Process;

/// The controllers that always run; [`Options::controllers`] adds others.
const CONTROLLERS: [&str; 6] = [
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "clusterrole-aggregation-controller",
    "validatingadmissionpolicy-status-controller",
];

/// The additional controllers if real nodes join: those that create pods, provide what pods need, and handle pods of
/// nodes that are drained, silent or deleted.
const CONTROLLERS_FOR_NODES: [&str; 10] = [
    "daemonset-controller",
    "deployment-controller",
    "replicaset-controller",
    "job-controller",
    "root-ca-certificate-publisher-controller",
    "disruption-controller",
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "pod-garbage-collector-controller",
    "persistentvolume-binder-controller",
];

/// The directory with the data of etcd, in the directory of the control plane.
pub(super) const ETCD_DATA: &str = "etcd";

/// Starts etcd. It chooses its ports itself, so that nobody can take them first; see [`etcd_address`].
pub(super) fn etcd(binaries: &Binaries, directory: &Path) -> Result<Process> {
    let anywhere = "http://127.0.0.1:0";
    let args = [
        "--name=testbed".to_owned(),
        // Tests need not survive a power cut, and waiting for the disk is slow.
        "--unsafe-no-fsync".to_owned(),
        "--log-outputs=stderr".to_owned(),
        // The gateway would connect to the advertised port, which is not a real one.
        "--enable-grpc-gateway=false".to_owned(),
        format!("--data-dir={}", directory.join(ETCD_DATA).display()),
        format!("--initial-cluster=testbed={anywhere}"),
        format!("--initial-advertise-peer-urls={anywhere}"),
        format!("--listen-peer-urls={anywhere}"),
        format!("--advertise-client-urls={anywhere}"),
        format!("--listen-client-urls={anywhere}"),
    ];
    spawn(binaries, Tool::Etcd, &args)
}

/// The address on which etcd serves clients, from its log; `None` until it is logged.
pub(super) fn etcd_address(log: &str) -> Option<String> {
    log.lines().find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let serves = entry["msg"].as_str()?.starts_with("serving client traffic");
        serves.then(|| entry["address"].as_str().map(str::to_owned)).flatten()
    })
}

/// Starts the API server on `port` of the loopback interface.
pub(super) fn api_server(
    binaries: &Binaries,
    credentials: &Credentials,
    etcd: &str,
    port: u16,
    options: &Options,
) -> Result<Process> {
    let file = |name| credentials.file(name).display().to_string();
    let admission = if options.real_nodes {
        "--enable-admission-plugins=NodeRestriction"
    } else {
        "--disable-admission-plugins=ServiceAccount"
    };
    let mut args = vec![
        format!("--etcd-servers=http://{etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", file("api-server.crt")),
        format!("--tls-private-key-file={}", file("api-server.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", file("service-accounts.key")),
        "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        admission.to_owned(),
    ];
    if options.audit {
        args.push(format!(
            "--audit-policy-file={}",
            credentials.write("audit-policy.json", &audit::policy().to_string())?.display()
        ));
        args.push(format!("--audit-log-path={}", file("audit.log")));
    }
    args.extend(options.api_server_args.iter().cloned());
    spawn(binaries, Tool::KubeApiserver, &args)
}

/// Starts the controller manager. It is bound by RBAC and by policies as in a real cluster: each of its controllers
/// works under its own service account.
pub(super) fn controller_manager(binaries: &Binaries, credentials: &Credentials, options: &Options) -> Result<Process> {
    let file = |name| credentials.file(name).display().to_string();
    let for_nodes = if options.real_nodes { &CONTROLLERS_FOR_NODES[..] } else { &[] };
    let more = options.controllers.iter().map(String::as_str);
    let controllers: Vec<_> = CONTROLLERS.iter().chain(for_nodes).copied().chain(more).collect();
    let args = [
        format!("--kubeconfig={}", file("controller-manager.kubeconfig")),
        "--use-service-account-credentials=true".to_owned(),
        format!("--service-account-private-key-file={}", file("service-accounts.key")),
        format!("--root-ca-file={}", file("api-server.crt")),
        format!("--controllers={}", controllers.join(",")),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        // The default of 20 requests a second would slow the tests down.
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
    ];
    spawn(binaries, Tool::KubeControllerManager, &args)
}

/// Starts the scheduler with the roles that it has in a real cluster.
pub(super) fn scheduler(binaries: &Binaries, credentials: &Credentials) -> Result<Process> {
    let configuration = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": false},
        "clientConnection": {"kubeconfig": credentials.file("scheduler.kubeconfig")},
    });
    let file = credentials.write("scheduler.json", &configuration.to_string())?;
    let args = [format!("--config={}", file.display()), "--secure-port=0".to_owned()];
    spawn(binaries, Tool::KubeScheduler, &args)
}

fn spawn(binaries: &Binaries, tool: Tool, args: &[String]) -> Result<Process> {
    let no_environment: [(&str, &str); 0] = [];
    Ok(Process::spawn(binaries.path(tool), args, no_environment, tool.name())?.quiet())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_etcd_is_the_one_for_clients() {
        let log = concat!(
            r#"{"msg":"serving peer traffic","address":"127.0.0.1:1"}"#,
            "\nnot json\n",
            r#"{"msg":"serving client traffic insecurely; this is strongly discouraged!","address":"127.0.0.1:2"}"#,
        );
        assert_eq!(etcd_address(log).as_deref(), Some("127.0.0.1:2"));
        assert_eq!(etcd_address(""), None);
    }
}
