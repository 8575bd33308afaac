//! Finds the users of a block device.
//!
//! sysfs shows what is stacked on the device. The other users are found in `/proc`, by reading every process of the
//! host. That takes 0.2 s for 600 processes with 40,000 open files. So it is done for all devices in one pass, and only
//! for the disks of sessions that may be logged out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io, iter,
    path::Path,
};

use rustix::fs::{AtFlags, FileType, StatxFlags, statx};

use super::{
    device_mapper::{MapEntry, is_multipath},
    mount_points::MountPoints,
    processes::check_host_daemon,
    sysfs::{BlockDevice, DeviceNumber, attribute, has_vanished, names, read_error},
};
use crate::ops::one_line;

/// The daemon that keeps every path open to check it; it is not a user.
const MULTIPATHD: &str = "multipathd";

/// The PID namespace of the host. Its number is the same in every kernel (`PROC_PID_INIT_INO`).
const HOST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Something that uses a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceUser {
    /// Another block device that is stacked on it (LVM, md, dm-crypt), by name.
    Holder(String),
    /// A file system that is mounted at this path, in any mount namespace.
    Mount(String),
    /// A process that has it open, such as a virtual machine; by name and PID.
    Open(String),
    /// Swap space.
    Swap,
    /// A loop device, by name.
    Loop(String),
    /// It is not known whether something uses it, for this reason. It must be treated as in use.
    Unknown(String),
}

impl std::fmt::Display for DeviceUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceUser::Holder(device) => write!(f, "held by {}", one_line(device)),
            DeviceUser::Mount(path) => write!(f, "mounted at {}", one_line(path)),
            DeviceUser::Open(process) => write!(f, "open in {}", one_line(process)),
            DeviceUser::Swap => write!(f, "used as swap"),
            DeviceUser::Loop(device) => write!(f, "behind {}", one_line(device)),
            DeviceUser::Unknown(why) => write!(f, "perhaps in use ({})", one_line(why)),
        }
    }
}

/// The direct users of some devices, without another device in between: mounts, swap, loop devices and open files.
#[derive(Debug, Default)]
struct DirectUsers(BTreeMap<DeviceNumber, Vec<DeviceUser>>);

impl DirectUsers {
    /// Reads swap, loop devices, and the mounts and open files of every process. It is an error if any of them cannot be
    /// read: the device would look unused.
    fn read(sys: &Path, proc: &Path, devices: &[BlockDevice]) -> io::Result<Self> {
        let mut users = DirectUsers(devices.iter().map(|device| (device.number, Vec::new())).collect());
        if devices.is_empty() {
            return Ok(users);
        }
        require_host_pid_namespace(proc)?;
        users.add_mounts(proc, devices)?;
        users.add_swap(proc, devices)?;
        users.add_loops(sys, devices)?;
        users.add_open_files(proc)?;
        Ok(users)
    }

    fn of(&self, device: &BlockDevice) -> &[DeviceUser] {
        self.0.get(&device.number).map(Vec::as_slice).unwrap_or_default()
    }

    fn add(&mut self, device: DeviceNumber, user: DeviceUser) {
        if let Some(users) = self.0.get_mut(&device)
            && !users.contains(&user)
        {
            users.push(user);
        }
    }

    /// Reads each mount namespace once, through the first process that is found in it.
    fn add_mounts(&mut self, proc: &Path, devices: &[BlockDevice]) -> io::Result<()> {
        let mut namespaces = BTreeSet::new();
        for process in processes(proc)? {
            let directory = proc.join(&process);
            let Some(namespace) = unless_vanished(&directory.join("ns/mnt"), |file| fs::read_link(file))? else {
                continue;
            };
            if namespaces.contains(&namespace) {
                continue;
            }
            // A process that is ending has already left its namespace and shows no mounts: read another one.
            let table = unless_vanished(&directory.join("mountinfo"), |file| fs::read(file))?.unwrap_or_default();
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

    fn add_swap(&mut self, proc: &Path, devices: &[BlockDevice]) -> io::Result<()> {
        let table = attribute(&proc.join("swaps"))?.unwrap_or_default();
        for name in table.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next()) {
            if let Some(device) = device_at(devices, &unescaped(name)) {
                self.add(device, DeviceUser::Swap);
            }
        }
        Ok(())
    }

    /// Only loop devices over a device itself. One over a file of a mounted file system shows as a mount.
    fn add_loops(&mut self, sys: &Path, devices: &[BlockDevice]) -> io::Result<()> {
        let blocks = sys.join("block");
        for name in names(&blocks)?.into_iter().filter(|name| name.starts_with("loop")) {
            let file = attribute(&blocks.join(&name).join("loop/backing_file"))?;
            if let Some(device) = file.and_then(|file| device_at(devices, &file)) {
                self.add(device, DeviceUser::Loop(name));
            }
        }
        Ok(())
    }

    fn add_open_files(&mut self, proc: &Path) -> io::Result<()> {
        for process in processes(proc)? {
            let directory = proc.join(&process);
            let open: Vec<DeviceNumber> =
                open_devices(&directory.join("fd"))?.into_iter().filter(|device| self.0.contains_key(device)).collect();
            if open.is_empty() {
                continue;
            }
            let command = attribute(&directory.join("comm"))?.unwrap_or_default();
            if command == MULTIPATHD && process.parse().is_ok_and(|pid| check_host_daemon(proc, pid).is_ok()) {
                continue;
            }
            for device in open {
                self.add(device, DeviceUser::Open(format!("{command} (process {process})")));
            }
        }
        Ok(())
    }
}

/// The users of each of these disks and of each map over one of them, by device. The users of a device include the
/// users of its partitions. If something cannot be read, the device counts as perhaps in use.
///
/// # Errors
/// If the partitions of a disk cannot be read.
pub fn device_users<'a>(
    mount_points: &MountPoints,
    disks: impl Iterator<Item = &'a BlockDevice>,
    maps: &[MapEntry],
) -> io::Result<BTreeMap<DeviceNumber, Vec<DeviceUser>>> {
    let mut devices = Vec::new();
    for disk in disks {
        devices.push((disk.clone(), disk.partitions()?));
    }
    for map in maps {
        if map.paths.iter().any(|path| devices.iter().any(|(disk, _)| disk.name == path.disk)) {
            devices.push((map.block.clone(), map.partitions.clone()));
        }
    }
    let all: Vec<BlockDevice> =
        devices.iter().flat_map(|(device, partitions)| iter::once(device).chain(partitions)).cloned().collect();
    let direct = DirectUsers::read(&mount_points.sys, &mount_points.proc, &all);
    let mut users = BTreeMap::new();
    for (device, partitions) in devices {
        let mut found = holders(&mount_points.sys, &device, &partitions).unwrap_or_else(|error| vec![unknown(&error)]);
        match &direct {
            Ok(direct) => {
                found.extend(iter::once(&device).chain(&partitions).flat_map(|part| direct.of(part)).cloned());
            }
            Err(error) => found.push(unknown(error)),
        }
        users.insert(device.number, found);
    }
    Ok(users)
}

fn unknown(error: &io::Error) -> DeviceUser {
    DeviceUser::Unknown(error.to_string())
}

/// The topmost devices that are stacked on a device and its partitions. Its own partitions and multipath maps do not
/// count: their users are found separately.
fn holders(sys: &Path, device: &BlockDevice, partitions: &[BlockDevice]) -> io::Result<Vec<DeviceUser>> {
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

/// Adds the topmost devices of a stack. The recursion ends, because a device can be stacked on older ones only.
fn add_tops(sys: &Path, device: BlockDevice, tops: &mut BTreeSet<BlockDevice>) -> io::Result<()> {
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
    device: Option<DeviceNumber>,
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

    /// The mounted device, by number or by source: btrfs shows a number of its own.
    fn device(&self, devices: &[BlockDevice]) -> Option<DeviceNumber> {
        let by_number = devices.iter().map(|device| device.number).find(|number| Some(*number) == self.device);
        by_number.or_else(|| device_at(devices, &self.source))
    }
}

/// The device with this path below `/dev`. For open files the kernel shows the resolved link (`/dev/dm-3`); for mounts
/// it shows the name as it was given to mount(8) (`/dev/mapper/data`). So a map is found by both names.
fn device_at(devices: &[BlockDevice], node: &str) -> Option<DeviceNumber> {
    let name = node.strip_prefix("/dev/")?;
    let device = devices.iter().find(|device| match name.strip_prefix("mapper/") {
        Some(map) => device.map_name().ok().flatten().as_deref() == Some(map),
        None => *device.name == *name,
    });
    device.map(|device| device.number)
}

/// Decodes white space and backslashes, which procfs writes as `\ooo`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if let (b'\\', Some(byte)) = (first, after.get(..3).and_then(octal)) {
            bytes.push(byte);
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// Checks that procfs shows all processes of the host. In a pod without `hostPID` every device would look unused.
///
/// # Errors
/// If procfs shows the processes of a container.
pub fn require_host_pid_namespace(proc: &Path) -> io::Result<()> {
    let found = unless_vanished(&proc.join("1/ns/pid"), |file| fs::read_link(file))?;
    if found.as_deref() == Some(Path::new(HOST_PID_NAMESPACE)) {
        return Ok(());
    }
    let expected = "expected every process of the host, and found those of a container; run the agent with hostPID";
    Err(io::Error::other(format!("{}: {expected}", proc.display())))
}

fn processes(proc: &Path) -> io::Result<Vec<String>> {
    Ok(names(proc)?.into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect())
}

/// The block devices that a process has open. `STATX_DONT_SYNC` avoids requests to a file server for the other files of
/// the process: the server may not answer.
fn open_devices(directory: &Path) -> io::Result<BTreeSet<DeviceNumber>> {
    let mut devices = BTreeSet::new();
    let Some(opened) = unless_vanished(directory, |directory| fs::File::open(directory))? else { return Ok(devices) };
    for descriptor in names(directory)? {
        let found = unless_vanished(&directory.join(&descriptor), |_| {
            Ok(statx(&opened, &descriptor, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE)?)
        })?;
        if let Some(found) = found
            && FileType::from_raw_mode(found.stx_mode.into()) == FileType::BlockDevice
        {
            devices.insert(DeviceNumber { major: found.stx_rdev_major, minor: found.stx_rdev_minor });
        }
    }
    Ok(devices)
}

fn unless_vanished<T>(file: &Path, read: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<Option<T>> {
    match read(file) {
        Ok(value) => Ok(Some(value)),
        Err(error) if has_vanished(&error) => Ok(None),
        Err(error) => Err(read_error(file, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

    fuzz! {
        any_mountinfo_is_read: "mountinfo" => |input| {
            let text = lossy(input);
            let mounts: Vec<Mount> = text.lines().filter_map(Mount::parse).collect();
            let points = mounts.iter().map(|mount| DeviceUser::Mount(mount.point.clone()));
            Parsed::new().shown(points).texts(mounts.iter().map(|mount| &mount.source))
        };
        any_swaps_are_read: "swaps" => |input| {
            let text = lossy(input);
            Parsed::new().texts(text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next()).map(unescaped))
        };
        any_name_of_a_process_can_be_shown: "attribute" => |input| {
            Parsed::new().shown([DeviceUser::Open(lossy(input)), DeviceUser::Holder(lossy(input)), DeviceUser::Loop(lossy(input))])
        };
    }
}
