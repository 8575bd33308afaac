//! Starts, kills and holds the controllers and the agents.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use multibond::{
    agent::{
        cluster::lease::LeaseTiming,
        metrics::AgentMetrics,
        serve::{self, serve},
    },
    api::portal_policy::PortalPolicy,
    controller::{self, ControllerMetrics},
};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{
    actor::Actor,
    cluster::{Cluster, SYSTEM},
    host::Host,
    network::Link,
};

/// How long a leader tries to renew its lease: the default of the product.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How long a deletion waits for acknowledgements: the default of the product.
pub const DELETION_TIMEOUT: Duration = Duration::from_secs(120);

/// The processes that should run, by their names: some may be down at present.
pub struct Actors {
    cluster: Arc<Cluster>,
    running: BTreeMap<String, Arc<Actor>>,
    /// How often each was started.
    starts: BTreeMap<String, u32>,
    /// How far the clock of each is wrong, in milliseconds.
    offsets: BTreeMap<String, i64>,
}

impl Actors {
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Actors { cluster, running: BTreeMap::new(), starts: BTreeMap::new(), offsets: BTreeMap::new() }
    }

    /// Starts a process that does not run: `controller-...` or `agent-NODE`.
    pub fn start(&mut self, name: &str) {
        if self.running.contains_key(name) {
            return;
        }
        let count = self.starts.entry(name.to_owned()).or_default();
        *count += 1;
        let identity = format!("{name}#{count}");
        let actor = Actor::new(identity.clone(), self.offsets.get(name).copied().unwrap_or(0));
        self.running.insert(name.to_owned(), actor.clone());
        self.cluster.step(format_args!("{identity} starts"));
        let client = Link { cluster: self.cluster.clone(), actor: actor.clone() }.client();
        let platform = actor.platform();
        let tasks = platform.tasks.clone();
        if let Some(node) = name.strip_prefix("agent-") {
            let host = Arc::new(Host { cluster: self.cluster.clone(), node: node.to_owned() });
            let options = serve::Options {
                node: node.into(),
                namespace: SYSTEM.to_owned(),
                lease: LeaseTiming { duration: Duration::from_secs(40), renew_every: Duration::from_secs(10) },
                portals: PortalPolicy::default(),
                last_plan: None,
            };
            let metrics = AgentMetrics::default();
            self.cluster.memory(|memory| memory.agent_starts(identity, &metrics));
            tasks.spawn(serve(platform, client, host, options, metrics, CancellationToken::new()));
        } else {
            let options = controller::Options {
                namespace: SYSTEM.to_owned(),
                identity: identity.clone(),
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                deletion_timeout: DELETION_TIMEOUT,
                lease_duration: Duration::from_secs(15),
                renew_deadline: RENEW_DEADLINE,
                retry_period: Duration::from_secs(2),
            };
            let metrics = ControllerMetrics::new(&mut Registry::default());
            self.cluster.memory(|memory| memory.controller_starts(identity, &metrics));
            let cluster = self.cluster.clone();
            tasks.spawn(async move {
                let stop = CancellationToken::new();
                let ended = controller::run_on(platform, client, options, metrics, None, stop).await;
                cluster.violated(ended.map_err(|error| format!("a controller has ended: {error}")));
            });
        }
    }

    /// Kills a process, at whatever it is.
    pub fn kill(&mut self, name: &str) {
        if let Some(actor) = self.running.remove(name) {
            actor.kill();
            self.cluster.memory(|memory| memory.ends(&actor.name));
            self.cluster.step(format_args!("a fault: {} is killed", actor.name));
        }
    }

    /// Holds a process.
    pub fn hold(&mut self, name: &str) {
        if let Some(actor) = self.running.get(name) {
            actor.hold();
            self.cluster.step(format_args!("a fault: {} stands still", actor.name));
        }
    }

    /// Lets a process go on.
    pub fn go_on(&mut self, name: &str) {
        if let Some(actor) = self.running.get(name) {
            self.cluster.step(format_args!("{} goes on", actor.name));
            actor.go_on();
        }
    }

    /// Sets the wall clock of a process, which stays wrong when it is started again.
    pub fn set_clock(&mut self, name: &str, offset: i64) {
        self.offsets.insert(name.to_owned(), offset);
        if let Some(actor) = self.running.get(name) {
            actor.set_clock(offset);
            self.cluster.step(format_args!("a fault: the clock of {} is wrong by {offset} ms", actor.name));
        }
    }
}
