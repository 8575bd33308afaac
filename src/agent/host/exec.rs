//! Runs a tool in the host's namespaces: the `enter` subcommand, in a process of its own.
//!
//! Only a process with a single thread can enter a mount namespace, and the agent has many threads. So the agent starts
//! its own program again, with the arguments `enter PLACE -- TOOL`; that process enters the host and replaces itself
//! with the tool. Neither the agent's image nor the host needs another program for this.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    process::{chdir, chroot},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use thiserror::Error;

use super::access::HostAccess;

/// The program of this process. The link works even after an upgrade has replaced the file.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

// env(1) and chroot(1) use the same exit codes for the same errors. No tool of open-iscsi uses them.
/// The host could not be entered.
pub const EXIT_NOT_ENTERED: u8 = 125;
/// The tool could not be started.
pub const EXIT_NOT_STARTED: u8 = 126;
/// The tool does not exist.
pub const EXIT_NOT_FOUND: u8 = 127;

/// Why the tool does not run.
#[derive(Debug, Error)]
pub enum ExecError {
    /// The process has ended, or this one may not read its namespaces.
    #[error("cannot open {}: {error}", namespace.display())]
    NotOpened {
        /// The link to the namespace.
        namespace: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel does not let this process in.
    #[error("cannot enter {}: {error}", place.display())]
    NotEntered {
        /// The link to the namespace, or the directory.
        place: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The tool exists and cannot be started.
    #[error("cannot start {}: {error}", tool.display())]
    NotStarted {
        /// The tool.
        tool: OsString,
        /// What the kernel said.
        error: io::Error,
    },
    /// The tool is in no directory of `PATH`.
    #[error("there is no {}", tool.display())]
    NotFound {
        /// The tool.
        tool: OsString,
    },
}

impl ExecError {
    /// The exit code for this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            ExecError::NotOpened { .. } | ExecError::NotEntered { .. } => EXIT_NOT_ENTERED,
            ExecError::NotStarted { .. } => EXIT_NOT_STARTED,
            ExecError::NotFound { .. } => EXIT_NOT_FOUND,
        }
    }
}

/// Enters the host and replaces this process with the tool, which is searched for in the `PATH` there. Returns only on
/// an error.
///
/// The process must have no other thread.
#[must_use]
pub fn exec_on_host(access: &HostAccess, tool: &OsStr, arguments: &[OsString]) -> ExecError {
    if let Err(error) = enter(access) {
        return error;
    }
    let error = Command::new(tool).args(arguments).exec();
    let tool = tool.to_owned();
    if error.kind() == io::ErrorKind::NotFound {
        ExecError::NotFound { tool }
    } else {
        ExecError::NotStarted { tool, error }
    }
}

fn enter(access: &HostAccess) -> Result<(), ExecError> {
    match access {
        HostAccess::Direct => Ok(()),
        HostAccess::Namespaces(pid) => enter_namespaces(&Path::new("/proc").join(pid.to_string()).join("ns")),
        HostAccess::Chroot(directory) => change_root(directory),
    }
}

fn enter_namespaces(directory: &Path) -> Result<(), ExecError> {
    // Open both before entering the first: another mount namespace has another `/proc`.
    let network = open_namespace(directory.join("net"))?;
    let mount = open_namespace(directory.join("mnt"))?;
    for ((place, namespace), kind) in [(network, LinkNameSpaceType::Network), (mount, LinkNameSpaceType::Mount)] {
        move_into_link_name_space(namespace.as_fd(), Some(kind))
            .map_err(|error| ExecError::NotEntered { place, error: error.into() })?;
    }
    Ok(())
}

fn open_namespace(namespace: PathBuf) -> Result<(PathBuf, File), ExecError> {
    match File::open(&namespace) {
        Ok(file) => Ok((namespace, file)),
        Err(error) => Err(ExecError::NotOpened { namespace, error }),
    }
}

fn change_root(directory: &Path) -> Result<(), ExecError> {
    chroot(directory)
        .and_then(|()| chdir("/"))
        .map_err(|error| ExecError::NotEntered { place: directory.into(), error: error.into() })
}
