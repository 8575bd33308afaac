//! At most one login or logout of one path at a time: two logins of one record make two sessions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

use crate::agent::path::IscsiPath;

/// Whose turn it is, by path.
#[derive(Debug, Default)]
pub struct Turns(Mutex<BTreeMap<IscsiPath, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits until nobody else has a turn on the path; it lasts as long as what is returned.
    pub async fn take(&self, path: &IscsiPath) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let turn = turns.get(path).and_then(Weak::upgrade).unwrap_or_default();
            turns.insert(path.clone(), Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }

    /// The paths that somebody has, or waits for, a turn on.
    #[must_use]
    pub fn taken(&self) -> BTreeSet<IscsiPath> {
        let turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.iter().filter(|(_, turn)| turn.strong_count() > 0).map(|(path, _)| path.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::fixtures::path;

    #[tokio::test]
    async fn a_path_has_one_turn_at_a_time_and_others_do_not_wait() {
        let turns = Turns::default();
        let (one, other) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
        let turn = turns.take(&one).await;
        drop(turns.take(&other).await);
        assert_eq!(turns.taken(), BTreeSet::from([one.clone()]));
        let waiting = turns.take(&one);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(turn);
        drop(waiting.await);
        assert_eq!(turns.taken(), BTreeSet::new());
    }
}
