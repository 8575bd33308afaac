//! The interface between the agent and an iSCSI initiator: the trait [`Initiator`] and its types.
//!
//! An initiator reads and acts; it decides nothing. [`reconcile`](super::reconcile) decides what is connected, and which
//! session may be logged out. It sees only the types of this module, so it works the same with each initiator.

pub mod open_iscsi;
pub mod simulated;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::Arc,
};

use ipnet::IpNet;
use thiserror::Error;
use tokio::sync::watch;

pub use super::host::{device_mapper::MapPath, device_users::DeviceUser, interfaces::InterfaceFilter};
use super::{
    host::error::HostError,
    types::{
        IscsiPath,
        credentials::{Credentials, Fingerprint},
    },
};
use crate::api::{
    HostInterface, HostWarning, Iqn, NetworkName, Portal, SessionSettings, portal_policy::PortalRules,
    reason::PathReason,
};

/// Why an action on a path failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct PathError {
    /// The reason that is reported in the status.
    pub reason: PathReason,
    /// The message for users: what was expected, and what was found.
    pub message: String,
}

impl PathError {
    /// An error with its reason and message.
    pub fn new(reason: PathReason, message: impl Into<String>) -> Self {
        PathError { reason, message: message.into() }
    }

    /// An error with the reason `Internal`.
    pub fn internal(message: impl Into<String>) -> Self {
        PathError::new(PathReason::Internal, message)
    }
}

impl From<HostError> for PathError {
    fn from(error: HostError) -> Self {
        PathError::new(error.reason(), error.to_string())
    }
}

/// An error while the host is read.
impl From<io::Error> for PathError {
    fn from(error: io::Error) -> Self {
        PathError::internal(error.to_string())
    }
}

/// The iSCSI initiator of one host.
///
/// Each call ends by itself; a login takes little longer than its login timeout. The agent never cancels a call, because
/// a tool that is stopped half way may leave a lock behind.
pub trait Initiator: Send + Sync + 'static {
    /// Reads the interfaces and the initiator of the host, and its inventory without users of devices. The filter names
    /// interfaces to report in addition to those that can carry storage traffic by their kind.
    fn read(&self, filter: &InterfaceFilter) -> impl Future<Output = Result<(Facts, Inventory), PathError>> + Send;

    /// These paths are the agent's: they are planned now, or were reported by an agent before it, with their sessions. A session of the agent is
    /// one that was once seen on such a path, or one with a mark that only the agent makes; in both cases it has a name as
    /// the agent's have.
    fn claim(&self, planned: BTreeSet<IscsiPath>, reported: BTreeMap<IscsiPath, Option<u32>>);

    /// Where sessions of the agent may be connected to, from now on: a target may send a session on to another address, also
    /// when the session is restored.
    fn judge_by(&self, portals: Arc<PortalRules>);

    /// Reads the sessions, their disks, and the multipath maps over the disks. Entries that vanish during the reading are
    /// left out, so the result is consistent.
    ///
    /// Users of devices are looked for only for the disks of the sessions in `with_users_of`, by session ID, and the maps
    /// over these disks: the search reads every process of the host.
    fn inventory(&self, with_users_of: &BTreeSet<u32>) -> impl Future<Output = Result<Inventory, PathError>> + Send;

    /// A channel that changes whenever facts or inventory may have changed (a link, an address, a session, a disk, a map).
    /// Users of devices (mounts, open counts) may change without it.
    fn changes(&self) -> watch::Receiver<()>;

    /// Logs in to the target on a path. If it returns Ok, the session exists on the requested interface. A new session has
    /// been logged out again if it is on another interface (`WrongInterface`), in a portal group that the login does not
    /// admit (`TargetNotFound`), or connected to an address that must not be dialled: a target may send a login on to
    /// another address.
    fn login(&self, login: &Login) -> impl Future<Output = Result<(), PathError>> + Send;

    /// Logs out a session of the agent, and deletes what the initiator stored for it. If it returns Ok, the session does
    /// not exist any more.
    fn logout(&self, session: &Session) -> impl Future<Output = Result<(), PathError>> + Send;

    /// Removes a multipath map that nothing uses, before its last path is logged out. Fails if something uses the map.
    fn flush(&self, map: &Map) -> impl Future<Output = Result<(), PathError>> + Send;

    /// Makes a multipath map again that was removed for a logout, because the session stays. Does nothing if the map
    /// exists.
    fn restore(&self, map: &Map) -> impl Future<Output = Result<(), PathError>> + Send;

    /// Asks for the multipath maps that disks of a session lack. Whether a disk gets one is decided by the configuration of
    /// the host.
    fn make_maps(&self, session: &Session) -> impl Future<Output = Result<(), PathError>> + Send;

    /// Whether the portal of a session has a DNS name that stands for other addresses now than the one it was made at.
    fn has_moved(&self, session: &Session) -> impl Future<Output = Result<bool, PathError>> + Send;

    /// Changes the settings of a session of the agent while it is logged in.
    fn adjust(&self, session: &Session, settings: LiveSettings) -> impl Future<Output = Result<(), PathError>> + Send;

    /// The credentials that the initiator has stored for the next login on a path; none without CHAP, or if it stores none.
    fn stored_credentials(&self, path: &IscsiPath) -> impl Future<Output = Option<Credentials>> + Send;

    /// Deletes what the initiator stored for paths of the agent that are not in `keep` and have no session: a path that
    /// never connected leaves such data behind. What stays is put right, as far as it does not wait for the next login.
    fn tidy(&self, keep: &BTreeSet<IscsiPath>) -> impl Future<Output = Result<(), PathError>> + Send;
}

/// The interfaces and the initiator of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The interfaces that can carry storage traffic or are named by the filter; sorted by name.
    pub interfaces: Vec<HostInterface>,
    /// The host's iSCSI initiator name.
    pub initiator_name: Option<String>,
    /// The name and version of the initiator, such as `open-iscsi 2.1.8`.
    pub initiator: Option<String>,
    /// Problems of the host that stop nothing by themselves.
    pub warnings: Vec<HostWarning>,
    /// Records by which the initiator logs in by itself.
    pub automatic_records: Vec<AutomaticRecord>,
}

/// A record by which the initiator logs in by itself when the host boots, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AutomaticRecord {
    /// The target's iSCSI name.
    pub target: Iqn,
    /// Address and port, canonical.
    pub portal: Portal,
    /// The name of its interface record.
    pub record: Arc<str>,
}

impl fmt::Display for AutomaticRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} through {}", self.target, self.portal, self.record)
    }
}

/// Sessions and multipath maps of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// All iSCSI sessions of the host, including sessions that the agent has not made.
    pub sessions: Vec<Session>,
    /// All multipath maps with a disk of one of the sessions.
    pub maps: Vec<Map>,
}

/// An iSCSI session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The kernel's session number.
    pub id: u32,
    /// Its path: with the portal that was requested, which may be a DNS name, and the interface that it is bound to.
    pub path: IscsiPath,
    /// Its portal as the initiator has dialled it: by address.
    pub dialled: Portal,
    /// The portal group tag that the target has answered.
    pub tpgt: u16,
    /// The maker of the session. The agent changes only its own sessions.
    pub owner: SessionOwner,
    /// Whether the session works. One that is refused counts as free.
    pub state: SessionState,
    /// For a session of the agent: why it counts for nothing. Its target has sent it on to where it must not be connected, or
    /// it came up otherwise than wanted and could not be logged out again.
    pub refused: Option<PathError>,
    /// The credentials it was authenticated with, if they are known.
    pub credentials: Option<Fingerprint>,
    /// The credentials that the initiator has stored for its path, and would use for the next login; none if it has stored
    /// none, or they are not known.
    pub stored_credentials: Option<Fingerprint>,
    /// Its settings that can be changed, if they are known.
    pub live_settings: Option<LiveSettings>,
    /// For a session of the agent: whether what the initiator has stored for its path is as the agent keeps it. None if that
    /// is not known.
    pub record_is_kept: Option<bool>,
    /// Its disks.
    pub disks: Vec<Disk>,
}

impl Session {
    /// Whether the agent made it.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.owner == SessionOwner::Agent
    }

    /// Whether the session works.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state == SessionState::LoggedIn
    }
}

/// The maker of a session, as the initiator reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionOwner {
    /// The agent.
    Agent,
    /// Somebody else. The text is for messages; it describes the interface record of the session.
    Other(Arc<str>),
}

/// The session settings that can be changed while a session is logged in. The other [`SessionSettings`] take effect at
/// the next login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSettings {
    /// The time for which a failed session holds I/O back, in seconds.
    pub replacement_timeout_seconds: u16,
}

impl From<SessionSettings> for LiveSettings {
    /// Lists every setting: a new one does not compile until it is decided here whether it is a live setting.
    fn from(settings: SessionSettings) -> Self {
        let SessionSettings {
            replacement_timeout_seconds,
            login_timeout_seconds: _,
            noop_interval_seconds: _,
            noop_timeout_seconds: _,
        } = settings;
        LiveSettings { replacement_timeout_seconds }
    }
}

/// The kernel's state of a session (`/sys/class/iscsi_session/*/state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// It works.
    LoggedIn,
    /// It lost its connection, and the initiator tries to reconnect.
    Failed,
    /// It is being logged in or out, or its connection has been lost for longer than the replacement timeout.
    Free,
}

/// A disk of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name, such as `sda`.
    pub name: Arc<str>,
    /// The direct users of the disk, without its multipath map and the checks of multipathd. None if the users were not
    /// read.
    pub users: Option<Vec<DeviceUser>>,
    /// The number of its LUN, as the kernel counts.
    pub lun: u64,
    /// Its size in bytes; 0 if it is not known.
    pub size: u64,
    /// Its World Wide Identifier as multipath would write it. None if it has a map, or tells none.
    pub wwid: Option<Arc<str>>,
}

impl Disk {
    /// The first user of the disk. If the users were not read, the disk counts as perhaps in use.
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
    /// The open count (`dmsetup info`); devices stacked on it, such as LVM, count.
    pub open_count: u32,
    /// The known users; empty if the users were not read.
    pub users: Vec<DeviceUser>,
    /// Its paths.
    pub paths: Vec<MapPath>,
    /// Its size in bytes; 0 if it is not known.
    pub size: u64,
    /// Whether the device mapper has told the state of its paths. If not, none counts as active.
    pub is_known: bool,
}

/// A login to perform.
#[derive(Clone, Debug)]
pub struct Login {
    /// The path to connect.
    pub path: IscsiPath,
    /// The name of the path's network; none for the default network. Faults of a simulation refer to it.
    pub network: Option<NetworkName>,
    /// The session's settings.
    pub settings: SessionSettings,
    /// The CHAP credentials, if the target requires them.
    pub credentials: Option<Credentials>,
    /// Which addresses may be dialled. The path's own is allowed; a DNS name or the target may lead to others.
    pub portals: Arc<PortalRules>,
    /// The other planned paths to the target through the same interface. A DNS name must not lead to the session of one of
    /// them.
    pub siblings: BTreeSet<IscsiPath>,
    /// The portal group tag that the target will probably answer: what it answered last, else the planned one.
    pub expected_tpgt: u16,
    /// The only portal group tag that it may answer; none if it may answer any.
    pub only_tpgt: Option<u16>,
    /// Differs between hosts, so that they choose different addresses of a DNS name.
    pub seed: u64,
    /// The subnets of the path's interface.
    pub subnets: Vec<IpNet>,
}
