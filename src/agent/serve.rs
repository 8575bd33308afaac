//! One agent with all its parts: the loop, the watch of its Hosts, the cluster, and the lease.

use std::{path::PathBuf, sync::Arc, time::Duration};

use kube::Client;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    Agent, ColdStart,
    cluster::{
        KubeCluster,
        hosts::{self, Contact},
        lease::{LeaseRenewer, LeaseTiming},
    },
    initiator::Initiator,
    metrics::AgentMetrics,
};
use crate::{
    api::{NodeName, portal_policy::PortalPolicy},
    ops::Platform,
};

/// Concurrent writes of one agent: a status and a lease, and some for Hosts that it does not serve.
const MAX_REQUESTS: usize = 4;

/// The settings of an agent.
#[derive(Debug)]
pub struct Options {
    /// The node that it serves.
    pub node: NodeName,
    /// The namespace of the leases.
    pub namespace: String,
    /// The validity of its lease, and the interval of its renewals.
    pub lease: LeaseTiming,
    /// Which portals may be dialled.
    pub portals: PortalPolicy,
    /// The file with the last plan, and how old the plan may be; none if no plan is kept.
    pub last_plan: Option<(PathBuf, Duration)>,
}

/// Serves the Host of a node with an initiator until `stop` is cancelled. The sessions stay.
pub async fn serve(
    platform: Platform,
    client: Client,
    initiator: Arc<impl Initiator>,
    options: Options,
    metrics: AgentMetrics,
    stop: CancellationToken,
) {
    let Options { node, namespace, lease, portals, last_plan } = options;
    let tasks = platform.tasks.clone();
    let requests = Arc::new(Semaphore::new(MAX_REQUESTS));
    let (sender, node_hosts) = watch::channel(None);
    let (contact, contact_seen) = watch::channel(Contact::default());
    let renewer = LeaseRenewer::new(client.clone(), &namespace, node.clone(), lease, requests.clone(), metrics.clone())
        .with_clock(platform.clock);
    let hosts = tasks.spawn(hosts::watch_node(client.clone(), node.clone(), sender, contact, metrics.clone()));
    info!(%node, "serving");
    let cluster = Arc::new(KubeCluster::new(client, requests, tasks.clone()));
    let mut agent = Agent::new(node.clone(), initiator, cluster, node_hosts, metrics, portals).on(platform);
    if let Some((file, max_age)) = last_plan {
        agent = agent.with_cold_start(ColdStart::new(file, max_age, contact_seen));
    }
    let lease = tasks.spawn(renewer.run(agent.liveness()));
    agent.run(stop).await;
    lease.abort();
    hosts.abort();
    info!(%node, "stopped; sessions stay");
}
