//! The initiator open-iscsi on a real host.
//!
//! [`Reader`] reads sessions, disks and maps from the kernel, without a tool. Changes go through the host's own tools:
//! [`iscsiadm`] for [`records`] and sessions, multipath for maps. Their exit codes are not trusted: after a login the
//! session must exist in the kernel, after a logout it must not.

pub mod iscsiadm;
mod path_locks;
mod reader;
pub mod record;
pub mod records;
pub mod sessions;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use reader::Reader;

use std::{
    collections::BTreeSet,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep},
};

use self::{
    iscsiadm::{DAEMON, Iscsiadm, outcome::CommandOutcome},
    path_locks::PathLocks,
    record::{InterfaceRecord, NodeRecord},
    records::Records,
    sessions::SessionEntry,
};
use super::{Facts, Initiator, InterfaceFilter, Inventory, LiveSettings, Login, Map, PathError, Session, SessionOwner};
use crate::{
    agent::{
        host::{
            access::{AccessMode, HostAccess},
            events,
            host_root::HostRoot,
            mount_points::MountPoints,
            multipath::{Multipath, map_exists},
            sysfs,
            tools::HostTools,
        },
        types::{IscsiPath, credentials::Credentials},
    },
    api::{
        HostWarning,
        reason::{PathReason, PreparedReason},
    },
    ops::one_line,
};

/// The time for the kernel to remove a session after its logout.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The interval at which a missing tool is looked for again.
const TOOL_RECHECK: Duration = Duration::from_secs(60);

/// The open-iscsi of this host.
#[derive(Debug)]
pub struct OpenIscsi {
    reader: Reader,
    /// Kept, because the watch of the host ends with its last receiver.
    changes: watch::Receiver<()>,
    sys: PathBuf,
    tools: HostTools,
    iscsiadm: Arc<Iscsiadm>,
    records: Records,
    multipath: Multipath,
    path_locks: PathLocks,
    tool_state: Mutex<Option<ToolState>>,
}

/// The cached version of `iscsiadm`, and the circumstances it is valid for.
#[derive(Clone, Debug)]
struct ToolState {
    access: HostAccess,
    daemon_is_outdated: bool,
    version: Result<String, PathError>,
    checked_at: Instant,
}

impl OpenIscsi {
    /// The open-iscsi of the host with these mount points. Must be called in a runtime: it starts a task that watches the
    /// host.
    ///
    /// # Errors
    /// If the kernel refuses a netlink socket.
    pub fn new(mode: AccessMode, mount_points: MountPoints) -> io::Result<Self> {
        let changes = events::watch(&mount_points.sys)?;
        let tools = HostTools::new(mode, mount_points.proc.clone());
        Ok(Self::with_tools(tools, mount_points, changes))
    }

    fn with_tools(tools: HostTools, mount_points: MountPoints, changes: watch::Receiver<()>) -> Self {
        let iscsiadm = Arc::new(Iscsiadm::new(tools.clone()));
        OpenIscsi {
            sys: mount_points.sys.clone(),
            reader: Reader::new(mount_points),
            changes,
            records: Records::new(iscsiadm.clone()),
            iscsiadm,
            multipath: Multipath::new(tools.clone()),
            tools,
            path_locks: PathLocks::default(),
            tool_state: Mutex::default(),
        }
    }

    /// Prepares the records and logs in. If the tool cannot use the existing records, it tries once more with new ones.
    async fn connect(&self, access: &HostAccess, login: &Login, record: &NodeRecord) -> Result<(), PathError> {
        match self.connect_once(access, login, record, false).await {
            Err(error) if error.reason == PathReason::InvalidRecord => {
                tracing::info!(%record, %error, "recreating the record");
                self.connect_once(access, login, record, true).await
            }
            result => result,
        }
    }

    async fn connect_once(
        &self,
        access: &HostAccess,
        login: &Login,
        record: &NodeRecord,
        recreate: bool,
    ) -> Result<(), PathError> {
        self.records.prepare(access, login, record, recreate).await?;
        let outcome = self.iscsiadm.login(access, record, login.settings, login.credentials.as_ref()).await?;
        let Err(error) = outcome.into_result() else { return Ok(()) };
        Err(match error.reason {
            PathReason::PortalUnreachable => self.classify_unresolvable_name(access, record, error).await,
            PathReason::TargetNotFound => hint_mutual_chap(login, error),
            _ => error,
        })
    }

    /// iscsid reports the same error for a name that it cannot resolve as for a portal that it cannot reach.
    async fn classify_unresolvable_name(
        &self,
        access: &HostAccess,
        record: &NodeRecord,
        error: PathError,
    ) -> PathError {
        let name = &record.address;
        if name.parse::<IpAddr>().is_ok() || self.iscsiadm.resolves(access, name).await {
            return error;
        }
        PathError::new(PathReason::NameNotResolved, format!("the host cannot resolve the portal's name {name}"))
    }

    /// Checks in the kernel whether the login succeeded. The result of the tool does not count.
    async fn verify_login(
        &self,
        access: &HostAccess,
        login: &Login,
        record: &NodeRecord,
        before: &BTreeSet<u32>,
        result: Result<(), PathError>,
    ) -> Result<(), PathError> {
        let sessions = self.reader.sessions().await?;
        let mut wanted = sessions.iter().filter(|session| is_own_on(session, &login.path));
        if wanted.any(|session| session.is_live() || result.is_ok()) {
            return Ok(());
        }
        let mut new = sessions.iter().filter(|session| !before.contains(&session.id));
        if let Some(session) = new.find(|session| is_on_wrong_interface(session, login, record)) {
            return Err(self.undo_login(access, login, session).await);
        }
        result?;
        Err(PathError::internal("iscsiadm reported that the login succeeded, but the kernel has no such session"))
    }

    /// Logs out a session that came up on another interface. This is the only logout that the logout rule does not decide:
    /// the session is a moment old.
    async fn undo_login(&self, access: &HostAccess, login: &Login, session: &SessionEntry) -> PathError {
        let undone = match self.iscsiadm.logout(access, session.id).await.and_then(CommandOutcome::into_result) {
            Ok(()) => "it was logged out again".to_owned(),
            Err(error) => format!("logging it out again has failed: {error}"),
        };
        let found = session.path.interface.as_deref().unwrap_or("no device");
        let wanted = login.path.interface.as_deref().unwrap_or("no device");
        let message = format!("the session came up bound to {found} instead of {wanted}; {undone}");
        PathError::new(PathReason::WrongInterface, message)
    }

    /// Waits until the session does not exist any more. Returns false if it still exists after the timeout.
    async fn wait_until_removed(&self, session: &Session, timeout: Duration) -> Result<bool, PathError> {
        let until = Instant::now() + timeout;
        loop {
            if !self.reader.sessions().await?.iter().any(|entry| is_same(entry, session)) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Deletes the record of a path. A failure does no harm: `tidy` deletes the record later.
    async fn delete_record(&self, access: &HostAccess, path: &IscsiPath) {
        let Ok(record) = NodeRecord::of(path) else { return };
        if let Err(error) = self.records.delete(access, &record).await {
            tracing::debug!(%record, %error, "cannot delete the record now");
        }
    }

    /// The state of `iscsiadm`. Its version is read once for each way to reach it, and again after an upgrade.
    async fn tool_state(&self) -> Result<ToolState, PathError> {
        let access = self.iscsiadm.access()?;
        let daemon = self.tools.daemon(DAEMON);
        let daemon_is_outdated = daemon.is_some_and(|pid| self.tools.is_outdated(pid));
        let mut cached = self.tool_state.lock().await;
        if let Some(state) = &*cached
            && (&state.access, state.daemon_is_outdated) == (&access, daemon_is_outdated)
            && (state.version.is_ok() || state.checked_at.elapsed() < TOOL_RECHECK)
        {
            return Ok(state.clone());
        }
        let version = self.iscsiadm.version(&access).await;
        let state = ToolState { access, daemon_is_outdated, version, checked_at: Instant::now() };
        *cached = Some(state.clone());
        Ok(state)
    }

    fn initiator_name(&self, access: &HostAccess) -> Option<String> {
        let root = self.tools.root(access).ok();
        root.and_then(|root| initiator_name_from_file(&root)).or_else(|| initiator_name_from_kernel(&self.sys))
    }
}

impl Initiator for OpenIscsi {
    async fn facts(&self, filter: &InterfaceFilter) -> Result<Facts, PathError> {
        let mut facts = self.reader.facts(filter).await?;
        match self.tool_state().await {
            Ok(state) => {
                facts.initiator_name = self.initiator_name(&state.access);
                facts.initiator = state.version.as_ref().ok().map(|version| title(version, &state.access));
                facts.warnings.extend(tool_warning(&state, self.iscsiadm.has_version_mismatch()));
            }
            Err(error) => {
                facts.initiator_name = initiator_name_from_kernel(&self.sys);
                let reason = PreparedReason::InitiatorMissing;
                facts.warnings.push(HostWarning { reason, message: error.message });
            }
        }
        facts.warnings.extend(self.multipath.warnings().await);
        facts.warnings.sort();
        Ok(facts)
    }

    async fn inventory(&self, with_users_of: &BTreeSet<u32>) -> Result<Inventory, PathError> {
        let mut inventory = self.reader.inventory(with_users_of).await?;
        let with_chap = |session: &&mut Session| session.is_own() && session.credentials.is_some();
        let mut sessions = inventory.sessions.iter_mut().filter(with_chap).peekable();
        if sessions.peek().is_some()
            && let Ok(access) = self.iscsiadm.access()
        {
            for session in sessions {
                session.stored_credentials = self.records.stored_credentials(&access, &session.path);
            }
        }
        Ok(inventory)
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    async fn login(&self, login: &Login) -> Result<(), PathError> {
        let _lock = self.path_locks.lock(&login.path).await;
        let sessions = self.reader.sessions().await?;
        if sessions.iter().any(|session| is_own_on(session, &login.path)) {
            return Ok(());
        }
        let before: BTreeSet<u32> = sessions.iter().map(|session| session.id).collect();
        let record = NodeRecord::of(&login.path)?;
        let access = self.iscsiadm.access()?;
        let result = self.connect(&access, login, &record).await;
        self.verify_login(&access, login, &record, &before, result).await
    }

    async fn logout(&self, session: &Session) -> Result<(), PathError> {
        if let SessionOwner::Other(record) = &session.owner {
            let message = format!("session {} is not ours: it was made through {record}", session.id);
            return Err(PathError::internal(message));
        }
        let _lock = self.path_locks.lock(&session.path).await;
        let access = self.iscsiadm.access()?;
        // Compare more than the ID: after the kernel module was reloaded, IDs are used again.
        if !self.wait_until_removed(session, Duration::ZERO).await? {
            let result = self.iscsiadm.logout(&access, session.id).await.and_then(CommandOutcome::into_result);
            let timeout = if result.is_ok() { REMOVAL_TIMEOUT } else { Duration::ZERO };
            if !self.wait_until_removed(session, timeout).await? {
                result?;
                return Err(PathError::internal(
                    "iscsiadm reported that the logout succeeded, but the kernel still has the session",
                ));
            }
        }
        self.delete_record(&access, &session.path).await;
        Ok(())
    }

    async fn flush(&self, map: &Map) -> Result<(), PathError> {
        Ok(self.multipath.flush(&map.name, || map_exists(&self.sys, &map.name)).await?)
    }

    async fn restore(&self, map: &Map) -> Result<(), PathError> {
        Ok(self.multipath.restore(&map.name, || map_exists(&self.sys, &map.name)).await?)
    }

    async fn adjust(&self, session: &Session, settings: LiveSettings) -> Result<(), PathError> {
        if !session.is_own() {
            return Ok(());
        }
        let LiveSettings { replacement_timeout_seconds } = settings;
        let file = self.sys.join(format!("class/iscsi_session/session{}/recovery_tmo", session.id));
        fs::write(&file, replacement_timeout_seconds.to_string())
            .map_err(|error| PathError::internal(format!("cannot write {}: {error}", file.display())))
    }

    async fn tidy(&self, keep: &BTreeSet<IscsiPath>) -> Result<(), PathError> {
        let sessions = self.reader.sessions().await?;
        let mut keep = keep.clone();
        keep.extend(sessions.into_iter().filter(SessionEntry::is_own).map(|session| session.path));
        keep.extend(self.path_locks.locked());
        let keep_node = |record: &NodeRecord| keep.contains(&record.path());
        let keep_interface =
            |record: &InterfaceRecord| keep.iter().any(|path| path.interface.as_deref() == record.device.as_deref());
        self.records.tidy(&self.iscsiadm.access()?, keep_node, keep_interface).await
    }
}

/// iscsiadm reports the same error if the target does not exist and if it fails mutual CHAP; only the journal of iscsid
/// tells them apart.
fn hint_mutual_chap(login: &Login, error: PathError) -> PathError {
    match &login.credentials {
        Some(Credentials { incoming: Some(_), .. }) => PathError::new(
            error.reason,
            format!(
                "{error}; or the target's own name and password are not those of the Secret \
                 (node.session.auth.password_in)"
            ),
        ),
        Some(Credentials { incoming: None, .. }) | None => error,
    }
}

/// Whether this is a session of the agent on the path.
fn is_own_on(session: &SessionEntry, path: &IscsiPath) -> bool {
    session.is_own() && session.path == *path
}

/// Whether the session has the record, target and portal of the login, but is bound to another interface.
fn is_on_wrong_interface(session: &SessionEntry, login: &Login, record: &NodeRecord) -> bool {
    *session.record == *record.interface.name()
        && session.path.target == login.path.target
        && session.path.portal == login.path.portal
        && session.path.interface != login.path.interface
}

fn is_same(entry: &SessionEntry, session: &Session) -> bool {
    entry.id == session.id && entry.path == session.path && entry.owner() == session.owner
}

/// The name of the initiator in the status: `open-iscsi 2.1.8`, and how its tools are reached if that is not directly.
fn title(version: &str, access: &HostAccess) -> String {
    match access {
        HostAccess::Direct => format!("open-iscsi {version}"),
        HostAccess::Namespaces(_) | HostAccess::Chroot(_) => format!("open-iscsi {version} ({access})"),
    }
}

fn tool_warning(state: &ToolState, has_version_mismatch: bool) -> Option<HostWarning> {
    let (reason, message) = match &state.version {
        Err(error) => (PreparedReason::InitiatorMissing, error.message.clone()),
        Ok(_) if state.daemon_is_outdated => (
            PreparedReason::VersionMismatch,
            "iscsid was upgraded and not restarted: the one that runs is of another version than iscsiadm; restart it \
             (systemctl restart iscsid), which costs no session"
                .to_owned(),
        ),
        Ok(version) if has_version_mismatch => (
            PreparedReason::VersionMismatch,
            format!(
                "iscsid does not understand iscsiadm {version}: they are of different versions; restart iscsid, or say \
                 with --host-tools where the tools are that belong to it"
            ),
        ),
        Ok(_) => return None,
    };
    Some(HostWarning { reason, message })
}

fn initiator_name_from_file(root: &HostRoot) -> Option<String> {
    initiator_name(&String::from_utf8(root.read("etc/iscsi/initiatorname.iscsi").ok()?).ok()?)
}

/// The name in the text of `initiatorname.iscsi`.
fn initiator_name(text: &str) -> Option<String> {
    let name = text.lines().filter_map(|line| line.trim().strip_prefix("InitiatorName")).next_back()?;
    Some(one_line(name.trim_start().strip_prefix('=')?)).filter(|name| !name.is_empty())
}

/// Returns a name only if the host has a session.
fn initiator_name_from_kernel(sys: &Path) -> Option<String> {
    let hosts = sys.join("class/iscsi_host");
    let names = sysfs::names(&hosts).ok()?;
    names.iter().find_map(|host| sysfs::attribute(&hosts.join(host).join("initiatorname")).ok()?)
}
