//! The node's lease: it tells the controller that the agent is alive, whatever its logins are doing.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
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

use crate::{
    agent::metrics::{AgentMetrics, accepted},
    api::{AGENT_LEASE_PREFIX, AGENT_MANAGER},
    ops::{backoff, errors::brief, log_once::LogOnce},
};

/// A node's lease is named so: the node's name is a DNS subdomain, and so is a Lease's.
#[must_use]
pub fn name_for(node: &str) -> String {
    format!("{AGENT_LEASE_PREFIX}{node}")
}

/// How a lease is kept.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long the agent counts as alive after a renewal.
    pub duration: Duration,
    /// How often it is renewed.
    pub renew_every: Duration,
}

/// The keeper of one node's lease.
#[derive(Clone)]
pub struct Keeper {
    api: Api<Lease>,
    node: Arc<str>,
    timing: Timing,
    requests: Arc<Semaphore>,
    metrics: AgentMetrics,
}

impl Keeper {
    /// `requests` bounds the renewals at once of all that share it.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        node: Arc<str>,
        timing: Timing,
        requests: Arc<Semaphore>,
        metrics: AgentMetrics,
    ) -> Self {
        Keeper { api: Api::namespaced(client, namespace), node, timing, requests, metrics }
    }

    /// Renews the lease for ever. It is not given up at the end: a restarted agent is not a silent one.
    pub async fn keep(self) {
        let mut log = LogOnce::new(format!("renew the lease of node {}", self.node));
        for round in 0_u64.. {
            // Boxed, so that the thousands of keepers of a simulation are small while they sleep.
            let renewed = Box::pin(timeout(self.timing.duration / 2, self.renew())).await;
            let renewed = match renewed {
                Ok(renewed) => renewed.map_err(|error| brief(&error)),
                Err(_) => Err("the API server does not answer".to_owned()),
            };
            self.metrics.renewals.get_or_create(&accepted(&renewed)).inc();
            match renewed {
                Ok(()) => log.recovered(),
                Err(error) => log.failed(error),
            }
            // A tenth of jitter: agents that started together do not renew together for ever.
            let tenth = self.timing.renew_every / 10;
            sleep(tenth.saturating_mul(9) + backoff::fraction(tenth, (&self.node, round))).await;
        }
    }

    async fn renew(&self) -> kube::Result<()> {
        let Ok(_turn) = self.requests.acquire().await else { return Ok(()) };
        let name = name_for(&self.node);
        let now = MicroTime(Timestamp::now());
        let seconds = i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX);
        let renewal = json!({"spec": {
            "holderIdentity": self.node, "leaseDurationSeconds": seconds, "renewTime": now,
        }});
        let manager = Some(AGENT_MANAGER.to_owned());
        let parameters = PatchParams { field_manager: manager.clone(), ..PatchParams::default() };
        match self.api.patch(&name, &parameters, &Patch::Merge(renewal)).await {
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
