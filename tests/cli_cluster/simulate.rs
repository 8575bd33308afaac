//! `multibond simulate` against a real API server, with the plans written by the tests instead of the controller.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use multibond::agent::types::credentials::{SECRET_TYPE, requirements};
use multibond::api::{self, ConnectionState, Host, HostStatus};
use multibond_testbed::{ControlPlane, Process, eventually};
use serde_json::{Value, json};

use super::cluster;

const SOON: Duration = Duration::from_secs(20);
const TARGET: &str = "iqn.2003-01.org.example:array-a";

/// A namespace, its Hosts, and agents for only these Hosts.
struct SimulatedSite {
    cluster: &'static ControlPlane,
    client: Client,
    namespace: String,
    directory: tempfile::TempDir,
}

impl SimulatedSite {
    async fn new() -> Result<Self> {
        let cluster = cluster().await;
        let (client, namespace) = (cluster.client().await?, cluster.namespace("site").await?);
        Ok(SimulatedSite { cluster, client, namespace, directory: tempfile::tempdir()? })
    }

    fn hosts(&self) -> Api<Host> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn agents(&self, more: &[&str]) -> Result<Process> {
        let file = |name: &str| self.directory.path().join(name).to_string_lossy().into_owned();
        std::fs::write(file("faults.yaml"), "latency: 20ms\n")?;
        let selector = format!("site={}", self.namespace);
        let mut arguments = vec!["simulate", "--namespace", &self.namespace, "--selector", &selector];
        let (faults, state) = (file("faults.yaml"), file("state"));
        arguments.extend(["--faults", &faults, "--state-dir", &state]);
        arguments.extend(more);
        let environment = BTreeMap::from([
            ("KUBECONFIG", self.cluster.kubeconfig().to_string_lossy().into_owned()),
            ("RUST_LOG", "info".into()),
        ]);
        Process::spawn(env!("CARGO_BIN_EXE_multibond"), arguments, environment, "simulate")
    }

    fn faults(&self, yaml: &str) -> Result<()> {
        Ok(std::fs::write(self.directory.path().join("faults.yaml"), yaml)?)
    }

    /// Node names are unique on the shared control plane.
    fn node(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace)
    }

    async fn host(&self, name: &str) -> Result<()> {
        let host: Host = serde_json::from_value(json!({
            "apiVersion": "multibond.dev/v1alpha1", "kind": "Host",
            "metadata": {"name": name, "labels": {"site": self.namespace}},
            "spec": {
                "dataCenter": "frankfurt", "nodeName": self.node(name),
                "interfaces": [{"name": "ens1", "networks": ["san-a"]}, {"name": "ens2", "networks": ["san-b"]}],
            },
        }))?;
        self.hosts().create(&PostParams::default(), &host).await?;
        Ok(())
    }

    async fn plan(&self, name: &str, revision: &str, interfaces: &[&str]) -> Result<()> {
        let paths: Vec<Value> = interfaces
            .iter()
            .map(|interface| {
                json!({"target": TARGET, "portal": "10.0.1.10:3260", "tpgt": 1, "interface": interface,
                       "network": "san", "storage": "array-a", "bonds": ["storage"]})
            })
            .collect();
        let plan = json!({"status": {"plan": {"revision": revision, "hold": [], "session": {}, "paths": paths}}});
        let parameters = PatchParams { field_manager: Some(api::CONTROLLER_MANAGER.into()), ..PatchParams::default() };
        self.hosts().patch_status(name, &parameters, &Patch::Merge(plan)).await?;
        Ok(())
    }

    async fn status(&self, name: &str) -> Result<HostStatus> {
        self.hosts().get(name).await?.status.context("no status")
    }

    /// Waits for the acknowledgement, and returns the interfaces and states of the connections.
    async fn acknowledged(&self, name: &str, revision: &str) -> Vec<(String, ConnectionState)> {
        eventually("the plan is acknowledged", SOON, async || {
            let status = self.status(name).await?;
            let agent = status.agent.context("no agent")?;
            anyhow::ensure!(agent.observed_revision.as_deref() == Some(revision), "{agent:?}");
            Ok::<_, anyhow::Error>(
                status.connections.iter().map(|c| (c.interface.as_deref().unwrap_or("-").into(), c.state)).collect(),
            )
        })
        .await
    }

    fn agent_writes(&self, name: &str) -> Result<usize> {
        let of_host = |write: &&multibond_testbed::Write| {
            write.resource == "hosts" && write.namespace == self.namespace && write.name == name
        };
        Ok(self.cluster.writes()?.iter().filter(of_host).count())
    }
}

fn all(interfaces: &[&str], state: ConnectionState) -> Vec<(String, ConnectionState)> {
    interfaces.iter().map(|interface| ((*interface).to_owned(), state)).collect()
}

#[tokio::test]
async fn a10_a11_a13_paths_follow_the_plan_with_few_writes_and_a_lease() -> Result<()> {
    let site = SimulatedSite::new().await?;
    let _agents = site.agents(&[])?;
    site.host("worker-1").await?;
    eventually("the interfaces are reported", SOON, async || {
        site.status("worker-1").await?.interfaces.context("no interfaces")
    })
    .await;

    site.plan("worker-1", "one", &["ens1"]).await?;
    assert_eq!(site.acknowledged("worker-1", "one").await, all(&["ens1"], ConnectionState::Connected));
    let before = site.agent_writes("worker-1")?;
    site.plan("worker-1", "two", &["ens1", "ens2"]).await?;
    assert_eq!(site.acknowledged("worker-1", "two").await, all(&["ens1", "ens2"], ConnectionState::Connected));
    site.plan("worker-1", "three", &["ens2"]).await?;
    assert_eq!(site.acknowledged("worker-1", "three").await, all(&["ens2"], ConnectionState::Connected));
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Each edit: one write of the plan by this test, one by the agent.
    assert_eq!(site.agent_writes("worker-1")? - before, 4);

    let leases: Api<Lease> = Api::namespaced(site.client.clone(), &site.namespace);
    let lease = leases.get(&format!("agent-{}", site.node("worker-1"))).await?.spec.context("no spec")?;
    assert_eq!(lease.lease_duration_seconds, Some(40));
    site.hosts().delete("worker-1", &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn a18_a26_a_lost_path_fails_heals_and_survives_a_killed_agent() -> Result<()> {
    let site = SimulatedSite::new().await?;
    let agents = site.agents(&[])?;
    site.host("worker-2").await?;
    site.plan("worker-2", "one", &["ens1", "ens2"]).await?;
    site.acknowledged("worker-2", "one").await;
    let ids = |status: &HostStatus| status.connections.iter().map(|c| c.session_id).collect::<Vec<_>>();
    let before = ids(&site.status("worker-2").await?);

    site.faults("faults:\n- {host: worker-2, interface: ens2, fault: Unreachable}\n")?;
    let states = async |wanted: &[ConnectionState]| {
        eventually("the states", SOON, async || {
            let states: Vec<_> = site.status("worker-2").await?.connections.iter().map(|c| c.state).collect();
            anyhow::ensure!(states == wanted, "{states:?}");
            Ok::<_, anyhow::Error>(())
        })
        .await;
    };
    states(&[ConnectionState::Connected, ConnectionState::Failed]).await;
    agents.kill();
    drop(agents);
    let _agents = site.agents(&[])?;
    states(&[ConnectionState::Connected, ConnectionState::Connected]).await;
    assert_eq!(ids(&site.status("worker-2").await?), before, "the sessions are the same");
    Ok(())
}

/// The permissions of an agent, and permission to read the Secret `array` of the namespace by its name.
fn permissions(namespace: &str) -> Vec<Value> {
    let role = |name: &str, rules: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
               "metadata": {"name": format!("{namespace}-{name}")}, "rules": rules})
    };
    let subjects = json!([{"kind": "ServiceAccount", "name": "agent", "namespace": namespace}]);
    let reference = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("{namespace}-{name}")});
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent", "namespace": namespace}}),
        role(
            "agent",
            json!([
                {"apiGroups": ["multibond.dev"], "resources": ["hosts"], "verbs": ["get", "list", "watch"]},
                {"apiGroups": ["multibond.dev"], "resources": ["hosts/status"], "verbs": ["patch"]},
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "patch"]},
            ]),
        ),
        role(
            "secret",
            json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["array"], "verbs": ["get", "watch"]}]),
        ),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
               "metadata": {"name": format!("{namespace}-agent")}, "roleRef": reference("agent"), "subjects": subjects}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
               "metadata": {"name": "secret", "namespace": namespace}, "roleRef": reference("secret"), "subjects": subjects}),
    ]
}

#[tokio::test]
async fn a23_an_agent_follows_a_secret_that_it_may_read_only_by_name() -> Result<()> {
    let site = SimulatedSite::new().await?;
    site.cluster.apply_all(&permissions(&site.namespace)).await?;
    let token = site.cluster.service_account_token(&site.namespace, "agent", None).await?;
    let kubeconfig = site.cluster.kubeconfig_for_token(&token)?.to_string_lossy().into_owned();
    let node = site.node("worker-3");
    let arguments = ["agent", "--node-name", &node, "--initiator", "simulated", "--namespace", &site.namespace];
    let arguments = [&arguments[..], &["--listen", "127.0.0.1:0"]].concat();
    let agent = Process::spawn(env!("CARGO_BIN_EXE_multibond"), arguments, [("KUBECONFIG", kubeconfig)], "agent")?;

    site.host("worker-3").await?;
    let plan = json!({"status": {"plan": {"revision": "one", "hold": [], "session": {}, "paths": [
        {"target": TARGET, "portal": "10.0.1.10:3260", "tpgt": 1, "interface": "ens1", "network": "san",
         "storage": "array-a", "bonds": [], "chapSecret": "array"}]}}});
    site.hosts().patch_status("worker-3", &PatchParams::default(), &Patch::Merge(plan)).await?;
    let first = async |what: &str, wanted: &str| {
        eventually(what, SOON, async || {
            let status = site.status("worker-3").await?;
            let connection = status.connections.first().context("no connection")?;
            let found = format!("{:?} {}", connection.state, connection.message.as_deref().unwrap_or("-"));
            anyhow::ensure!(found == wanted, "{found}");
            Ok::<_, anyhow::Error>(())
        })
        .await;
    };
    // The status says the same whatever is wrong: who reads it may not be allowed to know what Secrets there are.
    let unusable = format!("Failed the Secret array cannot be used: {}", requirements());
    first("it is missing", &unusable).await;

    let secrets: Api<Secret> = Api::namespaced(site.client.clone(), &site.namespace);
    let named = |kind: &str, key: &str| {
        json!({"metadata": {"name": "array"}, "type": kind,
               "stringData": {"node.session.auth.username": "ann", key: "hunter2"}})
    };
    let wrong = [
        ("Opaque", "node.session.auth.password", "it has type Opaque, and must have type kubernetes.io/iscsi-chap"),
        (SECRET_TYPE, "password", "it has node.session.auth.username and lacks node.session.auth.password"),
    ];
    for (kind, key, why) in wrong {
        let secret: Secret = serde_json::from_value(named(kind, key))?;
        secrets.create(&PostParams::default(), &secret).await?;
        let line = format!("cannot use the Secret {}/array; trying again", site.namespace);
        eventually("the log says what is wrong", SOON, async || {
            let log = agent.log();
            anyhow::ensure!(log.lines().any(|said| said.contains(&line) && said.contains(why)), "{log}");
            Ok::<_, anyhow::Error>(())
        })
        .await;
        first("it cannot be used", &unusable).await;
        secrets.delete("array", &DeleteParams::default()).await?;
    }
    let secret: Secret = serde_json::from_value(named(SECRET_TYPE, "node.session.auth.password"))?;
    secrets.create(&PostParams::default(), &secret).await?;
    let created = std::time::Instant::now();
    first("it is used", "Connected -").await;
    assert!(created.elapsed() < Duration::from_secs(10), "it was watched, and not only read again");
    secrets.delete("array", &DeleteParams::default()).await?;
    site.plan("worker-3", "two", &[]).await?;
    assert_eq!(site.acknowledged("worker-3", "two").await, []);
    assert!(!agent.log().contains("hunter2") && !agent.log().contains("ann\""), "{}", agent.log());
    assert!(agent.term(SOON).await?.success());
    Ok(())
}
