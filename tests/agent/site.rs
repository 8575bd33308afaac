//! One node with its Host and its agent, on an API server that is a table.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use multibond::{
    agent::{
        Agent,
        cluster::{Cluster, ClusterError, hosts::Seen},
        credentials::SecretState,
        initiator::simulated::{Fault, FaultKind, Faults, SimulatedHost, Simulation},
        metrics::AgentMetrics,
        path::IscsiPath,
    },
    api::{Connection, ConnectionState, Host, HostStatus, reason::PathReason},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

/// Hosts in a table; what is written is seen a moment later.
pub struct Table {
    pub hosts: Mutex<Vec<Host>>,
    version: Mutex<u64>,
    pub seen: watch::Sender<Seen>,
    /// The agent's writes, by the name of the Host, and whether they were accepted.
    pub writes: Mutex<Vec<(String, bool)>>,
    /// How many of the next writes fail.
    pub failing: Mutex<u32>,
    pub secrets: Mutex<BTreeMap<String, watch::Sender<SecretState>>>,
}

impl Table {
    fn new() -> Arc<Self> {
        Arc::new(Table {
            hosts: Mutex::default(),
            version: Mutex::default(),
            seen: watch::Sender::new(None),
            writes: Mutex::default(),
            failing: Mutex::default(),
            secrets: Mutex::default(),
        })
    }

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
        self.seen.send_replace(Some(hosts.iter().cloned().map(Arc::new).collect()));
        Some(written)
    }

    pub fn accepted_writes(&self, name: &str) -> usize {
        self.writes.lock().unwrap().iter().filter(|write| **write == (name.to_owned(), true)).count()
    }
}

/// RFC 7386.
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

struct Client(Arc<Table>);

impl Cluster for Client {
    async fn write_status(&self, _namespace: &str, name: &str, patch: &Value) -> Result<Host, ClusterError> {
        sleep(Duration::from_millis(5)).await;
        let fails = {
            let mut failing = self.0.failing.lock().unwrap();
            let fails = *failing > 0;
            *failing = failing.saturating_sub(1);
            fails
        };
        self.0.writes.lock().unwrap().push((name.to_owned(), !fails));
        if fails {
            return Err(ClusterError::Failed("the server is away".into()));
        }
        self.0.merge(name, patch).ok_or(ClusterError::NotFound)
    }

    fn secret(&self, _namespace: &str, name: &Arc<str>) -> watch::Receiver<SecretState> {
        let mut secrets = self.0.secrets.lock().unwrap();
        secrets.entry(name.to_string()).or_insert_with(|| watch::Sender::new(SecretState::Unread)).subscribe()
    }
}

/// One node, its Host and its agent.
pub struct Site {
    pub table: Arc<Table>,
    pub simulation: Arc<Simulation>,
    pub host: Arc<SimulatedHost>,
    agent: Option<(CancellationToken, JoinHandle<()>)>,
}

pub const INTERFACES: [&str; 2] = ["ens1", "ens2"];

impl Site {
    pub fn new() -> Self {
        let simulation = Simulation::new(None);
        let host = simulation.host(&"node-1".into()).unwrap();
        let mut site = Site { table: Table::new(), simulation, host, agent: None };
        site.start();
        site
    }

    pub fn start(&mut self) {
        let stop = CancellationToken::new();
        let client = Arc::new(Client(self.table.clone()));
        let agent =
            Agent::new("node-1", self.host.clone(), client, self.table.seen.subscribe(), AgentMetrics::default());
        self.agent = Some((stop.clone(), tokio::spawn(agent.run(stop))));
    }

    /// As by SIGKILL: nothing is finished.
    pub fn kill(&mut self) {
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
        self.table.hosts.lock().unwrap().push(serde_json::from_value(host).unwrap());
        self.table.merge(name, &json!({}));
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
            .map(|IscsiPath { target, portal, tpgt, interface }| {
                json!({"target": target, "portal": portal, "tpgt": tpgt, "interface": interface, "network": interface,
                       "storage": "array", "bonds": ["storage"], "chapSecret": secret})
            })
            .collect();
        let plan = json!({"revision": revision, "hold": hold, "session": {}, "paths": paths});
        // A patch merges objects: the old plan has to go first.
        self.table.merge(name, &json!({"status": {"plan": null}})).unwrap();
        self.table.merge(name, &json!({"status": {"plan": plan}})).unwrap();
    }

    pub fn status(&self, name: &str) -> HostStatus {
        let hosts = self.table.hosts.lock().unwrap();
        let host = hosts.iter().find(|host| host.metadata.name.as_deref() == Some(name)).unwrap();
        host.status.clone().unwrap_or_default()
    }

    pub fn observed(&self, name: &str) -> Option<String> {
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
        tpgt: 1,
        interface: interface.map(|index| INTERFACES[index].into()),
    }
}

pub fn all(connections: &[Connection], state: ConnectionState) -> bool {
    connections.iter().all(|connection| connection.state == state)
}

pub async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}
