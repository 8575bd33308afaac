//! When a report is written: only if it differs from what the API has, batched, and never lost. Pure.
//!
//! What the controller waits for goes out at once, everything else a second after the first change. While a plan's
//! first attempts end one after the other the write waits for a moment without news, so that a bond edit costs two
//! writes at most, or one when everything connects within a second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    backoff,
    path::Now,
    report::{Difference, Report},
};
use crate::api::{Host, reason::PathReason};

/// How long changes are collected.
const COLLECT: Duration = Duration::from_secs(1);
/// How long they are collected at most while first attempts keep ending.
const COLLECT_AT_MOST: Duration = Duration::from_secs(5);
/// How long a change of nothing but multipath maps may wait for the change of sessions that it goes with.
const COLLECT_MAPS: Duration = Duration::from_secs(5);

/// What is to be written into one Host, and what the API is known to have.
#[derive(Debug)]
pub struct Outbox {
    known: Arc<Host>,
    changed_at: Option<Instant>,
    under_way: bool,
    failures: u32,
    retry_at: Option<Instant>,
}

/// Whether to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// There is nothing to write, or a write is under way.
    No,
    /// Now.
    Now,
    /// Then.
    At(Instant),
}

impl Outbox {
    /// For a Host as it was read.
    #[must_use]
    pub fn new(host: Arc<Host>) -> Self {
        Outbox { known: host, changed_at: None, under_way: false, failures: 0, retry_at: None }
    }

    /// The newest known version of the Host.
    #[must_use]
    pub fn host(&self) -> &Arc<Host> {
        &self.known
    }

    /// The Host was read. A watch may be behind the answers to our own writes.
    pub fn saw(&mut self, host: &Arc<Host>) {
        if !Arc::ptr_eq(&self.known, host) && !is_older(host, &self.known) {
            self.known = host.clone();
        }
    }

    /// Whether to write this report. `progress` is when a first attempt last ended, while a plan is being carried out.
    #[must_use]
    pub fn due(&mut self, report: &Report, progress: Option<Instant>, now: Now) -> Due {
        let difference = report.difference(&self.known);
        if difference == Difference::None {
            self.changed_at = None;
            return Due::No;
        }
        let changed_at = *self.changed_at.get_or_insert(now.instant);
        if self.under_way {
            return Due::No;
        }
        let at = match (difference, progress) {
            (Difference::Awaited | Difference::None, _) => now.instant,
            (Difference::Some, None) => changed_at + COLLECT,
            (Difference::Some, Some(last)) => {
                (last + COLLECT).clamp(changed_at + COLLECT, changed_at + COLLECT_AT_MOST)
            }
            (Difference::Maps, _) => changed_at + COLLECT_MAPS,
        };
        let at = self.retry_at.map_or(at, |retry_at| at.max(retry_at));
        if at <= now.instant { Due::Now } else { Due::At(at) }
    }

    /// The report is being written.
    pub fn writing(&mut self) {
        self.under_way = true;
        self.changed_at = None;
    }

    /// The report was written; this is the answer.
    pub fn written(&mut self, host: &Arc<Host>) {
        self.saw(host);
        self.under_way = false;
        self.failures = 0;
        self.retry_at = None;
    }

    /// The write has failed: it is tried again, first soon and then every half minute.
    pub fn failed(&mut self, now: Now, seed: u64) {
        self.under_way = false;
        self.failures += 1;
        self.retry_at = Some(now.instant + backoff::pause(PathReason::PortalUnreachable, self.failures, seed));
    }
}

/// Resource versions of one kind are increasing numbers (KEP-5504); where they are not, what comes later is newer.
fn is_older(host: &Host, than: &Host) -> bool {
    let version = |host: &Host| host.metadata.resource_version.as_deref()?.parse::<u64>().ok();
    let same_object = host.metadata.uid == than.metadata.uid;
    matches!((version(host), version(than)), (Some(a), Some(b)) if same_object && a < b)
}
