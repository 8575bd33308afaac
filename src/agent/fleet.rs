//! The agents of many simulated hosts in one process. They start and stop with their Hosts.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, pin_mut};
use kube::{Client, Config, config::AuthInfo, runtime::watcher};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    agent::{
        Agent,
        cluster::{
            KubeCluster,
            hosts::{self, HostStore, NodeHosts},
            lease::{LeaseRenewer, LeaseTiming},
        },
        initiator::simulated::{SimulatedHost, Simulation},
        metrics::{AgentMetrics, WatchGauge},
    },
    api::{NodeName, portal_policy::PortalPolicy},
    ops::{Tasks, log_once::LogOnce},
};

/// The concurrent requests of a whole fleet. 4 to 16 use an API server fully; more only make each request slower.
const FLEET_REQUESTS: usize = 16;
/// The interval at which the directory with the tokens is read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The agents of a simulation.
pub struct Fleet {
    simulation: Arc<Simulation>,
    /// The namespace of the leases.
    namespace: String,
    timing: LeaseTiming,
    /// The running agents, by node.
    agents: HashMap<NodeName, RunningAgent>,
    /// Hosts without an agent that still have sessions. They keep them, like real hosts.
    hosts_without_agent: HashMap<NodeName, Arc<SimulatedHost>>,
    tasks: TaskTracker,
    metrics: AgentMetrics,
    stop: CancellationToken,
}

struct RunningAgent {
    host: Arc<SimulatedHost>,
    seen: watch::Sender<NodeHosts>,
    stop: CancellationToken,
}

impl Fleet {
    /// A fleet without agents.
    #[must_use]
    pub fn new(
        simulation: Arc<Simulation>,
        namespace: String,
        timing: LeaseTiming,
        metrics: AgentMetrics,
        stop: CancellationToken,
    ) -> Self {
        Fleet {
            simulation,
            namespace,
            timing,
            agents: HashMap::new(),
            hosts_without_agent: HashMap::new(),
            tasks: TaskTracker::new(),
            metrics,
            stop,
        }
    }

    /// Runs an agent for each node that a Host names, until stopped. All agents share one identity and one watch.
    ///
    /// # Errors
    /// If the saved sessions of a host cannot be read.
    pub async fn follow_hosts(mut self, client: Client, config: watcher::Config) -> io::Result<()> {
        let requests = Arc::new(Semaphore::new(FLEET_REQUESTS));
        let cluster = Arc::new(KubeCluster::new(client.clone(), requests.clone(), Tasks::default()));
        let events =
            hosts::events(client.clone(), config, WatchGauge::new(self.metrics.clone()), watch::Sender::default());
        pin_mut!(events);
        let mut store = HostStore::default();
        while let Some(event) = self.stop.run_until_cancelled(events.next()).await.flatten() {
            for node in store.apply(event, Instant::now()) {
                let hosts = store.of(&node);
                if hosts.as_ref().is_none_or(|seen| seen.hosts.is_empty()) {
                    self.stop_agent(&node);
                } else if let Some(agent) = self.agents.get(&node) {
                    agent.seen.send_replace(hosts);
                } else {
                    self.start_agent(&node, client.clone(), cluster.clone(), requests.clone(), hosts)?;
                }
            }
        }
        self.finish().await;
        Ok(())
    }

    /// Runs an agent for each file in a directory, until stopped. A file has the name of a node, and contains the token of
    /// its agent. Each agent has its own identity and its own watch.
    ///
    /// # Errors
    /// If the directory cannot be read at the start.
    pub async fn follow_tokens(mut self, config: &Config, directory: &Path) -> io::Result<()> {
        let mut log = LogOnce::new(format!("use {}", directory.display()));
        let mut found = tokens(directory);
        // A missing directory is an error only at the start. Later it may be missing while it is replaced.
        found.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        loop {
            let used = found.and_then(|tokens| self.use_tokens(config, &tokens));
            match used {
                Ok(()) => log.recovered(),
                Err(error) => log.failed(error),
            }
            if self.stop.run_until_cancelled(sleep(POLL_INTERVAL)).await.is_none() {
                break;
            }
            found = tokens(directory);
        }
        self.finish().await;
        Ok(())
    }

    /// Starts and stops agents, so that each token has one.
    fn use_tokens(&mut self, config: &Config, tokens: &HashMap<NodeName, PathBuf>) -> io::Result<()> {
        let gone: Vec<NodeName> = self.agents.keys().filter(|node| !tokens.contains_key(*node)).cloned().collect();
        for node in gone {
            self.stop_agent(&node);
        }
        for (node, token) in tokens {
            if self.agents.contains_key(node) {
                continue;
            }
            let client = client_with(config, token).map_err(io::Error::other)?;
            let requests = Arc::new(Semaphore::new(FLEET_REQUESTS));
            let cluster = Arc::new(KubeCluster::new(client.clone(), requests.clone(), Tasks::default()));
            self.start_agent(node, client.clone(), cluster, requests, None)?;
            if let Some(agent) = self.agents.get(node) {
                let (seen, stop) = (agent.seen.clone(), agent.stop.clone());
                let watch =
                    hosts::watch_node(client, node.clone(), seen, watch::Sender::default(), self.metrics.clone());
                self.tasks.spawn(async move { stop.run_until_cancelled(watch).await });
            }
        }
        Ok(())
    }

    fn start_agent(
        &mut self,
        node: &NodeName,
        client: Client,
        cluster: Arc<KubeCluster>,
        requests: Arc<Semaphore>,
        hosts: NodeHosts,
    ) -> io::Result<()> {
        let host = self.simulation.host(node)?;
        self.hosts_without_agent.remove(node);
        let (seen, receiver) = watch::channel(hosts);
        let stop = self.stop.child_token();
        let agent =
            Agent::new(node.clone(), host.clone(), cluster, receiver, self.metrics.clone(), PortalPolicy::default());
        let metrics = self.metrics.clone();
        let renewer = LeaseRenewer::new(client, &self.namespace, node.clone(), self.timing, requests, metrics);
        let liveness = agent.liveness();
        self.tasks.spawn(agent.run(stop.clone()));
        let until = stop.clone();
        self.tasks.spawn(async move { until.run_until_cancelled(renewer.run(liveness)).await });
        self.agents.insert(node.clone(), RunningAgent { host, seen, stop });
        Ok(())
    }

    fn stop_agent(&mut self, node: &NodeName) {
        let Some(RunningAgent { host, seen: _, stop }) = self.agents.remove(node) else { return };
        stop.cancel();
        if host.has_sessions() {
            self.hosts_without_agent.insert(node.clone(), host);
        }
    }

    async fn finish(self) {
        info!(agents = self.agents.len(), "stopping; sessions stay");
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The token files, by node. Hidden files are skipped: a mounted Secret or projected volume has some.
fn tokens(directory: &Path) -> io::Result<HashMap<NodeName, PathBuf>> {
    let mut tokens = HashMap::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(node) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        if entry.path().is_file() {
            tokens.insert(node.into(), entry.path());
        }
    }
    Ok(tokens)
}

/// A client of the same cluster with another identity. It reads the token again when the file changes.
fn client_with(config: &Config, token: &Path) -> kube::Result<Client> {
    let token_file = Some(token.to_string_lossy().into_owned());
    let mut config = config.clone();
    config.auth_info = AuthInfo { token_file, ..AuthInfo::default() };
    Client::try_from(config)
}
