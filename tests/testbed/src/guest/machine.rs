//! One run of a virtual machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio::sync::Mutex;

use super::image::Image;
use super::qmp::Qmp;
use super::{Nic, quoted};
use crate::command::run;
use crate::process::Process;

const QEMU: &str = "qemu-system-x86_64";

/// How QEMU emulates the processors: each in a thread of its own, or one after the other. A saved state is the same.
const MANY_THREADS: &str = "tcg,thread=multi,tb-size=256";
const ONE_THREAD: &str = "tcg,thread=single,tb-size=256";

/// The hardware of the machine. A saved state is valid only for the same hardware. No hardware acceleration: machines
/// that run tests seldom have it, and the tests must not need it.
const HARDWARE: [&str; 16] = [
    "-machine",
    "q35",
    "-accel",
    MANY_THREADS,
    "-cpu",
    // Without five-level page tables and nested virtualization: no test needs them, and both would cost time.
    "max,la57=off,svm=off,vmx=off",
    "-smp",
    "2",
    "-m",
    "768M",
    "-nodefaults",
    "-no-reboot",
    "-display",
    "none",
    "-rtc",
    "base=utc,clock=host",
];

const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=1 mitigations=off apparmor=0 audit=0 \
    systemd.show_status=false systemd.log_target=journal";

/// How a machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disk {
    /// It boots from its disk.
    Booting,
    /// It resumes from the saved state, with the disk of that time.
    Resuming,
}

/// A running virtual machine.
#[derive(Debug)]
pub(super) struct Machine {
    // Dropped first, because it writes to the others.
    process: Process,
    /// The monitor, which takes one command at a time.
    qmp: Mutex<Qmp>,
    console: PathBuf,
}

impl Machine {
    /// Starts a machine with its sockets and its console in `directory`.
    pub(super) async fn start(image: &Image, directory: &Path, disk: &Path, begin: Disk) -> Result<Self> {
        let mut arguments = arguments(&image.kernel(), &image.initramfs(), directory, disk);
        if image.runs_in_one_thread() {
            arguments.iter_mut().filter(|it| *it == MANY_THREADS).for_each(|it| ONE_THREAD.clone_into(it));
        }
        if begin == Disk::Resuming {
            arguments.push("-incoming".to_owned());
            arguments.push(format!("exec:cat {}", quoted(&image.memory().display().to_string())));
        }
        let monitor = directory.join("monitor");
        let _ = fs::remove_file(&monitor);
        let _ = fs::remove_file(directory.join("control"));
        let _ = fs::remove_file(directory.join("data"));
        let no_environment: [(&str, &str); 0] = [];
        let process = Process::spawn(QEMU, arguments, no_environment, "qemu")?.quiet();
        let mut qmp = Qmp::connect(&monitor).await.with_context(|| process.log_tail())?;
        if begin == Disk::Resuming {
            qmp.resume().await.with_context(|| process.log_tail())?;
        }
        Ok(Self { process, qmp: Mutex::new(qmp), console: directory.join("console.log") })
    }

    /// Pulls the cable out of a network interface, or plugs it in.
    pub(super) async fn set_link(&self, nic: Nic, up: bool) -> Result<()> {
        self.qmp.lock().await.execute("set_link", &json!({"name": nic.name(), "up": up})).await?;
        Ok(())
    }

    /// Joins a fabric of this machine with that of another one, through a socket that one of the two opens.
    pub(super) async fn join_fabric(&self, fabric: u32, socket: &Path, makes_it: bool) -> Result<()> {
        let mut qmp = self.qmp.lock().await;
        let (cable, port) = (format!("fabric{fabric}-cable"), format!("fabric{fabric}-port"));
        let address = json!({"type": "unix", "path": socket.display().to_string()});
        qmp.execute("netdev_add", &json!({"type": "stream", "id": cable, "server": makes_it, "addr": address})).await?;
        qmp.execute("netdev_add", &json!({"type": "hubport", "id": port, "hubid": fabric, "netdev": cable})).await?;
        Ok(())
    }

    /// Saves its state, and ends it.
    pub(super) async fn save(&mut self, memory: &Path) -> Result<()> {
        self.qmp.get_mut().save(memory).await?;
        self.kill();
        Ok(())
    }

    /// Cuts the power.
    pub(super) fn kill(&self) {
        self.process.kill();
    }

    /// The last lines of its console.
    pub(super) fn console_tail(&self) -> String {
        let console = fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<_> = console.lines().collect();
        format!("the end of the console:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"))
    }
}

/// What a saved state depends on: the version of qemu, and the hardware.
pub(super) async fn version() -> Result<String> {
    let version = run(Command::new(QEMU).arg("--version"), "").await?.success()?;
    let nowhere = Path::new("");
    let digest = Sha256::new()
        .chain_update(version)
        .chain_update(arguments(nowhere, nowhere, nowhere, nowhere).join("\n"))
        .finalize();
    Ok(super::short_hex(&digest))
}

fn arguments(kernel: &Path, initramfs: &Path, directory: &Path, disk: &Path) -> Vec<String> {
    let socket = |name: &str| format!("path={},server=on,wait=off", escaped(&directory.join(name)));
    let mut arguments: Vec<String> = HARDWARE.map(str::to_owned).to_vec();
    let mut option = |name: &str, value: String| arguments.extend([format!("-{name}"), value]);
    option("kernel", kernel.display().to_string());
    option("initrd", initramfs.display().to_string());
    option("append", KERNEL_ARGUMENTS.to_owned());
    option("drive", format!("file={},format=qcow2,if=virtio,cache=unsafe", escaped(disk)));
    option("chardev", format!("file,id=console,path={},append=on", escaped(&directory.join("console.log"))));
    option("serial", "chardev:console".to_owned());
    option("chardev", format!("socket,id=monitor,{}", socket("monitor")));
    option("mon", "chardev=monitor,mode=control".to_owned());
    option("device", "virtio-serial-pci".to_owned());
    for port in ["control", "data"] {
        option("chardev", format!("socket,id={port},{}", socket(port)));
        option("device", format!("virtserialport,chardev={port},name={port}"));
    }
    // The host's loopback is 10.0.2.2 there.
    option("netdev", "user,id=mgmt-net,net=10.0.2.0/24,host=10.0.2.2,ipv6=off".to_owned());
    option("device", "virtio-net-pci,id=mgmt,netdev=mgmt-net,mac=02:00:00:00:00:00".to_owned());
    for nic in Nic::ALL {
        let (name, fabric) = (nic.name(), nic.fabric());
        option("netdev", format!("hubport,id={name}-net,hubid={fabric}"));
        option("device", format!("virtio-net-pci,id={name},netdev={name}-net,mac={}", nic.mac()));
    }
    arguments
}

/// A path in a list of options: commas are doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
