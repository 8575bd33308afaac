//! The pause before a failed path is tried again, by the reason of the failure.

use std::{hash::Hash, time::Duration};

use crate::{api::reason::PathReason, ops::backoff::Backoff};

/// For causes that may end at any moment: a cable, a portal, a daemon.
const QUICK: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(30) };
/// For causes that a person has to correct, and for which an array may lock an account.
const SLOW: Backoff = Backoff { first: Duration::from_secs(120), longest: Duration::from_secs(600) };

/// A target that is not found is tried quickly: an array that restarts opens its portals before it has its targets.
fn policy(reason: PathReason) -> Backoff {
    match reason {
        PathReason::AuthenticationFailed | PathReason::WrongInterface => SLOW,
        PathReason::PortalUnreachable
        | PathReason::TargetNotFound
        | PathReason::SecretNotFound
        | PathReason::InterfaceNotFound
        | PathReason::NoAddress
        | PathReason::NameNotResolved
        | PathReason::InitiatorDown
        | PathReason::InitiatorMissing
        | PathReason::DatabaseLocked
        | PathReason::InvalidRecord
        | PathReason::KernelModuleMissing
        | PathReason::InUse
        | PathReason::Timeout
        | PathReason::Internal => QUICK,
    }
}

/// The pause after this many failures in a row. `seed` chooses the jitter.
#[must_use]
pub fn pause(reason: PathReason, failures: u32, seed: impl Hash) -> Duration {
    policy(reason).pause(failures, seed)
}

/// The longest pause for a reason, as it is reported. It is the same for every attempt, so that a retry that
/// fails as before changes nothing in the report.
#[must_use]
pub fn retry_every(reason: PathReason) -> String {
    let seconds = policy(reason).longest.as_secs();
    if seconds.is_multiple_of(60) { format!("{}m", seconds / 60) } else { format!("{seconds}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_portal_is_tried_at_least_every_half_minute() {
        for seed in 0..200 {
            let first = pause(PathReason::PortalUnreachable, 1, seed);
            assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&first), "{first:?}");
            let later = pause(PathReason::PortalUnreachable, 40, seed);
            assert!((Duration::from_secs(15)..=Duration::from_secs(30)).contains(&later), "{later:?}");
        }
        assert_eq!(retry_every(PathReason::PortalUnreachable), "30s");
    }

    #[test]
    fn wrong_credentials_are_tried_at_most_every_minute() {
        for seed in 0..200 {
            assert!(pause(PathReason::AuthenticationFailed, 1, seed) >= Duration::from_secs(60));
            assert!(pause(PathReason::AuthenticationFailed, 99, seed) <= Duration::from_secs(600));
        }
        assert_eq!(retry_every(PathReason::AuthenticationFailed), "10m");
    }
}
