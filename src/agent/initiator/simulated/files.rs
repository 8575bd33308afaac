//! Following the two files of a simulation.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::info;

use super::{FactsBook, Faults, Simulation};
use crate::ops::log_once::LogOnce;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A file that is younger may be changed again without a new time: file systems date by the tick of the kernel's clock.
const MAY_STILL_CHANGE: Duration = Duration::from_secs(2);

/// Why a file is of no use.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: {error}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {error}", file.display())]
    Invalid {
        /// Which.
        file: PathBuf,
        /// What is wrong, and where.
        error: String,
    },
}

/// Reads a file of YAML; an empty one has every default.
///
/// # Errors
/// When it cannot be read, or is not what it should be.
pub fn read<T: DeserializeOwned + Default>(file: &Path) -> Result<T, FileError> {
    let text = std::fs::read_to_string(file).map_err(|error| FileError::Unreadable { file: file.to_owned(), error })?;
    parse(&text).map_err(|error| FileError::Invalid { file: file.to_owned(), error })
}

fn parse<T: DeserializeOwned + Default>(text: &str) -> Result<T, String> {
    let is_empty = text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---");
    if is_empty { Ok(T::default()) } else { serde_saphyr::from_str(text).map_err(|error| error.to_string()) }
}

/// Follows the files for ever: a change acts within a fraction of a second, an unusable file is complained about and
/// changes nothing, and a file that is gone says nothing any more. Faults that begin later are announced when they do.
pub async fn follow(simulation: Arc<Simulation>, faults: Option<PathBuf>, facts: Option<PathBuf>) {
    let mut faults = faults.map(Followed::<Faults>::new);
    let mut facts = facts.map(Followed::<FactsBook>::new);
    let mut beginnings: Vec<Instant> = Vec::new();
    loop {
        if let Some(read) = faults.as_mut().and_then(Followed::changed) {
            let now = Instant::now();
            beginnings = read.beginnings().into_iter().map(|after| now + after).collect();
            simulation.set_faults(read);
        }
        if let Some(read) = facts.as_mut().and_then(Followed::changed) {
            simulation.set_facts(read);
        }
        match beginnings.first().copied() {
            Some(begins) if begins <= Instant::now() + LOOK_EVERY => {
                sleep_until(begins).await;
                beginnings.remove(0);
                simulation.announce();
            }
            _ => sleep(LOOK_EVERY).await,
        }
    }
}

struct Followed<T> {
    file: PathBuf,
    known: Option<T>,
    dated: Option<SystemTime>,
    /// How often in a row the file was not there: an editor that replaces it leaves a moment without.
    missing: u32,
    log: LogOnce,
}

impl<T: DeserializeOwned + Default + Clone + PartialEq> Followed<T> {
    fn new(file: PathBuf) -> Self {
        let log = LogOnce::new(format!("read {}", file.display()));
        Followed { file, known: None, dated: None, missing: 0, log }
    }

    /// What the file says, if that is something new.
    fn changed(&mut self) -> Option<T> {
        let dated = std::fs::metadata(&self.file).and_then(|metadata| metadata.modified()).ok();
        self.missing = if dated.is_some() { 0 } else { self.missing + 1 };
        if self.missing == 1 || (dated.is_some() && dated == self.dated && !may_still_change(dated)) {
            return None;
        }
        self.dated = dated;
        let read = if dated.is_some() { read(&self.file) } else { Ok(T::default()) };
        match read {
            Ok(said) => {
                self.log.recovered();
                if self.known.as_ref() == Some(&said) {
                    return None;
                }
                if self.known.replace(said.clone()).is_some() {
                    info!(file = %self.file.display(), "the file has changed");
                }
                Some(said)
            }
            Err(error) => {
                self.log.failed(error);
                None
            }
        }
    }
}

fn may_still_change(dated: Option<SystemTime>) -> bool {
    dated.and_then(|dated| dated.elapsed().ok()).is_none_or(|age| age < MAY_STILL_CHANGE)
}
