//! A real open-iscsi and dm-multipath host in a virtual machine, with storage on two fabrics.
//!
//! The kernel, open-iscsi, multipath-tools and the targets are Debian's; `tests/vm/README.md`
//! describes the setup. A host boots once and its state is saved; each [`Guest`] resumes from there, within a second or
//! two.

mod control;
mod image;
mod machine;
mod node;
mod qmp;
mod slots;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::process::Command;

use crate::command::{Output, run};
use crate::supervisor::Supervisor;
use control::Control;
use image::Image;
use machine::{Disk, Machine};
use slots::Slot;

/// The time limit of a command.
const PATIENCE: Duration = Duration::from_secs(120);

/// The network interfaces in the two fabrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nic {
    /// The host's in the first fabric: 10.0.101.101/24 and `fd00:101::101/64`.
    San1,
    /// The host's in the second fabric: 10.0.102.101/24 and `fd00:102::101/64`.
    San2,
    /// The host's second in the first fabric, without an address.
    San3,
    /// The storage's in the first fabric: the portals 10.0.101.1 to 10.0.101.8, and `fd00:101::1` to `fd00:101::8`.
    Array1,
    /// The storage's in the second fabric: the portals 10.0.102.1 to 10.0.102.8, and `fd00:102::1` to `fd00:102::8`.
    Array2,
}

impl Nic {
    const ALL: [Self; 5] = [Self::San1, Self::San2, Self::San3, Self::Array1, Self::Array2];

    /// Its name in the guest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::San1 => "san1",
            Self::San2 => "san2",
            Self::San3 => "san3",
            Self::Array1 => "array1",
            Self::Array2 => "array2",
        }
    }

    fn fabric(self) -> u32 {
        match self {
            Self::San1 | Self::San3 | Self::Array1 => 1,
            Self::San2 | Self::Array2 => 2,
        }
    }

    /// The guest tells its interfaces apart by this.
    fn mac(self) -> &'static str {
        match self {
            Self::San1 => "02:00:00:00:01:11",
            Self::San2 => "02:00:00:00:01:12",
            Self::San3 => "02:00:00:00:01:13",
            Self::Array1 => "02:00:00:00:00:11",
            Self::Array2 => "02:00:00:00:00:12",
        }
    }
}

/// A host. It is gone when this value is dropped, and when this process ends, however that happens.
#[derive(Debug)]
pub struct Guest {
    name: String,
    machine: Machine,
    control: Control,
    image: Image,
    directory: PathBuf,
    /// The directory of the guest whose fabrics it is connected to.
    fabrics_of: Option<PathBuf>,
    _slot: Slot,
}

impl Guest {
    /// Makes the image and the saved state that guests start from, if they are missing.
    ///
    /// # Errors
    /// If something that this needs is missing; the error says what to install.
    pub async fn prepare() -> Result<()> {
        Image::locate().await.map(|_| ())
    }

    /// Starts a host in its initial state. Waits while as many guests run as may run at once.
    ///
    /// # Errors
    /// If it does not start; the error shows the end of its console.
    pub async fn start(name: &str) -> Result<Self> {
        let image = Image::locate().await?;
        let [slot] = slots::take().await?;
        Self::start_in(slot, &image, name).await
    }

    /// Starts two hosts on the same fabrics. The storage is that of the first; the second has the addresses and the
    /// initiator name of host 2.
    ///
    /// # Errors
    /// If they do not start, or do not reach each other.
    pub async fn start_pair(name: &str) -> Result<[Self; 2]> {
        Self::start_pair_from(&Image::locate().await?, name).await
    }

    /// The same, with the programs of a cluster node installed on each host: see [`Guest::join`].
    ///
    /// # Errors
    /// If they do not start, or do not reach each other.
    pub async fn start_nodes(name: &str) -> Result<[Self; 2]> {
        Self::start_pair_from(&node::image().await?, name).await
    }

    async fn start_pair_from(image: &Image, name: &str) -> Result<[Self; 2]> {
        let [slot, other_slot] = slots::take().await?;
        let (other_name, name) = (format!("{name}-2"), format!("{name}-1"));
        let (first, mut second) =
            tokio::try_join!(Self::start_in(slot, image, &name), Self::start_in(other_slot, image, &other_name))?;
        // Until here both have the same addresses and the same storage, so their fabrics must not be joined earlier.
        unplug_storage(&second.machine).await?;
        second.run_ok("host-number 2").await?;
        plug(&first.machine, &first.directory, true).await?;
        plug(&second.machine, &first.directory, false).await?;
        second.fabrics_of = Some(first.directory.clone());
        for fabric in [1, 2] {
            second.run_ok(&format!("busybox ping -c 1 -W 30 10.0.10{fabric}.1")).await?;
        }
        Ok([first, second])
    }

    async fn start_in(slot: Slot, image: &Image, name: &str) -> Result<Self> {
        let image = image.clone();
        let directory = new_directory(name)?;
        image.new_disk(&directory.join("disk.qcow2")).await?;
        let machine = Machine::start(&image, &directory, &directory.join("disk.qcow2"), Disk::Resuming).await?;
        let control = Control::connect(&directory).await?;
        let guest = Self { name: name.to_owned(), machine, control, image, directory, fabrics_of: None, _slot: slot };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        guest.run_ok(&format!("date --set=@{} && hostname {}", now.as_secs_f64(), quoted(name))).await?;
        Ok(guest)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory of open-iscsi's records in the guest, which differs between releases.
    #[must_use]
    pub fn records(&self) -> &'static str {
        self.image.records()
    }

    /// Runs a bash command as root until it ends. A failed command is not an error here.
    ///
    /// # Errors
    /// If it has not ended within two minutes, or the guest has.
    pub async fn run(&self, command: &str) -> Result<Output> {
        self.control.run(command, PATIENCE).await.with_context(|| format!("guest {}", self.name))
    }

    /// Runs a command that should succeed, and returns its standard output.
    ///
    /// # Errors
    /// If it does not; the error has its standard error.
    pub async fn run_ok(&self, command: &str) -> Result<String> {
        self.run(command).await?.success()
    }

    /// Starts a bash command as the transient service `unit`; see [`Guest::log`]. It runs until `systemctl stop` or
    /// `systemctl kill`.
    ///
    /// # Errors
    /// If systemd cannot start it.
    pub async fn spawn(&self, unit: &str, command: &str) -> Result<()> {
        let (unit, command) = (quoted(unit), quoted(command));
        // Mixed: systemd sends SIGTERM only to the shell, or to the program that has replaced it by `exec`.
        self.run_ok(&format!("systemd-run --quiet --unit={unit} --property=KillMode=mixed bash -c {command}")).await?;
        Ok(())
    }

    /// The whole journal of a service so far, including the messages of systemd about it.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn log(&self, unit: &str) -> Result<String> {
        self.run_ok(&format!("journalctl --unit={} --output=cat --no-pager", quoted(unit))).await
    }

    /// Copies a file of this machine into the guest, with its permissions.
    ///
    /// # Errors
    /// If it cannot be read here or written there.
    pub async fn copy(&self, from: &Path, to: &str) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        let mode = fs::metadata(from)?.permissions().mode() & 0o777;
        self.control.write(to, mode, &content, PATIENCE).await
    }

    /// Copies a program without its debug information, which is more than half of a test build.
    ///
    /// # Errors
    /// If it cannot be stripped here or written there.
    pub async fn copy_program(&self, from: &Path, to: &str) -> Result<()> {
        let stripped = self.directory.join("stripped");
        run(Command::new("strip").arg("-o").arg(&stripped).arg(from), "").await?.success()?;
        self.copy(&stripped, to).await
    }

    /// Writes a file in the guest.
    ///
    /// # Errors
    /// If it cannot be written there.
    pub async fn write(&self, path: &str, content: &str) -> Result<()> {
        self.control.write(path, 0o600, content.as_bytes(), PATIENCE).await
    }

    /// The content of a file in the guest.
    ///
    /// # Errors
    /// If it cannot be read there.
    pub async fn read(&self, path: &str) -> Result<Vec<u8>> {
        let content = self.run_ok(&format!("base64 --wrap=0 {}", quoted(path))).await?;
        Ok(BASE64_STANDARD.decode(content)?)
    }

    /// Pulls the cable out of a network interface, or plugs it in.
    ///
    /// # Errors
    /// If the virtual machine refuses.
    pub async fn set_link(&self, nic: Nic, up: bool) -> Result<()> {
        self.machine.set_link(nic, up).await
    }

    /// Makes the storage silently drop all packets to one of its addresses, until
    /// [`Guest::drop_nothing`].
    ///
    /// # Errors
    /// If the command in the guest fails.
    pub async fn drop_packets_to(&self, portal: &str) -> Result<()> {
        let family = if portal.contains(':') { "ip6" } else { "ip" };
        self.array(&format!("nft add rule inet faults input {family} daddr {portal} drop")).await
    }

    /// Ends all [`Guest::drop_packets_to`].
    ///
    /// # Errors
    /// If the command in the guest fails.
    pub async fn drop_nothing(&self) -> Result<()> {
        self.array("nft flush chain inet faults input").await
    }

    /// Runs a command in the network namespace of the storage.
    ///
    /// # Errors
    /// If it fails.
    pub async fn array(&self, command: &str) -> Result<()> {
        self.run_ok(&format!("nsenter --net=/run/netns/array {command}")).await?;
        Ok(())
    }

    /// Cuts the power, and boots the host again, see [`Guest::power_on`].
    ///
    /// # Errors
    /// If it does not come up; the error shows the end of its console.
    pub async fn power_cycle(&mut self) -> Result<()> {
        self.power_off();
        self.power_on().await
    }

    /// Cuts the power. Must not be used on the first of a pair: the other one uses its storage.
    pub fn power_off(&self) {
        self.machine.kill();
    }

    /// Boots the host from the disk as it was when the power was cut; returns when it is up.
    ///
    /// # Errors
    /// If it does not come up; the error shows the end of its console.
    pub async fn power_on(&mut self) -> Result<()> {
        let disk = self.directory.join("disk.qcow2");
        self.machine = Machine::start(&self.image, &self.directory, &disk, Disk::Booting).await?;
        if let Some(directory) = &self.fabrics_of {
            unplug_storage(&self.machine).await?;
            plug(&self.machine, directory, false).await?;
        }
        self.control = Control::connect(&self.directory).await?;
        settled(&self.control, image::BOOT).await.with_context(|| self.machine.console_tail())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.machine.kill();
        if std::thread::panicking() {
            // The test that owns it has failed; libtest shows this with it.
            eprintln!("guest {}: {}\n", self.name, self.machine.console_tail());
        } else {
            // What is left is removed at the end of this process.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Disconnects a host's own storage from its fabrics.
async fn unplug_storage(machine: &Machine) -> Result<()> {
    for nic in [Nic::Array1, Nic::Array2] {
        machine.set_link(nic, false).await?;
    }
    Ok(())
}

/// Joins the fabrics of two guests through sockets, which are in the directory of the guest that opens them.
async fn plug(machine: &Machine, directory: &Path, makes_them: bool) -> Result<()> {
    for fabric in [1, 2] {
        machine.join_fabric(fabric, &directory.join(format!("fabric{fabric}")), makes_them).await?;
    }
    Ok(())
}

/// Waits until a host has finished to boot.
async fn settled(control: &Control, within: Duration) -> Result<()> {
    // "degraded": some unit failed. The console says which one.
    let state = control.run("systemctl is-system-running --wait", within).await?;
    anyhow::ensure!(state.stdout.trim() == "running", "the host has not come up: {state:?}");
    control.run("udevadm settle && sync", within).await?.success()?;
    Ok(())
}

fn new_directory(name: &str) -> Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let directory = Supervisor::get()?.directory().join(format!("{name}-{number}"));
    fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// Quotes a word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The first digits of a digest: enough to distinguish versions.
fn short_hex(digest: &[u8]) -> String {
    let start = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{start:016x}")
}
