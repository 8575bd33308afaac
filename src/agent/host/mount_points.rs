//! The mount points of the kernel's file systems.

use std::path::PathBuf;

/// The mount points of the host's sysfs, procfs and `/dev`. Tests use directories of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoints {
    /// sysfs.
    pub sys: PathBuf,
    /// procfs of the host's PID namespace: users of a disk are looked for in every process.
    pub proc: PathBuf,
    /// Device nodes.
    pub dev: PathBuf,
}

impl Default for MountPoints {
    fn default() -> Self {
        MountPoints { sys: "/sys".into(), proc: "/proc".into(), dev: "/dev".into() }
    }
}
