//! What the agent needs of an iSCSI initiator, and what an initiator tells of its host.
//!
//! The trait is as narrow as the decisions allow: it reads and it acts, and it decides nothing. Which session may go is
//! decided in [`logout`](super::reconcile::logout), what is connected when in [`reconcile`](super::reconcile); both see
//! nothing but the values here.

pub mod open_iscsi;
pub mod simulated;

use std::{collections::BTreeSet, sync::Arc};

use thiserror::Error;
use tokio::sync::watch;

pub use super::host::{device_mapper::MapPath, device_users::DeviceUser, interfaces::InterfaceFilter};
use super::{
    credentials::{Credentials, Fingerprint},
    path::IscsiPath,
};
use crate::api::{HostInterface, HostWarning, SessionSettings, reason::PathReason};

/// Prefix of the interface records that are ours; sessions through any other record are foreign.
pub const OWN_RECORD_PREFIX: &str = "mb.";

/// Why something with a path did not work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct PathError {
    /// As one word.
    pub reason: PathReason,
    /// For people: what was expected, and what was found.
    pub message: String,
}

impl PathError {
    /// An error with its reason and message.
    pub fn new(reason: PathReason, message: impl Into<String>) -> Self {
        PathError { reason, message: message.into() }
    }
}

/// An iSCSI initiator of one host.
///
/// Every call ends by itself, a login in little more than the login timeout of its settings: the agent waits for what
/// it has begun, because stopping a tool half way may leave its lock behind (open-iscsi does).
pub trait Initiator: Send + Sync + 'static {
    /// What the host has. `named` tells which devices to report beside those that can carry storage by their kind.
    fn facts(&self, named: &InterfaceFilter) -> impl Future<Output = Result<Facts, PathError>> + Send;

    /// Sessions, their disks, and the multipath maps over them. One reading, consistent in itself: an entry that
    /// vanishes while it is read is left out.
    ///
    /// What uses devices is looked for only where the sessions in `in_question`, by number, have them: every process of
    /// the host has to be asked.
    fn inventory(&self, in_question: &BTreeSet<u32>) -> impl Future<Output = Result<Inventory, PathError>> + Send;

    /// Changes whenever facts or inventory may have changed (a link, an address, a session, a disk, a map). Use of
    /// devices (mounts, open counts) need not be announced.
    fn changes(&self) -> watch::Receiver<()>;

    /// Connects a path: its records, then the session. When it returns Ok the session exists, on the interface that was
    /// asked for; a session that came up elsewhere has been logged out again (`WrongInterface`).
    fn login(&self, login: &Login) -> impl Future<Output = Result<(), PathError>> + Send;

    /// Logs one of our sessions out, and forgets its record. When it returns Ok the session is gone.
    fn logout(&self, session: &Session) -> impl Future<Output = Result<(), PathError>> + Send;

    /// Removes a multipath map that nothing uses, before its last path goes. Fails when something has begun to use it.
    fn flush(&self, map: &Map) -> impl Future<Output = Result<(), PathError>> + Send;

    /// Brings what can be changed on a live session in line: how long a lost one holds I/O back.
    fn adjust(
        &self,
        session: &Session,
        settings: SessionSettings,
    ) -> impl Future<Output = Result<(), PathError>> + Send;

    /// Forgets our records without a session whose paths are not in `keep`: a path that never connected leaves one.
    fn tidy(&self, keep: &BTreeSet<IscsiPath>) -> impl Future<Output = Result<(), PathError>> + Send;
}

/// What a host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Devices that can carry storage traffic, and named ones; sorted by name.
    pub interfaces: Vec<HostInterface>,
    /// The host's iSCSI initiator name.
    pub initiator_name: Option<String>,
    /// The initiator and its version, such as `open-iscsi 2.1.8`.
    pub initiator: Option<String>,
    /// What wants attention on the host and stops nothing.
    pub warnings: Vec<HostWarning>,
}

/// Sessions and multipath maps of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Every iSCSI session of the host, ours or not.
    pub sessions: Vec<Session>,
    /// Every multipath map that has a disk of one of the sessions.
    pub maps: Vec<Map>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The kernel's session number.
    pub id: u32,
    /// What it connects: by the portal that was asked for (persistent address), and by the device that it is bound to.
    pub path: IscsiPath,
    /// The name of its interface record.
    pub record: Arc<str>,
    /// Whether it works.
    pub state: SessionState,
    /// What it was authenticated with, where that is known.
    pub credentials: Option<Fingerprint>,
    /// How long it holds I/O back after it is lost, in seconds, where that is known.
    pub replacement_timeout: Option<u16>,
    /// Its disks.
    pub disks: Vec<Disk>,
}

impl Session {
    /// Whether the agent has made it; it touches no other.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.record.starts_with(OWN_RECORD_PREFIX)
    }

    /// Whether it works.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state == SessionState::LoggedIn
    }
}

/// The kernel's view of a session (`/sys/class/iscsi_session/*/state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// It works.
    LoggedIn,
    /// Its connection is lost; the initiator tries to get it back.
    Failed,
    /// It is being made or taken down, or has been lost for longer than its replacement timeout.
    Free,
}

/// A disk of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name, such as `sda`.
    pub name: Arc<str>,
    /// What uses the disk itself, its multipath map and multipathd's own checks aside; none where nobody has looked.
    pub users: Option<Vec<DeviceUser>>,
}

impl Disk {
    /// What uses it first of all: where nobody has looked, that is taken for no proof that nothing does.
    #[must_use]
    pub fn first_user(&self) -> Option<DeviceUser> {
        match &self.users {
            Some(users) => users.first().cloned(),
            None => Some(DeviceUser::Unknown("nobody has looked".into())),
        }
    }
}

/// A multipath map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Its device-mapper name.
    pub name: Arc<str>,
    /// Its World Wide Identifier.
    pub wwid: String,
    /// How often it is open (`dmsetup info`); what is stacked on it, such as LVM, counts.
    pub open_count: u32,
    /// What uses it, as far as that can be named; nothing where nobody has looked.
    pub users: Vec<DeviceUser>,
    /// Its paths.
    pub paths: Vec<MapPath>,
}

/// A login that is asked for.
#[derive(Clone, Debug)]
pub struct Login {
    /// What to connect.
    pub path: IscsiPath,
    /// The network that the path goes through, for messages; none for the default network.
    pub network: Option<Arc<str>>,
    /// The session's settings.
    pub settings: SessionSettings,
    /// CHAP credentials, where the target wants them.
    pub credentials: Option<Credentials>,
}
