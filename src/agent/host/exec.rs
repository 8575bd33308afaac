//! Runs a tool in the host's namespaces: the `enter` subcommand, in a process of its own.
//!
//! Only a process with a single thread can enter a mount namespace, and the agent has many threads. So the agent starts
//! its own program again, with the arguments `enter PLACE -- TOOL`; that process enters the host and replaces itself
//! with the tool. Neither the agent's image nor the host needs another program for this.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{self, Command},
    str::FromStr,
};

use rustix::{
    process::{chdir, chroot},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use thiserror::Error;

/// The program of this process. The link works even after an upgrade has replaced the file.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

// env(1) and chroot(1) use the same exit codes for the same errors. No tool of open-iscsi uses them.
/// The host could not be entered.
pub const EXIT_NOT_ENTERED: u8 = 125;
/// The tool could not be started.
pub const EXIT_NOT_STARTED: u8 = 126;
/// The tool does not exist.
pub const EXIT_NOT_FOUND: u8 = 127;

/// The place that `enter` enters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The mount and network namespaces of a process.
    Process(u32),
    /// The namespaces that a process has open, by its descriptors. They stay the same namespaces, even if the process
    /// that they belonged to ends.
    Opened {
        /// The process that has them open.
        pid: u32,
        /// Its descriptor of the network namespace.
        network: u32,
        /// Its descriptor of the mount namespace.
        mount: u32,
    },
    /// This directory becomes the root.
    Root(PathBuf),
}

/// The argument of `enter` is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("this is neither the ID of a process nor an absolute directory")]
pub struct InvalidPlace;

impl Place {
    /// The arguments with which the agent's own program enters the host; the tool and its arguments follow them.
    #[must_use]
    pub fn enter_arguments(&self) -> [OsString; 3] {
        let place = match self {
            Place::Process(pid) => pid.to_string().into(),
            Place::Opened { pid, network, mount } => format!("{pid}:{network}:{mount}").into(),
            Place::Root(directory) => directory.into(),
        };
        ["enter".into(), place, "--".into()]
    }
}

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        if text.starts_with('/') {
            return Ok(Place::Root(text.into()));
        }
        let numbers: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
        match numbers.as_deref() {
            Ok([pid]) => Ok(Place::Process(*pid)),
            Ok([pid, network, mount]) => Ok(Place::Opened { pid: *pid, network: *network, mount: *mount }),
            Ok(_) | Err(_) => Err(InvalidPlace),
        }
    }
}

/// The mount and network namespaces of a process, open. A process ID may be reused at any moment; the open namespaces
/// stay those that were checked.
#[derive(Debug)]
pub struct OpenNamespaces {
    network: File,
    mount: File,
}

impl OpenNamespaces {
    /// Opens the namespaces of the process with this directory in procfs.
    ///
    /// # Errors
    /// If the process has ended, or the agent may not see its namespaces.
    pub fn of(process: &Path) -> Result<Self, ExecError> {
        let (_, network) = open_namespace(process.join("ns/net"))?;
        let (_, mount) = open_namespace(process.join("ns/mnt"))?;
        Ok(OpenNamespaces { network, mount })
    }

    /// The place for a child of this process to enter them. It must enter them while they are open here.
    #[must_use]
    pub fn place(&self) -> Place {
        let number = |file: &File| u32::try_from(file.as_raw_fd()).unwrap_or_default();
        Place::Opened { pid: process::id(), network: number(&self.network), mount: number(&self.mount) }
    }
}

/// Why the tool does not run.
#[derive(Debug, Error)]
pub enum ExecError {
    /// The process has ended, or this one may not read its namespaces.
    #[error("cannot open {}: {error}", namespace.display())]
    NotOpened {
        /// The link to the namespace.
        namespace: PathBuf,
        /// The error of the kernel.
        error: io::Error,
    },
    /// The kernel does not let this process in.
    #[error("cannot enter {}: {error}", place.display())]
    NotEntered {
        /// The link to the namespace, or the directory.
        place: PathBuf,
        /// The error of the kernel.
        error: io::Error,
    },
    /// The tool exists and cannot be started.
    #[error("cannot start {}: {error}", tool.display())]
    NotStarted {
        /// The tool.
        tool: OsString,
        /// The error of the kernel.
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
pub fn exec_on_host(place: &Place, tool: &OsStr, arguments: &[OsString]) -> ExecError {
    if let Err(error) = enter(place) {
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

fn enter(place: &Place) -> Result<(), ExecError> {
    match place {
        Place::Process(pid) => {
            let directory = Path::new("/proc").join(pid.to_string()).join("ns");
            enter_namespaces(directory.join("net"), directory.join("mnt"))
        }
        Place::Opened { pid, network, mount } => {
            let directory = Path::new("/proc").join(pid.to_string()).join("fd");
            enter_namespaces(directory.join(network.to_string()), directory.join(mount.to_string()))
        }
        Place::Root(directory) => change_root(directory),
    }
}

fn enter_namespaces(network: PathBuf, mount: PathBuf) -> Result<(), ExecError> {
    // Open both before entering the first: another mount namespace has another `/proc`.
    let network = open_namespace(network)?;
    let mount = open_namespace(mount)?;
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
