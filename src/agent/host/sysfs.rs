//! Reads sysfs: block devices, and attributes in general.
//!
//! Entries may vanish while they are read (`ENOENT`, `ENODEV`, `EINVAL`; for a process `ESRCH`). Such an entry is left
//! out, as if it had vanished before. All other errors are returned.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use rustix::io::Errno;

/// The unit of a device's size, whatever the device's own sectors are (Linux' `Documentation/ABI/stable/sysfs-block`).
const SECTOR: u64 = 512;
/// The values that the kernel and open-iscsi write for an attribute that is not set.
const UNSET: [&str; 3] = ["", "<NULL>", "(null)"];

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockDevice {
    /// The kernel's name, such as `sda` or `dm-3`.
    pub name: Arc<str>,
    /// Major and minor number.
    pub number: DeviceNumber,
    /// Its directory in sysfs.
    pub directory: PathBuf,
}

/// The device number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// The major number: the driver.
    pub major: u32,
    /// The minor number: the device of that driver.
    pub minor: u32,
}

impl FromStr for DeviceNumber {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once(':').ok_or(())?;
        Ok(DeviceNumber { major: major.parse().map_err(|_| ())?, minor: minor.parse().map_err(|_| ())? })
    }
}

impl BlockDevice {
    /// The device of a directory in sysfs; none if it does not exist.
    ///
    /// # Errors
    /// If the directory exists and cannot be read.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        let Some(name) = directory.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
        let number = attribute(&directory.join("dev"))?.and_then(|text| text.parse().ok());
        Ok(number.map(|number| BlockDevice { name: name.into(), number, directory: directory.to_owned() }))
    }

    /// The device with this kernel name, such as `sda`; not a partition.
    ///
    /// # Errors
    /// If it exists and cannot be read.
    pub fn named(sys: &Path, name: &str) -> io::Result<Option<Self>> {
        BlockDevice::read(&sys.join("block").join(name))
    }

    /// The partitions of a disk. A multipath map has none: its partitions are separate maps, stacked on it.
    ///
    /// # Errors
    /// If sysfs cannot be read.
    pub fn partitions(&self) -> io::Result<Vec<Self>> {
        let mut partitions = Vec::new();
        for name in names(&self.directory)?.iter().filter(|name| name.starts_with(&*self.name)) {
            let directory = self.directory.join(name);
            if attribute(&directory.join("partition"))?.is_some() {
                partitions.extend(BlockDevice::read(&directory)?);
            }
        }
        Ok(partitions)
    }

    /// The devices that are stacked directly on this one (LVM, md, dm-crypt, multipath).
    ///
    /// # Errors
    /// If sysfs cannot be read.
    pub fn holders(&self, sys: &Path) -> io::Result<Vec<Self>> {
        self.linked(sys, "holders")
    }

    /// The devices that this one is directly stacked on.
    ///
    /// # Errors
    /// If sysfs cannot be read.
    pub fn slaves(&self, sys: &Path) -> io::Result<Vec<Self>> {
        self.linked(sys, "slaves")
    }

    /// Its size in bytes; 0 if it has none, or it cannot be read.
    #[must_use]
    pub fn size(&self) -> u64 {
        let sectors: Option<u64> =
            attribute(&self.directory.join("size")).ok().flatten().and_then(|it| it.parse().ok());
        sectors.unwrap_or(0).saturating_mul(SECTOR)
    }

    /// The device-mapper name; none if this is not a device-mapper device.
    ///
    /// # Errors
    /// If sysfs cannot be read.
    pub fn map_name(&self) -> io::Result<Option<String>> {
        attribute(&self.directory.join("dm/name"))
    }

    /// The device-mapper UUID, which the creator of the map chose; none if this is not a device-mapper device.
    ///
    /// # Errors
    /// If sysfs cannot be read.
    pub fn map_uuid(&self) -> io::Result<Option<String>> {
        attribute(&self.directory.join("dm/uuid"))
    }

    fn linked(&self, sys: &Path, kind: &str) -> io::Result<Vec<Self>> {
        let mut linked = Vec::new();
        for name in names(&self.directory.join(kind))? {
            linked.extend(BlockDevice::named(sys, &name)?);
        }
        Ok(linked)
    }
}

/// The text of an attribute; none if it is not set or does not exist.
///
/// # Errors
/// If it exists and cannot be read.
pub fn attribute(file: &Path) -> io::Result<Option<String>> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if has_vanished(&error) => return Ok(None),
        Err(error) => return Err(read_error(file, &error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok((!UNSET.contains(&text)).then(|| text.to_owned()))
}

/// The file names in a directory, sorted; empty if the directory does not exist.
///
/// # Errors
/// If it exists and cannot be read.
pub fn names(directory: &Path) -> io::Result<Vec<String>> {
    match read_names(directory) {
        Ok(mut names) => {
            names.sort();
            Ok(names)
        }
        Err(error) if has_vanished(&error) => Ok(Vec::new()),
        Err(error) => Err(read_error(directory, &error)),
    }
}

/// Names that are not UTF-8 are left out.
fn read_names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

/// Whether an error means that the file, device or process does not exist any more.
#[must_use]
pub fn has_vanished(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NODEV | Errno::INVAL | Errno::SRCH))
}

/// Adds the name of the file to an error.
#[must_use]
pub fn read_error(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz};

    fuzz! {
        any_attribute_is_read: "attribute" => {
            let root = tempfile::tempdir().unwrap();
            move |input| {
                let file = root.path().join("attribute");
                fs::write(&file, input).unwrap();
                let text = attribute(&file).unwrap();
                let number: Option<DeviceNumber> = text.as_deref().and_then(|text| text.parse().ok());
                Parsed::new().texts(text).texts(number.map(|number| format!("{}:{}", number.major, number.minor)))
            }
        };
    }
}
