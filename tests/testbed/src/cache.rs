//! The cache of files that take minutes to make. It is outside of the source tree.

use std::env;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::say;

/// The directory of the cache: `$MULTIBOND_CACHE`, else `$XDG_CACHE_HOME/multibond`, else `~/.cache/multibond`.
///
/// # Errors
/// If the environment names no home.
pub fn cache_directory() -> Result<PathBuf> {
    let directory = |name| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    directory("MULTIBOND_CACHE")
        .or_else(|| directory("XDG_CACHE_HOME").map(|cache| cache.join("multibond")))
        .or_else(|| directory("HOME").map(|home| home.join(".cache/multibond")))
        .context("where to keep binaries? Set MULTIBOND_CACHE or HOME")
}

/// Holds the lock on the preparation of `what` until the file is dropped, or this process ends.
pub(crate) fn lock(path: &Path, what: &str) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say(&format!("another process prepares {what}; waiting for it"));
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context(format!("cannot lock {}", path.display())),
    }
    Ok(file)
}
