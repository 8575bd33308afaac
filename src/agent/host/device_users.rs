//! What uses a block device, named for people.
//!
//! Part of it stands in sysfs: what is stacked on the device. The rest is in `/proc`, and to find it every process of
//! the host is looked at. That takes two tenths of a second for 600 processes with 40,000 open files, so it is done for
//! all devices in one pass, and only for those that decide whether a session may go.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io, iter,
    path::Path,
};

use rustix::fs::{AtFlags, FileType, StatxFlags, statx};

use super::{
    device_mapper::{MapEntry, is_multipath},
    mount_points::Roots,
    sysfs::{Block, Number, at, attribute, is_gone, names},
};

/// It keeps every path open to check it.
const MULTIPATHD: &str = "multipathd";

/// The process namespace of the host itself: its number is the same in every kernel (`PROC_PID_INIT_INO`).
const HOST_PROCESSES: &str = "pid:[4026531836]";

/// Something that uses a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceUser {
    /// Another block device on top: LVM, md, dm-crypt.
    Holder(String),
    /// A file system, mounted there, in whatever mount namespace.
    Mount(String),
    /// A process, such as a virtual machine.
    Open(String),
    /// Swap.
    Swap,
    /// A loop device.
    Loop(String),
    /// Perhaps something: it could not be looked for, and that is why.
    Unknown(String),
}

impl std::fmt::Display for DeviceUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceUser::Holder(device) => write!(f, "held by {device}"),
            DeviceUser::Mount(path) => write!(f, "mounted at {path}"),
            DeviceUser::Open(process) => write!(f, "open in {process}"),
            DeviceUser::Swap => write!(f, "used as swap"),
            DeviceUser::Loop(device) => write!(f, "behind {device}"),
            DeviceUser::Unknown(why) => write!(f, "perhaps in use ({why})"),
        }
    }
}

/// What uses each of some devices, as far as the whole host knows.
#[derive(Debug, Default)]
pub struct Uses(BTreeMap<Number, Vec<DeviceUser>>);

impl Uses {
    /// Looks at swap, loop devices, and the mounts and open files of every process.
    ///
    /// # Errors
    /// When something cannot be looked at: nobody may take silence for an unused device.
    pub fn read(sys: &Path, proc: &Path, devices: &[Block]) -> io::Result<Self> {
        let mut uses = Uses(devices.iter().map(|device| (device.number, Vec::new())).collect());
        if devices.is_empty() {
            return Ok(uses);
        }
        see_every_process(proc)?;
        uses.add_mounts(proc, devices)?;
        uses.add_swap(proc, devices)?;
        uses.add_loops(sys, devices)?;
        uses.add_open_files(proc)?;
        Ok(uses)
    }

    /// What was found to use one of the devices.
    #[must_use]
    pub fn of(&self, device: &Block) -> &[DeviceUser] {
        self.0.get(&device.number).map(Vec::as_slice).unwrap_or_default()
    }

    fn add(&mut self, device: Number, by: DeviceUser) {
        if let Some(uses) = self.0.get_mut(&device)
            && !uses.contains(&by)
        {
            uses.push(by);
        }
    }

    /// Every mount namespace is read once, by the first process that is found in it.
    fn add_mounts(&mut self, proc: &Path, devices: &[Block]) -> io::Result<()> {
        let mut namespaces = BTreeSet::new();
        for process in processes(proc)? {
            let directory = proc.join(&process);
            let Some(namespace) = unless_gone(&directory.join("ns/mnt"), |file| fs::read_link(file))? else { continue };
            if namespaces.contains(&namespace) {
                continue;
            }
            // A process that is about to end has left its namespace already, and shows no mounts.
            let table = unless_gone(&directory.join("mountinfo"), |file| fs::read(file))?.unwrap_or_default();
            if !table.is_empty() {
                namespaces.insert(namespace);
            }
            for mount in String::from_utf8_lossy(&table).lines().filter_map(Mount::parse) {
                if let Some(device) = mount.device(devices) {
                    self.add(device, DeviceUser::Mount(mount.point));
                }
            }
        }
        Ok(())
    }

    fn add_swap(&mut self, proc: &Path, devices: &[Block]) -> io::Result<()> {
        let table = attribute(&proc.join("swaps"))?.unwrap_or_default();
        for name in table.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next()) {
            if let Some(device) = at_node(devices, &unescaped(name)) {
                self.add(device, DeviceUser::Swap);
            }
        }
        Ok(())
    }

    /// A loop device over a file of a mounted file system shows in the mount; one over the device itself does not.
    fn add_loops(&mut self, sys: &Path, devices: &[Block]) -> io::Result<()> {
        let blocks = sys.join("block");
        for name in names(&blocks)?.into_iter().filter(|name| name.starts_with("loop")) {
            let file = attribute(&blocks.join(&name).join("loop/backing_file"))?;
            if let Some(device) = file.and_then(|file| at_node(devices, &file)) {
                self.add(device, DeviceUser::Loop(name));
            }
        }
        Ok(())
    }

    fn add_open_files(&mut self, proc: &Path) -> io::Result<()> {
        for process in processes(proc)? {
            let directory = proc.join(&process);
            let open: Vec<Number> =
                open_devices(&directory.join("fd"))?.into_iter().filter(|device| self.0.contains_key(device)).collect();
            if open.is_empty() {
                continue;
            }
            let command = attribute(&directory.join("comm"))?.unwrap_or_default();
            if command == MULTIPATHD {
                continue;
            }
            for device in open {
                self.add(device, DeviceUser::Open(format!("{command} (process {process})")));
            }
        }
        Ok(())
    }
}

/// Devices of which is asked what uses them, each with the partitions that go with it.
pub struct InQuestion(Vec<(Block, Vec<Block>)>);

impl InQuestion {
    /// These disks, and the maps over them.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn of<'a>(disks: impl Iterator<Item = &'a Block>, maps: &[MapEntry]) -> io::Result<Self> {
        let mut devices = Vec::new();
        for disk in disks {
            devices.push((disk.clone(), disk.partitions()?));
        }
        for map in maps {
            if map.paths.iter().any(|path| devices.iter().any(|(disk, _)| disk.name == path.disk)) {
                devices.push((map.block.clone(), map.partitions.clone()));
            }
        }
        Ok(InQuestion(devices))
    }

    /// What cannot be looked at may be in use.
    #[must_use]
    pub fn look(self, roots: &Roots) -> BTreeMap<Number, Vec<DeviceUser>> {
        let all: Vec<Block> =
            self.0.iter().flat_map(|(device, parts)| iter::once(device).chain(parts)).cloned().collect();
        let found = Uses::read(&roots.sys, &roots.proc, &all);
        let look = |(device, parts): (Block, Vec<Block>)| {
            let stacked = holders(&roots.sys, &device, &parts);
            let mut uses = stacked.unwrap_or_else(|error| vec![DeviceUser::Unknown(error.to_string())]);
            match &found {
                Ok(found) => uses.extend(iter::once(&device).chain(&parts).flat_map(|part| found.of(part)).cloned()),
                Err(error) => uses.push(DeviceUser::Unknown(error.to_string())),
            }
            (device.number, uses)
        };
        self.0.into_iter().map(look).collect()
    }
}

/// What is stacked on a device and its partitions, by the name of what is on top; its partitions and multipath maps
/// aside, which are judged by themselves.
///
/// # Errors
/// When sysfs cannot be read.
pub fn holders(sys: &Path, device: &Block, partitions: &[Block]) -> io::Result<Vec<DeviceUser>> {
    let mut tops = BTreeSet::new();
    for below in iter::once(device).chain(partitions) {
        for holder in below.holders(sys)? {
            if !is_multipath(&holder)? && !partitions.contains(&holder) {
                add_tops(sys, holder, &mut tops)?;
            }
        }
    }
    let mut uses = Vec::new();
    for top in tops {
        uses.push(DeviceUser::Holder(match top.map_name()? {
            Some(name) => format!("{} ({name})", top.name),
            None => top.name.to_string(),
        }));
    }
    Ok(uses)
}

/// Devices are stacked on older ones only, so this ends.
fn add_tops(sys: &Path, device: Block, tops: &mut BTreeSet<Block>) -> io::Result<()> {
    let mut holders = device.holders(sys)?;
    for partition in device.partitions()? {
        holders.extend(partition.holders(sys)?);
    }
    if holders.is_empty() {
        tops.insert(device);
    }
    holders.into_iter().try_for_each(|holder| add_tops(sys, holder, tops))
}

/// A line of `mountinfo` (`proc_pid_mountinfo(5)`).
struct Mount {
    device: Option<Number>,
    point: String,
    source: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(2);
        let device = fields.next()?.parse().ok();
        let point = unescaped(fields.nth(1)?);
        let source = unescaped(file_system.split(' ').nth(1)?);
        Some(Mount { device, point, source })
    }

    /// By number, or by source: btrfs has a number of its own.
    fn device(&self, devices: &[Block]) -> Option<Number> {
        let by_number = devices.iter().map(|device| device.number).find(|number| Some(*number) == self.device);
        by_number.or_else(|| at_node(devices, &self.source))
    }
}

/// The device with this node in a `/dev`. The kernel resolves links when it opens a file, so that `/dev/mapper/data` is
/// shown as `/dev/dm-3`; mount(8) leaves the name as it was given, so that a map is also known by its own.
fn at_node(devices: &[Block], node: &str) -> Option<Number> {
    let name = node.strip_prefix("/dev/")?;
    let is_at = |device: &&Block| {
        let map = || device.map_name().ok().flatten();
        *device.name == *name || name.strip_prefix("mapper/").is_some_and(|name| map().as_deref() == Some(name))
    };
    devices.iter().find(is_at).map(|device| device.number)
}

/// White space and backslashes are written as `\ooo`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        if let (b'\\', Some(byte)) = (first, after.get(..3).and_then(code)) {
            bytes.push(byte);
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// In a pod without the host's processes every device would look unused.
///
/// # Errors
/// When processes of the host cannot be seen.
pub fn see_every_process(proc: &Path) -> io::Result<()> {
    let found = unless_gone(&proc.join("1/ns/pid"), |file| fs::read_link(file))?;
    if found.as_deref() == Some(Path::new(HOST_PROCESSES)) {
        return Ok(());
    }
    let expected = "expected every process of the host, and found those of a container; run the agent with hostPID";
    Err(io::Error::other(format!("{}: {expected}", proc.display())))
}

fn processes(proc: &Path) -> io::Result<Vec<String>> {
    Ok(names(proc)?.into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect())
}

/// The block devices that a process has open. Nothing is asked of the file systems of its other files: one of them may
/// be on a server that does not answer.
fn open_devices(directory: &Path) -> io::Result<BTreeSet<Number>> {
    let mut devices = BTreeSet::new();
    let Some(opened) = unless_gone(directory, |directory| fs::File::open(directory))? else { return Ok(devices) };
    for descriptor in names(directory)? {
        let found = unless_gone(&directory.join(&descriptor), |_| {
            Ok(statx(&opened, &descriptor, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE)?)
        })?;
        if let Some(found) = found
            && FileType::from_raw_mode(found.stx_mode.into()) == FileType::BlockDevice
        {
            devices.insert(Number { major: found.stx_rdev_major, minor: found.stx_rdev_minor });
        }
    }
    Ok(devices)
}

fn unless_gone<T>(file: &Path, read: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<Option<T>> {
    match read(file) {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(at(file, &error)),
    }
}
