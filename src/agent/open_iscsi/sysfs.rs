//! Sessions and their disks, as the kernel shows them in sysfs.
//!
//! Entries come and go while they are read. What is gone in the middle of it (`ENOENT`, `ENODEV`, `EINVAL`; of a
//! process `ESRCH`) is left out, as if it had gone a moment earlier; any other error is one.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path as File, PathBuf},
    str::FromStr,
    sync::Arc,
};

use rustix::io::Errno;

use crate::{
    agent::{
        credentials::{Account, Credentials, Fingerprint, Password},
        initiator::{OWN_RECORD_PREFIX, SessionState},
        path::Path,
    },
    planner::canonical_portal,
};

/// The record of sessions that are bound to no device; also what follows our prefix in the record for the default
/// network.
const DEFAULT_RECORD: &str = "default";
/// What the kernel and open-iscsi write for "not set".
const UNSET: [&str; 3] = ["", "<NULL>", "(null)"];

/// A session as sysfs shows it, before maps and uses are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    /// The kernel's session number.
    pub id: u32,
    /// What it connects.
    pub path: Path,
    /// The name of its interface record.
    pub record: Arc<str>,
    /// Whether it works.
    pub state: SessionState,
    /// What it was authenticated with; none when it was not, or when the kernel does not say.
    pub credentials: Option<Fingerprint>,
    /// `recovery_tmo`, in seconds.
    pub replacement_timeout: Option<u16>,
    /// Its disks, sorted by name.
    pub disks: Vec<Block>,
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// The kernel's name, such as `sda` or `dm-3`.
    pub name: Arc<str>,
    /// Major and minor number.
    pub number: Number,
    /// Where sysfs describes it.
    pub directory: PathBuf,
}

/// The number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    /// Of the driver.
    pub major: u32,
    /// Within it.
    pub minor: u32,
}

impl FromStr for Number {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once(':').ok_or(())?;
        Ok(Number { major: major.parse().map_err(|_| ())?, minor: minor.parse().map_err(|_| ())? })
    }
}

/// Every session of the host, sorted by number; `sys` is where sysfs is mounted.
///
/// # Errors
/// When sysfs is there and cannot be read.
pub fn sessions(sys: &File) -> io::Result<Vec<SessionEntry>> {
    let class = sys.join("class/iscsi_session");
    let mut sessions = Vec::new();
    for name in names(&class)? {
        if let Some(id) = numbered(&name, "session")
            && let Some(session) = session(sys, &class.join(&name), id)?
        {
            sessions.push(session);
        }
    }
    sessions.sort_by_key(|session| session.id);
    Ok(sessions)
}

/// The `state` of every session: what is looked at between two readings.
#[must_use]
pub fn states(sys: &File) -> Vec<(String, Option<String>)> {
    let class = sys.join("class/iscsi_session");
    let state = |name: String| {
        let state = attribute(&class.join(&name).join("state")).unwrap_or_default();
        (name, state)
    };
    names(&class).unwrap_or_default().into_iter().map(state).collect()
}

fn session(sys: &File, directory: &File, id: u32) -> io::Result<Option<SessionEntry>> {
    let connection = sys.join(format!("class/iscsi_connection/connection{id}:0"));
    let own = |name: &str| attribute(&directory.join(name));
    let (Some(target), Some(tpgt), Some(address), Some(port), Some(state)) = (
        own("targetname")?,
        number(own("tpgt")?),
        attribute(&connection.join("persistent_address"))?,
        number(attribute(&connection.join("persistent_port"))?),
        own("state")?,
    ) else {
        return Ok(None);
    };
    let record: Arc<str> = own("ifacename")?.as_deref().unwrap_or(DEFAULT_RECORD).into();
    Ok(Some(SessionEntry {
        id,
        path: Path {
            target: target.into(),
            portal: canonical_portal(&address, port).into(),
            tpgt,
            interface: device(directory, &record)?,
        },
        record,
        state: match state.as_str() {
            "LOGGED_IN" => SessionState::LoggedIn,
            "FAILED" => SessionState::Failed,
            _ => SessionState::Free,
        },
        credentials: credentials(directory),
        replacement_timeout: number(own("recovery_tmo")?),
        disks: disks(directory)?,
    }))
}

/// The device that a session is bound to: our records name it, others' only may, and the kernel is told in any case.
fn device(session: &File, record: &str) -> io::Result<Option<Arc<str>>> {
    let of_record = record.strip_prefix(OWN_RECORD_PREFIX).filter(|name| *name != DEFAULT_RECORD);
    let hosts = session.join("device/../iscsi_host");
    let mut of_kernel = None;
    for host in names(&hosts)? {
        of_kernel = attribute(&hosts.join(host).join("netdev"))?.filter(|name| name != DEFAULT_RECORD);
    }
    Ok(of_kernel.as_deref().or(of_record).map(Arc::from))
}

/// None also when the kernel does not tell: only root may read passwords.
fn credentials(session: &File) -> Option<Fingerprint> {
    let account = |name: &str, password: &str| {
        let secret = |name: &str| attribute(&session.join(name)).ok().flatten().map(Password::from);
        Some(Account { name: secret(name)?, password: secret(password)? })
    };
    let outgoing = account("username", "password")?;
    Some(Credentials { outgoing, incoming: account("username_in", "password_in") }.fingerprint())
}

/// Below the session lies `targetH:B:I`, below that `H:B:I:L` for each LUN, and below that its disk.
fn disks(session: &File) -> io::Result<Vec<Block>> {
    let device = session.join("device");
    let mut disks = Vec::new();
    for target in names(&device)?.iter().filter(|name| name.starts_with("target")) {
        let target = device.join(target);
        for lun in names(&target)?.iter().filter(|name| name.contains(':')) {
            let blocks = target.join(lun).join("block");
            for name in names(&blocks)? {
                disks.extend(Block::read(&blocks.join(name))?);
            }
        }
    }
    disks.sort();
    Ok(disks)
}

impl Block {
    /// The device that a directory of sysfs describes; none when it is gone.
    ///
    /// # Errors
    /// When the directory is there and cannot be read.
    pub fn read(directory: &File) -> io::Result<Option<Self>> {
        let Some(name) = directory.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
        let number = attribute(&directory.join("dev"))?.and_then(|text| text.parse().ok());
        Ok(number.map(|number| Block { name: name.into(), number, directory: directory.to_owned() }))
    }

    /// A whole device by the kernel's name.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn named(sys: &File, name: &str) -> io::Result<Option<Self>> {
        Block::read(&sys.join("block").join(name))
    }

    /// The partitions of a disk. Maps have none: theirs are maps of their own, stacked on them.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn partitions(&self) -> io::Result<Vec<Self>> {
        let mut partitions = Vec::new();
        for name in names(&self.directory)?.iter().filter(|name| name.starts_with(&*self.name)) {
            let directory = self.directory.join(name);
            if attribute(&directory.join("partition"))?.is_some() {
                partitions.extend(Block::read(&directory)?);
            }
        }
        Ok(partitions)
    }

    /// The devices that are stacked directly on this one.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn holders(&self, sys: &File) -> io::Result<Vec<Self>> {
        self.linked(sys, "holders")
    }

    /// The devices that this one is stacked on.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn slaves(&self, sys: &File) -> io::Result<Vec<Self>> {
        self.linked(sys, "slaves")
    }

    /// The name that device-mapper knows it by; none for any other device.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn map_name(&self) -> io::Result<Option<String>> {
        attribute(&self.directory.join("dm/name"))
    }

    /// The unique name that its owner gave to device-mapper; none for any other device.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn map_uuid(&self) -> io::Result<Option<String>> {
        attribute(&self.directory.join("dm/uuid"))
    }

    fn linked(&self, sys: &File, kind: &str) -> io::Result<Vec<Self>> {
        let mut linked = Vec::new();
        for name in names(&self.directory.join(kind))? {
            linked.extend(Block::named(sys, &name)?);
        }
        Ok(linked)
    }
}

/// The text of an attribute; none when it is not set, or when what it belongs to is gone.
///
/// # Errors
/// When it is there and cannot be read.
pub fn attribute(file: &File) -> io::Result<Option<String>> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(at(file, &error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok((!UNSET.contains(&text)).then(|| text.to_owned()))
}

/// The names in a directory, sorted; none when it is not there.
///
/// # Errors
/// When it is there and cannot be read.
pub fn names(directory: &File) -> io::Result<Vec<String>> {
    let read = || fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<OsString>>>();
    let mut names: Vec<String> = match read() {
        Ok(names) => names.into_iter().filter_map(|name| name.into_string().ok()).collect(),
        Err(error) if is_gone(&error) => Vec::new(),
        Err(error) => return Err(at(directory, &error)),
    };
    names.sort();
    Ok(names)
}

/// Whether an error says that something has vanished.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NODEV | Errno::INVAL | Errno::SRCH))
}

/// An error with the file that it is about.
#[must_use]
pub fn at(file: &File, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {}: {error}", file.display()))
}

fn number<T: FromStr>(text: Option<String>) -> Option<T> {
    text?.parse().ok()
}

fn numbered(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::open_iscsi::fixtures::Host;

    const TARGET: &str = "iqn.2003-01.org.example:a";

    fn read(host: &Host) -> Vec<SessionEntry> {
        sessions(&host.roots().sys).unwrap()
    }

    fn interface(host: &Host) -> Option<String> {
        read(host)[0].path.interface.as_deref().map(str::to_owned)
    }

    #[test]
    fn a_host_without_iscsi_has_no_sessions() {
        assert_eq!(read(&Host::new()), []);
    }

    #[test]
    fn a_session_is_known_by_target_portal_group_and_device() {
        let host = Host::new();
        host.session(7, "mb.ens1", TARGET, "10.0.1.10").disk(7, 0, "sda", "8:0").disk(7, 12, "sdb", "65:16");
        let found = read(&host).remove(0);
        assert_eq!(found.path.to_string(), format!("{TARGET} at 10.0.1.10:3260,1 through ens1"));
        assert_eq!((found.id, &*found.record, found.state), (7, "mb.ens1", SessionState::LoggedIn));
        assert_eq!((found.replacement_timeout, found.credentials), (Some(5), None));
        let disks: Vec<_> = found.disks.iter().map(|disk| (&*disk.name, disk.number)).collect();
        let number = |major, minor| Number { major, minor };
        assert_eq!(disks, [("sda", number(8, 0)), ("sdb", number(65, 16))]);
    }

    #[test]
    fn portals_are_canonical() {
        let cases = [
            ("fd00:0::0010", "[fd00::10]:3260"),
            ("::ffff:10.0.1.10", "10.0.1.10:3260"),
            ("SAN.example.com", "san.example.com:3260"),
        ];
        for (address, portal) in cases {
            let host = Host::new();
            host.session(1, "default", TARGET, address);
            assert_eq!(&*read(&host)[0].path.portal, portal);
        }
    }

    #[test]
    fn a_session_is_bound_to_the_device_that_the_kernel_names_or_our_record() {
        let cases = [
            ("mb.ens1", "<NULL>", Some("ens1")),
            ("mb.ens1", "(null)", Some("ens1")),
            ("mb.ens1", "ens1", Some("ens1")),
            ("mb.ens1", "ens2", Some("ens2")),
            ("mb.default", "default", None),
            ("mb.default", "", None),
            ("default", "default", None),
            ("<NULL>", "<NULL>", None),
            ("by-hand", "ens3", Some("ens3")),
            ("by-hand", "<NULL>", None),
        ];
        for (record, netdev, expected) in cases {
            let host = Host::new();
            host.session(1, record, TARGET, "10.0.1.10").netdev(1, netdev);
            assert_eq!(interface(&host).as_deref(), expected, "record {record}, netdev {netdev}");
        }
    }

    #[test]
    fn states_are_the_kernels_and_an_unknown_one_is_not_taken_for_working() {
        let cases = [
            ("LOGGED_IN", SessionState::LoggedIn),
            ("FAILED", SessionState::Failed),
            ("FREE", SessionState::Free),
            ("invalid", SessionState::Free),
        ];
        for (text, state) in cases {
            let host = Host::new();
            host.session(1, "mb.ens1", TARGET, "10.0.1.10").set(1, "state", text);
            assert_eq!(read(&host)[0].state, state);
        }
    }

    #[test]
    fn a_session_that_is_being_made_or_vanishes_is_left_out() {
        for attribute in ["targetname", "tpgt", "state"] {
            let host = Host::new();
            host.session(1, "mb.ens1", TARGET, "10.0.1.10").session(2, "mb.ens2", TARGET, "10.0.2.10");
            host.set(1, attribute, "(null)");
            assert_eq!(read(&host).len(), 1, "{attribute} is not set yet");
            fs::remove_file(host.session_attribute(1, attribute)).unwrap();
            assert_eq!(read(&host)[0].id, 2, "{attribute} is gone");
        }
        let host = Host::new();
        host.session(1, "mb.ens1", TARGET, "10.0.1.10");
        fs::remove_dir_all(host.roots().sys.join("devices")).unwrap();
        assert_eq!(read(&host), [], "only the link is left");
    }

    #[test]
    fn what_cannot_be_read_though_it_is_there_is_an_error_that_names_it() {
        let host = Host::new();
        host.session(1, "mb.ens1", TARGET, "10.0.1.10");
        let file = host.session_attribute(1, "state");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let error = sessions(&host.roots().sys).unwrap_err().to_string();
        assert!(error.starts_with("cannot read ") && error.contains("session1/state"), "{error}");
    }

    #[test]
    fn a23_credentials_are_told_apart_and_never_shown() {
        let of = |values: [&str; 4]| {
            let host = Host::new();
            host.session(1, "mb.ens1", TARGET, "10.0.1.10");
            for (name, text) in ["username", "password", "username_in", "password_in"].iter().zip(values) {
                host.set(1, name, text);
            }
            read(&host).remove(0)
        };
        let account = |name: &str, password: &str| Account {
            name: Password::from(name.to_owned()),
            password: Password::from(password.to_owned()),
        };
        let one_way = Credentials { outgoing: account("ann", "hunter2"), incoming: None };
        let mutual = Credentials { incoming: Some(account("box", "default")), ..one_way.clone() };
        let found = of(["ann", "hunter2", "<NULL>", "(null)"]);
        assert_eq!(found.credentials, Some(one_way.fingerprint()));
        assert_eq!(of(["ann", "hunter2", "box", "default"]).credentials, Some(mutual.fingerprint()));
        assert_ne!(of(["ann", "hunter3", "", ""]).credentials, found.credentials);
        assert_eq!(of(["<NULL>", "<NULL>", "<NULL>", "<NULL>"]).credentials, None);
        let shown = format!("{found:?}");
        assert!(!shown.contains("ann") && !shown.contains("hunter2"), "{shown}");
    }
}
