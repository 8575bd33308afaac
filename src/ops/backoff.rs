//! The pause before a retry: exponential backoff with jitter.
//!
//! It is a pure function of the number of failures and a seed. The state machines that use it are pure as well, keep
//! the number of failures themselves, and are tested with fixed seeds. The iterators of crates such as `backon` hold
//! that state and draw from a random generator, so they do not fit here.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash, RandomState},
    time::Duration,
};

/// A pause that doubles with each failure in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// The pause does not grow beyond this.
    pub longest: Duration,
}

impl Backoff {
    /// The pause after this many failures in a row (1 after the first): the exponential pause, or down to half of it,
    /// so that operations that failed together are not retried together. Equal seeds give equal pauses.
    #[must_use]
    pub fn pause(&self, failures: u32, seed: impl Hash) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        whole / 2 + fraction(whole / 2, (seed, failures))
    }
}

/// A duration between zero and `whole`, chosen by `seed`: the same seed gives the same duration.
#[must_use]
pub fn fraction(whole: Duration, seed: impl Hash) -> Duration {
    let drawn = BuildHasherDefault::<DefaultHasher>::default().hash_one(seed);
    let thousandths = u32::try_from(drawn % 1001).unwrap_or(0);
    whole.saturating_mul(thousandths) / 1000
}

/// A seed by chance, so that processes that fail together do not try again together. The standard library takes its chance
/// from the system.
#[must_use]
pub fn random_seed() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(30) };

    #[test]
    fn pauses_double_up_to_the_longest_and_lose_at_most_half_to_jitter() {
        for (failures, whole) in [(1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (40, 30), (u32::MAX, 30)] {
            for seed in 0..200 {
                let (pause, whole) = (BACKOFF.pause(failures, seed), Duration::from_secs(whole));
                assert!((whole / 2..=whole).contains(&pause), "{failures} failures: {pause:?}");
            }
        }
    }

    #[test]
    fn different_seeds_give_different_pauses() {
        let pauses: std::collections::BTreeSet<_> = (0..50).map(|seed| BACKOFF.pause(5, seed)).collect();
        assert!(pauses.len() > 40, "{pauses:?}");
    }
}
