//! Choices that can be repeated.

/// `SplitMix64`: small, and good enough to choose with.
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// With the seed that an environment variable gives, else with one of the moment.
    pub fn from_environment(variable: &str) -> Self {
        let given = std::env::var(variable).ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| k8s_openapi::jiff::Timestamp::now().as_millisecond().unsigned_abs());
        Random { seed, state: seed }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let length = u64::try_from(choices.len()).unwrap();
        choices[usize::try_from(self.below(length)).unwrap()]
    }

    /// Some of the choices, none and all included, in their order.
    pub fn some<T: Copy>(&mut self, choices: &[T]) -> Vec<T> {
        choices.iter().copied().filter(|_| self.below(2) == 0).collect()
    }
}
