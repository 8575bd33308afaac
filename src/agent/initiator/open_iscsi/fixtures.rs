//! A fake host: sysfs and procfs in a directory, as Linux lays them out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::Reader;
use crate::agent::host::{
    block_node::BlockNodes,
    device_mapper::{DeviceMapper, MapStatus},
    loop_device::BackingFile,
    mount_points::MountPoints,
    sysfs::BlockDevice,
};

/// A fake host.
pub struct FakeHost {
    root: TempDir,
    mapper: FakeMapper,
    nodes: FakeNodes,
}

/// A device mapper that knows the status of some maps, by UUID.
#[derive(Clone, Debug, Default)]
pub struct FakeMapper(BTreeMap<String, MapStatus>);

impl DeviceMapper for FakeMapper {
    fn status(&self, uuid: &str) -> io::Result<Option<MapStatus>> {
        Ok(self.0.get(uuid).cloned())
    }
}

/// A device mapper that does not answer.
#[derive(Debug)]
pub struct MuteMapper;

impl DeviceMapper for MuteMapper {
    fn status(&self, _: &str) -> io::Result<Option<MapStatus>> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "cannot open /dev/mapper/control"))
    }
}

/// A kernel that knows which devices are claimed, and what is behind loop devices, by name.
#[derive(Clone, Debug, Default)]
pub struct FakeNodes {
    claimed: BTreeSet<String>,
    loops: BTreeMap<String, BackingFile>,
}

impl BlockNodes for FakeNodes {
    fn is_claimed(&self, device: &BlockDevice) -> io::Result<bool> {
        Ok(self.claimed.contains(&*device.name))
    }

    fn loop_file(&self, device: &BlockDevice) -> io::Result<Option<BackingFile>> {
        Ok(self.loops.get(&*device.name).copied())
    }
}

/// A kernel that does not answer.
#[derive(Debug)]
pub struct MuteNodes;

impl MuteNodes {
    fn hangs<T>(device: &BlockDevice) -> io::Result<T> {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("opening {} takes longer than 2 s", device.name)))
    }
}

impl BlockNodes for MuteNodes {
    fn is_claimed(&self, device: &BlockDevice) -> io::Result<bool> {
        Self::hangs(device)
    }

    fn loop_file(&self, device: &BlockDevice) -> io::Result<Option<BackingFile>> {
        Self::hangs(device)
    }
}

impl FakeHost {
    pub fn new() -> Self {
        let host =
            FakeHost { root: tempfile::tempdir().unwrap(), mapper: FakeMapper::default(), nodes: FakeNodes::default() };
        host.sees_processes_of("pid:[4026531836]");
        host
    }

    /// A host that was recorded on a real kernel (`fixtures/`).
    pub fn recorded(text: &str) -> Self {
        let mut host = FakeHost::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(map) = line.strip_prefix("map ") {
                let [uuid, _, open_count, kind, status] = map.splitn(5, ' ').collect::<Vec<_>>().try_into().unwrap();
                let targets = vec![(kind.to_owned(), status.to_owned())];
                let status = MapStatus { open_count: open_count.parse().unwrap(), targets };
                host.mapper.0.insert(uuid.to_owned(), status);
            } else if let Some((file, target)) = line.split_once(" -> ") {
                link(&host.sys(file), Path::new(target));
            } else {
                let (file, text) = line.split_once(" = ").unwrap();
                write(&host.sys(file), &format!("{text}\n"));
            }
        }
        host
    }

    pub fn mount_points(&self) -> MountPoints {
        let root = self.root.path();
        MountPoints { sys: root.join("sys"), proc: root.join("proc"), dev: root.join("dev") }
    }

    pub fn reader(&self) -> Reader {
        Reader::with_fakes(self.mount_points(), self.mapper(), self.nodes())
    }

    pub fn nodes(&self) -> FakeNodes {
        self.nodes.clone()
    }

    /// Lets something claim a device.
    pub fn claim(&mut self, device: &str) {
        self.nodes.claimed.insert(device.to_owned());
    }

    /// Puts a file behind a loop device, by the numbers of its file system and of the device that it is.
    pub fn put_behind(&mut self, name: &str, file_system: &str, device: Option<&str>) {
        let file = BackingFile {
            file_system: file_system.parse().unwrap(),
            device: device.map(|device| device.parse().unwrap()),
        };
        self.nodes.loops.insert(name.to_owned(), file);
    }

    pub fn mapper(&self) -> FakeMapper {
        self.mapper.clone()
    }

    /// Adds session `N` of SCSI host `N`, with this interface record, to port 3260 of the address.
    pub fn session(&self, id: u32, record: &str, target: &str, address: &str) -> &Self {
        let device = self.session_device(id);
        let session = device.join(format!("iscsi_session/session{id}"));
        for (name, text) in [
            ("targetname", target),
            ("tpgt", "1"),
            ("state", "LOGGED_IN"),
            ("ifacename", record),
            ("recovery_tmo", "5"),
            ("username", "<NULL>"),
            ("password", "(null)"),
            ("username_in", ""),
            ("password_in", "<NULL>"),
        ] {
            write(&session.join(name), &format!("{text}\n"));
        }
        link(&session.join("device"), &device);
        link(&self.sys(&format!("class/iscsi_session/session{id}")), &session);
        let connection = device.join(format!("connection{id}:0/iscsi_connection/connection{id}:0"));
        write(&connection.join("persistent_address"), &format!("{address}\n"));
        write(&connection.join("persistent_port"), "3260\n");
        link(&self.sys(&format!("class/iscsi_connection/connection{id}:0")), &connection);
        write(&self.scsi_host(id).join(format!("iscsi_host/host{id}/netdev")), "<NULL>\n");
        self
    }

    /// Sets an attribute of a session.
    pub fn set(&self, id: u32, attribute: &str, text: &str) -> &Self {
        write(&self.session_attribute(id, attribute), &format!("{text}\n"));
        self
    }

    /// Sets the interface that the session is bound to, as the kernel shows it.
    pub fn netdev(&self, id: u32, device: &str) -> &Self {
        write(&self.scsi_host(id).join(format!("iscsi_host/host{id}/netdev")), &format!("{device}\n"));
        self
    }

    /// The file of an attribute of a session.
    pub fn session_attribute(&self, id: u32, attribute: &str) -> PathBuf {
        self.session_device(id).join(format!("iscsi_session/session{id}")).join(attribute)
    }

    /// Adds a LUN with its disk to a session.
    pub fn disk(&self, session: u32, lun: u32, name: &str, number: &str) -> &Self {
        let lun = format!("target{session}:0:0/{session}:0:0:{lun}/block");
        self.block(&self.session_device(session).join(lun).join(name), number);
        self
    }

    /// Adds a virtual device: a map, an md array, a loop device.
    pub fn device(&self, name: &str, number: &str, attributes: &[(&str, &str)]) -> &Self {
        let directory = self.sys(&format!("devices/virtual/block/{name}"));
        self.block(&directory, number);
        for (name, text) in attributes {
            write(&directory.join(name), &format!("{text}\n"));
        }
        self
    }

    /// Adds a device-mapper map, with its open count and the type and status of its target.
    pub fn map(&mut self, device: (&str, &str), name: &str, uuid: &str, open_count: u32, status: (&str, &str)) {
        self.device(device.0, device.1, &[("dm/name", name), ("dm/uuid", uuid)]);
        let targets = vec![(status.0.to_owned(), status.1.to_owned())];
        self.mapper.0.insert(uuid.to_owned(), MapStatus { open_count, targets });
    }

    /// Adds a partition to a disk.
    pub fn partition(&self, disk: &str, name: &str, number: &str) -> &Self {
        let directory = self.sys(&format!("block/{disk}/{name}"));
        write(&directory.join("partition"), "1\n");
        write(&directory.join("dev"), &format!("{number}\n"));
        self
    }

    /// Stacks one device on another.
    pub fn stack(&self, upper: &str, lower: &str) -> &Self {
        let directory = |name: &str| match name.split_once('/') {
            Some((disk, partition)) => self.sys(&format!("block/{disk}/{partition}")),
            None => self.sys(&format!("block/{name}")),
        };
        link(&directory(lower).join("holders").join(upper), &directory(upper));
        link(&directory(upper).join("slaves").join(lower.rsplit('/').next().unwrap()), &directory(lower));
        self
    }

    /// Sets the PID namespace whose processes `/proc` shows.
    pub fn sees_processes_of(&self, namespace: &str) -> &Self {
        let directory = self.mount_points().proc.join("1/ns");
        fs::create_dir_all(&directory).unwrap();
        let _ = fs::remove_file(directory.join("pid"));
        symlink(namespace, directory.join("pid")).unwrap();
        self
    }

    /// Writes a file below `/proc`.
    pub fn proc(&self, name: &str, text: &str) -> &Self {
        write(&self.mount_points().proc.join(name), text);
        self
    }

    /// Adds a process with its mount namespace, its mounts and its open files.
    pub fn process(&self, id: u32, command: &str, namespace: &str, mounts: &str, open: &[&Path]) -> &Self {
        let directory = self.mount_points().proc.join(id.to_string());
        write(&directory.join("comm"), &format!("{command}\n"));
        write(&directory.join("mountinfo"), mounts);
        fs::create_dir_all(directory.join("ns")).unwrap();
        symlink(format!("mnt:[{namespace}]"), directory.join("ns/mnt")).unwrap();
        fs::create_dir_all(directory.join("fd")).unwrap();
        for (descriptor, file) in open.iter().enumerate() {
            symlink(file, directory.join("fd").join(descriptor.to_string())).unwrap();
        }
        self
    }

    /// Lets a process map a file, 4096 bytes from an address.
    pub fn maps(&self, id: u32, address: u64, file: &Path) -> &Self {
        let directory = self.mount_points().proc.join(id.to_string());
        let end = address + 4096;
        let line = format!("{address:08x}-{end:08x} r--s 00000000 fe:00 12 {}\n", file.display());
        write(&directory.join("maps"), &line);
        link(&directory.join(format!("map_files/{address:x}-{end:x}")), file);
        self
    }

    /// Adds a thread to a process, with its open files.
    pub fn thread(&self, process: u32, id: u32, open: &[&Path]) -> &Self {
        let files = self.mount_points().proc.join(format!("{process}/task/{id}/fd"));
        fs::create_dir_all(&files).unwrap();
        for (descriptor, file) in open.iter().enumerate() {
            symlink(file, files.join(descriptor.to_string())).unwrap();
        }
        self
    }

    /// Writes a file below `/sys`.
    pub fn sysfs(&self, name: &str, text: &str) -> &Self {
        write(&self.sys(name), &format!("{text}\n"));
        self
    }

    fn sys(&self, name: &str) -> PathBuf {
        self.mount_points().sys.join(name)
    }

    fn scsi_host(&self, id: u32) -> PathBuf {
        self.sys(&format!("devices/platform/host{id}"))
    }

    fn session_device(&self, id: u32) -> PathBuf {
        self.scsi_host(id).join(format!("session{id}"))
    }

    fn block(&self, directory: &Path, number: &str) {
        write(&directory.join("dev"), &format!("{number}\n"));
        let name = directory.file_name().unwrap().to_str().unwrap();
        link(&self.sys(&format!("block/{name}")), directory);
    }
}

fn write(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

fn link(from: &Path, to: &Path) {
    fs::create_dir_all(from.parent().unwrap()).unwrap();
    symlink(to, from).unwrap();
}
