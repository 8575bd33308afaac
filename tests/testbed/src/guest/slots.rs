//! Limits how many guests run at once on this machine, over all processes that start them.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use crate::cache::cache_directory;

/// Each guest uses one or two processors, and its tests depend on times of seconds.
const SLOTS: usize = 2;

/// The right to run one guest, until it is dropped or this process ends.
#[derive(Debug)]
pub(super) struct Slot {
    _lock: File,
}

/// Waits for `N` slots. A caller that needs two asks for both at once, to avoid a deadlock with another one.
pub(super) async fn take<const N: usize>() -> Result<[Slot; N]> {
    const { assert!(N <= SLOTS) };
    let directory = cache_directory()?;
    fs::create_dir_all(&directory)?;
    // First come, first served: the holder of this lock takes the next free slots.
    let _turn = first_free(&directory, &["guest-turn.lock".to_owned()]).await?;
    let names: Vec<_> = (1..=SLOTS).map(|slot| format!("guest-{slot}.lock")).collect();
    let mut slots = Vec::new();
    while slots.len() < N {
        slots.push(Slot { _lock: first_free(&directory, &names).await? });
    }
    slots.try_into().ok().context("as many slots as were asked for")
}

/// Locks the first of the files that is not locked.
async fn first_free(directory: &Path, names: &[String]) -> Result<File> {
    loop {
        for name in names {
            let path = directory.join(name);
            let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error).context("cannot lock a guest's slot"),
            }
        }
        // The operating system has no way to wait for one of several locks.
        sleep(Duration::from_millis(100)).await;
    }
}
