//! The paths that are this agent's: planned now or once, reported by an agent before it, or with a record that has the
//! agent's mark.
//!
//! The name of an interface record proves nothing: a discovery by another tool may have made records with it, and then
//! sessions.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use crate::agent::types::IscsiPath;

/// The paths that are known to be the agent's. They stay claimed for as long as the agent runs.
#[derive(Debug, Default)]
pub struct Claims(Mutex<BTreeSet<IscsiPath>>);

impl Claims {
    /// These paths are the agent's from now on.
    pub fn add(&self, paths: impl IntoIterator<Item = IscsiPath>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(paths);
    }

    /// Whether a path is claimed.
    pub fn contains(&self, path: &IscsiPath) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }
}
