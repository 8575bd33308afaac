//! How the tools of the host are reached.
//!
//! `iscsiadm` and `iscsid` must be of one version, and talk over a socket that belongs to a network namespace. So the
//! agent uses the host's own tools: directly when it runs on the host, else inside the mount and network namespaces of
//! the daemon that they talk to ([`exec`]).

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::process::Command;

use super::{
    access::{self, Way},
    device_users::see_every_process,
    exec,
    run_tool::{self, Ended, RunError},
};
use crate::{agent::initiator::PathError, api::reason::PathReason};

/// Where tools are looked for, on whatever distribution.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";
/// Where a pod has the host's root when nothing else is said.
const HOST_ROOT: &str = "/host";

/// How the host's tools are to be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostTools {
    /// Found out: inside the daemon's namespaces where these are not the agent's own.
    #[default]
    Auto,
    /// The agent runs on the host.
    Direct,
    /// Always inside the daemon's namespaces.
    Nsenter,
    /// The host's root is mounted there.
    Chroot(PathBuf),
}

impl FromStr for HostTools {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "auto" => Ok(HostTools::Auto),
            None if text == "direct" => Ok(HostTools::Direct),
            None if text == "nsenter" => Ok(HostTools::Nsenter),
            None if text == "chroot" => Ok(HostTools::Chroot(HOST_ROOT.into())),
            Some(("chroot", directory)) if directory.starts_with('/') => Ok(HostTools::Chroot(directory.into())),
            _ => Err(format!(
                "{text:?} is none of auto, direct, nsenter, chroot (the host's root is {HOST_ROOT}) and chroot=DIR with \
                 an absolute DIR"
            )),
        }
    }
}

/// A host, as its tools and files are reached.
#[derive(Clone, Debug)]
pub struct Host {
    tools: HostTools,
    proc: PathBuf,
    search: String,
    /// The root directory where no other is entered.
    root: PathBuf,
    /// The processes of daemons where they were last found: hosts have thousands of processes.
    found: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Host {
    /// The host whose processes are in `proc`.
    #[must_use]
    pub fn new(tools: HostTools, proc: PathBuf) -> Self {
        Host { tools, proc, search: SEARCH.into(), root: "/".into(), found: Arc::default() }
    }

    /// A host that is a directory: files are below it, tools in its `bin`, and processes in its `proc`.
    #[cfg(test)]
    pub(in crate::agent) fn in_directory(root: &Path) -> Self {
        let search = format!("{}:/usr/bin:/bin", root.join("bin").display());
        Host { tools: HostTools::Direct, proc: root.join("proc"), search, root: root.into(), found: Arc::default() }
    }

    /// The process of a daemon, if it runs. Of several the one in the host's own network namespace: the others belong
    /// to somebody's container.
    #[must_use]
    pub fn daemon(&self, name: &str) -> Option<u32> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = found.get(name).filter(|pid| self.is_named(**pid, name)) {
            return Some(*pid);
        }
        found.remove(name);
        let of_host = self.network("1");
        let is_elsewhere = |pid: &u32| self.network(&pid.to_string()) != of_host;
        let processes =
            fs::read_dir(&self.proc).ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let named = processes.filter(|pid| self.is_named(*pid, name));
        let (is_elsewhere, pid) = named.map(|pid| (is_elsewhere(&pid), pid)).min()?;
        // The host's own may be started yet.
        if !is_elsewhere {
            found.insert(name.to_owned(), pid);
        }
        Some(pid)
    }

    fn is_named(&self, pid: u32, name: &str) -> bool {
        fs::read_to_string(self.proc.join(format!("{pid}/comm"))).is_ok_and(|comm| comm.trim_end() == name)
    }

    /// The network namespace of a process.
    fn network(&self, process: &str) -> Option<PathBuf> {
        self.namespaces(process).ok().map(|(_, network)| network)
    }

    /// Whether it is certain that no process of this name runs.
    #[must_use]
    pub fn runs_no(&self, name: &str) -> bool {
        see_every_process(&self.proc).is_ok() && self.daemon(name).is_none()
    }

    /// Whether the program of a process was replaced since it was started: an upgrade without a restart.
    #[must_use]
    pub fn is_outdated(&self, pid: u32) -> bool {
        let program = fs::read_link(self.proc.join(format!("{pid}/exe")));
        program.is_ok_and(|program| program.to_string_lossy().ends_with(" (deleted)"))
    }

    /// The way to the tools that talk to a daemon. Without that daemon, which some hosts start when it is needed, the
    /// way to those of the host's first process.
    ///
    /// # Errors
    /// When the namespaces of the host's processes cannot be seen.
    pub fn way(&self, daemon: &str) -> Result<Way, PathError> {
        let elsewhere = || self.daemon(daemon).unwrap_or(1);
        match &self.tools {
            HostTools::Direct => Ok(Way::Direct),
            HostTools::Chroot(directory) => Ok(Way::Chroot(directory.clone())),
            HostTools::Nsenter => Ok(Way::Nsenter(elsewhere())),
            HostTools::Auto => {
                let pid = elsewhere();
                let is_here = self
                    .namespaces(&pid.to_string())
                    .and_then(|theirs| Ok(theirs == self.namespaces("self")?))
                    .map_err(|error| cannot_see(&self.proc, pid, daemon, &error))?;
                Ok(if is_here { Way::Direct } else { Way::Nsenter(pid) })
            }
        }
    }

    /// The host's root directory, as the agent sees it.
    #[must_use]
    pub fn root(&self, way: &Way) -> PathBuf {
        match way {
            Way::Direct => self.root.clone(),
            Way::Nsenter(pid) => self.proc.join(format!("{pid}/root")),
            Way::Chroot(directory) => directory.clone(),
        }
    }

    /// Runs a tool of the host to its end.
    ///
    /// # Errors
    /// `InitiatorMissing` when there is no such tool, `Timeout` when it takes longer than `limit`, `Internal` when the
    /// host cannot be entered. Nothing of `arguments` is in the message.
    pub async fn run<A: AsRef<OsStr>>(
        &self,
        way: &Way,
        tool: &str,
        arguments: &[A],
        limit: Duration,
    ) -> Result<Ended, PathError> {
        let result = run_tool::run(self.command(way, tool, arguments), limit).await;
        result.map_err(|error| not_run(way, tool, limit, error)).and_then(|ended| match way {
            Way::Direct => Ok(ended),
            Way::Nsenter(_) | Way::Chroot(_) => of_the_tool(way, tool, ended),
        })
    }

    fn command<A: AsRef<OsStr>>(&self, way: &Way, tool: &str, arguments: &[A]) -> Command {
        let mut command = match access::arguments(way) {
            None => Command::new(tool),
            Some(entering) => {
                let mut command = Command::new(exec::OWN_PROGRAM);
                command.args(entering).arg(tool);
                command
            }
        };
        // The messages of tools are read: they must not be translated.
        command.args(arguments).env_clear().env("PATH", &self.search).env("LC_ALL", "C");
        command
    }

    /// The mount and network namespaces of a process.
    fn namespaces(&self, process: &str) -> io::Result<(PathBuf, PathBuf)> {
        let namespace = |kind: &str| fs::read_link(self.proc.join(process).join("ns").join(kind));
        Ok((namespace("mnt")?, namespace("net")?))
    }
}

/// Why nothing has ended by itself: the tool, or what was to enter the host and become the tool.
fn not_run(way: &Way, tool: &str, limit: Duration, error: RunError) -> PathError {
    match error {
        RunError::NotStarted(error) if *way == Way::Direct && error.kind() == io::ErrorKind::NotFound => {
            missing(way, tool)
        }
        RunError::NotStarted(error) => {
            PathError::new(PathReason::Internal, format!("cannot start {tool} ({way}): {error}"))
        }
        RunError::Overdue => PathError::new(
            PathReason::Timeout,
            format!("{tool} has not ended within {} s and was told to end", limit.as_secs()),
        ),
    }
}

/// What the tool has said, unless it was not the tool that has ended but what was to become it.
fn of_the_tool(way: &Way, tool: &str, ended: Ended) -> Result<Ended, PathError> {
    let said = ended.stderr.trim();
    match ended.code.map(u8::try_from) {
        Some(Ok(exec::NOT_ENTERED)) => Err(PathError::new(
            PathReason::Internal,
            format!(
                "the host cannot be entered ({way}) to run {tool}: {said}; in a pod the agent needs hostPID and a \
                 privileged security context"
            ),
        )),
        Some(Ok(exec::NOT_STARTED)) => Err(PathError::new(PathReason::Internal, format!("{said} ({way})"))),
        Some(Ok(exec::NOT_THERE)) => Err(missing(way, tool)),
        Some(_) | None => Ok(ended),
    }
}

fn missing(way: &Way, tool: &str) -> PathError {
    let advice = "install it on the host, or say with --host-tools where the host's tools are";
    PathError::new(PathReason::InitiatorMissing, format!("the host has no {tool} (looked for: {way}); {advice}"))
}

fn cannot_see(proc: &Path, pid: u32, daemon: &str, error: &io::Error) -> PathError {
    let where_ = proc.join(pid.to_string()).join("ns");
    PathError::new(
        PathReason::Internal,
        format!(
            "cannot find out how {daemon}'s tools are reached: {}: {error}; the agent must run as root, in a pod with \
             hostPID and a privileged security context, or be told by --host-tools",
            where_.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A process with its name and its namespaces.
    fn process(proc: &Path, pid: &str, comm: &str, namespaces: &str) {
        let ns = proc.join(pid).join("ns");
        fs::create_dir_all(&ns).unwrap();
        fs::write(proc.join(pid).join("comm"), format!("{comm}\n")).unwrap();
        symlink(format!("mnt:[{namespaces}]"), ns.join("mnt")).unwrap();
        symlink(format!("net:[{namespaces}]"), ns.join("net")).unwrap();
    }

    #[test]
    fn the_way_leads_into_the_namespaces_of_the_daemon_when_they_are_not_the_agents() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), "1", "systemd", "host");
        process(proc.path(), "self", "multibond", "pod");
        let host = Host::new(HostTools::Auto, proc.path().into());
        assert_eq!(host.way("iscsid").unwrap(), Way::Nsenter(1), "a daemon that is started when it is needed");
        process(proc.path(), "300", "iscsid", "somebody's container");
        process(proc.path(), "700", "iscsid", "host");
        assert_eq!(host.way("iscsid").unwrap(), Way::Nsenter(700));
        assert_eq!(host.root(&Way::Nsenter(700)), proc.path().join("700/root"));
    }

    #[test]
    fn a_daemon_is_found_again_after_its_restart_and_gone_when_it_is_gone() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), "1", "systemd", "host");
        process(proc.path(), "700", "iscsid", "host");
        let host = Host::new(HostTools::Auto, proc.path().into());
        assert_eq!((host.daemon("iscsid"), host.daemon("multipathd")), (Some(700), None));
        fs::remove_dir_all(proc.path().join("700")).unwrap();
        assert_eq!(host.daemon("iscsid"), None);
        process(proc.path(), "700", "bash", "host");
        process(proc.path(), "810", "iscsid", "host");
        assert_eq!(host.daemon("iscsid"), Some(810));
    }

    #[test]
    fn on_the_host_itself_tools_are_run_directly() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), "1", "systemd", "host");
        process(proc.path(), "self", "multibond", "host");
        process(proc.path(), "700", "iscsid", "host");
        assert_eq!(Host::new(HostTools::Auto, proc.path().into()).way("iscsid").unwrap(), Way::Direct);
        assert_eq!(Host::new(HostTools::Nsenter, proc.path().into()).way("iscsid").unwrap(), Way::Nsenter(700));
    }

    #[test]
    fn a_host_that_cannot_be_seen_is_told_with_what_to_do() {
        let proc = tempfile::tempdir().unwrap();
        let error = Host::new(HostTools::Auto, proc.path().into()).way("iscsid").unwrap_err();
        assert!(error.message.contains("hostPID") && error.message.contains("--host-tools"), "{error}");
    }

    #[test]
    fn an_upgrade_without_a_restart_is_seen() {
        let proc = tempfile::tempdir().unwrap();
        let host = Host::new(HostTools::Auto, proc.path().into());
        for (pid, program, outdated) in [(7, "/usr/sbin/iscsid", false), (8, "/usr/sbin/iscsid (deleted)", true)] {
            fs::create_dir_all(proc.path().join(pid.to_string())).unwrap();
            symlink(program, proc.path().join(format!("{pid}/exe"))).unwrap();
            assert_eq!(host.is_outdated(pid), outdated, "{program}");
        }
    }

    #[test]
    fn what_is_said_of_the_tools_is_understood() {
        assert_eq!("chroot".parse(), Ok(HostTools::Chroot("/host".into())));
        assert_eq!("chroot=/mnt/root".parse(), Ok(HostTools::Chroot("/mnt/root".into())));
        assert_eq!("auto".parse(), Ok(HostTools::Auto));
        for bad in ["", "chroot=host", "docker", "nsenter=1"] {
            assert!(bad.parse::<HostTools>().unwrap_err().contains("chroot=DIR"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_tool_that_is_not_there_is_missing() {
        let none: &[&str] = &[];
        let host = Host::new(HostTools::Direct, "/proc".into());
        let error = host.run(&Way::Direct, "no-such-tool", none, Duration::from_secs(9)).await.unwrap_err();
        assert_eq!(error.reason, PathReason::InitiatorMissing);
    }

    #[test]
    fn what_has_become_of_a_tool_of_the_host_is_told_by_the_exit_code() {
        let way = Way::Nsenter(700);
        let ended = |code| Ended { code, stdout: "out".into(), stderr: "what was said\n".into() };
        for code in [Some(0), Some(21), Some(124), Some(128), None] {
            assert_eq!(of_the_tool(&way, "iscsiadm", ended(code)), Ok(ended(code)));
        }
        for (code, reason, message) in [
            (
                125,
                PathReason::Internal,
                "the host cannot be entered (nsenter) to run iscsiadm: what was said; in a pod",
            ),
            (126, PathReason::Internal, "what was said (nsenter)"),
            (127, PathReason::InitiatorMissing, "the host has no iscsiadm (looked for: nsenter); install it"),
        ] {
            let error = of_the_tool(&way, "iscsiadm", ended(Some(code))).unwrap_err();
            assert_eq!(error.reason, reason, "{code}");
            assert!(error.message.starts_with(message), "{code}: {error}");
        }
    }
}
