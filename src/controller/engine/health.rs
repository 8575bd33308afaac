//! The state of the engine, for `/readyz` and for people.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The present state of the engine. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<Mutex<HealthState>>);

/// See [`Health`].
#[derive(Clone, Debug, Default)]
pub(crate) struct HealthState {
    /// Whether this replica leads.
    pub leading: bool,
    /// The plural names of kinds whose first list was not read yet.
    pub unfilled: Vec<&'static str>,
    /// One line for each object that cannot be decoded.
    pub undecodable: Vec<String>,
    /// One line for each kind of write that is forbidden.
    pub forbidden: Vec<String>,
}

impl Health {
    pub(crate) fn read(&self) -> HealthState {
        self.lock().clone()
    }

    /// Sets whether this replica leads, and which lists are missing. Returns whether the latter have changed.
    pub(super) fn set_role(&self, leading: bool, unfilled: Vec<&'static str>) -> bool {
        let mut state = self.lock();
        state.leading = leading;
        let changed = state.unfilled != unfilled;
        state.unfilled = unfilled;
        changed
    }

    /// Sets which objects cannot be decoded, and which writes are forbidden, by kind and action.
    pub(super) fn set_problems(
        &self,
        undecodable: Vec<String>,
        forbidden: &BTreeMap<(&'static str, &'static str), String>,
    ) {
        let forbidden = forbidden.iter().map(|((kind, action), error)| format!("writing {kind} ({action}): {error}"));
        let mut state = self.lock();
        state.forbidden = forbidden.collect();
        state.undecodable = undecodable;
    }

    fn lock(&self) -> MutexGuard<'_, HealthState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
