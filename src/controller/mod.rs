//! The controller: plans for each Host, publishes the plan in its status, and aggregates what the agents report.
//!
//! ```text
//!   store  <-  index  <-  reconcile  <-  engine
//!   objects    who names    decisions:    run loop, queue, watches,
//!   as seen    whom         pure          leadership, requests
//! ```

mod engine;
mod index;
mod reconcile;
pub mod release;
mod store;

#[cfg(test)]
mod fixtures;

use std::{net::SocketAddr, time::Duration};

use kube::{Api, Client};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::ops::{self, Platform, Readiness};
pub use engine::metrics::ControllerMetrics;
use engine::{
    Context, Engine,
    health::{Health, HealthState},
    leadership::{LeaderElection, Timing},
    watch::{WatchErrors, Watches},
};
use reconcile::Settings;

/// The longest time that a scrape waits for the gauges of objects; it then gets those of the scrape before.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(2);

/// The settings of the controller.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of the leases: the leader's and the agents'.
    pub namespace: String,
    /// The name of this replica, different from those of all others.
    pub identity: String,
    /// The address that serves metrics and health.
    pub listen: SocketAddr,
    /// The longest time that a deletion waits for acknowledgements.
    pub deletion_timeout: Duration,
    /// The validity of the leader's lease after each renewal.
    pub lease_duration: Duration,
    /// The time after which a leader that cannot renew its lease stops acting; shorter than the lease.
    pub renew_deadline: Duration,
    /// The time between two attempts to get or to renew the lease.
    pub retry_period: Duration,
}

/// Runs the controller until `shutdown`. Then it waits for the requests in flight, and releases the leader's lease.
///
/// # Errors
/// If it cannot listen on the address. Errors of the API server do not end it.
pub async fn run(client: Client, options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = ops::bind(options.listen).await?;
    tracing::info!(address = %listener.local_addr()?, "serving metrics and health");
    let mut registry = ops::process_registry();
    let metrics = ControllerMetrics::new(&mut registry);
    run_on(Platform::start(), client, options, metrics, Some((listener, registry)), shutdown).await
}

/// Runs the controller on a platform, as [`run`] does. If there is a listener, it serves health and the metrics of the
/// registry there; the address in the options does not matter then.
///
/// # Errors
/// If one of its tasks has panicked.
pub async fn run_on(
    platform: Platform,
    client: Client,
    options: Options,
    metrics: ControllerMetrics,
    listener: Option<(TcpListener, Registry)>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let tasks = platform.tasks.clone();
    let (changes, received) = mpsc::channel(4096);
    let errors = WatchErrors::default();
    let health = Health::default();

    Watches {
        client: client.clone(),
        namespace: options.namespace.clone(),
        changes,
        errors: errors.clone(),
        metrics: metrics.clone(),
        tasks: tasks.clone(),
    }
    .start();
    let timing = Timing { lease: options.lease_duration, renew: options.renew_deadline, retry: options.retry_period };
    let leases = Api::namespaced(client.clone(), &options.namespace);
    let (election, leadership) = LeaderElection::new(leases, options.identity.clone(), timing, platform.clock);
    // The lease must be released after the last write.
    let drained = CancellationToken::new();
    let election = tasks.spawn(election.run(drained.clone()));
    let readiness = {
        let health = health.clone();
        move || readiness(&health, &errors)
    };
    let (scrape, scrapes) = mpsc::channel::<oneshot::Sender<()>>(1);
    let refresh = move || {
        let (scrape, (reply, refreshed)) = (scrape.clone(), oneshot::channel());
        async move {
            // A scrape that comes while another waits gets the same values.
            if scrape.try_send(reply).is_ok() {
                let _ = timeout(SCRAPE_PATIENCE, refreshed).await;
            }
        }
    };
    let serve = |(listener, registry)| tasks.spawn(ops::serve(listener, registry, refresh, readiness, drained.clone()));
    let server = listener.map(serve);
    let ctx = Context {
        client,
        platform,
        identity: options.identity,
        settings: Settings { deletion_timeout: options.deletion_timeout },
        metrics,
        health,
        changes: received,
        scrapes,
        leadership,
        shutdown,
    };
    Engine::new(ctx).run().await;
    drained.cancel();
    election.await?;
    if let Some(server) = server {
        server.await?;
    }
    Ok(())
}

/// Ready when every cache is filled and every watch works. A replica that does not lead is ready too.
fn readiness(health: &Health, errors: &WatchErrors) -> Readiness {
    let HealthState { leading, unfilled, undecodable, forbidden } = health.read();
    let errors = errors.lines();
    let ready = unfilled.is_empty() && errors.is_empty();
    let role = if leading { "leader" } else { "standby" };
    let waiting = unfilled.into_iter().map(|plural| format!("waiting for the first list of {plural}"));
    // A problem with single objects must not block a rollout: the rollout may fix it.
    let problems = undecodable.into_iter().chain(forbidden);
    Readiness { ready, lines: std::iter::once(role.to_owned()).chain(waiting).chain(errors).chain(problems).collect() }
}
