//! How long to wait before a failed path is tried again.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash},
    time::Duration,
};

use crate::api::reason::PathReason;

/// The pause doubles from `first` to `longest`.
struct Pace {
    first: Duration,
    longest: Duration,
}

/// What may come back at any moment: a cable, a portal, a daemon.
const QUICK: Pace = Pace { first: Duration::from_secs(2), longest: Duration::from_secs(30) };
/// What a person has to correct, and what an array may lock an account for.
const SLOW: Pace = Pace { first: Duration::from_secs(120), longest: Duration::from_secs(600) };

/// A target that is not found is tried quickly: an array that restarts opens its portals before it has its targets.
fn pace(reason: PathReason) -> Pace {
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

/// The pause after so many failures in a row: between half of the exponential pause and all of it, so that what failed
/// together is not retried together. Which part is drawn from `seed`.
#[must_use]
pub fn pause(reason: PathReason, failures: u32, seed: impl Hash) -> Duration {
    let Pace { first, longest } = pace(reason);
    let doublings = failures.saturating_sub(1).min(16);
    let whole = first.saturating_mul(1 << doublings).min(longest);
    whole / 2 + share(whole / 2, (seed, failures))
}

/// The longest pause for a reason, as it is reported. It says the same at every attempt, so that a retry that fails as
/// before changes nothing.
#[must_use]
pub fn retry_every(reason: PathReason) -> String {
    let seconds = pace(reason).longest.as_secs();
    if seconds.is_multiple_of(60) { format!("{}m", seconds / 60) } else { format!("{seconds}s") }
}

/// A part of a duration, drawn from `seed`: the same seed gives the same part.
#[must_use]
pub fn share(whole: Duration, seed: impl Hash) -> Duration {
    let drawn = BuildHasherDefault::<DefaultHasher>::default().hash_one(seed);
    let thousandths = u32::try_from(drawn % 1001).unwrap_or(0);
    whole.saturating_mul(thousandths) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_portal_is_tried_within_a_second_or_two_and_then_every_half_minute() {
        for seed in 0..200 {
            let first = pause(PathReason::PortalUnreachable, 1, seed);
            assert!((Duration::from_secs(1)..=Duration::from_secs(2)).contains(&first), "{first:?}");
            let later = pause(PathReason::PortalUnreachable, 40, seed);
            assert!((Duration::from_secs(15)..=Duration::from_secs(30)).contains(&later), "{later:?}");
        }
        assert_eq!(retry_every(PathReason::PortalUnreachable), "30s");
    }

    #[test]
    fn wrong_credentials_are_tried_every_minute_at_most_and_every_ten_in_the_end() {
        for seed in 0..200 {
            assert!(pause(PathReason::AuthenticationFailed, 1, seed) >= Duration::from_secs(60));
            assert!(pause(PathReason::AuthenticationFailed, 99, seed) <= Duration::from_secs(600));
        }
        assert_eq!(retry_every(PathReason::AuthenticationFailed), "10m");
    }

    #[test]
    fn pauses_of_different_hosts_differ() {
        let pauses: std::collections::BTreeSet<_> = (0..50).map(|seed| pause(PathReason::Timeout, 5, seed)).collect();
        assert!(pauses.len() > 40, "{pauses:?}");
    }
}
