//! Leader election: one of several replicas acts, as with the package `leaderelection` of client-go.
//!
//! A replica replaces the lease with the resourceVersion that it has read: if two replicas try to take the lease, one
//! of them fails. The lease of another replica runs from the moment when this replica saw its renewal, on the monotonic
//! clock of this process, because the clocks of machines differ. A leader that cannot renew its lease stops acting
//! before the lease expires.
//!
//! No crate for leader election is used, for two reasons. Each write must check the leadership by the clock
//! ([`Leadership`]): a stalled process may see an event too late. And the lease must be released after the last write.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::api::LEADER_LEASE;

/// The times of an election; the defaults are those of client-go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// The validity of the lease after each renewal.
    pub lease: Duration,
    /// The time after which a leader that cannot renew stops acting; shorter than the lease.
    pub renew: Duration,
    /// The time between two attempts.
    pub retry: Duration,
}

/// Whether this replica leads.
///
/// Check it before each write. It compares the clock: if the process was stopped for longer than its lease, the task
/// that writes may run before the task that renews the lease.
#[derive(Clone, Debug)]
pub(crate) struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// Whether this replica leads now.
    pub(crate) fn is_leader(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until the leadership is gained, renewed or lost.
    pub(crate) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.0.changed().await
    }
}

/// The lease as last seen, and when it was first seen like this.
struct SeenLease {
    lease: Lease,
    at: Instant,
}

/// A candidate.
pub(crate) struct LeaderElection {
    leases: Api<Lease>,
    identity: String,
    timing: Timing,
    leadership: watch::Sender<Option<Instant>>,
}

impl LeaderElection {
    /// A candidate, and its leadership.
    pub(crate) fn new(leases: Api<Lease>, identity: String, timing: Timing) -> (Self, Leadership) {
        let (leadership, receiver) = watch::channel(None);
        (LeaderElection { leases, identity, timing, leadership }, Leadership(receiver))
    }

    /// Runs until `shutdown`. Then it releases the lease, so that another replica need not wait until it expires.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut seen = None;
        let mut renewed: Option<Instant> = None;
        loop {
            let give_up = renewed.map(|at| at + self.timing.renew);
            let begun = Instant::now();
            let attempt = timeout(self.timing.renew.min(self.timing.lease / 2), self.attempt(&mut seen));
            let outcome = tokio::select! {
                outcome = attempt => outcome,
                () = shutdown.cancelled() => break,
                () = until(give_up) => Ok(Ok(false)),
            };
            match outcome {
                Ok(Ok(true)) => renewed = Some(begun),
                Ok(Ok(false)) => {
                    // Another replica has the lease, or was faster this time.
                    if self.held_by_another(seen.as_ref()) {
                        renewed = None;
                    }
                }
                Ok(Err(error)) => tracing::debug!(%error, "cannot read or write the leader's lease"),
                Err(_) => tracing::debug!("cannot read or write the leader's lease in time"),
            }
            if renewed.is_some_and(|at| Instant::now() >= at + self.timing.renew) {
                renewed = None;
            }
            let before = self.leadership.send_replace(renewed.map(|at| at + self.timing.renew));
            if before.is_some() != renewed.is_some() {
                tracing::info!(identity = self.identity, leading = renewed.is_some(), "leader election");
            }
            tokio::select! {
                () = tokio::time::sleep(self.timing.retry) => {}
                () = shutdown.cancelled() => break,
            }
        }
        self.leadership.send_replace(None);
        if renewed.is_none() {
            return;
        }
        let unreleased = "cannot release the leader's lease; another replica waits until it expires";
        match timeout(self.timing.renew, self.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(%error, "{unreleased}"),
            Err(_) => tracing::info!(error = "the API server does not answer", "{unreleased}"),
        }
    }

    fn held_by_another(&self, seen: Option<&SeenLease>) -> bool {
        let holder = seen.and_then(|seen| seen.lease.spec.as_ref()?.holder_identity.as_deref());
        holder.is_some_and(|holder| !holder.is_empty() && holder != self.identity)
    }

    /// Takes or renews the lease. Returns whether this replica has it now.
    async fn attempt(&self, seen: &mut Option<SeenLease>) -> kube::Result<bool> {
        let Some(lease) = self.leases.get_opt(LEADER_LEASE).await? else {
            let lease = self.renewal(None);
            let created = self.leases.create(&PostParams::default(), &lease).await;
            return ours_unless_taken(created, seen);
        };
        let changed = seen.as_ref().is_none_or(|seen| seen.lease.spec != lease.spec);
        let at = match seen {
            Some(seen) if !changed => seen.at,
            _ => Instant::now(),
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let lasts = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0));
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let free = holder.is_empty() || holder == self.identity || Instant::now() >= at + lasts;
        let renewal = self.renewal(Some(&lease));
        *seen = Some(SeenLease { lease, at });
        if !free {
            return Ok(false);
        }
        let replaced = self.leases.replace(LEADER_LEASE, &PostParams::default(), &renewal).await;
        ours_unless_taken(replaced, seen)
    }

    /// The lease as this replica writes it, with the resourceVersion that was seen.
    fn renewal(&self, current: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let before = current.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let still_ours = before.holder_identity.as_deref() == Some(&self.identity);
        let metadata = current.map(|lease| lease.metadata.clone());
        Lease {
            metadata: metadata
                .unwrap_or_else(|| ObjectMeta { name: Some(LEADER_LEASE.to_owned()), ..ObjectMeta::default() }),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(whole_seconds(self.timing.lease)),
                acquire_time: if still_ours { before.acquire_time } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(i32::from(!still_ours))),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Releases the lease. After a conflict, such as with the last renewal of this replica, it is read again.
    async fn release(&self) -> kube::Result<()> {
        loop {
            let Some(mut lease) = self.leases.get_opt(LEADER_LEASE).await? else { return Ok(()) };
            let ours = |spec: &&mut LeaseSpec| spec.holder_identity.as_deref() == Some(&self.identity);
            let Some(spec) = lease.spec.as_mut().filter(ours) else { return Ok(()) };
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            match self.leases.replace(LEADER_LEASE, &PostParams::default(), &lease).await {
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                released => return released.map(drop),
            }
        }
    }
}

/// Rounded up: other replicas must not take a lease before its holder stops acting.
fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
}

/// If two replicas replace the same version, one gets a conflict: it has lost, which is no error.
fn ours_unless_taken(written: kube::Result<Lease>, seen: &mut Option<SeenLease>) -> kube::Result<bool> {
    match written {
        Ok(lease) => {
            *seen = Some(SeenLease { lease, at: Instant::now() });
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
