//! Losses of a session that are too short for its path to fail. One is nothing to report; one after the other is a bad
//! cable, and each costs the I/O a second. Pure.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{api::condition::whole_second, ops::Now};

/// The time that a session may be lost before its path counts as Failed.
pub const LOST_AFTER: Duration = Duration::from_secs(3);
/// Without another loss for this long, the losses are forgotten.
const CALM_AFTER: Duration = Duration::from_secs(600);
/// The numbers of losses that are reported. What lies between them changes no report, so that a bad cable costs few writes.
const STEPS: [u32; 8] = [3, 10, 30, 100, 300, 1000, 3000, 10_000];

/// The short losses of a path's session, until it has been calm for a while.
#[derive(Clone, Debug, Default)]
pub struct ShortLosses {
    count: u32,
    /// The first of them.
    since: Option<Time>,
    last_at: Duration,
}

impl ShortLosses {
    /// The session is back after less than [`LOST_AFTER`].
    pub fn add(&mut self, now: Now) {
        self.forget_if_calm(now);
        self.count = self.count.saturating_add(1);
        self.since.get_or_insert_with(|| whole_second(now.wall));
        self.last_at = now.monotonic;
    }

    /// Forgets the losses when the last one is long ago.
    pub fn forget_if_calm(&mut self, now: Now) {
        if self.calm_at().is_some_and(|at| at <= now.monotonic) {
            *self = ShortLosses::default();
        }
    }

    /// The time at which the losses are forgotten.
    #[must_use]
    pub fn calm_at(&self) -> Option<Duration> {
        (self.count > 0).then(|| self.last_at + CALM_AFTER)
    }

    /// The losses as they are reported: none while they are few.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let count = STEPS.into_iter().rfind(|step| *step <= self.count)?;
        let since = &self.since.as_ref()?.0;
        let seconds = LOST_AFTER.as_secs();
        Some(format!(
            "flapping: lost at least {count} times since {since}, each for less than {seconds} s; check cable, \
             transceiver and switch port"
        ))
    }
}
