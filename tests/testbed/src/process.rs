//! Processes that tests start, observe and end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::supervisor::Supervisor;

/// How many lines of a log an error shows.
const TAIL: usize = 25;

/// A running process. It is killed when this value is dropped, and when this process ends, however that happens.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Mutex<Child>,
    shows_log: bool,
}

impl Process {
    /// Starts `binary` with `args`, and with `env` in addition to the environment of this process (without `KUBECONFIG`
    /// and `MULTIBOND_…`, which would make a test depend on its machine). Its output goes to the log `name` in the run
    /// directory.
    ///
    /// # Errors
    /// If the binary cannot be executed or the log cannot be written.
    pub fn spawn<A, E, K, V>(binary: impl AsRef<Path>, args: A, env: E, name: &str) -> Result<Self>
    where
        A: IntoIterator<Item: AsRef<OsStr>>,
        E: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let supervisor = Supervisor::get()?;
        let (log, file) = create_log(supervisor.directory(), name)?;
        let mut command = Command::new(binary.as_ref());
        for (key, _) in std::env::vars_os() {
            if key == "KUBECONFIG" || key.to_string_lossy().starts_with("MULTIBOND_") {
                command.env_remove(key);
            }
        }
        let child = command
            .args(args)
            .envs(env)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(supervisor.group())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.as_ref().display()))?;
        Ok(Self { name: name.to_owned(), log, child: Mutex::new(child), shows_log: true })
    }

    /// Leaves its log out of a failed test's output, for processes that are not under test.
    pub(crate) fn quiet(mut self) -> Self {
        self.shows_log = false;
        self
    }

    /// The name it was started with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child().id()
    }

    /// Whether it is still running.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.exit_status().is_none()
    }

    /// Its exit status; `None` while it runs.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Kills it with SIGKILL, as a crash would, and waits until it is gone.
    pub fn kill(&self) {
        let mut child = self.child();
        // Both fail only if the process has ended already.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Asks it to end, with SIGTERM as Kubernetes does, and waits for its exit status.
    ///
    /// # Errors
    /// If it has not ended `within` that time; the error shows the end of its log.
    pub async fn term(&self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.exited(within).await
    }

    /// Asks it to end, with SIGINT as Ctrl-C does, and waits for its exit status.
    ///
    /// # Errors
    /// If it has not ended `within` that time; the error shows the end of its log.
    pub async fn interrupt(&self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::INT)?;
        self.exited(within).await
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If it has not ended `within` that time; the error shows the end of its log.
    pub async fn exited(&self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {within:?}; the end of its log:\n{}", self.name, self.log_tail());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it with SIGSTOP until [`Process::resume`]: the process is alive, but does not respond.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Ends [`Process::pause`].
    ///
    /// # Errors
    /// If it has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// The file with its standard output and standard error.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Its output so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of its output.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // While the lock is held nobody else can reap the child, so its id cannot belong to another process.
        let mut child = self.child();
        if let Some(status) = child.try_wait()? {
            bail!("{} has ended already, {status}; the end of its log:\n{}", self.name, self.log_tail());
        }
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.shows_log && std::thread::panicking() {
            // The test that owns it has failed; libtest shows this with it.
            eprintln!("the end of the log of {}:\n{}\n", self.name, self.log_tail());
        }
        self.kill();
    }
}

/// Creates `NAME.log`, or `NAME-2.log` and so on if that exists, so that a restart keeps the earlier log.
fn create_log(directory: &Path, name: &str) -> Result<(PathBuf, File)> {
    let mut path = directory.join(format!("{name}.log"));
    let mut number = 1;
    loop {
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                number += 1;
                path = directory.join(format!("{name}-{number}.log"));
            }
            Err(error) => return Err(error).with_context(|| format!("cannot create the log {}", path.display())),
        }
    }
}
