//! Random choices that can be repeated.

use std::{env, time::Duration};

/// The environment variable of the seed.
const SEED: &str = "MULTIBOND_SEED";
/// The environment variable of the number of rounds.
const ROUNDS: &str = "MULTIBOND_ROUNDS";
/// The environment variable of proptest for the number of inputs of a property test.
const CASES: &str = "PROPTEST_CASES";

/// The number of rounds of a random test: `MULTIBOND_ROUNDS` (`make long` sets it), or else `usual`, which is enough to
/// see the behaviour.
///
/// # Panics
/// If the value is not a whole number.
#[must_use]
pub fn rounds(usual: u32) -> u32 {
    number(ROUNDS, usual)
}

/// The number of inputs of a property test: `PROPTEST_CASES` (`make unit` sets it to a few), or else `usual`. proptest
/// itself reads the variable only where a test gives no number.
///
/// # Panics
/// If the value is not a whole number.
#[must_use]
pub fn cases(usual: u32) -> u32 {
    number(CASES, usual)
}

#[expect(clippy::panic, reason = "its callers are tests, which a typing error must not shorten")]
fn number(variable: &str, usual: u32) -> u32 {
    env::var(variable).map_or(usual, |value| {
        value.parse().unwrap_or_else(|_| panic!("{variable} is {value:?}, expected a whole number"))
    })
}

/// A random number generator that prints its seed.
#[derive(Debug)]
pub struct Chance(fastrand::Rng);

impl Chance {
    /// Takes the seed from `MULTIBOND_SEED`, or a new one each time.
    ///
    /// # Panics
    /// If the value is not a whole number.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each one has another seed")]
    #[expect(clippy::panic, reason = "its callers are tests, which a typing error must not let draw something else")]
    pub fn new() -> Self {
        let seed = match env::var(SEED) {
            Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("{SEED} is {seed:?}, expected a whole number")),
            Err(_) => fastrand::u64(..),
        };
        println!("{SEED}={seed} draws the same again");
        Chance(fastrand::Rng::with_seed(seed))
    }

    /// Another generator, for what happens at the same time. It is drawn from this one, so one seed repeats both.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.u64(..end)
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.usize(..all.len())]
    }

    /// Any subset of these, in their order; it may be empty or all of them.
    pub fn any_of<T: Copy>(&mut self, all: &[T]) -> Vec<T> {
        all.iter().copied().filter(|_| self.0.bool()).collect()
    }

    /// Some of these, each once: at least one, and at most `at_most`.
    pub fn some_of<T: Copy>(&mut self, all: &[T], at_most: usize) -> Vec<T> {
        let mut some = all.to_vec();
        self.shuffle(&mut some);
        some.truncate(self.0.usize(1..=at_most));
        some
    }

    /// Puts these into a random order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        self.0.shuffle(all);
    }

    /// Waits for a random time, because a fault may come at any moment.
    pub async fn pause(&mut self, at_most: Duration) {
        tokio::time::sleep(at_most.mul_f64(self.0.f64())).await;
    }
}
