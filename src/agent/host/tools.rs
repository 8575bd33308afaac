//! Runs the host's own tools.
//!
//! `iscsiadm` and `iscsid` must have the same version, and they talk over a socket that belongs to a network namespace.
//! So the agent uses the host's tools: directly if it runs on the host, otherwise in the mount and network namespaces of
//! the daemon that the tool talks to ([`exec`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::process::Command;
use tracing::warn;

use super::{
    access::{AccessMode, HostAccess},
    device_users::require_host_pid_namespace,
    error::HostError,
    exec::{self, ExecError, OpenNamespaces, Place},
    host_root::HostRoot,
    listener::foreign_listener,
    processes::{NearHost, NotOfHost, check_host_daemon, check_root, has_name, may_be_root},
    run_tool::{self, RunError, ToolOutput},
};
use crate::ops::one_line;

/// The directories in which tools are searched for, on all distributions.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";

/// Finds the daemons of the host, and runs the tools that belong to them.
#[derive(Clone, Debug)]
pub struct HostTools {
    mode: AccessMode,
    proc: PathBuf,
    search_path: String,
    /// The host's root directory for direct access.
    root: PathBuf,
    daemons: Arc<Mutex<Daemons>>,
}

/// The daemons that were looked for, by name.
#[derive(Debug, Default)]
struct Daemons {
    /// The PIDs of the daemons that were found. A search reads `/proc` for thousands of processes.
    found: BTreeMap<String, u32>,
    /// Why processes with their names were ignored, each reason once: whoever starts such processes must not fill the log.
    ignored: BTreeSet<(String, NearHost)>,
    /// Why the process that is nearest to being the daemon was ignored, if the last search has found no daemon.
    instead: BTreeMap<String, String>,
}

impl HostTools {
    /// The tools of the host whose procfs is mounted at `proc`.
    #[must_use]
    pub fn new(mode: AccessMode, proc: PathBuf) -> Self {
        HostTools { mode, proc, search_path: SEARCH_PATH.into(), root: "/".into(), daemons: Arc::default() }
    }

    /// A fake host in a directory: its files are below it, its tools in `bin`, its processes in `proc`.
    #[cfg(test)]
    pub(in crate::agent) fn in_directory(root: &std::path::Path) -> Self {
        let search_path = format!("{}:/usr/bin:/bin", root.join("bin").display());
        let (proc, root) = (root.join("proc"), root.into());
        HostTools { mode: AccessMode::Direct, proc, search_path, root, daemons: Arc::default() }
    }

    /// The PID of a daemon of the host, if it runs. A process that has only its name is ignored, and that is logged.
    #[must_use]
    pub fn daemon(&self, name: &str) -> Option<u32> {
        let mut daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = daemons.found.get(name).filter(|pid| self.is_host_daemon(**pid, name)) {
            return Some(*pid);
        }
        daemons.found.remove(name);
        daemons.instead.remove(name);
        let (mut found, mut ignored) = (None, BTreeMap::new());
        for pid in self.processes().filter(|pid| has_name(&self.proc, *pid, name)) {
            match check_host_daemon(&self.proc, pid) {
                Ok(()) => found = Some(found.map_or(pid, |other: u32| other.min(pid))),
                Err(NotOfHost::Unreadable(_)) => {}
                Err(error) => {
                    if daemons.ignored.insert((name.to_owned(), error.near_host())) {
                        warn!(pid, %error, "a process that is named {name} is not the host's; it is ignored");
                    }
                    ignored.entry(error.near_host()).or_insert_with(|| error.to_string());
                }
            }
        }
        if found.is_none() {
            daemons.instead.extend(ignored.pop_last().map(|(_, nearest)| (name.to_owned(), nearest)));
        }
        daemons.found.extend(found.map(|pid| (name.to_owned(), pid)));
        found
    }

    /// For a message: why a process is ignored although it has the name of a daemon, if the host has no such daemon. Empty if
    /// there is none. The log has the PID: a process that is started again and again must not change a status each time.
    #[must_use]
    pub fn ignored_daemon(&self, name: &str) -> String {
        if self.daemon(name).is_some() {
            return String::new();
        }
        let daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        let described = daemons.instead.get(name).map(|why| {
            format!(
                "; a process is named {name} and is ignored, because {why}: if it serves this host, see --host-tools \
                 (the chart's value agent.hostTools)"
            )
        });
        described.unwrap_or_default()
    }

    /// Checks that no other process than the daemon listens at its abstract address. Where an administrator has said how the
    /// tools are reached, the daemon may be in a pod, as root.
    ///
    /// # Errors
    /// If one does.
    pub fn check_listener(&self, daemon: &str, address: &str) -> Result<(), HostError> {
        let check: fn(&Path, u32) -> Result<(), NotOfHost> = match &self.mode {
            AccessMode::Auto | AccessMode::Nsenter => check_host_daemon,
            AccessMode::Direct | AccessMode::Chroot(_) => check_root,
        };
        let process = match foreign_listener(&self.proc, daemon, address, check) {
            None => return Ok(()),
            Some(NotOfHost::NotRoot(user)) => format!("a process of user {user}"),
            Some(NotOfHost::InPod) => "a process in a pod".to_owned(),
            Some(NotOfHost::OtherNamespace(kind)) => format!("a process in another {kind} namespace"),
            Some(NotOfHost::Unreadable(_)) => "a process that cannot be looked at".to_owned(),
        };
        Err(HostError::OtherListener { daemon: daemon.into(), address: address.into(), process })
    }

    fn is_host_daemon(&self, pid: u32, name: &str) -> bool {
        has_name(&self.proc, pid, name) && check_host_daemon(&self.proc, pid).is_ok()
    }

    fn processes(&self) -> impl Iterator<Item = u32> {
        let entries = fs::read_dir(&self.proc).into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
    }

    /// Whether it is certain that no process with the rights of root runs this tool. It is not certain if the agent
    /// does not see the processes of the host.
    #[must_use]
    pub fn is_certainly_not_running(&self, name: &str) -> bool {
        let runs = |pid: u32| has_name(&self.proc, pid, name) && may_be_root(&self.proc, pid);
        require_host_pid_namespace(&self.proc).is_ok() && !self.processes().any(runs)
    }

    /// Whether the program file of a process was replaced after its start: an upgrade without a restart.
    #[must_use]
    pub fn is_outdated(&self, pid: u32) -> bool {
        let program = fs::read_link(self.proc.join(format!("{pid}/exe")));
        program.is_ok_and(|program| program.to_string_lossy().ends_with(" (deleted)"))
    }

    /// The way to reach the tools that talk to a daemon. If the daemon does not run (some hosts start it on demand),
    /// the tools in the namespaces of the host's first process are used.
    ///
    /// # Errors
    /// If the namespaces of the host's processes cannot be read.
    pub fn access(&self, daemon: &str) -> Result<HostAccess, HostError> {
        match &self.mode {
            AccessMode::Direct => Ok(HostAccess::Direct),
            AccessMode::Chroot(directory) => Ok(HostAccess::Chroot(directory.clone())),
            AccessMode::Nsenter => Ok(HostAccess::Namespaces(self.daemon(daemon).unwrap_or(1))),
            AccessMode::Auto => {
                let pid = self.daemon(daemon).unwrap_or(1);
                let is_same = self.has_own_namespaces(pid).map_err(|error| HostError::NamespacesUnreadable {
                    daemon: daemon.to_owned(),
                    namespaces: self.proc.join(pid.to_string()).join("ns"),
                    message: error.to_string(),
                })?;
                Ok(if is_same { HostAccess::Direct } else { HostAccess::Namespaces(pid) })
            }
        }
    }

    /// Whether a process has the agent's own namespaces.
    fn has_own_namespaces(&self, pid: u32) -> io::Result<bool> {
        Ok(self.namespaces(&pid.to_string())? == self.namespaces("self")?)
    }

    /// The mount and network namespaces of a process.
    fn namespaces(&self, process: &str) -> io::Result<(PathBuf, PathBuf)> {
        let directory = self.proc.join(process).join("ns");
        Ok((fs::read_link(directory.join("mnt"))?, fs::read_link(directory.join("net"))?))
    }

    /// Opens the host's root directory.
    ///
    /// # Errors
    /// If it cannot be opened, or if the process that it was to be found through is not the host's any more.
    pub fn root(&self, access: &HostAccess) -> Result<HostRoot, HostError> {
        let directory = match access {
            HostAccess::Direct => self.root.clone(),
            HostAccess::Namespaces(pid) => self.proc.join(format!("{pid}/root")),
            HostAccess::Chroot(directory) => directory.clone(),
        };
        let opened = HostRoot::open(&directory).map_err(|error| error.to_string());
        // As with namespaces: first open, then check.
        let checked = opened.and_then(|root| match access {
            HostAccess::Namespaces(pid) => self.check_is_host(*pid).map(|()| root),
            HostAccess::Direct | HostAccess::Chroot(_) => Ok(root),
        });
        checked.map_err(|message| HostError::RootUnreadable { directory, message })
    }

    /// Runs a tool until it ends. Its exit code is for the caller to judge.
    ///
    /// # Errors
    /// If the host does not have the tool, if the host cannot be entered, or if the tool takes longer than `limit`.
    pub async fn run<A: AsRef<OsStr>>(
        &self,
        access: &HostAccess,
        tool: &str,
        arguments: &[A],
        limit: Duration,
    ) -> Result<ToolOutput, HostError> {
        let namespaces = self.open_namespaces(access).map_err(|message| {
            let (tool, access) = (tool.to_owned(), access.clone());
            HostError::NotEntered { tool, access, message }
        })?;
        let place = match access {
            HostAccess::Direct => None,
            HostAccess::Namespaces(pid) => {
                Some(namespaces.as_ref().map_or(Place::Process(*pid), OpenNamespaces::place))
            }
            HostAccess::Chroot(directory) => Some(Place::Root(directory.clone())),
        };
        let ended = run_tool::run(self.command(place.as_ref(), tool, arguments), limit).await;
        drop(namespaces);
        match ended {
            Ok(output) if *access == HostAccess::Direct => Ok(output),
            Ok(output) => tool_output(access, tool, output),
            Err(error) => Err(run_error(access, tool, limit, error)),
        }
    }

    /// Opens the namespaces to enter, and then checks that they are the host's: the chosen process may have ended
    /// since, and a process of a pod may have its ID now.
    fn open_namespaces(&self, access: &HostAccess) -> Result<Option<OpenNamespaces>, String> {
        let HostAccess::Namespaces(pid) = access else { return Ok(None) };
        let namespaces =
            OpenNamespaces::of(&self.proc.join(pid.to_string())).map_err(|error: ExecError| error.to_string())?;
        self.check_is_host(*pid)?;
        Ok(Some(namespaces))
    }

    fn check_is_host(&self, pid: u32) -> Result<(), String> {
        check_host_daemon(&self.proc, pid).map_err(|error| format!("process {pid} is not the host's: {error}"))
    }

    fn command<A: AsRef<OsStr>>(&self, place: Option<&Place>, tool: &str, arguments: &[A]) -> Command {
        let mut command = match place {
            None => Command::new(tool),
            Some(place) => {
                let mut command = Command::new(exec::OWN_PROGRAM);
                command.args(place.enter_arguments()).arg(tool);
                command
            }
        };
        // The agent parses the tools' messages, so they must not be translated.
        command.args(arguments).env_clear().env("PATH", &self.search_path).env("LC_ALL", "C");
        command
    }
}

fn run_error(access: &HostAccess, tool: &str, limit: Duration, error: RunError) -> HostError {
    let (tool, access) = (tool.to_owned(), access.clone());
    match error {
        RunError::NotStarted(error) if access == HostAccess::Direct && error.kind() == io::ErrorKind::NotFound => {
            HostError::ToolMissing { tool, access }
        }
        RunError::NotStarted(error) => {
            HostError::ToolNotStarted { message: format!("cannot start {tool}: {error}"), access }
        }
        RunError::TimedOut => HostError::ToolTimedOut { tool, limit },
    }
}

/// The output of the tool, unless the exit code says that the process ended before it became the tool ([`exec`]).
fn tool_output(access: &HostAccess, tool: &str, output: ToolOutput) -> Result<ToolOutput, HostError> {
    let (tool, access, message) = (tool.to_owned(), access.clone(), one_line(&output.stderr));
    match output.code.map(u8::try_from) {
        Some(Ok(exec::EXIT_NOT_ENTERED)) => Err(HostError::NotEntered { tool, access, message }),
        Some(Ok(exec::EXIT_NOT_STARTED)) => Err(HostError::ToolNotStarted { message, access }),
        Some(Ok(exec::EXIT_NOT_FOUND)) => Err(HostError::ToolMissing { tool, access }),
        Some(_) | None => Ok(output),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{
        agent::host::processes::fake::{process, set_users},
        api::reason::PathReason,
    };

    #[test]
    fn tools_run_in_the_namespaces_of_their_daemon_if_the_agent_has_others() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), "1", "systemd", "host");
        process(proc.path(), "self", "multibond", "pod");
        let host = HostTools::new(AccessMode::Auto, proc.path().into());
        assert_eq!(host.access("iscsid").unwrap(), HostAccess::Namespaces(1), "the daemon is started on demand");
        process(proc.path(), "300", "iscsid", "somebody's container");
        process(proc.path(), "700", "iscsid", "host");
        assert_eq!(host.access("iscsid").unwrap(), HostAccess::Namespaces(700));
    }

    #[test]
    fn a_root_directory_is_the_hosts_or_an_error() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, container) in [("1", "host"), ("700", "host"), ("800", "somebody's container")] {
            process(proc.path(), pid, "iscsid", container);
            fs::create_dir_all(proc.path().join(pid).join("root/etc")).unwrap();
        }
        let host = HostTools::new(AccessMode::Nsenter, proc.path().into());
        assert_eq!(host.root(&HostAccess::Namespaces(700)).unwrap().names("/").unwrap(), ["etc"]);
        // A process of a container has got the ID of the daemon.
        let error = host.root(&HostAccess::Namespaces(800)).unwrap_err().to_string();
        assert!(error.contains("800/root") && error.contains("is not the host's"), "{error}");
        assert!(host.root(&HostAccess::Namespaces(900)).is_err());
        let mounted = HostAccess::Chroot(proc.path().join("1/root"));
        assert_eq!(host.root(&mounted).unwrap().names("/").unwrap(), ["etc"]);
    }

    #[test]
    fn a_process_of_a_pod_is_never_taken_for_a_daemon() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), "1", "systemd", "host");
        process(proc.path(), "self", "multibond", "pod");
        // On a host without the daemon, and with a smaller ID than the host's.
        process(proc.path(), "300", "iscsid", "pod");
        process(proc.path(), "301", "iscsid", "host");
        set_users(proc.path(), "301", 65534, "0000000000000000");
        let host = HostTools::new(AccessMode::Auto, proc.path().into());
        assert_eq!(host.daemon("iscsid"), None);
        assert_eq!(host.access("iscsid").unwrap(), HostAccess::Namespaces(1));
        fs::remove_dir_all(proc.path().join("301")).unwrap();
        assert_eq!(
            host.ignored_daemon("iscsid"),
            "; a process is named iscsid and is ignored, because it is in another pid namespace than the host's first \
             process: if it serves this host, see --host-tools (the chart's value agent.hostTools)"
        );
        process(proc.path(), "700", "iscsid", "host");
        assert_eq!(host.daemon("iscsid"), Some(700));
        assert_eq!(host.ignored_daemon("iscsid"), "");
        // A process of a pod gets its ID.
        set_users(proc.path(), "700", 65534, "0000000000000000");
        assert_eq!(host.daemon("iscsid"), None);
    }

    #[test]
    fn many_processes_named_like_a_daemon_give_one_line_for_each_reason() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), "1", "systemd", "host");
        let host = HostTools::new(AccessMode::Auto, proc.path().into());
        for (pid, container, uid) in
            [("300", "host", 65534), ("301", "pod", 0), ("302", "host", 65533), ("303", "pod", 0)]
        {
            process(proc.path(), pid, "iscsid", container);
            set_users(proc.path(), pid, uid, "0000000000000000");
            assert_eq!(host.daemon("iscsid"), None);
            assert_eq!(host.daemon("iscsid"), None);
        }
        let logged = host.daemons.lock().unwrap().ignored.clone();
        let named = |near| ("iscsid".to_owned(), near);
        assert_eq!(logged, [named(NearHost::OtherUser), named(NearHost::OtherNamespace)].into());
        // The status does not depend on who is first in procfs.
        assert!(
            host.ignored_daemon("iscsid").contains("in another pid namespace"),
            "{}",
            host.ignored_daemon("iscsid")
        );
    }

    #[test]
    fn a_daemon_is_found_again_after_its_restart() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), "1", "systemd", "host");
        process(proc.path(), "700", "iscsid", "host");
        let host = HostTools::new(AccessMode::Auto, proc.path().into());
        assert_eq!((host.daemon("iscsid"), host.daemon("multipathd")), (Some(700), None));
        fs::remove_dir_all(proc.path().join("700")).unwrap();
        assert_eq!(host.daemon("iscsid"), None);
        process(proc.path(), "700", "bash", "host");
        process(proc.path(), "810", "iscsid", "host");
        assert_eq!(host.daemon("iscsid"), Some(810));
    }

    #[test]
    fn on_the_host_itself_tools_run_directly() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), "1", "systemd", "host");
        process(proc.path(), "self", "multibond", "host");
        process(proc.path(), "700", "iscsid", "host");
        assert_eq!(HostTools::new(AccessMode::Auto, proc.path().into()).access("iscsid").unwrap(), HostAccess::Direct);
        assert_eq!(
            HostTools::new(AccessMode::Nsenter, proc.path().into()).access("iscsid").unwrap(),
            HostAccess::Namespaces(700)
        );
    }

    #[test]
    fn unreadable_namespaces_are_an_error_that_says_what_to_do() {
        let proc = tempfile::tempdir().unwrap();
        let error = HostTools::new(AccessMode::Auto, proc.path().into()).access("iscsid").unwrap_err();
        let message = error.to_string();
        assert!(message.contains("hostPID") && message.contains("--host-tools"), "{message}");
    }

    #[test]
    fn a_tool_is_certainly_not_running_only_if_every_process_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc");
        let host = HostTools::in_directory(root.path());
        assert!(!host.is_certainly_not_running("iscsiadm"), "there is no procfs of the host");
        fs::create_dir_all(proc.join("1/ns")).unwrap();
        symlink("pid:[4026531836]", proc.join("1/ns/pid")).unwrap();
        fs::create_dir_all(proc.join("7")).unwrap();
        fs::write(proc.join("7/comm"), "iscsiadm\n").unwrap();
        assert!(!host.is_certainly_not_running("iscsiadm"), "one runs");
        fs::write(proc.join("7/comm"), "iscsid\n").unwrap();
        assert!(host.is_certainly_not_running("iscsiadm"));
    }

    #[test]
    fn an_upgrade_without_a_restart_is_detected() {
        let proc = tempfile::tempdir().unwrap();
        let host = HostTools::new(AccessMode::Auto, proc.path().into());
        for (pid, program, outdated) in [(7, "/usr/sbin/iscsid", false), (8, "/usr/sbin/iscsid (deleted)", true)] {
            fs::create_dir_all(proc.path().join(pid.to_string())).unwrap();
            symlink(program, proc.path().join(format!("{pid}/exe"))).unwrap();
            assert_eq!(host.is_outdated(pid), outdated, "{program}");
        }
    }

    #[tokio::test]
    async fn a_tool_that_the_host_does_not_have_is_reported_as_missing() {
        let none: &[&str] = &[];
        let host = HostTools::new(AccessMode::Direct, "/proc".into());
        let error = host.run(&HostAccess::Direct, "no-such-tool", none, Duration::from_secs(9)).await.unwrap_err();
        assert_eq!(error.reason(), PathReason::InitiatorMissing);
    }

    #[test]
    fn the_exit_code_tells_whether_the_tool_was_started() {
        let access = HostAccess::Namespaces(700);
        let ended = |code| ToolOutput { code, stdout: "out".into(), stderr: "what was said\n".into() };
        for code in [Some(0), Some(21), Some(124), Some(128), None] {
            assert_eq!(tool_output(&access, "iscsiadm", ended(code)), Ok(ended(code)));
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
            let error = tool_output(&access, "iscsiadm", ended(Some(code))).unwrap_err();
            assert_eq!(error.reason(), reason, "{code}");
            assert!(error.to_string().starts_with(message), "{code}: {error}");
        }
    }
}
