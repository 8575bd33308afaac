//! What is left to chance, and can be repeated.

use std::{env, time::Duration};

/// The variable that sets the seed.
const SEED: &str = "MULTIBOND_SEED";
/// The variable that sets how often a test repeats what it draws.
const ROUNDS: &str = "MULTIBOND_ROUNDS";

/// How many rounds a test draws: `MULTIBOND_ROUNDS` (`make long` sets it), or `usual`, which is enough to see the behaviour.
///
/// # Panics
/// When that is no number.
#[must_use]
#[expect(clippy::panic, reason = "its callers are tests, which a typing error must not shorten")]
pub fn rounds(usual: u32) -> u32 {
    env::var(ROUNDS).map_or(usual, |rounds| {
        rounds.parse().unwrap_or_else(|_| panic!("{ROUNDS} is {rounds:?}, expected a whole number"))
    })
}

/// Draws from a seed, which it prints.
#[derive(Debug)]
pub struct Chance(fastrand::Rng);

impl Chance {
    /// Draws from the seed in `MULTIBOND_SEED`, or from another one each time.
    ///
    /// # Panics
    /// When that is no number.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each is another one")]
    #[expect(clippy::panic, reason = "its callers are tests, which a typing error must not let draw something else")]
    pub fn new() -> Self {
        let seed = match env::var(SEED) {
            Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("{SEED} is {seed:?}, expected a whole number")),
            Err(_) => fastrand::u64(..),
        };
        println!("{SEED}={seed} draws the same again");
        Chance(fastrand::Rng::with_seed(seed))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.u64(..end)
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.usize(..all.len())]
    }

    /// Any of these, none and all included, in their order.
    pub fn any_of<T: Copy>(&mut self, all: &[T]) -> Vec<T> {
        all.iter().copied().filter(|_| self.0.bool()).collect()
    }

    /// Some of these, each once: at least one, and at most so many.
    pub fn some_of<T: Copy>(&mut self, all: &[T], at_most: usize) -> Vec<T> {
        let mut some = all.to_vec();
        self.shuffle(&mut some);
        some.truncate(self.0.usize(1..=at_most));
        some
    }

    /// Brings these into any order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        self.0.shuffle(all);
    }

    /// Lets some time pass: a fault may come at any moment.
    pub async fn pause(&mut self, at_most: Duration) {
        tokio::time::sleep(at_most.mul_f64(self.0.f64())).await;
    }
}
