//! The ways to reach the host: directly, through the namespaces of a process, or through a mounted root directory.

use std::{fmt, path::PathBuf, str::FromStr};

use thiserror::Error;

/// The default mount point of the host's root directory in a pod.
const HOST_ROOT: &str = "/host";

/// The configured way to reach the host's tools (`--host-tools`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessMode {
    /// Enters the namespaces of the tool's daemon if the agent runs in other ones.
    #[default]
    Auto,
    /// The agent runs on the host.
    Direct,
    /// Always enters the namespaces of the tool's daemon.
    Nsenter,
    /// Changes the root to this directory.
    Chroot(PathBuf),
}

/// The text of an [`AccessMode`] is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{text:?} is none of auto, direct, nsenter, chroot (the host's root is {HOST_ROOT}) and chroot=DIR with an absolute \
     DIR"
)]
pub struct InvalidAccessMode {
    text: String,
}

impl FromStr for AccessMode {
    type Err = InvalidAccessMode;

    fn from_str(text: &str) -> Result<Self, InvalidAccessMode> {
        match text.split_once('=') {
            None if text == "auto" => Ok(AccessMode::Auto),
            None if text == "direct" => Ok(AccessMode::Direct),
            None if text == "nsenter" => Ok(AccessMode::Nsenter),
            None if text == "chroot" => Ok(AccessMode::Chroot(HOST_ROOT.into())),
            Some(("chroot", directory)) if directory.starts_with('/') => Ok(AccessMode::Chroot(directory.into())),
            _ => Err(InvalidAccessMode { text: text.to_owned() }),
        }
    }
}

/// The way to reach one tool of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAccess {
    /// The agent starts it like any program.
    Direct,
    /// In the mount and network namespaces of this process.
    Namespaces(u32),
    /// With this directory as the root.
    Chroot(PathBuf),
}

impl fmt::Display for HostAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostAccess::Direct => f.write_str("direct"),
            HostAccess::Namespaces(_) => f.write_str("nsenter"),
            HostAccess::Chroot(directory) => write!(f, "chroot {}", directory.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_host_tools_is_parsed_and_others_are_refused() {
        assert_eq!("chroot".parse(), Ok(AccessMode::Chroot("/host".into())));
        assert_eq!("chroot=/mnt/root".parse(), Ok(AccessMode::Chroot("/mnt/root".into())));
        assert_eq!("auto".parse(), Ok(AccessMode::Auto));
        for bad in ["", "chroot=host", "docker", "nsenter=1"] {
            assert!(bad.parse::<AccessMode>().unwrap_err().to_string().contains("chroot=DIR"), "{bad}");
        }
    }
}
