//! Asks the kernel about block devices through their device nodes.
//!
//! A node is used only if it is proven to be that of the device: its path may be anything. It is taken from the root
//! directory of the host's first process, because the `/dev` of a container has only the nodes of its start.

use std::{
    fmt,
    fs::File,
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::PathBuf,
    thread,
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags, major, minor},
    io::Errno,
};

use super::{
    host_root::HostRoot,
    loop_device::{self, BackingFile},
    sysfs::{BlockDevice, DeviceNumber, read_error},
    time_limit::TimeLimit,
};

/// The time for an open, which takes microseconds. The open of a disk may wait for the recovery of a lost session.
const LIMIT: Duration = Duration::from_secs(2);
/// A claim that lasts for longer than these attempts is a use. Others ask in the same way, such as mkfs and this agent.
const CLAIM_ATTEMPTS: u32 = 3;
const CLAIM_PAUSE: Duration = Duration::from_millis(10);

/// Asks about block devices: the kernel, or in tests a recording.
pub trait BlockNodes: fmt::Debug + Send + Sync {
    /// Whether somebody has claimed the device, or a partition of it, as one does who cannot share it: file systems and
    /// their external journals, swap, LVM, md, multipath, some disk servers.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn is_claimed(&self, device: &BlockDevice) -> io::Result<bool>;

    /// The file behind a loop device; none if there is none.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn loop_file(&self, device: &BlockDevice) -> io::Result<Option<BackingFile>>;
}

/// The kernel of the host.
#[derive(Debug)]
pub struct HostNodes {
    proc: PathBuf,
    limit: TimeLimit,
}

impl HostNodes {
    /// The nodes of the host with this procfs.
    #[must_use]
    pub fn new(proc: PathBuf) -> Self {
        HostNodes { proc, limit: TimeLimit::new(LIMIT) }
    }

    /// Asks about a device, whose node is proven, within the limit.
    fn ask<T: Send + 'static>(
        &self,
        device: &BlockDevice,
        ask: impl FnOnce(&File) -> Result<T, Errno> + Send + 'static,
    ) -> io::Result<T> {
        let root = self.proc.join("1/root");
        let device = device.clone();
        let opening = format!("opening {}", device.name);
        self.limit.run(&opening, move || {
            let node = node(&HostRoot::open(&root).map_err(|error| read_error(&root, &error))?, &device)?;
            ask(&node).map_err(|error| {
                let error = io::Error::from(error);
                io::Error::new(error.kind(), format!("cannot open {}: {error}", device.name))
            })
        })
    }
}

impl BlockNodes for HostNodes {
    fn is_claimed(&self, device: &BlockDevice) -> io::Result<bool> {
        self.ask(device, |node| {
            for _ in 0..CLAIM_ATTEMPTS {
                // It is a claim too, so it lasts only for the moment: whoever claims the device meanwhile is refused.
                match open(node, OFlags::EXCL) {
                    // Perhaps somebody has just asked, too.
                    Err(Errno::BUSY) => thread::sleep(CLAIM_PAUSE),
                    // A disk of a lost session is offline, and its driver refuses to open it (NXIO). The kernel asks the
                    // driver only after it has granted the claim.
                    Ok(_) | Err(Errno::NXIO) => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            Ok(true)
        })
    }

    fn loop_file(&self, device: &BlockDevice) -> io::Result<Option<BackingFile>> {
        self.ask(device, |node| match open(node, OFlags::empty()) {
            Ok(device) => loop_device::backing_file(&device),
            // It is being removed.
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error),
        })
    }
}

/// Opens the device of a node. Without `O_NONBLOCK` it may wait for a medium.
fn open(node: &File, flags: OFlags) -> Result<File, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/self/fd/{}", node.as_raw_fd()), flags, Mode::empty()).map(File::from)
}

/// A reference to the device's node; it does not open the device.
fn node(root: &HostRoot, device: &BlockDevice) -> io::Result<File> {
    let DeviceNumber { major, minor } = device.number;
    // The kernel's own name has `!` for a slash, and the path of its node has a slash.
    let paths = [format!("dev/{}", device.name.replace('!', "/")), format!("dev/block/{major}:{minor}")];
    for path in &paths {
        let Ok(node) = root.open_file(path, OFlags::PATH, Mode::empty()).map(File::from) else { continue };
        if node
            .metadata()
            .is_ok_and(|found| found.file_type().is_block_device() && number(found.rdev()) == device.number)
        {
            return Ok(node);
        }
    }
    let looked_for = paths.map(|path| root.shown(path).display().to_string()).join(" and ");
    let message = format!("expected a node of the device {major}:{minor}, and found none (looked for {looked_for})");
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}

/// The number of a device as it is in a file's metadata.
#[must_use]
pub fn number(device: u64) -> DeviceNumber {
    DeviceNumber { major: major(device), minor: minor(device) }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// A host whose `/dev/sda` is this file.
    fn host_with(sda: &str) -> (tempfile::TempDir, HostNodes) {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir_all(proc.path().join("1/root/dev")).unwrap();
        // A test cannot make device nodes.
        fs::hard_link(sda, proc.path().join("1/root/dev/sda"))
            .or_else(|_| symlink(sda, proc.path().join("1/root/dev/sda")))
            .unwrap();
        let nodes = HostNodes::new(proc.path().into());
        (proc, nodes)
    }

    fn sda() -> BlockDevice {
        BlockDevice {
            name: "sda".into(),
            number: DeviceNumber { major: 8, minor: 0 },
            directory: "/sys/block/sda".into(),
        }
    }

    #[test]
    fn a_node_of_another_device_is_never_opened() {
        // What is at the path is no node of the device 8:0, and its content would change if it were opened for writing.
        let file = tempfile::NamedTempFile::new().unwrap();
        for found in ["/dev/null", file.path().to_str().unwrap()] {
            let (_proc, nodes) = host_with(found);
            let error = nodes.is_claimed(&sda()).unwrap_err().to_string();
            assert!(error.contains("expected a node of the device 8:0"), "{error}");
            assert!(error.contains("1/root/dev/sda and ") && error.contains("1/root/dev/block/8:0"), "{error}");
            assert!(nodes.loop_file(&sda()).is_err());
        }
    }

    #[test]
    fn without_the_hosts_root_nothing_is_known() {
        let proc = tempfile::tempdir().unwrap();
        let error = HostNodes::new(proc.path().into()).is_claimed(&sda()).unwrap_err().to_string();
        assert!(error.starts_with("cannot read ") && error.contains("1/root"), "{error}");
    }
}
