//! The node's lease. It shows the controller that the agent is alive, even while all its logins hang.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::liveness::Liveness;
use crate::{
    agent::metrics::{AgentMetrics, OutcomeLabel},
    api::{AGENT_LEASE_PREFIX, AGENT_MANAGER, NodeName},
    ops::{Clock, backoff, errors::brief, log_once::LogOnce},
};

/// The name of a node's lease. It is valid, because the name of a node is a DNS subdomain.
#[must_use]
pub fn lease_name(node: &str) -> String {
    format!("{AGENT_LEASE_PREFIX}{node}")
}

/// The validity of a lease, and the interval of its renewals.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTiming {
    /// The time that the agent counts as alive after each renewal.
    pub duration: Duration,
    /// The time between two renewals.
    pub renew_every: Duration,
}

/// Renews the lease of one node.
#[derive(Clone)]
pub struct LeaseRenewer {
    api: Api<Lease>,
    node: NodeName,
    timing: LeaseTiming,
    requests: Arc<Semaphore>,
    metrics: AgentMetrics,
    clock: Clock,
}

impl LeaseRenewer {
    /// `requests` bounds the concurrent renewals of all that share it.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        node: NodeName,
        timing: LeaseTiming,
        requests: Arc<Semaphore>,
        metrics: AgentMetrics,
    ) -> Self {
        let (api, clock) = (Api::namespaced(client, namespace), Clock::start());
        LeaseRenewer { api, node, timing, requests, metrics, clock }
    }

    /// Takes the time from another clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        LeaseRenewer { clock, ..self }
    }

    /// Renews the lease until the future is dropped, while the agent is alive. The lease is not released then: an agent that
    /// is restarted must not count as dead meanwhile.
    pub async fn run(self, liveness: Liveness) {
        let mut log = LogOnce::new(format!("renew the lease of node {}", self.node));
        for round in 0_u64.. {
            if liveness.is_alive() {
                self.renew_once(&mut log).await;
            }
            // A tenth of jitter, so that agents that were started together do not always renew together.
            let tenth = self.timing.renew_every / 10;
            sleep(tenth.saturating_mul(9) + backoff::fraction(tenth, (&self.node, round))).await;
        }
    }

    async fn renew_once(&self, log: &mut LogOnce) {
        // Boxed, so that the thousands of renewers of a simulation are small while they sleep.
        let renewal = Box::pin(timeout(self.timing.duration / 2, self.renew())).await;
        let outcome = OutcomeLabel::of_request(matches!(renewal, Ok(Ok(()))));
        self.metrics.renewals.get_or_create(&outcome).inc();
        match renewal {
            Ok(Ok(())) => log.recovered(),
            Ok(Err(error)) => log.failed(brief(&error)),
            Err(_) => log.failed("the API server does not answer"),
        }
    }

    async fn renew(&self) -> kube::Result<()> {
        let Ok(_permit) = self.requests.acquire().await else { return Ok(()) };
        let name = lease_name(&self.node);
        let now = MicroTime(self.clock.wall());
        let seconds = i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX);
        let renewal = json!({"spec": {
            "holderIdentity": self.node, "leaseDurationSeconds": seconds, "renewTime": now,
        }});
        let manager = Some(AGENT_MANAGER.to_owned());
        let params = PatchParams { field_manager: manager.clone(), ..PatchParams::default() };
        match self.api.patch(&name, &params, &Patch::Merge(renewal)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            renewed => return renewed.map(drop),
        }
        let lease = Lease {
            metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.node.to_string()),
                lease_duration_seconds: Some(seconds),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        self.api.create(&PostParams { field_manager: manager, ..PostParams::default() }, &lease).await.map(drop)
    }
}
