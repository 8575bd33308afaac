//! Devices that the kernel itself serves to other machines: LIO (`target_core_mod`) and nvmet. Not all of them claim their
//! devices, and no process has these open. Their configuration in configfs names them.

use std::{
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use crate::agent::host::{
    block_node::number,
    host_root::HostRoot,
    sysfs::{DeviceNumber, read_error},
};

/// The mount point of configfs on the host.
const CONFIGFS: &str = "/sys/kernel/config";

/// What the kernel serves to other machines.
#[derive(Debug, Default)]
pub struct Served {
    /// The devices that are served.
    pub devices: Vec<ServedDevice>,
    /// What could not be found out. An object may serve any device that shows no other use: its path may be that of another
    /// mount namespace, or its device node may have been removed since.
    pub unknown: Vec<String>,
}

/// A device that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedDevice {
    /// The device itself, or the one with the file system of the file that is served.
    pub device: DeviceNumber,
    /// The disk server and its name for the device.
    pub by: String,
}

/// What is served, as far as it can be found out.
#[must_use]
pub fn served_devices(sys: &Path, proc: &Path) -> Served {
    let is_loaded = |module: &str| sys.join("module").join(module).exists();
    let mut served = Served::default();
    let (nvmet, lio) = (is_loaded("nvmet"), is_loaded("target_core_mod"));
    if !nvmet && !lio {
        return served;
    }
    let path = proc.join("1/root");
    let host = match HostRoot::open(&path) {
        Ok(root) => Host { root },
        Err(error) => {
            served.unknown.push(read_error(&path, &error).to_string());
            return served;
        }
    };
    if nvmet {
        let read = host.add_nvmet(&mut served);
        served.note(read);
    }
    if lio {
        let read = host.add_lio(&mut served);
        served.note(read);
    }
    served
}

impl Served {
    fn note(&mut self, read: io::Result<()>) {
        self.unknown.extend(read.err().map(|error| error.to_string()));
    }

    fn add(&mut self, device: io::Result<DeviceNumber>, by: String) {
        match device {
            Ok(device) => self.devices.push(ServedDevice { device, by }),
            Err(error) => self.unknown.push(format!("perhaps served by {by}: {error}")),
        }
    }
}

struct Host {
    root: HostRoot,
}

impl Host {
    fn add_nvmet(&self, served: &mut Served) -> io::Result<()> {
        let subsystems = format!("{CONFIGFS}/nvmet/subsystems");
        for subsystem in self.names(&subsystems)? {
            let namespaces = format!("{subsystems}/{subsystem}/namespaces");
            for namespace in self.names(&namespaces)? {
                let directory = format!("{namespaces}/{namespace}");
                if self.text(&format!("{directory}/enable"))? != "0" {
                    let file = self.text(&format!("{directory}/device_path"))?;
                    served.add(self.device(&file), format!("nvmet ({subsystem}, namespace {namespace})"));
                }
            }
        }
        Ok(())
    }

    /// A storage object of LIO is a directory in that of its backend (`fileio_0`, `iblock_0`); the others are groups.
    fn add_lio(&self, served: &mut Served) -> io::Result<()> {
        let core = format!("{CONFIGFS}/target/core");
        for backend in self.names(&core)? {
            let is_file = backend.starts_with("fileio_");
            if !is_file && !backend.starts_with("iblock_") {
                continue;
            }
            for object in self.names(&format!("{core}/{backend}"))? {
                let directory = format!("{core}/{backend}/{object}");
                if !self.is_directory(&directory) || self.text(&format!("{directory}/enable"))? == "0" {
                    continue;
                }
                let by = format!("LIO ({backend}/{object})");
                if is_file {
                    let info = self.text(&format!("{directory}/info"))?;
                    let file = served_file(&info).ok_or_else(|| {
                        let message = format!("{directory}/info: expected the name of a file, and found {info:?}");
                        io::Error::new(io::ErrorKind::InvalidData, message)
                    })?;
                    served.add(self.device(file), by);
                } else if let Ok(device) =
                    self.text(&format!("{directory}/udev_path")).and_then(|path| self.device(&path))
                {
                    // It also claims its device, so it is only named here.
                    served.devices.push(ServedDevice { device, by });
                }
            }
        }
        Ok(())
    }

    fn device(&self, file: &str) -> io::Result<DeviceNumber> {
        let found = self.root.metadata(file).map_err(|error| read_error(&self.root.shown(file), &error))?;
        Ok(number(if found.file_type().is_block_device() { found.rdev() } else { found.dev() }))
    }

    fn names(&self, directory: &str) -> io::Result<Vec<String>> {
        self.root.names(directory).map_err(|error| self.error(directory, &error))
    }

    fn text(&self, file: &str) -> io::Result<String> {
        let bytes = self.root.read(file).map_err(|error| self.error(file, &error))?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    fn is_directory(&self, path: &str) -> bool {
        self.root.link_metadata(path).is_ok_and(|found| found.is_dir())
    }

    fn error(&self, file: &str, error: &io::Error) -> io::Error {
        let message = format!("a disk server of the kernel is loaded, and {error}");
        read_error(&self.root.shown(file), &io::Error::new(error.kind(), message))
    }
}

/// The file in the `info` of a `fileio` object, as Linux's `drivers/target/target_core_file.c` writes it.
fn served_file(info: &str) -> Option<&str> {
    let (_, rest) = info.split_once("File: ")?;
    rest.split_once("  Size: ").map(|(file, _)| file)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

    struct FakeHost(tempfile::TempDir);

    impl FakeHost {
        fn new() -> Self {
            let host = FakeHost(tempfile::tempdir().unwrap());
            host.write("data/disk.img", "");
            host
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) -> &Self {
            let file = self.path("proc/1/root").join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
            self
        }

        fn loads(&self, module: &str) -> &Self {
            fs::create_dir_all(self.path("sys/module").join(module)).unwrap();
            self
        }

        /// Who serves something, and what is unknown.
        fn served(&self) -> (Vec<String>, Vec<String>) {
            let Served { devices, unknown } = served_devices(&self.path("sys"), &self.path("proc"));
            let file_system = number(fs::metadata(self.0.path()).unwrap().dev());
            assert!(devices.iter().all(|served| served.device == file_system), "{devices:?}");
            (devices.into_iter().map(|served| served.by).collect(), unknown)
        }
    }

    #[test]
    fn a_disk_that_the_kernel_serves_is_found_in_configfs() {
        let host = FakeHost::new();
        host.loads("nvmet").loads("target_core_mod");
        for (name, enable) in [("1", "1\n"), ("2", "0\n")] {
            let directory = format!("sys/kernel/config/nvmet/subsystems/nqn.x/namespaces/{name}");
            host.write(&format!("{directory}/enable"), enable);
            host.write(&format!("{directory}/device_path"), "/data/disk.img\n");
        }
        let core = "sys/kernel/config/target/core";
        let info = "Status: ACTIVATED  Max Queue Depth: 0  SectorSize: 512  HwMaxSectors: 16384\n        \
                    TCM FILEIO ID: 0        File: /data/disk.img  Size: 1048576  Mode: O_DSYNC Async: 0\n";
        host.write(&format!("{core}/alua/default"), "").write(&format!("{core}/fileio_0/hba_mode"), "0\n");
        host.write(&format!("{core}/fileio_0/file/enable"), "1\n").write(&format!("{core}/fileio_0/file/info"), info);
        for (name, path) in [("block", "/data/disk.img\n"), ("gone", "/data/gone\n")] {
            host.write(&format!("{core}/iblock_1/{name}/enable"), "1\n");
            host.write(&format!("{core}/iblock_1/{name}/udev_path"), path);
        }
        let expected = ["nvmet (nqn.x, namespace 1)", "LIO (fileio_0/file)", "LIO (iblock_1/block)"];
        assert_eq!(host.served(), (expected.map(str::to_owned).to_vec(), vec![]));
    }

    #[test]
    fn an_object_whose_file_is_gone_hides_no_other() {
        let host = FakeHost::new();
        host.loads("nvmet");
        for (name, path) in [("1", "/data/gone\n"), ("2", "/data/disk.img\n")] {
            let directory = format!("sys/kernel/config/nvmet/subsystems/nqn.x/namespaces/{name}");
            host.write(&format!("{directory}/enable"), "1\n").write(&format!("{directory}/device_path"), path);
        }
        let (served, unknown) = host.served();
        assert_eq!(served, ["nvmet (nqn.x, namespace 2)"]);
        let [unknown] = &unknown[..] else { panic!("{unknown:?}") };
        assert!(unknown.starts_with("perhaps served by nvmet (nqn.x, namespace 1): cannot read "), "{unknown}");
        assert!(unknown.contains("root/data/gone"), "{unknown}");
    }

    #[test]
    fn a_disk_server_that_cannot_be_read_is_unknown() {
        let host = FakeHost::new();
        assert_eq!(host.served(), (vec![], vec![]), "none is loaded");
        host.loads("nvmet");
        let (_, unknown) = host.served();
        assert!(
            unknown[0].contains("sys/kernel/config/nvmet/subsystems: a disk server of the kernel is loaded"),
            "{unknown:?}"
        );
    }

    fuzz! {
        any_description_of_a_served_file_is_read: "lio-info" => |input| {
            Parsed::new().texts(served_file(&lossy(input)))
        };
    }
}
