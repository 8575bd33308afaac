//! Block devices, and attributes of anything, as the kernel shows them in sysfs.
//!
//! Entries come and go while they are read. What is gone in the middle of it (`ENOENT`, `ENODEV`, `EINVAL`; of a
//! process `ESRCH`) is left out, as if it had gone a moment earlier; any other error is one.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use rustix::io::Errno;

/// What the kernel and open-iscsi write for "not set".
const UNSET: [&str; 3] = ["", "<NULL>", "(null)"];

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// The kernel's name, such as `sda` or `dm-3`.
    pub name: Arc<str>,
    /// Major and minor number.
    pub number: Number,
    /// Where sysfs describes it.
    pub directory: PathBuf,
}

/// The number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    /// Of the driver.
    pub major: u32,
    /// Within it.
    pub minor: u32,
}

impl FromStr for Number {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once(':').ok_or(())?;
        Ok(Number { major: major.parse().map_err(|_| ())?, minor: minor.parse().map_err(|_| ())? })
    }
}

impl Block {
    /// The device that a directory of sysfs describes; none when it is gone.
    ///
    /// # Errors
    /// When the directory is there and cannot be read.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        let Some(name) = directory.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
        let number = attribute(&directory.join("dev"))?.and_then(|text| text.parse().ok());
        Ok(number.map(|number| Block { name: name.into(), number, directory: directory.to_owned() }))
    }

    /// A whole device by the kernel's name.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn named(sys: &Path, name: &str) -> io::Result<Option<Self>> {
        Block::read(&sys.join("block").join(name))
    }

    /// The partitions of a disk. Maps have none: theirs are maps of their own, stacked on them.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn partitions(&self) -> io::Result<Vec<Self>> {
        let mut partitions = Vec::new();
        for name in names(&self.directory)?.iter().filter(|name| name.starts_with(&*self.name)) {
            let directory = self.directory.join(name);
            if attribute(&directory.join("partition"))?.is_some() {
                partitions.extend(Block::read(&directory)?);
            }
        }
        Ok(partitions)
    }

    /// The devices that are stacked directly on this one.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn holders(&self, sys: &Path) -> io::Result<Vec<Self>> {
        self.linked(sys, "holders")
    }

    /// The devices that this one is stacked on.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn slaves(&self, sys: &Path) -> io::Result<Vec<Self>> {
        self.linked(sys, "slaves")
    }

    /// The name that device-mapper knows it by; none for any other device.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn map_name(&self) -> io::Result<Option<String>> {
        attribute(&self.directory.join("dm/name"))
    }

    /// The unique name that its owner gave to device-mapper; none for any other device.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn map_uuid(&self) -> io::Result<Option<String>> {
        attribute(&self.directory.join("dm/uuid"))
    }

    fn linked(&self, sys: &Path, kind: &str) -> io::Result<Vec<Self>> {
        let mut linked = Vec::new();
        for name in names(&self.directory.join(kind))? {
            linked.extend(Block::named(sys, &name)?);
        }
        Ok(linked)
    }
}

/// The text of an attribute; none when it is not set, or when what it belongs to is gone.
///
/// # Errors
/// When it is there and cannot be read.
pub fn attribute(file: &Path) -> io::Result<Option<String>> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(at(file, &error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok((!UNSET.contains(&text)).then(|| text.to_owned()))
}

/// The names in a directory, sorted; none when it is not there.
///
/// # Errors
/// When it is there and cannot be read.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    let read = || fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<OsString>>>();
    let mut names: Vec<String> = match read() {
        Ok(names) => names.into_iter().filter_map(|name| name.into_string().ok()).collect(),
        Err(error) if is_gone(&error) => Vec::new(),
        Err(error) => return Err(at(directory, &error)),
    };
    names.sort();
    Ok(names)
}

/// Whether an error says that something has vanished.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NODEV | Errno::INVAL | Errno::SRCH))
}

/// An error with the file that it is about.
#[must_use]
pub fn at(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {}: {error}", file.display()))
}
