//! The controller: decides what should be, writes it into each Host's status, and sums up what is.
//!
//! The watches feed one world, which tells what has to be looked at; a file per kind decides, as a pure function of the
//! world; the engine carries the decisions out, one at a time per object, many objects at a time.

mod engine;
mod index;
mod reconcile;
pub mod release;
mod store;

use std::{net::SocketAddr, time::Duration};

use kube::{Api, Client};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ops::{self, ControllerMetrics, Readiness};
use engine::{
    Engine, Report, ReportLines, Surroundings,
    leadership::{Election, Timing},
    watch::{Complaints, Watches},
};
use reconcile::Settings;

/// How the controller runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the leases are: the leader's and the agents'.
    pub namespace: String,
    /// What this replica calls itself, different from all others.
    pub identity: String,
    /// Where metrics and health are served.
    pub listen: SocketAddr,
    /// How long a deletion may wait for acknowledgements.
    pub deletion_timeout: Duration,
    /// How long the leader's lease lasts without renewal.
    pub lease_duration: Duration,
    /// How long a leader tries to renew before it stops acting; shorter than the lease.
    pub renew_deadline: Duration,
    /// Between two tries to get or to renew the lease.
    pub retry_period: Duration,
}

/// Runs the controller until `shutdown`; then the requests in flight end, and the leader's lease is released.
///
/// # Errors
/// When the address cannot be listened on. Nothing that the API server does ends it.
pub async fn run(client: Client, options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = ops::bind(options.listen).await?;
    tracing::info!(address = %listener.local_addr()?, "serving metrics and health");
    let mut registry = Registry::default();
    let metrics = ControllerMetrics::new(&mut registry);
    let (changes, received) = mpsc::channel(4096);
    let complaints = Complaints::default();
    let report = Report::default();

    Watches {
        client: client.clone(),
        namespace: options.namespace.clone(),
        changes,
        complaints: complaints.clone(),
        metrics: metrics.clone(),
    }
    .start();
    let timing = Timing { lease: options.lease_duration, renew: options.renew_deadline, retry: options.retry_period };
    let leases = Api::namespaced(client.clone(), &options.namespace);
    let (election, authority) = Election::new(leases, options.identity.clone(), timing);
    // The lease is released after the last write, not before.
    let drained = CancellationToken::new();
    let election = tokio::spawn(election.run(drained.clone()));
    let readiness = {
        let report = report.clone();
        move || readiness(&report, &complaints)
    };
    let server = tokio::spawn(ops::serve(listener, registry, readiness, drained.clone()));
    let settings = Settings { deletion_timeout: options.deletion_timeout };
    let surroundings = Surroundings {
        client,
        identity: options.identity,
        settings,
        metrics,
        report,
        changes: received,
        authority,
        shutdown,
    };
    Engine::new(surroundings).run().await;
    drained.cancel();
    election.await?;
    server.await?;
    Ok(())
}

/// Ready: every cache is filled and every watch works, whether this replica leads or stands by.
fn readiness(report: &Report, complaints: &Complaints) -> Readiness {
    let ReportLines { leading, unfilled, undecodable, forbidden } = report.read();
    let complaints = complaints.lines();
    let ready = unfilled.is_empty() && complaints.is_empty();
    let role = if leading { "leader" } else { "standby" };
    let waiting = unfilled.into_iter().map(|plural| format!("waiting for the first list of {plural}"));
    // What concerns some objects only must not stop a rollout, which may be what mends it.
    let some = undecodable.into_iter().chain(forbidden);
    Readiness { ready, lines: std::iter::once(role.to_owned()).chain(waiting).chain(complaints).chain(some).collect() }
}
