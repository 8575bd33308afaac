//! The directory of the files that people need: easy to find, and removed at the end.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use multibond_testbed::cache_directory;

/// `demo` in the cache; `demo-2` while another demo uses that, and so on.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    // The process that holds the lock owns the directory until it ends.
    _lock: File,
}

impl Place {
    /// Takes the first free directory, and removes what a killed demo has left in it.
    pub fn take() -> Result<Self> {
        let cache = cache_directory()?;
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        for number in 1..100 {
            let name = if number == 1 { "demo".to_owned() } else { format!("demo-{number}") };
            let lock = cache.join(format!(".{name}.lock"));
            let lock = File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
            match lock.try_lock() {
                Ok(()) => return Self::new(cache.join(name), lock),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error).context("cannot lock a directory for the demo"),
            }
        }
        bail!("a hundred demos run already")
    }

    fn new(directory: PathBuf, lock: File) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| format!("cannot empty {}", directory.display()))?;
        }
        // It contains credentials, although only for a server on loopback.
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self { directory, _lock: lock })
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a file, with the directories above it.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.prepare(name)?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Puts another file here under a name, without copying it.
    pub fn link(&self, name: &str, target: &Path) -> Result<()> {
        let path = self.prepare(name)?;
        symlink(target, &path).with_context(|| format!("cannot link {}", path.display()))
    }

    /// The path of a file in a short form, as people write it.
    pub fn shown(&self, name: &str) -> String {
        let path = self.file(name);
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        match home.and_then(|home| Some(path.strip_prefix(home).ok()?.display().to_string())) {
            Some(below) => format!("~/{below}"),
            None => path.display().to_string(),
        }
    }

    fn prepare(&self, name: &str) -> Result<PathBuf> {
        let path = self.file(name);
        let parent = path.parent().unwrap_or(&self.directory);
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        Ok(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left is removed by the next demo.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
