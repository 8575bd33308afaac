//! The initiator open-iscsi on a real host.
//!
//! [`Reader`] reads sessions, disks and maps from the kernel, without a tool. Changes go through the host's own tools:
//! [`iscsiadm`] for [`records`] and sessions, multipath for maps. Their exit codes are not trusted: after a login the
//! session must exist in the kernel, after a logout it must not.

mod claims;
mod host_settings;
pub mod iscsiadm;
mod names;
mod path_locks;
mod reader;
pub mod record;
pub mod records;
mod resolver;
pub mod sessions;
mod unmapped;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use reader::Reader;

use std::{
    cell::OnceCell,
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep},
};

use self::{
    claims::Claims,
    iscsiadm::{DAEMON, Iscsiadm, outcome::CommandOutcome},
    names::Names,
    path_locks::PathLocks,
    record::{InterfaceRecord, NodeRecord, record_name},
    records::Records,
    sessions::SessionEntry,
    unmapped::Unmapped,
};
use super::{
    Facts, Initiator, InterfaceFilter, Inventory, LiveSettings, Login, Map, PathError, Session, SessionOwner,
    SessionState,
};
use crate::{
    agent::{
        host::{
            access::{AccessMode, HostAccess},
            events,
            host_root::HostRoot,
            mount_points::MountPoints,
            multipath::{Multipath, has_holder, map_exists},
            sysfs,
            tools::HostTools,
        },
        types::{IscsiPath, credentials::Credentials},
    },
    api::{
        HostWarning,
        address::parse_ip,
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
    unmapped: Unmapped,
    names: Names,
    claims: Claims,
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
            unmapped: Unmapped::default(),
            names: Names::default(),
            claims: Claims::default(),
            tool_state: Mutex::default(),
        }
    }

    /// The path that a session of ours was made for. The kernel shows it by address, if it was made by address.
    fn requested_path(&self, session: &SessionEntry) -> IscsiPath {
        let stored = || self.records.requested_path(&self.iscsiadm.access().ok()?, &session.path);
        self.names.requested_path(session.id, &session.path, stored)
    }

    /// Logs in at a portal with a DNS name, at one of its addresses.
    async fn login_by_name(&self, access: &HostAccess, login: &Login, port: u16) -> Result<(), PathError> {
        let resolved = resolver::resolve(&self.tools, access, login.path.portal.host()).await?;
        let own = self.reader.sessions().await?.into_iter().filter(SessionEntry::is_own);
        let sessions = own.map(|session| (session.path.clone(), self.requested_path(&session))).collect();
        let address = names::choose(login, port, &resolved, &sessions, self.names.failed_at(&login.path))?;
        let by_address = names::at(&login.path, address, port);
        let _lock = self.path_locks.lock(&by_address).await;
        let result = self.login_by_address(access, login, &by_address).await;
        self.names.tried(&login.path, address, result.is_err());
        result
    }

    /// Logs in on a path whose portal is an address; `path` has it. A session that is there already is used, unless it is
    /// for another planned path.
    async fn login_by_address(&self, access: &HostAccess, login: &Login, path: &IscsiPath) -> Result<(), PathError> {
        self.claims.prove(path);
        let record = NodeRecord::of(path, login.expected_tpgt)?;
        let sessions = self.reader.sessions().await?;
        if let Some(session) = sessions.iter().find(|session| is_own_on(session, path)) {
            return self.use_session(access, login, session).await;
        }
        let before: BTreeSet<u32> = sessions.iter().map(|session| session.id).collect();
        self.names.login_begins(path, login);
        let result = self.connect(access, login, &record).await;
        let result = self.verify_login(access, login, &record, &before, result).await;
        self.names.login_ends(path);
        result
    }

    async fn use_session(&self, access: &HostAccess, login: &Login, session: &SessionEntry) -> Result<(), PathError> {
        let requested = self.requested_path(session);
        if requested == login.path {
            return Ok(());
        }
        if login.siblings.contains(&requested) {
            let (portal, other) = (&login.path.portal, &requested.portal);
            let message =
                format!("the portals {portal} and {other} are the same: remove one of them in the DataCenter");
            return Err(PathError::new(PathReason::NameNotResolved, message));
        }
        // The session counts anyway. Without the new name in its record, an agent that is started later would make another
        // session before it logs this one out.
        if let Err(error) = self.records.rename(access, &session.path, &login.path).await {
            tracing::debug!(path = %session.path, %error, "the record keeps the portal's other name");
        }
        self.names.set(session.id, &session.path, &login.path);
        Ok(())
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
            PathReason::TargetNotFound => hint_mutual_chap(login, error),
            _ => error,
        })
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
        let new = || sessions.iter().filter(|session| !before.contains(&session.id) && is_of_record(session, record));
        let why_refused = |session: &SessionEntry| login.portals.why_refused(session.connected_to?);
        let path = record.path();
        // A target that sends the login on may change the portal group tag, too, so this is not always the wanted session.
        if let Some((session, why)) = new().find_map(|session| Some((session, why_refused(session)?))) {
            let found = format!("{} has sent the login on to an address that is not dialled: {why}", path.portal);
            return Err(self.undo_login(access, session, PathReason::PortalUnreachable, &found).await);
        }
        let mut wanted = sessions.iter().filter(|session| is_own_on(session, &path));
        if let Some(session) = wanted.find(|session| session.is_live() || result.is_ok()) {
            if let Some(only) = login.only_tpgt.filter(|only| *only != session.tpgt) {
                let found = format!(
                    "the portal belongs to portal group {}, and the data center says {only} (tpgt): correct it there, or \
                     leave it out; the session is not wanted",
                    session.tpgt
                );
                return Err(self.undo_login(access, session, PathReason::TargetNotFound, &found).await);
            }
            self.names.set(session.id, &session.path, &login.path);
            return Ok(());
        }
        if let Some(session) = new().find(|session| session.path.interface != path.interface) {
            let found = session.path.interface.as_deref().unwrap_or("no device");
            let wanted = login.path.interface.as_deref().unwrap_or("no device");
            let found = format!("the session came up bound to {found} instead of {wanted}");
            return Err(self.undo_login(access, session, PathReason::WrongInterface, &found).await);
        }
        result?;
        Err(PathError::internal("iscsiadm reported that the login succeeded, but the kernel has no such session"))
    }

    /// Logs out a session that came up otherwise than wanted. This is the only logout that the logout rule does not decide:
    /// the session is a moment old.
    async fn undo_login(
        &self,
        access: &HostAccess,
        session: &SessionEntry,
        reason: PathReason,
        found: &str,
    ) -> PathError {
        let undone = match self.iscsiadm.logout(access, session.id).await.and_then(CommandOutcome::into_result) {
            Ok(()) => "it was logged out again".to_owned(),
            Err(error) => format!("logging it out again has failed: {error}"),
        };
        PathError::new(reason, format!("{found}; {undone}"))
    }

    /// Waits until the session does not exist any more. Returns false if it still exists after the timeout.
    async fn wait_until_removed(&self, session: &Session, timeout: Duration) -> Result<bool, PathError> {
        let until = Instant::now() + timeout;
        loop {
            if !self.reader.sessions().await?.iter().any(|entry| self.is_same(entry, session)) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    fn is_same(&self, entry: &SessionEntry, session: &Session) -> bool {
        entry.id == session.id && entry.owner() == session.owner && self.requested_path(entry) == session.path
    }

    /// Deletes the record of a path by address that was made for the requested path, and not for another one since. A
    /// failure does no harm: `tidy` deletes the record later.
    async fn delete_record(&self, access: &HostAccess, path: &IscsiPath, requested: &IscsiPath) {
        if self.records.requested_path(access, path).is_some_and(|found| found != *requested) {
            return;
        }
        if let Err(error) = self.records.delete(access, path).await {
            tracing::debug!(%path, %error, "cannot delete the record now");
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

    /// Whether a session with a name of the agent's is the agent's: one on this path by address, for the requested path.
    fn is_proven(&self, by_address: &IscsiPath, requested: &IscsiPath) -> bool {
        let is_marked = || self.iscsiadm.access().is_ok_and(|access| self.records.is_marked(&access, by_address));
        let is_proven = self.claims.contains(requested) || self.claims.contains(by_address) || is_marked();
        if is_proven {
            self.claims.prove(by_address);
        }
        is_proven
    }

    /// Without a session or a running login, only the plan or the mark of its record claims a path.
    fn retain_proven(&self, inventory: &Inventory, locked: &BTreeSet<IscsiPath>) {
        let with_session: BTreeSet<&IscsiPath> =
            inventory.sessions.iter().filter(|session| session.is_own()).map(|session| &session.path).collect();
        self.claims.retain_proven(|path| with_session.contains(path) || locked.contains(path));
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
                facts.automatic_records = self.records.automatic(&state.access);
                facts.initiator = state.version.as_ref().ok().map(|version| title(version, &state.access));
                let warning = tool_warning(&state, self.iscsiadm.has_version_mismatch());
                facts.warnings.extend(warning.map(|HostWarning { reason, message }| HostWarning {
                    reason,
                    message: message + &self.tools.ignored_daemon(DAEMON),
                }));
                if let Ok(root) = self.tools.root(&state.access) {
                    facts.warnings.extend(host_settings::warnings(&root));
                }
            }
            Err(error) => {
                facts.initiator_name = initiator_name_from_kernel(&self.sys);
                let reason = PreparedReason::InitiatorMissing;
                facts.warnings.push(HostWarning { reason, message: error.message });
            }
        }
        let of_multipath = self.multipath.warnings().await;
        // Without multipathd there are no maps at all, which is said already.
        if of_multipath.iter().all(|warning| warning.reason != PreparedReason::MultipathdMissing) {
            let sessions = self.reader.sessions().await?;
            facts.warnings.extend(self.unmapped.warning(&self.sys, &sessions, Instant::now()));
        }
        facts.warnings.extend(of_multipath);
        facts.warnings.sort();
        Ok(facts)
    }

    fn claim(&self, planned: BTreeSet<IscsiPath>, reported: BTreeSet<IscsiPath>) {
        self.claims.plan(planned, reported);
    }

    async fn inventory(&self, with_users_of: &BTreeSet<u32>) -> Result<Inventory, PathError> {
        // First, so that a login that ends meanwhile is among them or has its session.
        let locked = self.path_locks.locked();
        let mut inventory = self.reader.inventory(with_users_of).await?;
        self.retain_proven(&inventory, &locked);
        self.names.retain(&inventory.sessions.iter().map(|session| session.id).collect());
        let access = OnceCell::new();
        let access = || access.get_or_init(|| self.iscsiadm.access().ok()).as_ref();
        for session in inventory.sessions.iter_mut().filter(|session| session.is_own()) {
            let stored = || self.records.requested_path(access()?, &session.path);
            let requested = self.names.requested_path(session.id, &session.path, stored);
            if !self.is_proven(&session.path, &requested) {
                session.owner = SessionOwner::Other(record_name(session.path.interface.as_deref()).into());
                continue;
            }
            session.record_is_kept = access().is_some_and(|access| self.records.is_kept(access, &session.path));
            if let Some(admitted) = self.names.admitted_by_login(&session.path)
                && !admitted.is_kept(session.tpgt, sessions::connected_to(&self.sys, session.id))
            {
                session.state = SessionState::Free;
            }
            if session.credentials.is_some() {
                let stored = access().and_then(|access| self.records.stored_credentials(access, &session.path));
                session.stored_credentials = stored.as_ref().map(Credentials::fingerprint);
            }
            session.path = requested;
        }
        Ok(inventory)
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    async fn login(&self, login: &Login) -> Result<(), PathError> {
        let _lock = self.path_locks.lock(&login.path).await;
        self.claims.prove(&login.path);
        let mut sessions = self.reader.sessions().await?.into_iter().filter(SessionEntry::is_own);
        if sessions.any(|session| self.requested_path(&session) == login.path) {
            return Ok(());
        }
        let NodeRecord { address, port, .. } = NodeRecord::of(&login.path, login.expected_tpgt)?;
        let access = self.iscsiadm.access()?;
        match parse_ip(&address) {
            Some(_) => self.login_by_address(&access, login, &login.path).await,
            None => self.login_by_name(&access, login, port).await,
        }
    }

    async fn logout(&self, session: &Session) -> Result<(), PathError> {
        if let SessionOwner::Other(record) = &session.owner {
            let message = format!("session {} is not ours: it was made through {record}", session.id);
            return Err(PathError::internal(message));
        }
        let _lock = self.path_locks.lock(&session.path).await;
        let found = self.reader.sessions().await?.into_iter().find(|entry| self.is_same(entry, session));
        let path = found.map_or_else(|| session.path.clone(), |entry| entry.path);
        // Always the name before the address, as a login does it.
        let _address_lock = if path == session.path { None } else { Some(self.path_locks.lock(&path).await) };
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
        self.delete_record(&access, &path, &session.path).await;
        Ok(())
    }

    async fn flush(&self, map: &Map) -> Result<(), PathError> {
        Ok(self.multipath.flush(&map.name, || map_exists(&self.sys, &map.name)).await?)
    }

    async fn restore(&self, map: &Map) -> Result<(), PathError> {
        Ok(self.multipath.restore(&map.name, || map_exists(&self.sys, &map.name)).await?)
    }

    async fn make_maps(&self, session: &Session) -> Result<(), PathError> {
        for disk in session.disks.iter().filter(|disk| !has_holder(&self.sys, &disk.name)) {
            self.multipath.add_disk(&disk.name).await?;
        }
        Ok(())
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

    async fn stored_credentials(&self, path: &IscsiPath) -> Option<Credentials> {
        self.records.credentials_for_login(&self.iscsiadm.access().ok()?, path)
    }

    async fn tidy(&self, keep: &BTreeSet<IscsiPath>) -> Result<(), PathError> {
        // Those with the agent's names: a record that a session uses stays, whoever made them.
        let sessions = self.reader.sessions().await?;
        let mut keep = keep.clone();
        self.names.retain_failed(&keep);
        // By address, as their records are.
        keep.extend(sessions.into_iter().filter(SessionEntry::is_own).map(|session| session.path));
        keep.extend(self.path_locks.locked());
        let is_claimed = |record: &NodeRecord| self.claims.contains(&record.path());
        let keep_node = |record: &NodeRecord| keep.contains(&record.path());
        let keep_interface =
            |record: &InterfaceRecord| keep.iter().any(|path| path.interface.as_deref() == record.device.as_deref());
        self.records.tidy(&self.iscsiadm.access()?, is_claimed, keep_node, keep_interface).await?;
        self.claims.forget_reported();
        Ok(())
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

/// Whether the session was made with this record. It may have come up with another interface or portal group tag.
fn is_of_record(session: &SessionEntry, record: &NodeRecord) -> bool {
    let wanted = record.path();
    *session.record == *record.interface.name()
        && session.path.target == wanted.target
        && session.path.portal == wanted.portal
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
