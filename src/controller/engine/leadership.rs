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

use crate::{api::LEADER_LEASE, ops::Clock};

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
#[derive(Clone)]
struct SeenLease {
    lease: Lease,
    at: Instant,
}

impl SeenLease {
    /// `lease` was read now; a lease that is as before runs since it was first seen.
    fn read(before: Option<&SeenLease>, lease: Lease, now: Instant) -> Self {
        let unchanged = before.filter(|before| before.lease.spec == lease.spec);
        SeenLease { at: unchanged.map_or(now, |before| before.at), lease }
    }

    /// The replica that holds the lease; a released lease has none.
    fn holder(&self) -> Option<&str> {
        self.lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    fn is_held_by_another(&self, identity: &str) -> bool {
        self.holder().is_some_and(|holder| holder != identity)
    }

    /// Whether the replica `identity` may take or renew the lease.
    fn is_free_for(&self, identity: &str, now: Instant) -> bool {
        let seconds = self.lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        !self.is_held_by_another(identity) || now >= self.at + duration
    }
}

/// A candidate.
pub(crate) struct LeaderElection {
    leases: Api<Lease>,
    identity: String,
    timing: Timing,
    clock: Clock,
    leadership: watch::Sender<Option<Instant>>,
}

impl LeaderElection {
    /// A candidate, and its leadership.
    pub(crate) fn new(leases: Api<Lease>, identity: String, timing: Timing, clock: Clock) -> (Self, Leadership) {
        let (leadership, receiver) = watch::channel(None);
        (LeaderElection { leases, identity, timing, clock, leadership }, Leadership(receiver))
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
                    if seen.as_ref().is_some_and(|seen: &SeenLease| seen.is_held_by_another(&self.identity)) {
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
                // The engine learns at once that the lead is over.
                () = until(renewed.map(|at| at + self.timing.renew)) => {}
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

    /// Takes or renews the lease. Returns whether this replica has it now.
    async fn attempt(&self, seen: &mut Option<SeenLease>) -> kube::Result<bool> {
        let Some(lease) = self.leases.get_opt(LEADER_LEASE).await? else {
            let lease = renewal(None, &self.identity, self.timing.lease, self.clock.wall());
            let created = self.leases.create(&PostParams::default(), &lease).await;
            return ours_unless_taken(created, seen);
        };
        let now = Instant::now();
        let read = seen.insert(SeenLease::read(seen.as_ref(), lease, now));
        if !read.is_free_for(&self.identity, now) {
            return Ok(false);
        }
        let renewal = renewal(Some(&read.lease), &self.identity, self.timing.lease, self.clock.wall());
        let replaced = self.leases.replace(LEADER_LEASE, &PostParams::default(), &renewal).await;
        ours_unless_taken(replaced, seen)
    }

    /// Releases the lease. After a conflict, such as with the last renewal of this replica, it is read again.
    async fn release(&self) -> kube::Result<()> {
        loop {
            let Some(mut lease) = self.leases.get_opt(LEADER_LEASE).await? else { return Ok(()) };
            let ours = |spec: &&mut LeaseSpec| spec.holder_identity.as_deref() == Some(&self.identity);
            let Some(spec) = lease.spec.as_mut().filter(ours) else { return Ok(()) };
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(self.clock.wall()));
            match self.leases.replace(LEADER_LEASE, &PostParams::default(), &lease).await {
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                released => return released.map(drop),
            }
        }
    }
}

/// The lease as the replica `identity` writes it, with the resourceVersion of `current`.
fn renewal(current: Option<&Lease>, identity: &str, duration: Duration, now: Timestamp) -> Lease {
    let now = MicroTime(now);
    let before = current.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let still_ours = before.holder_identity.as_deref() == Some(identity);
    let metadata = current.map(|lease| lease.metadata.clone());
    Lease {
        metadata: metadata
            .unwrap_or_else(|| ObjectMeta { name: Some(LEADER_LEASE.to_owned()), ..ObjectMeta::default() }),
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: Some(whole_seconds(duration)),
            acquire_time: if still_ours { before.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(i32::from(!still_ours))),
            ..LeaseSpec::default()
        }),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use k8s_openapi::api::coordination::v1::Lease;
    use tokio::time::Instant;

    use super::{SeenLease, renewal};

    const LEASE: Duration = Duration::from_millis(1500);
    const SECOND: Duration = Duration::from_secs(1);

    fn renewed(current: Option<&Lease>, identity: &str, second: i64) -> Lease {
        renewal(current, identity, LEASE, Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_lease_runs_from_when_its_renewal_was_seen_whatever_it_says() {
        let start = Instant::now();
        let first = SeenLease::read(None, renewed(None, "a", 1_000_000), start);
        let again = SeenLease::read(Some(&first), first.lease.clone(), start + SECOND);
        assert!(!again.is_free_for("b", start + SECOND), "its 1.5 s count as 2 s");
        assert!(again.is_free_for("b", start + 2 * SECOND));

        let renewal = renewed(Some(&first.lease), "a", 5);
        let again = SeenLease::read(Some(&first), renewal, start + 2 * SECOND);
        assert!(!again.is_free_for("b", start + 3 * SECOND), "renewed, by a clock that was set back");
    }

    #[test]
    fn the_holder_may_always_renew_and_a_released_lease_is_free() {
        let now = Instant::now();
        let mut seen = SeenLease::read(None, renewed(None, "a", 0), now);
        assert!(seen.is_free_for("a", now) && !seen.is_held_by_another("a") && seen.is_held_by_another("b"));
        seen.lease.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert!(seen.is_free_for("b", now) && !seen.is_held_by_another("b"));
        seen.lease.spec = None;
        assert!(seen.is_free_for("b", now));
    }

    #[test]
    fn a_lease_tells_since_when_its_holder_leads_and_counts_the_changes() {
        let told = |lease: &Lease| {
            let spec = lease.spec.clone().unwrap();
            (spec.acquire_time.unwrap().0.as_second(), spec.renew_time.unwrap().0.as_second(), spec.lease_transitions)
        };
        let first = renewed(None, "a", 10);
        let second = renewed(Some(&first), "a", 20);
        let third = renewed(Some(&second), "b", 30);
        assert_eq!(
            [told(&first), told(&second), told(&third)],
            [(10, 10, Some(1)), (10, 20, Some(1)), (30, 30, Some(2))]
        );
    }
}
