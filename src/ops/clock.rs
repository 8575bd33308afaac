//! One reading of both clocks. Decisions get it as a value, so that a test can choose the time.

use std::time::Duration;

use jiff::Timestamp;
pub use tokio::time::Instant;

/// A point in time, on two clocks.
///
/// The wall clock may be set forward and back. The monotonic clock may not, but its readings have no meaning in another
/// process. So times in objects use `wall`, and pauses and deadlines use `monotonic`.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The time of day, to write into objects and to compare with times in objects.
    pub wall: Timestamp,
    /// The time since the [`Clock`] was started, for pauses and deadlines.
    pub monotonic: Duration,
}

/// The two clocks of a process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    wall: fn() -> Timestamp,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn start() -> Self {
        Clock::with_wall(time_of_day)
    }

    /// A clock whose monotonic time begins now, and whose wall time is what `wall` returns.
    #[must_use]
    pub fn with_wall(wall: fn() -> Timestamp) -> Self {
        Clock { started: Instant::now(), wall }
    }

    /// Reads both clocks. In a tokio runtime whose time is paused, the monotonic time stands still too.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { wall: self.wall(), monotonic: self.started.elapsed() }
    }

    /// Reads the wall clock.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        (self.wall)()
    }

    /// The instant of a monotonic time, for tokio's timers.
    #[must_use]
    pub fn instant(&self, monotonic: Duration) -> Instant {
        self.started + monotonic
    }
}

/// The machine's time of day, for what is shown to people. The controller and the agents have a [`Clock`].
#[must_use]
pub fn time_of_day() -> Timestamp {
    Timestamp::now()
}
