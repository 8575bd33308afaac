//! Ends all child processes, and removes the run directory, when the process that started them ends.
//!
//! A parent that is killed runs no destructor, and a test binary never drops its statics. So two
//! small processes read from pipes whose other ends only this process holds: when this process ends, they read the end
//! of file. (A parent-death signal would be simpler, but it fires when the *thread* that started a child ends, and the
//! threads of an async runtime come and go.)
//!
//! - The *anchor* is the leader of the process group that every child joins before it executes.
//! - The *watchdog* kills that group and then removes the run directory. If the directory has a file named `keep`, it
//!   removes only the databases and disks in it.
//!
//! Both are in process groups of their own: a Ctrl-C in the terminal does not reach them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};

/// The script of the watchdog; its arguments are the group and the run directory.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
cat > /dev/null
kill -s KILL -- "-$1"
remove() { rm -rf -- "$@" || { sleep 1; rm -rf -- "$@"; }; }
if test -e "$2/keep"; then remove "$2"/*/etcd "$2"/*/disk.qcow2; else remove "$2"; fi
"#;

/// The process group of all children of this process, and the directory with everything they write.
pub(crate) struct Supervisor {
    group: i32,
    directory: PathBuf,
    // They wait for the end of their standard inputs, which stay open because a static is never dropped.
    _anchor: Child,
    _watchdog: Child,
}

impl Supervisor {
    /// The supervisor of this process, started at first use.
    pub(crate) fn get() -> Result<&'static Self> {
        static SUPERVISOR: OnceLock<Result<Supervisor, String>> = OnceLock::new();
        SUPERVISOR
            .get_or_init(|| Self::start().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("cannot supervise child processes: {error}"))
    }

    fn start() -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("multibond-")
            .tempdir()
            .context("cannot create a temporary directory")?
            .keep();
        let anchor = waiting(&mut Command::new("cat"))?;
        let group = i32::try_from(anchor.id())?;
        let watchdog = waiting(
            Command::new("sh").args(["-c", WATCHDOG, "multibond-watchdog", &group.to_string()]).arg(&directory),
        )?;
        keep_logs_after_a_panic(directory.clone());
        Ok(Self { group, directory, _anchor: anchor, _watchdog: watchdog })
    }

    /// The process group that a child must join.
    pub(crate) fn group(&self) -> i32 {
        self.group
    }

    /// The directory of this run: data, credentials and logs.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Keeps the run directory after the end, and prints its path the first time.
    pub(crate) fn keep(&self) {
        keep(&self.directory);
    }
}

/// Starts a process that lives until its standard input ends.
fn waiting(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))
}

fn keep(directory: &Path) {
    if fs::File::create_new(directory.join("keep")).is_ok() {
        crate::command::say(&format!("logs are kept in {}", directory.display()));
    }
}

fn keep_logs_after_a_panic(directory: PathBuf) {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        previous(panic);
        keep(&directory);
    }));
}
