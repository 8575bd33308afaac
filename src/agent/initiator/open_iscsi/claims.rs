//! The paths that are this agent's, whatever their records say: planned now, reported by an agent before it, or with a
//! session that was proven to be the agent's. The mark of the agent's records proves the rest.
//!
//! The name of an interface record proves nothing: a discovery by another tool may have made records with it, and then
//! sessions. Nor does it that a path was planned once: a session on it may be somebody else's by now.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::agent::types::IscsiPath;

/// The paths that are known to be the agent's. Their number is bounded by what is planned and what is on the host: plans
/// may change for as long as the agent runs.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Claimed>);

#[derive(Debug, Default)]
struct Claimed {
    planned: BTreeSet<IscsiPath>,
    /// By an agent before this one. They count until the records on the host were judged.
    reported: BTreeSet<IscsiPath>,
    /// By sessions that were proven and by logins, by address.
    proven: BTreeSet<IscsiPath>,
}

impl Claims {
    /// These paths are planned now, in place of those before; and these were reported by an agent before this one.
    pub fn plan(&self, planned: BTreeSet<IscsiPath>, reported: BTreeSet<IscsiPath>) {
        let mut claimed = self.claimed();
        claimed.planned = planned;
        claimed.reported.extend(reported);
    }

    /// A session on this path by address is the agent's.
    pub fn prove(&self, by_address: &IscsiPath) {
        let mut claimed = self.claimed();
        if !claimed.proven.contains(by_address) {
            claimed.proven.insert(by_address.clone());
        }
    }

    /// Forgets which paths were proven to be the agent's, except these.
    pub fn retain_proven(&self, is_kept: impl Fn(&IscsiPath) -> bool) {
        self.claimed().proven.retain(is_kept);
    }

    /// The records on the host were judged: each that stays has the mark.
    pub fn forget_reported(&self) {
        self.claimed().reported.clear();
    }

    /// Whether a path is claimed.
    pub fn contains(&self, path: &IscsiPath) -> bool {
        let claimed = self.claimed();
        [&claimed.planned, &claimed.reported, &claimed.proven].iter().any(|paths| paths.contains(path))
    }

    /// The number of paths that are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        let claimed = self.claimed();
        claimed.planned.len() + claimed.reported.len() + claimed.proven.len()
    }

    fn claimed(&self) -> MutexGuard<'_, Claimed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
