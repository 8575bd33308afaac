//! Where the kernel shows the host.

use std::path::PathBuf;

/// Where the host's own file systems are: in a test, or in a pod that has them mounted, somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// sysfs.
    pub sys: PathBuf,
    /// procfs, of the host's process namespace: what uses a disk is looked for in every process.
    pub proc: PathBuf,
    /// Device nodes.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Roots { sys: "/sys".into(), proc: "/proc".into(), dev: "/dev".into() }
    }
}
