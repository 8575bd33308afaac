//! Reads the two files of a simulation, and follows their changes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::info;

use super::{
    faults::{Faults, NodeFacts},
    simulation::Simulation,
};
use crate::ops::log_once::LogOnce;

/// The interval at which the files are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// A younger file is read again even if its time did not change: file systems use the kernel's coarse clock, so a second
/// change may get the same time.
const TIMESTAMP_GRANULARITY: Duration = Duration::from_secs(2);

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("{}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// The file is not valid.
    #[error("{}: {error}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The error, with its position in the file.
        error: String,
    },
}

/// Reads a YAML file. An empty file gives the defaults.
///
/// # Errors
/// If the file cannot be read, or is not valid.
pub fn read<T: DeserializeOwned + Default>(file: &Path) -> Result<T, FileError> {
    let text = std::fs::read_to_string(file).map_err(|error| FileError::Unreadable { file: file.to_owned(), error })?;
    parse(&text).map_err(|error| FileError::Invalid { file: file.to_owned(), error })
}

fn parse<T: DeserializeOwned + Default>(text: &str) -> Result<T, String> {
    let is_empty = text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---");
    if is_empty { Ok(T::default()) } else { serde_saphyr::from_str(text).map_err(|error| error.to_string()) }
}

/// Follows the files for ever. A change takes effect within a second. An invalid file is logged and ignored, and a file
/// that was removed gives the defaults. Faults with `after` are announced when they start.
pub async fn follow(simulation: Arc<Simulation>, faults: Option<PathBuf>, facts: Option<PathBuf>) {
    let mut faults = faults.map(FollowedFile::<Faults>::new);
    let mut facts = facts.map(FollowedFile::<NodeFacts>::new);
    let mut start_times: Vec<Instant> = Vec::new();
    loop {
        if let Some(read) = faults.as_mut().and_then(FollowedFile::changed) {
            let now = Instant::now();
            start_times = read.start_times().into_iter().map(|after| now + after).collect();
            simulation.set_faults(read);
        }
        if let Some(read) = facts.as_mut().and_then(FollowedFile::changed) {
            simulation.set_facts(read);
        }
        match start_times.first().copied() {
            Some(start) if start <= Instant::now() + POLL_INTERVAL => {
                sleep_until(start).await;
                start_times.remove(0);
                simulation.announce();
            }
            _ => sleep(POLL_INTERVAL).await,
        }
    }
}

struct FollowedFile<T> {
    file: PathBuf,
    content: Option<T>,
    modified: Option<SystemTime>,
    /// The number of times in a row that the file was missing. An editor that replaces a file removes it for a moment.
    missing: u32,
    log: LogOnce,
}

impl<T: DeserializeOwned + Default + Clone + PartialEq> FollowedFile<T> {
    fn new(file: PathBuf) -> Self {
        let log = LogOnce::new(format!("read {}", file.display()));
        FollowedFile { file, content: None, modified: None, missing: 0, log }
    }

    /// The content of the file, if it has changed.
    fn changed(&mut self) -> Option<T> {
        let modified = std::fs::metadata(&self.file).and_then(|metadata| metadata.modified()).ok();
        self.missing = if modified.is_some() { 0 } else { self.missing + 1 };
        if self.missing == 1 || (modified.is_some() && modified == self.modified && !may_still_change(modified)) {
            return None;
        }
        self.modified = modified;
        let read = if modified.is_some() { read(&self.file) } else { Ok(T::default()) };
        match read {
            Ok(content) => {
                self.log.recovered();
                if self.content.as_ref() == Some(&content) {
                    return None;
                }
                if self.content.replace(content.clone()).is_some() {
                    info!(file = %self.file.display(), "the file has changed");
                }
                Some(content)
            }
            Err(error) => {
                self.log.failed(error);
                None
            }
        }
    }
}

fn may_still_change(modified: Option<SystemTime>) -> bool {
    modified.and_then(|modified| modified.elapsed().ok()).is_none_or(|age| age < TIMESTAMP_GRANULARITY)
}
