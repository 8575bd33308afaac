//! Entering the host: what happens, in a process of its own, before a tool of the host runs in it.
//!
//! Only a process with a single thread can enter a mount namespace. So the agent, which has many, starts its own program
//! anew (`enter`), and that becomes the tool. Nothing else has to be in the agent's image for it, and nothing
//! but the tool on the host.

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

use super::access::Way;

/// The program of this process, also after an upgrade has replaced its file.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

// By these exit codes env(1) and chroot(1) tell as well that no tool has run. No tool of open-iscsi has them.
/// The host could not be entered.
pub const NOT_ENTERED: u8 = 125;
/// The tool could not be started.
pub const NOT_STARTED: u8 = 126;
/// There is no such tool.
pub const NOT_THERE: u8 = 127;

/// Why no tool runs.
#[derive(Debug, Error)]
pub enum EnterError {
    /// The process has ended, or this one may not see its namespaces.
    #[error("cannot open {}: {error}", namespace.display())]
    NotOpened {
        /// The link to the namespace.
        namespace: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// The kernel does not let this process in.
    #[error("cannot enter {}: {error}", place.display())]
    NotEntered {
        /// The link to the namespace, or the directory.
        place: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// The tool is there and cannot be started.
    #[error("cannot start {}: {error}", tool.display())]
    NotStarted {
        /// The tool.
        tool: OsString,
        /// What the kernel says.
        error: io::Error,
    },
    /// The tool is in no directory of `PATH`.
    #[error("there is no {}", tool.display())]
    NotThere {
        /// The tool.
        tool: OsString,
    },
}

impl EnterError {
    /// The exit code that tells it.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            EnterError::NotOpened { .. } | EnterError::NotEntered { .. } => NOT_ENTERED,
            EnterError::NotStarted { .. } => NOT_STARTED,
            EnterError::NotThere { .. } => NOT_THERE,
        }
    }
}

/// Goes a way and becomes a tool, which is looked for where the way ends. Returns only when that has failed.
///
/// The process may have no other thread.
#[must_use]
pub fn become_tool(way: &Way, tool: &OsStr, arguments: &[OsString]) -> EnterError {
    if let Err(error) = go(way) {
        return error;
    }
    let (error, tool) = (Command::new(tool).args(arguments).exec(), tool.to_owned());
    if error.kind() == io::ErrorKind::NotFound {
        EnterError::NotThere { tool }
    } else {
        EnterError::NotStarted { tool, error }
    }
}

fn go(way: &Way) -> Result<(), EnterError> {
    match way {
        Way::Direct => Ok(()),
        Way::Nsenter(pid) => enter_namespaces(&Path::new("/proc").join(pid.to_string()).join("ns")),
        Way::Chroot(directory) => change_root(directory),
    }
}

fn enter_namespaces(directory: &Path) -> Result<(), EnterError> {
    let open = |name| {
        let namespace = directory.join(name);
        match File::open(&namespace) {
            Ok(file) => Ok((namespace, file)),
            Err(error) => Err(EnterError::NotOpened { namespace, error }),
        }
    };
    // Both before the first is entered: another mount namespace has another `/proc`.
    let (network, mount) = (open("net")?, open("mnt")?);
    for ((place, namespace), kind) in [(network, LinkNameSpaceType::Network), (mount, LinkNameSpaceType::Mount)] {
        move_into_link_name_space(namespace.as_fd(), Some(kind))
            .map_err(|error| EnterError::NotEntered { place, error: error.into() })?;
    }
    Ok(())
}

fn change_root(directory: &Path) -> Result<(), EnterError> {
    chroot(directory)
        .and_then(|()| chdir("/"))
        .map_err(|error| EnterError::NotEntered { place: directory.into(), error: error.into() })
}
