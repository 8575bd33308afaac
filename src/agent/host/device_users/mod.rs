//! Finds the users of a block device.
//!
//! A device counts as unused only if every reader says so, and an error of a reader means that it may be in use:
//!
//! - sysfs shows what is stacked on the device, and whether it is part of a btrfs file system;
//! - `/proc` shows mounts, swap, and the [files](open_files) that each process has open or mapped;
//! - the kernel tells of a loop device which file is behind it ([`BlockNodes`]);
//! - configfs shows what the kernel serves to other machines ([`disk_servers`]);
//! - at last, the kernel is asked whether anybody has claimed the disk ([`BlockNodes`]). That finds every other user that
//!   cannot share it, such as a file system with its journal on it. The others say more about who it is.
//!
//! To read every process takes some tenths of a second for 600 processes with 40,000 open files. So it is done for all
//! devices in one pass, and only for the disks of sessions that may be logged out.

mod disk_servers;
mod open_files;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io, iter,
    path::Path,
    sync::Arc,
    time::Duration,
};

use self::{
    disk_servers::served_devices,
    open_files::{Opened, Wanted},
};
use super::{
    block_node::{BlockNodes, HostNodes},
    device_mapper::{MapEntry, is_multipath},
    mount_points::MountPoints,
    processes::check_host_daemon,
    sysfs::{BlockDevice, DeviceNumber, attribute, has_vanished, names, read_error},
    time_limit::TimeLimit,
};
use crate::ops::one_line;

/// The daemon that keeps every path open to check it; it is not a user.
const MULTIPATHD: &str = "multipathd";

/// The PID namespace of the host. Its number is the same in every kernel (`PROC_PID_INIT_INO`).
const HOST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The time to read the mappings of a process.
const PROCESS_LIMIT: Duration = Duration::from_secs(5);

/// Something that uses a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceUser {
    /// Another block device that is stacked on it (LVM, md, dm-crypt), by name.
    Holder(String),
    /// A file system that is mounted at this path, in any mount namespace.
    Mount(String),
    /// A process that has it open or mapped, such as a virtual machine; by name and PID.
    Open(String),
    /// A process that has a file open whose file system is on it and is not mounted any more; by name and PID.
    OpenFile(String),
    /// Swap space.
    Swap,
    /// A loop device, by name.
    Loop(String),
    /// The kernel serves it to other machines; the disk server and its name for the device.
    Served(String),
    /// Somebody in the kernel has claimed it, and nothing shows who.
    Claimed,
    /// It is not known whether something uses it, for this reason. It must be treated as in use.
    Unknown(String),
}

/// A claim that nothing else explains.
const CLAIMED: &str = "claimed by a part of the kernel that does not say more, such as a file system that is unmounted \
                       lazily or has its journal there, ZFS, or a disk server";

impl std::fmt::Display for DeviceUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceUser::Holder(device) => write!(f, "held by {}", one_line(device)),
            DeviceUser::Mount(path) => write!(f, "mounted at {}", one_line(path)),
            DeviceUser::Open(process) => write!(f, "open in {}", one_line(process)),
            DeviceUser::OpenFile(process) => write!(f, "used through a file that is open in {}", one_line(process)),
            DeviceUser::Swap => write!(f, "used as swap"),
            DeviceUser::Loop(device) => write!(f, "behind {}", one_line(device)),
            DeviceUser::Served(by) => write!(f, "served by {}", one_line(by)),
            DeviceUser::Claimed => f.write_str(CLAIMED),
            DeviceUser::Unknown(why) => write!(f, "perhaps in use ({})", one_line(why)),
        }
    }
}

/// Finds the users of devices.
#[derive(Clone, Debug)]
pub struct DeviceUsers {
    mount_points: MountPoints,
    nodes: Arc<dyn BlockNodes>,
    limit: TimeLimit,
}

impl DeviceUsers {
    /// The users on the host with these mount points.
    #[must_use]
    pub fn new(mount_points: MountPoints) -> Self {
        let nodes = HostNodes::new(mount_points.proc.clone());
        DeviceUsers::with_nodes(mount_points, nodes)
    }

    /// As `new`, but this tells of claims and loop devices.
    #[must_use]
    pub fn with_nodes(mount_points: MountPoints, nodes: impl BlockNodes + 'static) -> Self {
        DeviceUsers { mount_points, nodes: Arc::new(nodes), limit: TimeLimit::new(PROCESS_LIMIT) }
    }

    /// The users of each of these disks and of each map over one of them, by device. The users of a device include the
    /// users of its partitions. If something cannot be read, the device counts as perhaps in use.
    ///
    /// # Errors
    /// If the partitions of a disk cannot be read.
    pub fn of<'a>(
        &self,
        disks: impl Iterator<Item = &'a BlockDevice>,
        maps: &[MapEntry],
    ) -> io::Result<BTreeMap<DeviceNumber, Vec<DeviceUser>>> {
        let mut devices = Vec::new();
        for disk in disks {
            devices.push((disk.clone(), disk.partitions()?));
        }
        let disks: BTreeSet<DeviceNumber> = devices.iter().map(|(disk, _)| disk.number).collect();
        for map in maps {
            if map.paths.iter().any(|path| devices.iter().any(|(disk, _)| disk.name == path.disk)) {
                devices.push((map.block.clone(), map.partitions.clone()));
            }
        }
        let all: Vec<BlockDevice> =
            devices.iter().flat_map(|(device, partitions)| iter::once(device).chain(partitions)).cloned().collect();
        let direct = DirectUsers::read(self, &all);
        let sys = &self.mount_points.sys;
        let mut users = BTreeMap::new();
        for (device, partitions) in devices {
            let mut found = holders(sys, &device, &partitions).unwrap_or_else(|error| vec![unknown(&error)]);
            match &direct {
                Ok(direct) => {
                    found.extend(iter::once(&device).chain(&partitions).flat_map(|part| direct.of(part)).cloned());
                }
                Err(error) => found.push(unknown(error)),
            }
            if let Ok(direct) = &direct
                && found.is_empty()
                && disks.contains(&device.number)
            {
                let perhaps_served = direct.perhaps_served.as_deref();
                found.extend(self.hidden_user(&device, perhaps_served).unwrap_or_else(|error| Some(unknown(&error))));
            }
            users.insert(device.number, found);
        }
        Ok(users)
    }

    /// The user of a disk that shows no other use, if the kernel knows one. Not for a path of a multipath map: the map claims
    /// its paths, and its open count has all its users. The claim of a partition is one of its disk as well.
    fn hidden_user(&self, disk: &BlockDevice, perhaps_served: Option<&str>) -> io::Result<Option<DeviceUser>> {
        for holder in disk.holders(&self.mount_points.sys)? {
            if is_multipath(&holder)? {
                return Ok(None);
            }
        }
        if self.nodes.is_claimed(disk)? {
            return Ok(Some(DeviceUser::Claimed));
        }
        Ok(perhaps_served.map(|why| DeviceUser::Unknown(why.to_owned())))
    }
}

/// The direct users of some devices, without another device in between.
#[derive(Debug, Default)]
struct DirectUsers {
    users: BTreeMap<DeviceNumber, Vec<DeviceUser>>,
    /// Why the kernel may serve any of them.
    perhaps_served: Option<String>,
}

impl DirectUsers {
    /// It is an error if any reader fails: the device would look unused. Disk servers are no error: see `hidden_user`.
    fn read(host: &DeviceUsers, devices: &[BlockDevice]) -> io::Result<Self> {
        let mut users = DirectUsers {
            users: devices.iter().map(|device| (device.number, Vec::new())).collect(),
            perhaps_served: None,
        };
        if devices.is_empty() {
            return Ok(users);
        }
        let MountPoints { sys, proc, dev: _ } = &host.mount_points;
        require_host_pid_namespace(proc)?;
        users.add_btrfs(sys, devices)?;
        users.add_mounts(proc, devices)?;
        users.add_swap(proc, devices)?;
        users.add_loops(sys, &*host.nodes)?;
        users.add_open_files(proc, devices, &host.limit)?;
        let served = served_devices(sys, proc);
        for served in served.devices {
            users.add(served.device, DeviceUser::Served(served.by));
        }
        users.perhaps_served = served.unknown.into_iter().next();
        Ok(users)
    }

    fn of(&self, device: &BlockDevice) -> &[DeviceUser] {
        self.users.get(&device.number).map(Vec::as_slice).unwrap_or_default()
    }

    fn add(&mut self, device: DeviceNumber, user: DeviceUser) {
        if let Some(users) = self.users.get_mut(&device)
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

    /// A btrfs file system of several devices is mounted from one of them; the others show nowhere else.
    fn add_btrfs(&mut self, sys: &Path, devices: &[BlockDevice]) -> io::Result<()> {
        let file_systems = sys.join("fs/btrfs");
        for file_system in names(&file_systems)? {
            for name in names(&file_systems.join(&file_system).join("devices"))? {
                if let Some(device) = devices.iter().find(|device| *device.name == *name) {
                    self.add(device.number, DeviceUser::Holder(format!("the btrfs file system {file_system}")));
                }
            }
        }
        Ok(())
    }

    fn add_loops(&mut self, sys: &Path, nodes: &dyn BlockNodes) -> io::Result<()> {
        let blocks = sys.join("block");
        for name in names(&blocks)?.into_iter().filter(|name| name.starts_with("loop")) {
            if attribute(&blocks.join(&name).join("loop/backing_file"))?.is_none() {
                continue;
            }
            let Some(device) = BlockDevice::named(sys, &name)? else { continue };
            if let Some(file) = nodes.loop_file(&device)? {
                self.add(file.device.unwrap_or(file.file_system), DeviceUser::Loop(name));
            }
        }
        Ok(())
    }

    fn add_open_files(&mut self, proc: &Path, devices: &[BlockDevice], limit: &TimeLimit) -> io::Result<()> {
        // Of a mounted file system not every open file is listed.
        let file_systems = self.users.iter().filter(|(_, users)| users.is_empty()).map(|(device, _)| *device).collect();
        for (command, process, files) in open_files::users(proc, Wanted::new(devices, file_systems)?, limit)? {
            if command == MULTIPATHD && process.parse().is_ok_and(|pid| check_host_daemon(proc, pid).is_ok()) {
                continue;
            }
            let user = format!("{command} (process {process})");
            for file in files {
                match file {
                    Opened::Device(device) => self.add(device, DeviceUser::Open(user.clone())),
                    Opened::File(device) => self.add(device, DeviceUser::OpenFile(user.clone())),
                }
            }
        }
        Ok(())
    }
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
