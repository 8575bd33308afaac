//! Where the kernel's file systems of the host are mounted.

use std::path::PathBuf;

/// Where sysfs, procfs and `/dev` of the host are mounted. Tests use directories of their own.
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
