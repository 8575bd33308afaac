//! The images of guests: a disk with Debian's packages, and the saved state of a host that has booted from it.
//!
//! Both are made once and kept in the cache. The names of their directories contain a digest of the sources, so that a
//! change makes new ones.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tokio::process::Command as AsyncCommand;

use super::control::Control;
use super::machine::{self, Disk, Machine};
use super::{Guest, slots};
use crate::cache::{cache_directory, lock};
use crate::command::{run, say};
use crate::supervisor::Supervisor;

/// How long a host may take to boot, on a busy machine.
pub(super) const BOOT: Duration = Duration::from_secs(180);

/// The Debian releases that the test host can be, by the variable `MULTIBOND_TEST_HOST`; the first without it.
const RELEASES: [&str; 2] = ["bookworm", "trixie"];

/// The Debian release of the test host.
fn release() -> Result<String> {
    let release = std::env::var("MULTIBOND_TEST_HOST").unwrap_or_else(|_| RELEASES[0].to_owned());
    ensure!(RELEASES.contains(&&*release), "MULTIBOND_TEST_HOST is {release:?}, and can be {}", RELEASES.join(" or "));
    Ok(release)
}

/// The directory of the sources.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vm/image")
}

/// A disk, its kernel, and the state of a host that has booted from it.
#[derive(Debug, Clone)]
pub(super) struct Image {
    release: String,
    directory: PathBuf,
    state: PathBuf,
}

impl Image {
    /// Finds the image; makes what is missing, and reports that on standard error. If several processes call it at
    /// once, the others wait for the first.
    pub(super) async fn locate() -> Result<Self> {
        check_programs()?;
        let release = release()?;
        let directory = cache_directory()?.join(format!("test-host-{release}-{}", digest_of_tree(&sources())?));
        let state = directory.join(format!("ready-{}", machine::version().await?));
        let image = Self { release, directory, state };
        if !image.state.is_dir() {
            let _lock = lock_images().await?;
            image.build()?;
            image.save_state().await?;
        }
        Ok(image)
    }

    /// The state of a host that `change` has changed after the boot. It is made once and kept as `name`.
    pub(super) async fn changed(&self, name: &str, change: impl AsyncFnOnce(&Guest) -> Result<()>) -> Result<Self> {
        let image = Self { state: self.state.join(name), ..self.clone() };
        if image.state.is_dir() {
            return Ok(image);
        }
        let _lock = lock_images().await?;
        if image.state.is_dir() {
            return Ok(image);
        }
        let started = Instant::now();
        let [slot] = slots::take().await?;
        let mut guest = Guest::start_in(slot, self, name).await?;
        change(&guest).await?;
        guest.run_ok("sync").await?;
        let directory = self.state.join(".unfinished");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        guest.machine.save(&directory.join("memory")).await?;
        fs::copy(guest.directory.join("disk.qcow2"), directory.join("disk.qcow2")).context("cannot keep the disk")?;
        fs::rename(&directory, &image.state).with_context(|| format!("cannot create {}", image.state.display()))?;
        say(&format!("the test host is saved as {name} ({} s)", started.elapsed().as_secs()));
        Ok(image)
    }

    /// The directory of open-iscsi's records.
    pub(super) fn records(&self) -> &'static str {
        if self.release == "bookworm" { "/etc/iscsi" } else { "/var/lib/iscsi" }
    }

    /// Whether only one of its processors runs at a time. A kernel changes its own code while it runs, and with a thread for
    /// each processor another one may still run the old code: the kernel of Debian 13 panics by it now and then (`Oops: int3`,
    /// double fault).
    pub(super) fn runs_in_one_thread(&self) -> bool {
        self.release != "bookworm"
    }

    pub(super) fn kernel(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    pub(super) fn initramfs(&self) -> PathBuf {
        self.directory.join("initrd.gz")
    }

    /// The memory and the devices of the host that has booted.
    pub(super) fn memory(&self) -> PathBuf {
        self.state.join("memory")
    }

    /// Makes a disk of the guest's own, which begins as that of the host that has booted.
    pub(super) async fn new_disk(&self, disk: &Path) -> Result<()> {
        overlay(&self.state.join("disk.qcow2"), "qcow2", disk).await
    }

    fn build(&self) -> Result<()> {
        in_one_step(&self.directory, |directory| {
            let release = &self.release;
            say(&format!(
                "building the test host from Debian {release}'s packages, once; this takes one to three minutes"
            ));
            let status = Command::new(sources().join("build"))
                .arg(release)
                .arg(directory)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .process_group(Supervisor::get()?.group())
                .status()
                .context("cannot start the build of the test host")?;
            ensure!(status.success(), "the test host was not built, {status}: see what it says above");
            Ok(())
        })
    }

    /// Boots a host, and saves its state when the boot has finished.
    async fn save_state(&self) -> Result<()> {
        if self.state.is_dir() {
            return Ok(());
        }
        let started = Instant::now();
        let directory = self.directory.join(".ready");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let disk = directory.join("disk.qcow2");
        overlay(&self.directory.join("root.ext4"), "raw", &disk).await?;
        let run_directory = super::new_directory("test-host")?;
        let mut machine = Machine::start(self, &run_directory, &disk, Disk::Booting).await?;
        let control = Control::connect(&run_directory).await?;
        super::settled(&control, BOOT).await.with_context(|| machine.console_tail())?;
        machine.save(&directory.join("memory")).await?;
        fs::rename(&directory, &self.state).context("cannot put the state of the test host into the cache")?;
        say(&format!("the test host has booted, and its state is saved ({} s)", started.elapsed().as_secs()));
        Ok(())
    }
}

/// Only one process at a time makes images.
async fn lock_images() -> Result<fs::File> {
    let cache = cache_directory()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    tokio::task::spawn_blocking(move || lock(&cache.join(".test-host.lock"), "the test host")).await?
}

/// Makes a directory by filling another one and renaming it, so that nobody ever sees half of one.
fn in_one_step(directory: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let unfinished = directory.with_extension("unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    fs::create_dir(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
    fill(&unfinished)?;
    fs::rename(&unfinished, directory).with_context(|| format!("cannot create {}", directory.display()))
}

async fn overlay(base: &Path, format: &str, disk: &Path) -> Result<()> {
    let mut command = AsyncCommand::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(base).arg(disk);
    run(&mut command, "").await?.success()?;
    Ok(())
}

/// What is missing is known to the list of packages alone.
fn check_programs() -> Result<()> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packages.sh");
    let output = Command::new(list).args(["check", "host"]).output().context("cannot run tests/packages.sh")?;
    ensure!(output.status.success(), "no test host: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// A digest of the names and contents of all files below a directory.
pub(super) fn digest_of_tree(directory: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    for file in files_below(directory)? {
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(directory)?.to_string_lossy().into_owned();
        digest.update(format!("{} {name} {}\n", name.len(), content.len()));
        digest.update(content);
    }
    Ok(super::short_hex(&digest.finalize()))
}

/// All files below a directory, sorted.
pub(super) fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    list_files(directory, &mut files).with_context(|| format!("cannot read {}", directory.display()))?;
    files.sort();
    Ok(files)
}

fn list_files(directory: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list_files(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
