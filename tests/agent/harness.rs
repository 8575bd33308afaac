//! A node with its agent, on a simulated host and a fake API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::ObjectRef;
use multibond::{
    agent::{
        Agent, ColdStart,
        cluster::liveness::Liveness,
        cluster::{
            Cluster, ClusterError,
            hosts::{Contact, HostsOfNode, NodeHosts},
        },
        initiator::simulated::{Fault, FaultKind, Faults, SimulatedHost, Simulation},
        metrics::AgentMetrics,
        types::{HostId, IscsiPath, credentials::SecretState},
    },
    api::{Connection, ConnectionState, Host, HostStatus, Revision, portal_policy::PortalPolicy, reason::PathReason},
};
use serde_json::{Map, Value, json};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// An API server with Hosts and Secrets in memory. The agent sees each write at once.
pub struct FakeApi {
    pub hosts: Mutex<Vec<Host>>,
    version: Mutex<u64>,
    /// The Hosts that name the node, as a watch shows them.
    pub seen: watch::Sender<NodeHosts>,
    list_began: Instant,
    /// The agent's writes: the name of the Host, and whether the write was accepted.
    pub writes: Mutex<Vec<(String, bool)>>,
    /// The number of next writes that fail.
    pub failing: Mutex<u32>,
    pub secrets: Mutex<BTreeMap<String, watch::Sender<SecretState>>>,
    /// The Secrets because of which the agent has said that a path fails.
    pub failed_secrets: Mutex<BTreeSet<String>>,
}

impl FakeApi {
    fn new() -> Arc<Self> {
        Arc::new(FakeApi {
            hosts: Mutex::default(),
            version: Mutex::default(),
            seen: watch::Sender::new(None),
            list_began: Instant::now(),
            writes: Mutex::default(),
            failing: Mutex::default(),
            secrets: Mutex::default(),
            failed_secrets: Mutex::default(),
        })
    }

    /// Applies a patch to a Host, and shows all Hosts to the agent.
    pub fn merge(&self, name: &str, patch: &Value) -> Option<Host> {
        let mut hosts = self.hosts.lock().unwrap();
        let host = hosts.iter_mut().find(|host| host.metadata.name.as_deref() == Some(name))?;
        let mut version = self.version.lock().unwrap();
        *version += 1;
        let mut object = serde_json::to_value(&*host).unwrap();
        merge(&mut object, patch);
        *host = serde_json::from_value(object).unwrap();
        host.metadata.resource_version = Some(version.to_string());
        let written = host.clone();
        drop((hosts, version));
        self.show();
        Some(written)
    }

    /// Shows all Hosts to the agent, as a watch does.
    pub fn show(&self) {
        let hosts = self.hosts.lock().unwrap().iter().cloned().map(Arc::new).collect();
        self.seen.send_replace(Some(HostsOfNode { hosts, list_began: self.list_began }));
    }

    pub fn accepted_writes(&self, name: &str) -> usize {
        self.writes.lock().unwrap().iter().filter(|write| **write == (name.to_owned(), true)).count()
    }
}

/// A JSON merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

impl Cluster for FakeApi {
    async fn write_status(&self, host: &HostId, fields: &Map<String, Value>) -> Result<Host, ClusterError> {
        sleep(Duration::from_millis(5)).await;
        let fails = {
            let mut failing = self.failing.lock().unwrap();
            let fails = *failing > 0;
            *failing = failing.saturating_sub(1);
            fails
        };
        self.writes.lock().unwrap().push((host.name.clone(), !fails));
        if fails {
            return Err(ClusterError::Timeout);
        }
        // Whole fields are replaced, so what is there is removed first.
        let removed: Map<String, Value> = fields.keys().map(|name| (name.clone(), Value::Null)).collect();
        self.merge(&host.name, &json!({"status": removed})).ok_or(ClusterError::NotFound)?;
        self.merge(&host.name, &json!({"status": fields})).ok_or(ClusterError::NotFound)
    }

    fn secret(&self, secret: &ObjectRef<Secret>) -> watch::Receiver<SecretState> {
        let mut secrets = self.secrets.lock().unwrap();
        secrets.entry(secret.name.clone()).or_insert_with(|| watch::Sender::new(SecretState::Unread)).subscribe()
    }

    fn secret_failed(&self, secret: &ObjectRef<Secret>) {
        self.failed_secrets.lock().unwrap().insert(secret.name.clone());
    }
}

/// A node with its agent.
pub struct TestNode {
    pub api: Arc<FakeApi>,
    pub simulation: Arc<Simulation>,
    pub host: Arc<SimulatedHost>,
    /// The file with the last plan, if the agent keeps one.
    pub last_plan: Option<PathBuf>,
    /// Whether the API server answers.
    pub contact: watch::Sender<Contact>,
    /// Whether the lease of the agent is renewed.
    pub liveness: Option<Liveness>,
    agent: Option<(CancellationToken, JoinHandle<()>)>,
}

pub const INTERFACES: [&str; 2] = ["ens1", "ens2"];

impl TestNode {
    pub fn new() -> Self {
        Self::with_last_plan(None)
    }

    /// A node whose agent keeps the last plan in this file.
    pub fn with_last_plan(last_plan: Option<PathBuf>) -> Self {
        let simulation = Simulation::new(None);
        let host = simulation.host(&"node-1".into()).unwrap();
        let contact = watch::Sender::new(Contact::Answers);
        let mut node =
            TestNode { api: FakeApi::new(), simulation, host, last_plan, contact, liveness: None, agent: None };
        node.start_agent();
        node
    }

    pub fn start_agent(&mut self) {
        let stop = CancellationToken::new();
        let (api, hosts) = (self.api.clone(), self.api.seen.subscribe());
        let agent = Agent::new(
            "node-1".into(),
            self.host.clone(),
            api,
            hosts,
            AgentMetrics::default(),
            PortalPolicy::default(),
        );
        let week = Duration::from_secs(7 * 24 * 3600);
        let cold_start = self.last_plan.clone().map(|file| ColdStart::new(file, week, self.contact.subscribe()));
        let agent = match cold_start {
            Some(cold_start) => agent.with_cold_start(cold_start),
            None => agent,
        };
        self.liveness = Some(agent.liveness());
        self.agent = Some((stop.clone(), tokio::spawn(agent.run(stop))));
    }

    /// Whether the agent counts as alive.
    pub fn is_alive(&self) -> bool {
        self.liveness.as_ref().is_some_and(Liveness::is_alive)
    }

    /// Cuts the power and boots again: no session is left, and the agent knows nothing and reaches no API server.
    pub fn power_cycle(&mut self) {
        self.kill_agent();
        for path in self.host.paths().0 {
            self.host.kill(&path);
        }
        self.api.seen.send_replace(None);
        self.contact.send_replace(Contact::Untried);
        self.start_agent();
    }

    /// Ends the agent as SIGKILL does: no job is finished.
    pub fn kill_agent(&mut self) {
        if let Some((_, task)) = self.agent.take() {
            task.abort();
        }
    }

    pub fn add_host(&self, name: &str, created: &str) {
        let interfaces: Vec<_> = INTERFACES.iter().map(|name| json!({"name": name, "networks": []})).collect();
        let host = json!({
            "apiVersion": "multibond.dev/v1alpha1", "kind": "Host",
            "metadata": {"name": name, "namespace": "frankfurt", "uid": name, "creationTimestamp": created},
            "spec": {"dataCenter": "frankfurt", "nodeName": "node-1", "interfaces": interfaces},
        });
        self.api.hosts.lock().unwrap().push(serde_json::from_value(host).unwrap());
        self.api.merge(name, &json!({}));
    }

    pub fn plan(&self, name: &str, revision: &str, hold: &[&str], paths: &[IscsiPath]) {
        self.plan_with_secret(name, revision, hold, paths, None);
    }

    pub fn plan_with_secret(
        &self,
        name: &str,
        revision: &str,
        hold: &[&str],
        paths: &[IscsiPath],
        secret: Option<&str>,
    ) {
        let paths: Vec<_> = paths
            .iter()
            .map(|IscsiPath { target, portal, interface }| {
                json!({"target": target, "portal": portal, "tpgt": 1, "interface": interface, "network": interface,
                       "storage": "array", "bonds": ["storage"], "chapSecret": secret})
            })
            .collect();
        let plan = json!({"revision": revision, "hold": hold, "session": {}, "paths": paths});
        // A patch merges objects, so the old plan is removed first.
        self.api.merge(name, &json!({"status": {"plan": null}})).unwrap();
        self.api.merge(name, &json!({"status": {"plan": plan}})).unwrap();
    }

    pub fn status(&self, name: &str) -> HostStatus {
        let hosts = self.api.hosts.lock().unwrap();
        let host = hosts.iter().find(|host| host.metadata.name.as_deref() == Some(name)).unwrap();
        host.status.clone().unwrap_or_default()
    }

    pub fn observed(&self, name: &str) -> Option<Revision> {
        self.status(name).agent?.observed_revision
    }

    pub fn states(&self, name: &str) -> Vec<(ConnectionState, Option<PathReason>)> {
        self.status(name).connections.iter().map(|c| (c.state, c.reason)).collect()
    }

    pub fn fault(&self, kind: FaultKind, path: Option<&IscsiPath>) {
        let fault = Fault {
            host: None,
            portal: path.map(|path| path.portal.to_string()),
            target: path.map(|path| path.target.to_string()),
            interface: path.and_then(|path| path.interface.as_deref()).map(str::to_owned),
            network: None,
            kind,
            after: Duration::ZERO,
        };
        self.simulation.set_faults(Faults { faults: vec![fault], ..Faults::default() });
    }

    pub fn heal(&self) {
        self.simulation.set_faults(Faults::default());
    }
}

pub fn path(target: u8, portal: u8, interface: Option<usize>) -> IscsiPath {
    IscsiPath {
        target: format!("iqn.2003-01.org.example:{target}").into(),
        portal: format!("10.0.{portal}.10:3260").into(),
        interface: interface.map(|index| INTERFACES[index].into()),
    }
}

pub fn all(connections: &[Connection], state: ConnectionState) -> bool {
    connections.iter().all(|connection| connection.state == state)
}

pub async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}
