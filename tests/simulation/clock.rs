//! The simulated time: tokio's paused clock is the monotonic one, and each actor has a wall clock of its own over it.

use std::{cell::Cell, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The wall time at which every simulation begins: 2026-01-01T00:00:00Z.
const BEGINS: i64 = 1_767_225_600;

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// How far the wall clock of the actor whose task runs is from the true time, in milliseconds.
    static OFFSET: Cell<i64> = const { Cell::new(0) };
}

/// Begins the simulation's time now.
pub fn begin() {
    BEGAN.set(Some(Instant::now()));
}

/// The time since the simulation has begun.
pub fn elapsed() -> Duration {
    BEGAN.get().map(|began| began.elapsed()).unwrap_or_default()
}

/// The true wall time, as the API server has it.
pub fn wall() -> Timestamp {
    let now = SignedDuration::try_from(elapsed()).unwrap();
    Timestamp::from_second(BEGINS).unwrap() + now
}

/// The wall time of the actor whose task runs.
pub fn actors_wall() -> Timestamp {
    wall() + SignedDuration::from_millis(OFFSET.get())
}

/// A task runs of an actor whose clock differs by so many milliseconds.
pub fn set_offset(milliseconds: i64) {
    OFFSET.set(milliseconds);
}
