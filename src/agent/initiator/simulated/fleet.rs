//! Agents of many simulated hosts in one process: the real loop for each, coming and going with the Hosts.

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
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use super::{SimulatedHost, Simulation};
use crate::{
    agent::{
        Agent,
        cluster::{
            KubeCluster,
            hosts::{self, Roster, Seen},
            lease::{Keeper, Timing},
        },
        metrics::{AgentMetrics, WatchShare},
    },
    ops::log_once::LogOnce,
};

/// Requests at once of a whole fleet: 4 to 16 reach what an API server can do, more only make each slower.
const FLEET_REQUESTS: usize = 16;
/// How often the directory with the tokens is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The agents of a simulation.
pub struct Fleet {
    simulation: Arc<Simulation>,
    /// The namespace of the leases.
    namespace: String,
    timing: Timing,
    members: HashMap<Arc<str>, Member>,
    /// Hosts whose agents have gone, and that still hold sessions: like real ones they keep them.
    left: HashMap<Arc<str>, Arc<SimulatedHost>>,
    tasks: TaskTracker,
    metrics: AgentMetrics,
    stop: CancellationToken,
}

struct Member {
    host: Arc<SimulatedHost>,
    seen: watch::Sender<Seen>,
    stop: CancellationToken,
}

impl Fleet {
    /// A fleet without members.
    #[must_use]
    pub fn new(
        simulation: Arc<Simulation>,
        namespace: String,
        timing: Timing,
        metrics: AgentMetrics,
        stop: CancellationToken,
    ) -> Self {
        Fleet {
            simulation,
            namespace,
            timing,
            members: HashMap::new(),
            left: HashMap::new(),
            tasks: TaskTracker::new(),
            metrics,
            stop,
        }
    }

    /// An agent for every node that a Host names, all with one identity and one watch, until told to stop.
    ///
    /// # Errors
    /// When a host's saved sessions cannot be read.
    pub async fn follow_hosts(mut self, client: Client, config: watcher::Config) -> io::Result<()> {
        let requests = Arc::new(Semaphore::new(FLEET_REQUESTS));
        let cluster = Arc::new(KubeCluster::new(client.clone(), requests.clone()));
        let events = hosts::events(client.clone(), config, WatchShare::of(self.metrics.clone()));
        pin_mut!(events);
        let mut roster = Roster::default();
        while let Some(event) = self.stop.run_until_cancelled(events.next()).await.flatten() {
            for node in roster.apply(event) {
                let hosts = roster.of(&node);
                if hosts.is_empty() {
                    self.dismiss(&node);
                } else if let Some(member) = self.members.get(&node) {
                    member.seen.send_replace(Some(hosts));
                } else {
                    self.recruit(&node, client.clone(), cluster.clone(), requests.clone(), Some(hosts))?;
                }
            }
        }
        self.finish().await;
        Ok(())
    }

    /// An agent for every file of a directory, which is named after a node and holds a token for its agent, each with
    /// its own identity and its own watch, until told to stop.
    ///
    /// # Errors
    /// When the directory cannot be read at the start.
    pub async fn follow_tokens(mut self, config: &Config, directory: &Path) -> io::Result<()> {
        let mut log = LogOnce::new(format!("use {}", directory.display()));
        let mut found = tokens(directory);
        // A directory that is not there is a typing error at the start, and somebody at work on it later.
        found.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        loop {
            let used = found.and_then(|tokens| self.use_tokens(config, &tokens));
            match used {
                Ok(()) => log.recovered(),
                Err(error) => log.failed(error),
            }
            if self.stop.run_until_cancelled(sleep(LOOK_EVERY)).await.is_none() {
                break;
            }
            found = tokens(directory);
        }
        self.finish().await;
        Ok(())
    }

    /// Agents come and go with their tokens.
    fn use_tokens(&mut self, config: &Config, tokens: &HashMap<Arc<str>, PathBuf>) -> io::Result<()> {
        let gone: Vec<Arc<str>> = self.members.keys().filter(|node| !tokens.contains_key(*node)).cloned().collect();
        for node in gone {
            self.dismiss(&node);
        }
        for (node, token) in tokens {
            if self.members.contains_key(node) {
                continue;
            }
            let client = client_with(config, token).map_err(io::Error::other)?;
            let requests = Arc::new(Semaphore::new(FLEET_REQUESTS));
            let cluster = Arc::new(KubeCluster::new(client.clone(), requests.clone()));
            self.recruit(node, client.clone(), cluster, requests, None)?;
            if let Some(member) = self.members.get(node) {
                let (seen, stop) = (member.seen.clone(), member.stop.clone());
                let watch = hosts::watch_node(client, node.clone(), seen, self.metrics.clone());
                self.tasks.spawn(async move { stop.run_until_cancelled(watch).await });
            }
        }
        Ok(())
    }

    fn recruit(
        &mut self,
        node: &Arc<str>,
        client: Client,
        cluster: Arc<KubeCluster>,
        requests: Arc<Semaphore>,
        hosts: Seen,
    ) -> io::Result<()> {
        let host = self.simulation.host(node)?;
        self.left.remove(node);
        let (seen, receiver) = watch::channel(hosts);
        let stop = self.stop.child_token();
        let agent = Agent::new(node, host.clone(), cluster, receiver, self.metrics.clone());
        let metrics = self.metrics.clone();
        let keeper = Keeper::new(client, &self.namespace, node.clone(), self.timing, requests, metrics);
        self.tasks.spawn(agent.run(stop.clone()));
        let until = stop.clone();
        self.tasks.spawn(async move { until.run_until_cancelled(keeper.keep()).await });
        self.members.insert(node.clone(), Member { host, seen, stop });
        Ok(())
    }

    fn dismiss(&mut self, node: &Arc<str>) {
        let Some(Member { host, seen: _, stop }) = self.members.remove(node) else { return };
        stop.cancel();
        if host.has_sessions() {
            self.left.insert(node.clone(), host);
        }
    }

    async fn finish(self) {
        info!(agents = self.members.len(), "stopping; sessions stay");
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Files by the nodes that they are named after. A mounted Secret or projected volume has dot files beside them.
fn tokens(directory: &Path) -> io::Result<HashMap<Arc<str>, PathBuf>> {
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

/// The same cluster with another identity. The token is read again when the file changes.
fn client_with(config: &Config, token: &Path) -> kube::Result<Client> {
    let token_file = Some(token.to_string_lossy().into_owned());
    let mut config = config.clone();
    config.auth_info = AuthInfo { token_file, ..AuthInfo::default() };
    Client::try_from(config)
}
