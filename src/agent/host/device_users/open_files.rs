//! The files that the processes of the host have open, or mapped into memory.
//!
//! A file may be the device itself, its SCSI device (`/dev/sg*`, `/dev/bsg/*`), or a file of a file system on it. The last
//! also finds a file system that was unmounted lazily, which no mount table shows.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, statx};

use super::{processes, unless_vanished};
use crate::agent::host::{
    sysfs::{BlockDevice, DeviceNumber, attribute, names, read_error},
    time_limit::TimeLimit,
};

/// The number of looks at the mappings of a process that changes them meanwhile. A look finds a file that is mapped and
/// unmapped in turns with a chance of about a half.
const MAX_LOOKS: u32 = 10;
/// The bounds of what is remembered of mapped files: any process can map many files with long names.
const MAX_OTHERS: usize = 20_000;
const MAX_NAME: usize = 400;

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
    others: Arc<Others>,
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
            let task = with_mappings(process, &task);
            let (wanted, others) = (self.wanted.clone(), self.others.clone());
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

/// The directory with the mappings of a process or thread. `task` has no `map_files`, but each thread has a directory
/// like that of a process, which procfs does not list.
fn with_mappings(process: &Path, task: &Path) -> PathBuf {
    task.file_name().map_or_else(|| process.to_owned(), |id| process.with_file_name(id))
}

/// Mapped files that are not wanted. Most processes map the same libraries.
#[derive(Debug, Default)]
struct Others(Mutex<HashSet<String>>);

impl Others {
    fn contains(&self, file: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(file)
    }

    fn add(&self, file: &str) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() < MAX_OTHERS && file.len() <= MAX_NAME {
            files.insert(file.to_owned());
        }
    }
}

/// Where a file is mapped: the first address, with the file's device and inode.
type Place = (u64, String);

/// What a look at the mappings of a process has found.
#[derive(Debug, Default)]
struct Look {
    found: BTreeSet<Opened>,
    /// The mappings that had vanished before they were looked at.
    missed: BTreeMap<Place, Missed>,
}

/// A mapping that could not be looked at.
#[derive(Clone, Copy, Debug)]
struct Missed {
    end: u64,
    /// It had another end at the look before: the process makes it anew all the time.
    moves: bool,
}

/// The wanted files that a process has mapped. A mapping keeps a file open, even after its descriptor was closed.
///
/// The table of mappings shows of a device node only where the node is. So each mapped file is looked at. A mapping that
/// vanishes meanwhile is no use of its file: nobody keeps data in it. Neither is one whose end moves at every look, if not
/// even its beginning is seen once. Only one that is in its place whenever the table is read, and can never be looked at, is
/// not understood. So no process can, by mapping new files or moving its mappings all the time, make it unknown what the
/// devices of its host are used for.
fn mapped(process: &Path, wanted: &Wanted, others: &Others) -> io::Result<BTreeSet<Opened>> {
    let table = process.join("maps");
    mapped_in(|| Ok(BufReader::new(fs::File::open(&table)?)), process, wanted, others)
}

/// As [`mapped`], with the tables that `open` gives.
fn mapped_in<T: BufRead>(
    mut open: impl FnMut() -> io::Result<T>,
    process: &Path,
    wanted: &Wanted,
    others: &Others,
) -> io::Result<BTreeSet<Opened>> {
    let table = process.join("maps");
    let mut look = Look::default();
    for number in 0..MAX_LOOKS {
        let places = (number > 0).then(|| std::mem::take(&mut look.missed));
        let again = unless_vanished(&table, |_| look_at(open()?, process, wanted, others, places.as_ref()))?;
        let again = again.unwrap_or_default();
        look.found.extend(again.found);
        look.missed = again.missed;
        if look.missed.is_empty() {
            break;
        }
    }
    match look.missed.iter().find(|(_, missed)| !missed.moves) {
        Some(((address, file), _)) if process.exists() => {
            let message = format!("expected to see the mapped file {file} at {address:x}, and it was never there");
            Err(read_error(&table, &io::Error::other(message)))
        }
        _ => Ok(look.found),
    }
}

/// Looks at the files in a table of mappings; if there are `places`, only at those.
fn look_at(
    table: impl BufRead,
    process: &Path,
    wanted: &Wanted,
    others: &Others,
    places: Option<&BTreeMap<Place, Missed>>,
) -> io::Result<Look> {
    let mut look = Look::default();
    let directory = process.join("map_files");
    let by_begin = OnceCell::new();
    let see = |name: &str| {
        let entry = directory.join(name);
        unless_vanished(&entry, |entry| Ok(statx(CWD, entry, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE)?))
    };
    for line in table.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let Some(mapping) = Mapping::parse(&line) else { continue };
        let before = places.map(|places| places.get(&mapping.place()));
        if before.is_some_and(|before| before.is_none()) || others.contains(mapping.file) {
            continue;
        }
        let mut file = see(&mapping.range())?;
        // Its end may have moved, and then the kernel lists it under another name.
        if file.is_none()
            && let Some(name) = by_begin.get_or_init(|| names_by_begin(&directory)).get(&mapping.begin)
        {
            file = see(name)?;
        }
        match file.map(|file| wanted.find(&file)) {
            Some(Some(opened)) => _ = look.found.insert(opened),
            Some(None) => others.add(mapping.file),
            None => {
                let moves = before.flatten().is_some_and(|before| before.moves || before.end != mapping.end);
                look.missed.insert(mapping.place(), Missed { end: mapping.end, moves });
            }
        }
    }
    Ok(look)
}

/// The names in `map_files` by the address at which each begins.
fn names_by_begin(directory: &Path) -> BTreeMap<u64, String> {
    let begin = |name: &str| u64::from_str_radix(name.split_once('-')?.0, 16).ok();
    let names = names(directory).unwrap_or_default();
    names.into_iter().filter_map(|name| Some((begin(&name)?, name))).collect()
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

    fn place(&self) -> Place {
        (self.begin, self.file.split(' ').take(2).collect::<Vec<_>>().join(" "))
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
    use std::{os::unix::fs::symlink, slice};

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

    /// A process of a fake procfs, which maps `/dev/null` where a link was made.
    struct FakeProcess(tempfile::TempDir);

    impl FakeProcess {
        fn new() -> Self {
            let process = FakeProcess(tempfile::tempdir().unwrap());
            fs::create_dir(process.0.path().join("map_files")).unwrap();
            process
        }

        fn maps_null(self, at: &str) -> Self {
            symlink("/dev/null", self.0.path().join("map_files").join(at)).unwrap();
            self
        }

        /// What is found when each look has the next of these tables, and the last for ever.
        fn mapped(&self, tables: &[&str]) -> io::Result<BTreeSet<Opened>> {
            let (mut tables, mut table) = (tables.iter(), "");
            let next = || {
                table = tables.next().copied().unwrap_or(table);
                Ok(table.as_bytes())
            };
            mapped_in(next, self.0.path(), &wants_null(), &Others::default())
        }
    }

    fn wants_null() -> Wanted {
        let null = DeviceNumber { major: 1, minor: 3 };
        Wanted { character_devices: BTreeMap::from([(null, SDA)]), ..Wanted::default() }
    }

    const SDA: DeviceNumber = DeviceNumber { major: 8, minor: 0 };

    /// A line of a table about a mapping of one page.
    fn line(begin: u64, inode: u32) -> String {
        format!("{begin:x}-{:x} rw-s 00000000 00:01 {inode}    /memfd:x (deleted)\n", begin + 0x1000)
    }

    #[test]
    fn a_process_that_maps_new_files_all_the_time_hides_nothing() {
        let process = FakeProcess::new().maps_null("5000-6000");
        let storm: Vec<String> = (1..20).map(|inode| (1..5).map(|page| line(page * 0x1000, inode)).collect()).collect();
        let tables: Vec<&str> = storm.iter().map(String::as_str).collect();
        assert_eq!(process.mapped(&tables).unwrap(), BTreeSet::new(), "new files at the same addresses");
        let device = line(0x5000, 7);
        let with_device = tables.iter().map(|table| format!("{table}{device}")).collect::<Vec<_>>();
        let tables: Vec<&str> = with_device.iter().map(String::as_str).collect();
        assert_eq!(process.mapped(&tables).unwrap(), BTreeSet::from([Opened::Device(SDA)]), "beside a device");
        let moving: Vec<String> = (1..20).map(|page| line(page * 0x10_0000, 7)).collect();
        let tables: Vec<&str> = moving.iter().map(String::as_str).collect();
        assert_eq!(process.mapped(&tables).unwrap(), BTreeSet::new(), "one file at new addresses");
    }

    #[test]
    fn a_process_that_moves_the_end_of_a_mapping_all_the_time_hides_nothing() {
        let upto = |end: u64| format!("1000-{end:x} rw-s 00000000 00:01 7    /memfd:x (deleted)\n");
        let moving: Vec<String> = (2..20).map(|page| upto(page * 0x1000)).collect();
        let tables: Vec<&str> = moving.iter().map(String::as_str).collect();
        assert_eq!(FakeProcess::new().mapped(&tables).unwrap(), BTreeSet::new(), "it is never seen");
        let device = FakeProcess::new().maps_null("1000-fff000");
        assert_eq!(device.mapped(&tables).unwrap(), BTreeSet::from([Opened::Device(SDA)]), "its beginning is seen");
        let then_stays = [&tables[..3], &[tables[3]; 1]].concat();
        assert_eq!(FakeProcess::new().mapped(&then_stays).unwrap(), BTreeSet::new(), "it has moved once");
    }

    #[test]
    fn a_mapping_that_stays_and_can_never_be_looked_at_is_an_error() {
        let stays = line(0x1000, 7);
        let error = FakeProcess::new().mapped(&[&stays]).unwrap_err().to_string();
        assert!(error.ends_with("expected to see the mapped file 00:01 7 at 1000, and it was never there"), "{error}");
        assert_eq!(FakeProcess::new().mapped(&[&stays, ""]).unwrap(), BTreeSet::new(), "it is gone at the second look");
    }

    #[test]
    fn what_is_remembered_of_mapped_files_is_bounded() {
        let others = Others::default();
        others.add(&"x".repeat(MAX_NAME + 1));
        assert!(!others.contains(&"x".repeat(MAX_NAME + 1)));
        (0..MAX_OTHERS + 10).for_each(|number| others.add(&number.to_string()));
        assert!(others.contains("0") && !others.contains(&MAX_OTHERS.to_string()));
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_is_read_by_its_threads() {
        let proc = tempfile::tempdir().unwrap();
        for directory in ["7/task/7", "7/task/9", "7/fd"] {
            fs::create_dir_all(proc.path().join(directory)).unwrap();
        }
        let process = proc.path().join("7");
        let of = || tasks(&process).unwrap().iter().map(|task| with_mappings(&process, task)).collect::<Vec<_>>();
        assert_eq!(of(), [process.clone(), proc.path().join("9")], "where `map_files` is");
        fs::write(process.join("fd/0"), "").unwrap();
        assert_eq!(of(), slice::from_ref(&process));
    }

    fuzz! {
        any_table_of_mappings_is_read: "maps" => |input| {
            let text = lossy(input);
            let mappings: Vec<Mapping<'_>> = text.lines().filter_map(Mapping::parse).collect();
            Parsed::new().texts(mappings.iter().map(|mapping| mapping.file))
        };
    }
}
