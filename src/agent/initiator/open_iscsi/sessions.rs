//! Sessions and their disks, as the kernel shows them in sysfs.
//!
//! A session that is being made, or that vanishes while it is read, is left out.

use std::{io, path::Path, str::FromStr, sync::Arc};

use crate::{
    agent::{
        credentials::{Account, Credentials, Fingerprint, Password},
        host::sysfs::{Block, attribute, names},
        initiator::{OWN_RECORD_PREFIX, SessionState},
        path::IscsiPath,
    },
    api::address::canonical_portal,
};

/// The record of sessions that are bound to no device; also what follows our prefix in the record for the default
/// network.
const DEFAULT_RECORD: &str = "default";

/// A session as sysfs shows it, before maps and uses are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    /// The kernel's session number.
    pub id: u32,
    /// What it connects.
    pub path: IscsiPath,
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

/// Every session of the host, sorted by number; `sys` is where sysfs is mounted.
///
/// # Errors
/// When sysfs is there and cannot be read.
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
        path: IscsiPath {
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
fn device(session: &Path, record: &str) -> io::Result<Option<Arc<str>>> {
    let of_record = record.strip_prefix(OWN_RECORD_PREFIX).filter(|name| *name != DEFAULT_RECORD);
    let hosts = session.join("device/../iscsi_host");
    let mut of_kernel = None;
    for host in names(&hosts)? {
        of_kernel = attribute(&hosts.join(host).join("netdev"))?.filter(|name| name != DEFAULT_RECORD);
    }
    Ok(of_kernel.as_deref().or(of_record).map(Arc::from))
}

/// None also when the kernel does not tell: only root may read passwords.
fn credentials(session: &Path) -> Option<Fingerprint> {
    let account = |name: &str, password: &str| {
        let secret = |name: &str| attribute(&session.join(name)).ok().flatten().map(Password::from);
        Some(Account { name: secret(name)?, password: secret(password)? })
    };
    let outgoing = account("username", "password")?;
    Some(Credentials { outgoing, incoming: account("username_in", "password_in") }.fingerprint())
}

/// Below the session lies `targetH:B:I`, below that `H:B:I:L` for each LUN, and below that its disk.
fn disks(session: &Path) -> io::Result<Vec<Block>> {
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

fn number<T: FromStr>(text: Option<String>) -> Option<T> {
    text?.parse().ok()
}

fn numbered(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::agent::{host::sysfs::Number, initiator::open_iscsi::fixtures::Host};

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
