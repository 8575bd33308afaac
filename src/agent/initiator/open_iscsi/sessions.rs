//! Reads sessions and their disks from sysfs.
//!
//! A session that is not complete yet, or that vanishes while it is read, is left out.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use super::record::{DEFAULT_RECORD, InterfaceRecord};
use crate::{
    agent::{
        host::sysfs::{BlockDevice, attribute, names},
        initiator::{SessionOwner, SessionState},
        types::{
            IscsiPath,
            credentials::{Account, Credentials, Fingerprint, Password},
        },
    },
    api::{InterfaceName, Portal, address::parse_ip},
};

/// A session as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    /// The kernel's session number.
    pub id: u32,
    /// Its path: with the persistent address of the portal, which is the one in its record.
    pub path: IscsiPath,
    /// The address that it is connected to: another one if the target has sent the login on. None without a connection.
    pub connected_to: Option<IpAddr>,
    /// The portal group tag that the target has answered.
    pub tpgt: u16,
    /// The name of its interface record (`ifacename`).
    pub record: Arc<str>,
    /// The state of the session.
    pub state: SessionState,
    /// The credentials it was authenticated with; none without CHAP, or if they cannot be read.
    pub credentials: Option<Fingerprint>,
    /// `recovery_tmo`, in seconds.
    pub replacement_timeout: Option<u16>,
    /// Its disks, sorted by name.
    pub disks: Vec<BlockDevice>,
}

impl SessionEntry {
    /// The maker of the session as far as its name tells: the agent uses its own interface records.
    #[must_use]
    pub fn owner(&self) -> SessionOwner {
        match InterfaceRecord::from_name(&self.record) {
            Some(_) => SessionOwner::Agent,
            None => SessionOwner::Other(self.record.clone()),
        }
    }

    /// Whether the session has a name as those of the agent.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.owner() == SessionOwner::Agent
    }

    /// Whether the session works.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state == SessionState::LoggedIn
    }
}

/// All sessions of the host, sorted by ID; `sys` is the mount point of sysfs.
///
/// # Errors
/// If sysfs exists and cannot be read.
pub fn sessions(sys: &Path) -> io::Result<Vec<SessionEntry>> {
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

fn session(sys: &Path, directory: &Path, id: u32) -> io::Result<Option<SessionEntry>> {
    let connection = connection(sys, id);
    let (Some(target), Some(tpgt), Some(address), Some(port), Some(state)) = (
        attribute(&directory.join("targetname"))?,
        number(attribute(&directory.join("tpgt"))?.map(known_tag)),
        attribute(&connection.join("persistent_address"))?,
        number(attribute(&connection.join("persistent_port"))?),
        attribute(&directory.join("state"))?,
    ) else {
        return Ok(None);
    };
    let record: Arc<str> = attribute(&directory.join("ifacename"))?.as_deref().unwrap_or(DEFAULT_RECORD).into();
    Ok(Some(SessionEntry {
        id,
        path: IscsiPath {
            target: target.into(),
            portal: Portal::new(&address, port),
            interface: interface(directory, &record)?,
        },
        connected_to: connected_to(sys, id),
        tpgt,
        record,
        state: match state.as_str() {
            "LOGGED_IN" => SessionState::LoggedIn,
            "FAILED" => SessionState::Failed,
            _ => SessionState::Free,
        },
        credentials: credentials(directory),
        replacement_timeout: number(attribute(&directory.join("recovery_tmo"))?),
        disks: disks(directory)?,
    }))
}

/// The address that a session is connected to; see [`SessionEntry::connected_to`].
fn connected_to(sys: &Path, id: u32) -> Option<IpAddr> {
    // The kernel asks the socket, so there is an error while there is none.
    parse_ip(&attribute(&connection(sys, id).join("address")).ok().flatten()?)
}

fn connection(sys: &Path, id: u32) -> PathBuf {
    sys.join(format!("class/iscsi_connection/connection{id}:0"))
}

/// A session that the firmware or the initramfs has made may not know its portal group tag, and shows -1. It counts as the
/// first, which a path has if its target says nothing else.
fn known_tag(tag: String) -> String {
    if tag == "-1" { "1".to_owned() } else { tag }
}

/// The interface that a session is bound to. The kernel knows it for most sessions; otherwise it is the interface in the
/// name of the agent's record.
fn interface(session: &Path, record: &str) -> io::Result<Option<InterfaceName>> {
    let hosts = session.join("device/../iscsi_host");
    let mut interface: Option<InterfaceName> = None;
    for host in names(&hosts)? {
        interface = attribute(&hosts.join(host).join("netdev"))?.filter(|name| name != DEFAULT_RECORD).map(Into::into);
    }
    Ok(interface.or_else(|| InterfaceRecord::from_name(record)?.interface()))
}

/// None without CHAP, and also if the passwords cannot be read: only root may.
fn credentials(session: &Path) -> Option<Fingerprint> {
    let outgoing = account(session, "username", "password")?;
    let incoming = account(session, "username_in", "password_in");
    Some(Credentials { outgoing, incoming }.fingerprint())
}

fn account(session: &Path, name: &str, password: &str) -> Option<Account> {
    Some(Account { name: secret(session, name)?, password: secret(session, password)? })
}

fn secret(session: &Path, name: &str) -> Option<Password> {
    attribute(&session.join(name)).ok().flatten().map(Password::from)
}

/// The disks of a session. Its directory contains `targetH:B:I`, that one `H:B:I:L` for each LUN, and that one the disk.
fn disks(session: &Path) -> io::Result<Vec<BlockDevice>> {
    let device = session.join("device");
    let mut disks = Vec::new();
    for target in names(&device)?.iter().filter(|name| name.starts_with("target")) {
        let target = device.join(target);
        for lun in names(&target)?.iter().filter(|name| name.contains(':')) {
            let blocks = target.join(lun).join("block");
            for name in names(&blocks)? {
                disks.extend(BlockDevice::read(&blocks.join(name))?);
            }
        }
    }
    disks.sort();
    Ok(disks)
}

fn number<T: FromStr>(text: Option<String>) -> Option<T> {
    text?.parse().ok()
}

fn numbered(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{fs, iter};

    use super::*;
    use crate::agent::{fixtures::path, host::sysfs::DeviceNumber, initiator::open_iscsi::fixtures::FakeHost};
    use crate::fuzz::{Parsed, fuzz, lossy};

    const TARGET: &str = "iqn.2003-01.org.example:a";

    fn read(host: &FakeHost) -> Vec<SessionEntry> {
        sessions(&host.mount_points().sys).unwrap()
    }

    fn interface_of(host: &FakeHost) -> Option<String> {
        read(host)[0].path.interface.as_deref().map(str::to_owned)
    }

    #[test]
    fn a_host_without_iscsi_has_no_sessions() {
        assert_eq!(read(&FakeHost::new()), []);
    }

    #[test]
    fn a67_a_session_of_the_firmware_is_a_foreign_one_on_its_path() {
        let host = FakeHost::new();
        host.session(1, "default", TARGET, "10.0.1.10").set(1, "tpgt", "-1");
        let found = read(&host).remove(0);
        assert_eq!(found.path, path("a", "1", "-"));
        assert!(!found.is_own());
    }

    #[test]
    fn a_session_has_target_portal_group_interface_and_disks() {
        let host = FakeHost::new();
        host.session(7, "mb.ens1", TARGET, "10.0.1.10").disk(7, 0, "sda", "8:0").disk(7, 12, "sdb", "65:16");
        let found = read(&host).remove(0);
        assert_eq!((found.path.to_string(), found.tpgt), (format!("{TARGET} at 10.0.1.10:3260 through ens1"), 1));
        assert_eq!((found.id, &*found.record, found.state), (7, "mb.ens1", SessionState::LoggedIn));
        assert_eq!((found.replacement_timeout, found.credentials), (Some(5), None));
        let disks: Vec<_> = found.disks.iter().map(|disk| (&*disk.name, disk.number)).collect();
        let number = |major, minor| DeviceNumber { major, minor };
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
            let host = FakeHost::new();
            host.session(1, "default", TARGET, address);
            assert_eq!(&*read(&host)[0].path.portal, portal);
        }
    }

    #[test]
    fn the_connected_address_is_none_without_a_connection() {
        let host = FakeHost::new();
        host.session(1, "mb.ens1", TARGET, "10.0.1.10");
        assert_eq!(read(&host)[0].connected_to, None);
        let file = host.mount_points().sys.join("class/iscsi_connection/connection1:0/address");
        fs::write(&file, "::ffff:10.0.9.9\n").unwrap();
        assert_eq!(read(&host)[0].connected_to, Some("10.0.9.9".parse().unwrap()));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(read(&host)[0].connected_to, None, "an error is none, too");
    }

    #[test]
    fn the_interface_comes_from_the_kernel_or_else_from_the_agents_record() {
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
            let host = FakeHost::new();
            host.session(1, record, TARGET, "10.0.1.10").netdev(1, netdev);
            assert_eq!(interface_of(&host).as_deref(), expected, "record {record}, netdev {netdev}");
        }
    }

    #[test]
    fn a_session_in_an_unknown_state_does_not_count_as_working() {
        let cases = [
            ("LOGGED_IN", SessionState::LoggedIn),
            ("FAILED", SessionState::Failed),
            ("FREE", SessionState::Free),
            ("invalid", SessionState::Free),
        ];
        for (text, state) in cases {
            let host = FakeHost::new();
            host.session(1, "mb.ens1", TARGET, "10.0.1.10").set(1, "state", text);
            assert_eq!(read(&host)[0].state, state);
        }
    }

    #[test]
    fn a_session_that_is_incomplete_or_vanishes_is_left_out() {
        for attribute in ["targetname", "tpgt", "state"] {
            let host = FakeHost::new();
            host.session(1, "mb.ens1", TARGET, "10.0.1.10").session(2, "mb.ens2", TARGET, "10.0.2.10");
            host.set(1, attribute, "(null)");
            assert_eq!(read(&host).len(), 1, "{attribute} is not set yet");
            fs::remove_file(host.session_attribute(1, attribute)).unwrap();
            assert_eq!(read(&host)[0].id, 2, "{attribute} is gone");
        }
        let host = FakeHost::new();
        host.session(1, "mb.ens1", TARGET, "10.0.1.10");
        fs::remove_dir_all(host.mount_points().sys.join("devices")).unwrap();
        assert_eq!(read(&host), [], "only the link is left");
    }

    #[test]
    fn an_unreadable_attribute_is_an_error_that_names_it() {
        let host = FakeHost::new();
        host.session(1, "mb.ens1", TARGET, "10.0.1.10");
        let file = host.session_attribute(1, "state");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let error = sessions(&host.mount_points().sys).unwrap_err().to_string();
        assert!(error.starts_with("cannot read ") && error.contains("session1/state"), "{error}");
    }

    #[test]
    fn a23_credentials_are_compared_by_fingerprint_and_never_shown() {
        let of = |values: [&str; 4]| {
            let host = FakeHost::new();
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

    fuzz! {
        any_session_in_sysfs_is_read: "session" => {
            let host = FakeHost::new();
            host.session(1, "mb.ens1", TARGET, "10.0.1.10");
            let connection = host.mount_points().sys.join("class/iscsi_connection/connection1:0");
            move |input| {
                let text = lossy(input);
                let mut lines = text.split('\n').chain(iter::repeat(""));
                let attributes = ["targetname", "tpgt", "state", "ifacename", "recovery_tmo"];
                let secrets = ["username", "password", "username_in", "password_in"];
                for attribute in attributes {
                    host.set(1, attribute, lines.next().unwrap_or_default());
                }
                for file in ["persistent_address", "persistent_port"] {
                    fs::write(connection.join(file), lines.next().unwrap_or_default()).unwrap();
                }
                host.netdev(1, lines.next().unwrap_or_default());
                let values: Vec<&str> = secrets.iter().filter_map(|_| lines.next()).collect();
                for (attribute, value) in secrets.iter().zip(&values) {
                    host.set(1, attribute, value);
                }
                fs::write(connection.join("address"), lines.next().unwrap_or_default()).unwrap();
                let Some(found) = read(&host).pop() else { return Parsed::new() };
                let with_other_secrets = secrets.iter().fold(&host, |host, name| host.set(1, name, "x"));
                let other = SessionEntry { credentials: found.credentials, ..read(with_other_secrets).remove(0) };
                assert_eq!(format!("{found:?}"), format!("{other:?}"), "secrets are not shown");
                Parsed::new().texts([&*found.path.target, &*found.path.portal, &*found.record])
            }
        };
    }
}
