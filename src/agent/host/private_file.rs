//! A file that only the agent's user reads and writes, such as root's. What anybody else could have written is refused.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, fsync, openat, renameat, unlinkat},
    io::Errno,
    process::geteuid,
};

/// The largest content that is read.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// The bits of a file's mode that let others than its owner read or write it.
const FOR_OTHERS: u32 = 0o077;
/// The bits of a directory's mode that let others than its owner replace its files.
const WRITABLE_FOR_OTHERS: u32 = 0o022;

/// A file with mode 0600 in a directory that nobody else can write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateFile {
    path: PathBuf,
}

impl PrivateFile {
    /// The file with this path, which may not exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        PrivateFile { path }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content; none if there is no file.
    ///
    /// # Errors
    /// If somebody else may have written it, if it is not a regular file, or if it cannot be read.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let directory = match self.open_directory() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            directory => directory?,
        };
        // Neither a link nor a pipe keeps the agent waiting or leads elsewhere.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&directory, self.name()?, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(refused("it is a symbolic link")),
            file => File::from(file?),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(refused("it is no regular file"));
        }
        check_owner(&metadata, FOR_OTHERS, "0600")?;
        if metadata.len() > MAX_BYTES {
            return Err(refused(&format!("it has {} bytes, more than {MAX_BYTES}", metadata.len())));
        }
        let mut content = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Replaces the content, and makes the directory if there is none. After a crash there is the old content or the new
    /// one, never a part.
    ///
    /// # Errors
    /// If somebody else can write to the directory, or the file cannot be written; the old content stays.
    pub fn write(&self, content: &[u8]) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let directory = self.open_directory()?;
        let name = self.name()?;
        let unfinished = format!(".{name}.unfinished");
        remove_if_exists(&directory, &unfinished)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let written = openat(&directory, &unfinished, flags, Mode::RUSR | Mode::WUSR)
            .map_err(io::Error::from)
            .and_then(|file| {
                let mut file = File::from(file);
                file.write_all(content)?;
                file.sync_all()
            })
            .and_then(|()| Ok(renameat(&directory, &unfinished, &directory, name)?));
        if written.is_err() {
            remove_if_exists(&directory, &unfinished)?;
        }
        written?;
        Ok(fsync(&directory)?)
    }

    /// Removes the file if it exists. After a crash it stays removed.
    ///
    /// # Errors
    /// If it exists and cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        match fs::remove_file(&self.path) {
            Err(error) if is_missing(&error) => {}
            result => result?,
        }
        // Also where the file is gone already: the removal before may have failed here.
        match self.path.parent().map(File::open).transpose() {
            Ok(Some(directory)) => Ok(fsync(&directory)?),
            Ok(None) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Opens the directory of the file, in which nobody else may replace it.
    fn open_directory(&self) -> io::Result<File> {
        let parent = self.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = File::from(openat(CWD, parent, flags, Mode::empty())?);
        check_owner(&directory.metadata()?, WRITABLE_FOR_OTHERS, "0700").map_err(|error| {
            io::Error::new(error.kind(), format!("its directory {} is not safe: {error}", parent.display()))
        })?;
        Ok(directory)
    }

    fn name(&self) -> io::Result<&str> {
        self.path.file_name().and_then(|name| name.to_str()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

/// Checks that this user owns a file, and that its mode has none of the `forbidden` bits.
fn check_owner(metadata: &fs::Metadata, forbidden: u32, expected: &str) -> io::Result<()> {
    let user = geteuid().as_raw();
    if metadata.uid() != user {
        return Err(refused(&format!("user {} owns it, and it must be user {user}", metadata.uid())));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(refused(&format!("its mode is {mode:04o}, and must be {expected}")));
    }
    Ok(())
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned())
}

fn remove_if_exists(directory: &File, name: &str) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rstest::rstest;
    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    fn in_new_directory() -> (tempfile::TempDir, PrivateFile) {
        let directory = tempfile::tempdir().unwrap();
        let file = PrivateFile::new(directory.path().join("multibond/last-plan.json"));
        (directory, file)
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(file: &PrivateFile) -> String {
        file.read().unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_until_it_is_removed() {
        let (_directory, file) = in_new_directory();
        assert_eq!(file.read().unwrap(), None);
        for content in ["first", "second"] {
            file.write(content.as_bytes()).unwrap();
            assert_eq!(file.read().unwrap().as_deref(), Some(content.as_bytes()));
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(file.path()), mode(file.path().parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(file.path().parent().unwrap()).unwrap().count(), 1);
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(file.read().unwrap(), None);
    }

    #[rstest]
    #[case(0o644, 0o700, "its mode is 0644, and must be 0600")]
    #[case(0o620, 0o700, "its mode is 0620, and must be 0600")]
    #[case(0o600, 0o777, "is not safe: its mode is 0777, and must be 0700")]
    #[case(0o600, 0o1777, "is not safe: its mode is 1777, and must be 0700")]
    fn a67_a_file_that_others_could_write_or_replace_is_refused(
        #[case] mode: u32,
        #[case] directory_mode: u32,
        #[case] why: &str,
    ) {
        let (_directory, file) = in_new_directory();
        file.write(b"{}").unwrap();
        set_mode(file.path(), mode);
        set_mode(file.path().parent().unwrap(), directory_mode);
        assert!(refusal(&file).contains(why), "{}", refusal(&file));
    }

    #[test]
    fn a67_a_link_a_pipe_and_a_very_large_file_are_refused() {
        let (_directory, file) = in_new_directory();
        file.write(b"{}").unwrap();
        let other = file.path().with_extension("other");
        fs::rename(file.path(), &other).unwrap();
        symlink(&other, file.path()).unwrap();
        assert_eq!(refusal(&file), "it is a symbolic link");
        file.remove().unwrap();
        assert!(other.exists(), "only the link is removed");
        mknodat(CWD, file.path(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(refusal(&file), "it is no regular file");
        file.write(b"").unwrap();
        File::options().write(true).open(file.path()).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(refusal(&file).contains("more than"), "{}", refusal(&file));
    }
}
