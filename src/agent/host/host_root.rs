//! Files of the host, below its root directory.
//!
//! In a pod the host's root directory is not the agent's own: it is `/proc/PID/root`, or a directory that was mounted for
//! the agent. An absolute symbolic link there means a file of the host (NixOS links most of `/etc` like that), but an
//! ordinary `open` would look for it below the agent's own root. So every path is resolved by `openat2` with
//! `RESOLVE_IN_ROOT`, as the host itself would resolve it.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstatvfs, openat, openat2, unlinkat},
    io::Errno,
};

/// The number of attempts to resolve a path while something renames directories of it.
const MAX_ATTEMPTS: u32 = 8;

/// The host's root directory. It stays open, so it stays the same even if the process ends that it was found through.
#[derive(Clone, Debug)]
pub struct HostRoot {
    opened: Arc<OwnedFd>,
    directory: PathBuf,
}

impl HostRoot {
    /// Opens the root directory of a host.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = Arc::new(openat(CWD, directory, flags, Mode::empty())?);
        Ok(HostRoot { opened, directory: directory.to_owned() })
    }

    /// The path of a file for messages, without resolving its links.
    #[must_use]
    pub fn shown(&self, file: impl AsRef<Path>) -> PathBuf {
        self.directory.join(relative(file.as_ref()))
    }

    /// Opens a file. It is resolved on the host, so links are followed there; `flags` may forbid that.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn open_file(&self, file: impl AsRef<Path>, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        // The path must not be empty.
        let file = Path::new(".").join(relative(file.as_ref()));
        let mut attempt = 1;
        loop {
            match openat2(&*self.opened, &file, flags, mode, ResolveFlags::IN_ROOT) {
                // Something was renamed meanwhile, and the kernel cannot tell whether `..` has left the root.
                Err(Errno::AGAIN) if attempt < MAX_ATTEMPTS => attempt += 1,
                // Before Linux 5.6, absolute links are followed below the agent's own root.
                Err(Errno::NOSYS) => return Ok(openat(&*self.opened, &file, flags, mode)?),
                result => return Ok(result?),
            }
        }
    }

    /// Opens the directory that a file is in; for changes of its entries.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn open_parent(&self, file: impl AsRef<Path>) -> io::Result<OwnedFd> {
        let parent = file.as_ref().parent().unwrap_or(Path::new("/"));
        self.open_file(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
    }

    /// The content of a file.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn read(&self, file: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        File::from(self.open_file(file, OFlags::RDONLY, Mode::empty())?).read_to_end(&mut content)?;
        Ok(content)
    }

    /// The names in a directory, sorted; without those that are not UTF-8.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn names(&self, directory: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::new(self.open_file(directory, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)? {
            names.extend(entry?.file_name().to_str().map(str::to_owned));
        }
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    /// The metadata of a file; of the file that a link points to.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn metadata(&self, file: impl AsRef<Path>) -> io::Result<Metadata> {
        File::from(self.open_file(file, OFlags::PATH, Mode::empty())?).metadata()
    }

    /// The metadata of a file; of the link itself if it is one.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn link_metadata(&self, file: impl AsRef<Path>) -> io::Result<Metadata> {
        File::from(self.open_file(file, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?).metadata()
    }

    /// Whether a directory is on a file system that is mounted read-only.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn is_read_only(&self, directory: impl AsRef<Path>) -> io::Result<bool> {
        let directory = self.open_file(directory, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(fstatvfs(directory)?.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    /// Removes a file, or the link itself if it is one.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn remove_file(&self, file: impl AsRef<Path>) -> io::Result<()> {
        let file = file.as_ref();
        let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(unlinkat(self.open_parent(file)?, name, AtFlags::empty())?)
    }
}

/// A path of the host, which may be absolute, relative to the root.
fn relative(file: &Path) -> &Path {
    file.strip_prefix("/").unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// A host on which `/etc/iscsi` is an absolute link, as on NixOS.
    fn linked() -> (tempfile::TempDir, HostRoot) {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("nix/store/iscsi");
        fs::create_dir_all(&store).unwrap();
        fs::create_dir_all(directory.path().join("etc")).unwrap();
        fs::write(store.join("initiatorname.iscsi"), "InitiatorName=iqn.x\n").unwrap();
        symlink("/nix/store/iscsi", directory.path().join("etc/iscsi")).unwrap();
        symlink("/etc/iscsi/initiatorname.iscsi", directory.path().join("etc/name")).unwrap();
        let root = HostRoot::open(directory.path()).unwrap();
        (directory, root)
    }

    #[test]
    fn an_absolute_link_is_followed_below_the_hosts_root() {
        let (directory, root) = linked();
        for file in ["etc/iscsi/initiatorname.iscsi", "/etc/iscsi/initiatorname.iscsi", "etc/name"] {
            assert_eq!(root.read(file).unwrap(), b"InitiatorName=iqn.x\n", "{file}");
        }
        assert_eq!(root.names("etc/iscsi").unwrap(), ["initiatorname.iscsi"]);
        assert_eq!(root.names("").unwrap(), ["etc", "nix"]);
        assert!(root.metadata("etc/name").unwrap().is_file());
        assert!(root.link_metadata("etc/name").unwrap().is_symlink());
        root.remove_file("etc/iscsi/initiatorname.iscsi").unwrap();
        assert!(!directory.path().join("nix/store/iscsi/initiatorname.iscsi").exists());
        root.remove_file("etc/name").unwrap();
        assert!(root.link_metadata("etc/name").is_err());
    }

    #[test]
    fn no_link_leads_out_of_the_hosts_root() {
        let (directory, root) = linked();
        let outside = tempfile::NamedTempFile::new().unwrap();
        symlink(outside.path(), directory.path().join("etc/absolute")).unwrap();
        let above = Path::new("../../../../../../../..").join(outside.path().strip_prefix("/").unwrap());
        symlink(&above, directory.path().join("etc/relative")).unwrap();
        for file in [Path::new("etc/absolute"), Path::new("etc/relative"), &above] {
            assert_eq!(root.read(file).unwrap_err().kind(), io::ErrorKind::NotFound, "{}", file.display());
        }
    }

    #[test]
    fn it_stays_the_same_directory_when_another_takes_its_name() {
        let (directory, root) = linked();
        fs::rename(directory.path().join("etc"), directory.path().join("old")).unwrap();
        let etc = HostRoot::open(&directory.path().join("old")).unwrap();
        fs::rename(directory.path().join("old"), directory.path().join("older")).unwrap();
        assert_eq!(etc.names("/").unwrap(), ["iscsi", "name"]);
        assert_eq!(etc.shown("/iscsi"), directory.path().join("old/iscsi"));
        assert_eq!(root.names("older").unwrap(), ["iscsi", "name"]);
    }
}
