//! Whether the agent sees its host. The lease shows it to the controller.

use std::time::Duration;

use tokio::sync::watch;

use crate::ops::Clock;

/// After this time without a look at the host the agent does not count as alive: what it reported last may be untrue, and it
/// repairs nothing.
const BLIND_AFTER: Duration = Duration::from_secs(60);

/// Whether an agent may count as alive: not while it cannot read its host, nor while it hangs in reading it.
#[derive(Clone, Debug)]
pub struct Liveness {
    clock: Clock,
    /// Since when the agent has wanted to look at its host and has not seen it.
    blind_since: watch::Sender<Option<Duration>>,
}

impl Liveness {
    /// That of an agent with this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Liveness { clock, blind_since: watch::Sender::new(None) }
    }

    /// A look at the host begins.
    pub fn looks(&self) {
        let now = self.clock.now().monotonic;
        self.blind_since.send_modify(|since| _ = since.get_or_insert(now));
    }

    /// The look has ended well.
    pub fn has_looked(&self) {
        self.blind_since.send_replace(None);
    }

    /// Whether the agent counts as alive now.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let now = self.clock.now().monotonic;
        self.blind_since.borrow().is_none_or(|since| now.saturating_sub(since) < BLIND_AFTER)
    }
}
