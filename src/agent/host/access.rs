//! Where the host's tools are reached.

use std::{ffi::OsString, fmt, path::PathBuf};

/// One way to the host's tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// As the agent's own.
    Direct,
    /// Inside the mount and network namespaces of this process.
    Nsenter(u32),
    /// With this directory as the root.
    Chroot(PathBuf),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Direct => f.write_str("direct"),
            Way::Nsenter(_) => f.write_str("nsenter"),
            Way::Chroot(directory) => write!(f, "chroot {}", directory.display()),
        }
    }
}

/// The arguments that make the agent's program go a way, to be followed by the tool's name and arguments; none where
/// there is nothing to enter.
#[must_use]
pub fn arguments(way: &Way) -> Option<[OsString; 3]> {
    let place = match way {
        Way::Direct => return None,
        Way::Nsenter(pid) => pid.to_string().into(),
        Way::Chroot(directory) => directory.into(),
    };
    Some(["enter".into(), place, "--".into()])
}

/// The way of which [`arguments`] were made.
///
/// # Errors
/// When it is another text.
pub fn way_to(place: &str) -> Result<Way, String> {
    match place.parse() {
        Ok(pid) => Ok(Way::Nsenter(pid)),
        Err(_) if place.starts_with('/') => Ok(Way::Chroot(place.into())),
        Err(_) => Err("this is neither the ID of a process nor an absolute directory".to_owned()),
    }
}
