//! Locks for paths: two logins with one record at the same time would make two sessions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

use crate::agent::types::IscsiPath;

/// One lock for each path. A lock exists as long as somebody holds it or waits for it.
#[derive(Debug, Default)]
pub struct PathLocks(Mutex<BTreeMap<IscsiPath, Weak<tokio::sync::Mutex<()>>>>);

impl PathLocks {
    /// Locks a path, until the returned guard is dropped.
    pub async fn lock(&self, path: &IscsiPath) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            let lock = locks.get(path).and_then(Weak::upgrade).unwrap_or_default();
            locks.insert(path.clone(), Arc::downgrade(&lock));
            lock
        };
        lock.lock_owned().await
    }

    /// The paths that are locked, or that somebody waits for.
    #[must_use]
    pub fn locked(&self) -> BTreeSet<IscsiPath> {
        let locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.iter().filter(|(_, lock)| lock.strong_count() > 0).map(|(path, _)| path.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::fixtures::path;

    #[tokio::test]
    async fn a_path_is_locked_once_and_other_paths_are_free() {
        let locks = PathLocks::default();
        let (one, other) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let guard = locks.lock(&one).await;
        drop(locks.lock(&other).await);
        assert_eq!(locks.locked(), BTreeSet::from([one.clone()]));
        let waiting = locks.lock(&one);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(guard);
        drop(waiting.await);
        assert_eq!(locks.locked(), BTreeSet::new());
    }
}
