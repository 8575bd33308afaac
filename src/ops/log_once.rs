//! Logs a failure once, and its end once, however often it is retried in between.

use std::{collections::BTreeMap, fmt::Display};

use tracing::{info, warn};

/// The last errors of many retried operations, by key. The caller logs only new ones.
#[derive(Clone, Debug)]
pub struct LastErrors<K> {
    errors: BTreeMap<K, String>,
}

impl<K: Ord> LastErrors<K> {
    /// Records a failure. Returns whether it is new: the first failure, or another error than the last.
    #[must_use]
    pub fn failed(&mut self, key: K, error: impl Display) -> bool {
        let error = error.to_string();
        self.errors.get(&key) != Some(&error) && {
            self.errors.insert(key, error);
            true
        }
    }

    /// Records a success. Returns whether the last attempt had failed.
    #[must_use]
    pub fn recovered(&mut self, key: &K) -> bool {
        self.errors.remove(key).is_some()
    }

    /// Forgets the operations that are not needed any more. Returns them.
    pub fn forget(&mut self, is_needed: impl Fn(&K) -> bool) -> Vec<K> {
        let (needed, others) = std::mem::take(&mut self.errors).into_iter().partition(|(key, _)| is_needed(key));
        self.errors = needed;
        BTreeMap::into_keys(others).collect()
    }

    /// The operations that fail at present, with their last errors.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &str)> {
        self.errors.iter().map(|(key, error)| (key, error.as_str()))
    }
}

impl<K> Default for LastErrors<K> {
    fn default() -> Self {
        LastErrors { errors: BTreeMap::new() }
    }
}

/// One operation that is retried until it succeeds.
#[derive(Debug)]
pub struct LogOnce {
    operation: String,
    last: LastErrors<()>,
}

impl LogOnce {
    /// The operation completes the sentence `cannot ...`, as in `watch Hosts`.
    #[must_use]
    pub fn new(operation: impl Into<String>) -> Self {
        LogOnce { operation: operation.into(), last: LastErrors::default() }
    }

    /// The operation has failed. A warning is logged, unless the last attempt failed with the same error.
    pub fn failed(&mut self, error: impl Display) {
        let error = error.to_string();
        if self.last.failed((), &error) {
            warn!(%error, "cannot {}; trying again", self.operation);
        }
    }

    /// The operation has succeeded. That is logged if the last attempt had failed.
    pub fn recovered(&mut self) {
        if self.last.recovered(&()) {
            info!("can {} again", self.operation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_news_once_until_it_changes_or_ends() {
        let mut errors = LastErrors::default();
        assert!(!errors.recovered(&"hosts"), "it never failed");
        assert!(errors.failed("hosts", "refused"));
        assert!(!errors.failed("hosts", "refused"));
        assert!(errors.failed("leases", "refused"), "another key");
        assert!(errors.failed("hosts", "timeout"), "another error");
        assert_eq!(errors.iter().collect::<Vec<_>>(), [(&"hosts", "timeout"), (&"leases", "refused")]);
        assert!(errors.recovered(&"hosts"));
        assert!(!errors.recovered(&"hosts"));
        assert!(errors.failed("hosts", "timeout"), "after it had worked");
    }
}
