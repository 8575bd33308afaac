//! A host's file systems in a directory, laid out as Linux lays them out.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::Reader;
use crate::agent::host::{
    device_mapper::{DeviceMapper, MapStatus},
    mount_points::Roots,
};

/// A host that is made up file by file.
pub struct Host {
    root: TempDir,
    recorded: Recorded,
}

/// What a device mapper has said, by uuid.
#[derive(Clone, Debug, Default)]
pub struct Recorded(BTreeMap<String, MapStatus>);

impl DeviceMapper for Recorded {
    fn status(&self, uuid: &str) -> io::Result<Option<MapStatus>> {
        Ok(self.0.get(uuid).cloned())
    }
}

/// A device mapper that cannot be asked.
#[derive(Debug)]
pub struct Mute;

impl DeviceMapper for Mute {
    fn status(&self, _: &str) -> io::Result<Option<MapStatus>> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "cannot open /dev/mapper/control"))
    }
}

impl Host {
    pub fn new() -> Self {
        let host = Host { root: tempfile::tempdir().unwrap(), recorded: Recorded::default() };
        host.sees_processes_of("pid:[4026531836]");
        host
    }

    /// A host as it was recorded on a real kernel (`fixtures/`).
    pub fn recorded(text: &str) -> Self {
        let mut host = Host::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(map) = line.strip_prefix("map ") {
                let [uuid, _, open_count, kind, status] = map.splitn(5, ' ').collect::<Vec<_>>().try_into().unwrap();
                let targets = vec![(kind.to_owned(), status.to_owned())];
                let status = MapStatus { open_count: open_count.parse().unwrap(), targets };
                host.recorded.0.insert(uuid.to_owned(), status);
            } else if let Some((file, target)) = line.split_once(" -> ") {
                link(&host.sys(file), Path::new(target));
            } else {
                let (file, text) = line.split_once(" = ").unwrap();
                write(&host.sys(file), &format!("{text}\n"));
            }
        }
        host
    }

    pub fn roots(&self) -> Roots {
        let root = self.root.path();
        Roots { sys: root.join("sys"), proc: root.join("proc"), dev: root.join("dev") }
    }

    pub fn reader(&self) -> Reader {
        Reader::with_mapper(self.roots(), self.mapper())
    }

    pub fn mapper(&self) -> Recorded {
        self.recorded.clone()
    }

    /// Session `N` of SCSI host `N`, through the record, to portal 3260 of the address.
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

    /// What the kernel was told that the session is bound to.
    pub fn netdev(&self, id: u32, device: &str) -> &Self {
        write(&self.scsi_host(id).join(format!("iscsi_host/host{id}/netdev")), &format!("{device}\n"));
        self
    }

    /// Where an attribute of a session is.
    pub fn session_attribute(&self, id: u32, attribute: &str) -> PathBuf {
        self.session_device(id).join(format!("iscsi_session/session{id}")).join(attribute)
    }

    /// A LUN of a session, with its disk.
    pub fn disk(&self, session: u32, lun: u32, name: &str, number: &str) -> &Self {
        let lun = format!("target{session}:0:0/{session}:0:0:{lun}/block");
        self.block(&self.session_device(session).join(lun).join(name), number);
        self
    }

    /// A device without hardware: a map, an array, a loop device.
    pub fn device(&self, name: &str, number: &str, attributes: &[(&str, &str)]) -> &Self {
        let directory = self.sys(&format!("devices/virtual/block/{name}"));
        self.block(&directory, number);
        for (name, text) in attributes {
            write(&directory.join(name), &format!("{text}\n"));
        }
        self
    }

    /// A device-mapper map, and what the device mapper says of it: how often it is open, and its target's status.
    pub fn map(&mut self, device: (&str, &str), name: &str, uuid: &str, open_count: u32, status: (&str, &str)) {
        self.device(device.0, device.1, &[("dm/name", name), ("dm/uuid", uuid)]);
        let targets = vec![(status.0.to_owned(), status.1.to_owned())];
        self.recorded.0.insert(uuid.to_owned(), MapStatus { open_count, targets });
    }

    /// A partition of a disk of a session.
    pub fn partition(&self, disk: &str, name: &str, number: &str) -> &Self {
        let directory = self.sys(&format!("block/{disk}/{name}"));
        write(&directory.join("partition"), "1\n");
        write(&directory.join("dev"), &format!("{number}\n"));
        self
    }

    /// One device is stacked on another.
    pub fn stack(&self, upper: &str, lower: &str) -> &Self {
        let directory = |name: &str| match name.split_once('/') {
            Some((disk, partition)) => self.sys(&format!("block/{disk}/{partition}")),
            None => self.sys(&format!("block/{name}")),
        };
        link(&directory(lower).join("holders").join(upper), &directory(upper));
        link(&directory(upper).join("slaves").join(lower.rsplit('/').next().unwrap()), &directory(lower));
        self
    }

    /// Which process namespace `/proc` shows.
    pub fn sees_processes_of(&self, namespace: &str) -> &Self {
        let directory = self.roots().proc.join("1/ns");
        fs::create_dir_all(&directory).unwrap();
        let _ = fs::remove_file(directory.join("pid"));
        symlink(namespace, directory.join("pid")).unwrap();
        self
    }

    /// A file below `/proc`.
    pub fn proc(&self, name: &str, text: &str) -> &Self {
        write(&self.roots().proc.join(name), text);
        self
    }

    /// A process with its mount namespace, its mounts and its open files.
    pub fn process(&self, id: u32, command: &str, namespace: &str, mounts: &str, open: &[&Path]) -> &Self {
        let directory = self.roots().proc.join(id.to_string());
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

    fn sys(&self, name: &str) -> PathBuf {
        self.roots().sys.join(name)
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
