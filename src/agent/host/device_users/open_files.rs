//! The files that the processes of the host have open, or mapped into memory.
//!
//! A file may be the device itself, its SCSI device (`/dev/sg*`, `/dev/bsg/*`), or a file of a file system on it. The last
//! also finds a file system that was unmounted lazily, which no mount table shows.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, statx};

use super::{processes, unless_vanished};
use crate::agent::host::{
    sysfs::{BlockDevice, DeviceNumber, attribute, names, read_error},
    time_limit::TimeLimit,
};

/// The number of attempts to look at a mapping that changes meanwhile.
const MAX_ATTEMPTS: u32 = 3;

/// The device that each file means which is looked for, by what the kernel says of a file.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    block_devices: BTreeSet<DeviceNumber>,
    /// SCSI devices (`sg`, `bsg`) of disks.
    character_devices: BTreeMap<DeviceNumber, DeviceNumber>,
    file_systems: BTreeSet<DeviceNumber>,
}

/// How a process uses a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opened {
    /// It has the device itself open.
    Device(DeviceNumber),
    /// It has a file open that is on the device.
    File(DeviceNumber),
}

impl Wanted {
    /// Looks for these devices, and for files on those in `file_systems`.
    ///
    /// # Errors
    /// If sysfs cannot be read.
    pub fn new(devices: &[BlockDevice], file_systems: BTreeSet<DeviceNumber>) -> io::Result<Self> {
        let mut wanted = Wanted { file_systems, ..Wanted::default() };
        for device in devices {
            wanted.block_devices.insert(device.number);
            for class in ["device/scsi_generic", "device/bsg"] {
                let directory = device.directory.join(class);
                for name in names(&directory)? {
                    let number = attribute(&directory.join(name).join("dev"))?.and_then(|text| text.parse().ok());
                    wanted.character_devices.extend(number.map(|number| (number, device.number)));
                }
            }
        }
        Ok(wanted)
    }

    fn find(&self, file: &Statx) -> Option<Opened> {
        let number = DeviceNumber { major: file.stx_rdev_major, minor: file.stx_rdev_minor };
        let file_system = DeviceNumber { major: file.stx_dev_major, minor: file.stx_dev_minor };
        let device = match FileType::from_raw_mode(file.stx_mode.into()) {
            FileType::BlockDevice => self.block_devices.get(&number).copied(),
            FileType::CharacterDevice => self.character_devices.get(&number).copied(),
            _ => None,
        };
        let on_device = || self.file_systems.contains(&file_system).then_some(Opened::File(file_system));
        device.map(Opened::Device).or_else(on_device)
    }
}

/// Finds files among those that processes use.
pub struct OpenFiles<'a> {
    wanted: Arc<Wanted>,
    limit: &'a TimeLimit,
    /// Mapped files that are not wanted. Most processes map the same libraries.
    others: Arc<Mutex<HashSet<String>>>,
}

impl<'a> OpenFiles<'a> {
    /// Finds these files. `limit` bounds what may hang.
    #[must_use]
    pub fn new(wanted: Wanted, limit: &'a TimeLimit) -> Self {
        OpenFiles { wanted: Arc::new(wanted), limit, others: Arc::default() }
    }

    /// The wanted files that a process has open or mapped.
    ///
    /// # Errors
    /// If the process exists and cannot be read.
    pub fn of(&self, process: &Path) -> io::Result<BTreeSet<Opened>> {
        let mut found = BTreeSet::new();
        for task in tasks(process)? {
            found.extend(self.open(&task.join("fd"))?);
            let (task, wanted, others) = (task.clone(), self.wanted.clone(), self.others.clone());
            let what = format!("reading {}", task.join("maps").display());
            // The kernel waits for the process if that is just changing its mappings, and it may hang while it does.
            found.extend(self.limit.run(&what, move || mapped(&task, &wanted, &others))?);
        }
        Ok(found)
    }

    /// `STATX_DONT_SYNC` avoids requests to a file server: the server may not answer.
    fn open(&self, directory: &Path) -> io::Result<BTreeSet<Opened>> {
        let mut found = BTreeSet::new();
        let Some(opened) = unless_vanished(directory, |directory| fs::File::open(directory))? else {
            return Ok(found);
        };
        for descriptor in names(directory)? {
            let file = unless_vanished(&directory.join(&descriptor), |_| {
                Ok(statx(&opened, &descriptor, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE)?)
            })?;
            found.extend(file.and_then(|file| self.wanted.find(&file)));
        }
        Ok(found)
    }
}

/// The directories in procfs to look at for a process: its own; or those of its threads, if its first thread has ended
/// before the others and shows no files any more.
fn tasks(process: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = process.join("task");
    let threads = names(&directory)?;
    if threads.len() < 2 || !names(&process.join("fd"))?.is_empty() {
        return Ok(vec![process.to_owned()]);
    }
    Ok(threads.iter().map(|thread| directory.join(thread)).collect())
}

/// The wanted files that a process has mapped. A mapping keeps a file open, even after its descriptor was closed.
///
/// The table of mappings shows of a device node only where the node is. So each mapped file is looked at.
fn mapped(process: &Path, wanted: &Wanted, others: &Mutex<HashSet<String>>) -> io::Result<BTreeSet<Opened>> {
    let table = process.join("maps");
    for _ in 0..MAX_ATTEMPTS {
        let text = unless_vanished(&table, |file| fs::read(file))?.unwrap_or_default();
        if let Some(found) = look_at(&String::from_utf8_lossy(&text), process, wanted, others)? {
            return Ok(found);
        }
    }
    Err(read_error(&table, &io::Error::other("the process changes its mappings all the time")))
}

/// None if a mapping of the table has vanished.
fn look_at(
    table: &str,
    process: &Path,
    wanted: &Wanted,
    others: &Mutex<HashSet<String>>,
) -> io::Result<Option<BTreeSet<Opened>>> {
    let mut found = BTreeSet::new();
    let mut looked_at = HashSet::new();
    for mapping in table.lines().filter_map(Mapping::parse) {
        let is_known = others.lock().unwrap_or_else(PoisonError::into_inner).contains(mapping.file);
        if is_known || !looked_at.insert(mapping.file) {
            continue;
        }
        let link = process.join("map_files").join(mapping.range());
        let file = unless_vanished(&link, |link| Ok(statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE)?))?;
        let Some(file) = file else {
            // The process itself may have ended.
            return Ok((!process.exists()).then_some(found));
        };
        match wanted.find(&file) {
            Some(opened) => _ = found.insert(opened),
            None => _ = others.lock().unwrap_or_else(PoisonError::into_inner).insert(mapping.file.to_owned()),
        }
    }
    Ok(Some(found))
}

/// A line of `/proc/PID/maps` about a file (`proc_pid_maps(5)`).
struct Mapping<'a> {
    begin: u64,
    end: u64,
    /// Device, inode and path: the same for every mapping of the file.
    file: &'a str,
}

impl<'a> Mapping<'a> {
    /// None for memory without a file.
    fn parse(line: &'a str) -> Option<Self> {
        let (range, rest) = line.split_once(' ')?;
        let (_permissions, rest) = rest.split_once(' ')?;
        let (_offset, file) = rest.split_once(' ')?;
        let inode = file.split(' ').nth(1)?;
        if inode == "0" {
            return None;
        }
        let (begin, end) = range.split_once('-')?;
        let (begin, end) = (u64::from_str_radix(begin, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        Some(Mapping { begin, end, file })
    }

    /// Its name in `map_files`, without the zeros that `maps` puts before short addresses.
    fn range(&self) -> String {
        format!("{:x}-{:x}", self.begin, self.end)
    }
}

/// The processes of the host that use one of the wanted files, with their names.
///
/// # Errors
/// If a process exists and cannot be read.
pub fn users(proc: &Path, wanted: Wanted, limit: &TimeLimit) -> io::Result<Vec<(String, String, BTreeSet<Opened>)>> {
    let files = OpenFiles::new(wanted, limit);
    // The agent itself uses no disk; it refers to nodes only to ask about them.
    let agent = fs::read_link(proc.join("self")).ok();
    let mut users = Vec::new();
    for process in processes(proc)?.into_iter().filter(|process| agent.as_deref() != Some(Path::new(process))) {
        let directory = proc.join(&process);
        let found = files.of(&directory)?;
        if !found.is_empty() {
            users.push((attribute(&directory.join("comm"))?.unwrap_or_default(), process, found));
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

    #[test]
    fn a_mapping_of_a_file_is_told_from_plain_memory() {
        let of = |line| Mapping::parse(line).map(|mapping| (mapping.range(), mapping.file.to_owned()));
        let line = "00400000-0040b000 r--p 00000000 00:06 412                                /dev/sdb";
        let file = "00:06 412                                /dev/sdb".to_owned();
        assert_eq!(of(line), Some(("400000-40b000".into(), file)));
        for line in [
            "7f2c9c000000-7f2c9c021000 rw-p 00000000 00:00 0 ",
            "7ffd5a1f9000-7ffd5a21a000 rw-p 00000000 00:00 0                          [stack]",
            "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]",
            "",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }
    fuzz! {
        any_table_of_mappings_is_read: "maps" => |input| {
            let text = lossy(input);
            let mappings: Vec<Mapping<'_>> = text.lines().filter_map(Mapping::parse).collect();
            Parsed::new().texts(mappings.iter().map(|mapping| mapping.file))
        };
    }
}
