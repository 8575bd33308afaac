//! The initiator open-iscsi on a real host.
//!
//! [`Reader`] reads sessions, disks and maps from the kernel, without a tool. Changes go through the host's own tools:
//! [`iscsiadm`] for [`records`] and sessions, multipath for maps. Their exit codes are not trusted: after a login the
//! session must exist in the kernel, after a logout it must not.

mod claims;
mod disks;
mod host_settings;
mod installed;
pub mod iscsiadm;
mod login;
mod names;
mod path_locks;
mod reader;
pub mod record;
pub mod records;
mod resolver;
pub mod sessions;
mod shutdown;
mod unmapped;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use reader::Reader;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep},
};

use self::{
    claims::Claims,
    installed::{ToolState, initiator_name_from_kernel, title, tool_warning},
    iscsiadm::{DAEMON, Iscsiadm, outcome::CommandOutcome},
    names::Names,
    path_locks::PathLocks,
    reader::Read,
    record::{InterfaceRecord, NodeRecord},
    records::{
        Records,
        stored::{Stored, StoredNode},
    },
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
            mount_points::MountPoints,
            multipath::{Multipath, has_holder, map_exists},
            tools::HostTools,
        },
        types::{IscsiPath, credentials::Credentials},
    },
    api::{HostWarning, address::parse_ip, portal_policy::PortalRules, reason::PreparedReason},
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

    /// The sessions with names as the agent's, each with the path that it was made for. The kernel shows that by address, if
    /// it was made by address.
    async fn own_sessions(&self) -> Result<Vec<(SessionEntry, IscsiPath)>, PathError> {
        let sessions = self.reader.sessions().await?;
        let own: Vec<SessionEntry> = sessions.into_iter().filter(SessionEntry::is_own).collect();
        // The records tell it of a session only once.
        let is_known = own.iter().all(|session| self.names.is_known(session));
        let stored = if is_known { Stored::default() } else { self.stored().await };
        let with_path = |session: SessionEntry| {
            let path = self.requested_path(&session, &stored);
            (session, path)
        };
        Ok(own.into_iter().map(with_path).collect())
    }

    fn requested_path(&self, session: &SessionEntry, stored: &Stored) -> IscsiPath {
        let record = || stored.of(&session.path, Some(session.tpgt));
        self.names.requested_path(session.id, &session.path, || record().map(|it| it.requested(&session.path)))
    }

    /// Waits until the session does not exist any more. Returns false if it still exists after the timeout.
    async fn wait_until_removed(&self, session: &Session, timeout: Duration) -> Result<bool, PathError> {
        let until = Instant::now() + timeout;
        loop {
            if !self.own_sessions().await?.iter().any(|own| is_same(own, session)) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Deletes the record of a path by address that was made for the requested path, and not for another one since. A
    /// failure does no harm: `tidy` deletes the record later.
    async fn delete_record(&self, access: &HostAccess, path: &IscsiPath, requested: &IscsiPath) {
        if self.stored().await.of(path, None).is_some_and(|record| record.requested(path) != *requested) {
            return;
        }
        if let Err(error) = self.records.delete(access, path).await {
            tracing::debug!(%path, %error, "cannot delete the record now");
        }
    }

    /// Whether a session with a name of the agent's is the agent's: one on this path by address, for the requested path.
    fn is_proven(&self, by_address: &IscsiPath, requested: &IscsiPath, is_marked: impl FnOnce() -> bool) -> bool {
        let is_proven = self.claims.contains(requested) || self.claims.contains(by_address) || is_marked();
        if is_proven {
            self.claims.prove(by_address);
        }
        is_proven
    }

    /// The node records on the host; none if it cannot be reached.
    async fn stored(&self) -> Stored {
        match self.iscsiadm.access() {
            Ok(access) => self.records.read(&access).await,
            Err(_) => Stored::default(),
        }
    }

    /// The inventory, with what the records say of our sessions.
    fn judged(&self, read: Read, stored: &Stored, locked: &BTreeSet<IscsiPath>) -> Inventory {
        let Read { sessions: entries, mut inventory } = read;
        self.retain_proven(&inventory, locked);
        self.names.retain(&inventory.sessions.iter().map(|session| session.id).collect());
        for (session, entry) in inventory.sessions.iter_mut().zip(&entries).filter(|(session, _)| session.is_own()) {
            let record = stored.of(&entry.path, Some(entry.tpgt));
            let requested = self.requested_path(entry, stored);
            let is_marked = || record.is_some_and(StoredNode::is_marked);
            if !self.is_proven(&entry.path, &requested, is_marked) {
                session.owner = SessionOwner::Other(entry.record.clone());
                continue;
            }
            session.record_is_kept = stored.is_kept(&entry.path, entry.tpgt, &requested);
            session.refused = self.names.why_refused(entry, &requested);
            if session.refused.is_some() || self.names.may_be_undone(entry) {
                session.state = SessionState::Free;
            }
            if session.credentials.is_some() {
                session.stored_credentials = record.and_then(StoredNode::credentials).map(Credentials::fingerprint);
            }
            session.path = requested;
        }
        inventory
    }

    async fn facts(&self, filter: &InterfaceFilter, read: &Read, stored: &Stored) -> Result<Facts, PathError> {
        let mut facts = self.reader.facts(filter).await?;
        match self.tool_state().await {
            Ok(state) => {
                facts.initiator_name = self.initiator_name(&state.access);
                facts.automatic_records.clone_from(&stored.automatic);
                facts.initiator = state.version.as_ref().ok().map(|version| title(version, &state.access));
                let warning = tool_warning(&state, self.iscsiadm.has_version_mismatch());
                facts.warnings.extend(warning.map(|HostWarning { reason, message }| HostWarning {
                    reason,
                    message: message + &self.tools.ignored_daemon(DAEMON),
                }));
                if let Ok(root) = self.tools.root(&state.access) {
                    facts.warnings.extend(host_settings::warnings(&root));
                    facts.warnings.extend(host_settings::unusable_records(&stored.unusable));
                    facts.warnings.extend(shutdown::warning(&root));
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
            facts.warnings.extend(self.unmapped.warning(&self.sys, read, Instant::now()));
        }
        facts.warnings.extend(of_multipath);
        facts.warnings.sort();
        Ok(facts)
    }

    /// Without a session or a running login, only the plan or the mark of its record claims a path.
    fn retain_proven(&self, inventory: &Inventory, locked: &BTreeSet<IscsiPath>) {
        let with_session: BTreeSet<&IscsiPath> =
            inventory.sessions.iter().filter(|session| session.is_own()).map(|session| &session.path).collect();
        self.claims.retain_proven(|path| with_session.contains(path) || locked.contains(path));
    }
}

impl Initiator for OpenIscsi {
    async fn read(&self, filter: &InterfaceFilter) -> Result<(Facts, Inventory), PathError> {
        // First, so that a login that ends meanwhile is among them or has its session.
        let locked = self.path_locks.locked();
        let read = self.reader.inventory(&BTreeSet::new()).await?;
        let stored = self.stored().await;
        let facts = self.facts(filter, &read, &stored).await?;
        Ok((facts, self.judged(read, &stored, &locked)))
    }

    fn claim(&self, planned: BTreeSet<IscsiPath>, reported: BTreeMap<IscsiPath, Option<u32>>) {
        self.names.reported(&reported);
        self.claims.plan(planned, reported.into_keys().collect());
    }

    fn judge_by(&self, portals: Arc<PortalRules>) {
        self.names.judge_by(portals);
    }

    async fn inventory(&self, with_users_of: &BTreeSet<u32>) -> Result<Inventory, PathError> {
        let locked = self.path_locks.locked();
        let read = self.reader.inventory(with_users_of).await?;
        Ok(self.judged(read, &self.stored().await, &locked))
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    async fn login(&self, login: &Login) -> Result<(), PathError> {
        let _lock = self.path_locks.lock(&login.path).await;
        self.claims.prove(&login.path);
        if self.own_sessions().await?.iter().any(|(_, path)| *path == login.path) {
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
        let found = self.own_sessions().await?.into_iter().find(|own| is_same(own, session));
        let path = found.map_or_else(|| session.path.clone(), |(entry, _)| entry.path);
        // Always the name before the address, as a login does it.
        let _address_lock = if path == session.path { None } else { Some(self.path_locks.lock(&path).await) };
        let access = self.iscsiadm.access()?;
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

    async fn has_moved(&self, session: &Session) -> Result<bool, PathError> {
        let found = self.own_sessions().await?.into_iter().find(|own| is_same(own, session));
        let Some(address) = found.and_then(|(entry, _)| parse_ip(entry.path.portal.host())) else { return Ok(false) };
        let resolved = resolver::resolve(&self.tools, &self.iscsiadm.access()?, session.path.portal.host()).await?;
        Ok(!resolved.is_empty() && !resolved.contains(&address))
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
        self.stored().await.credentials_for_login(path).cloned()
    }

    async fn tidy(&self, keep: &BTreeSet<IscsiPath>) -> Result<(), PathError> {
        // Those with the agent's names: a record that a session uses stays, whoever made them.
        let sessions = self.reader.sessions().await?;
        let mut keep = keep.clone();
        self.names.retain_tried(&keep);
        // By address, as their records are.
        let answered: BTreeMap<IscsiPath, u16> =
            sessions.into_iter().filter(SessionEntry::is_own).map(|session| (session.path, session.tpgt)).collect();
        keep.extend(answered.keys().cloned());
        keep.extend(self.path_locks.locked());
        let is_claimed = |record: &NodeRecord| self.claims.contains(&record.path());
        let keep_node = |record: &NodeRecord| keep.contains(&record.path());
        let keep_interface =
            |record: &InterfaceRecord| keep.iter().any(|path| path.interface.as_deref() == record.device.as_deref());
        let requested = |path: &IscsiPath| self.names.requested_of(path);
        let answered = |path: &IscsiPath| answered.get(path).copied();
        self.records.tidy(&self.iscsiadm.access()?, is_claimed, keep_node, keep_interface, requested, answered).await?;
        self.claims.forget_reported();
        Ok(())
    }
}

/// Whether a session in the kernel, with the path that it was made for, is this one. The ID alone does not tell: after the
/// kernel module was reloaded, IDs are used again.
fn is_same((entry, path): &(SessionEntry, IscsiPath), session: &Session) -> bool {
    entry.id == session.id && entry.owner() == session.owner && *path == session.path
}
