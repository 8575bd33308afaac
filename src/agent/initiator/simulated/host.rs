//! The initiator of one simulated host.
//!
//! The state of a session is not stored. It is computed from the current faults and facts, as on a real host it depends on
//! cables and portals.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

use super::{
    conditions::Conditions,
    faults::{FaultKind, FaultSubject},
};
use crate::{
    agent::{
        initiator::{
            DeviceUser, Disk, Facts, Initiator, InterfaceFilter, Inventory, LiveSettings, Login, Map, MapPath,
            PathError, Session, SessionOwner, SessionState,
        },
        types::{
            IscsiPath,
            credentials::{Credentials, Fingerprint},
        },
    },
    api::{
        ANY_TPGT, HostInterface, InterfaceName, Iqn, NetworkName, NodeName, ObjectName, Portal, SessionSettings,
        portal_policy::PortalRules, reason::PathReason,
    },
    ops::backoff,
};

/// The prefix of the interface records of the agent. The saved sessions name a record, as open-iscsi's do. Here nobody else
/// makes records with it, so every session with such a name is the agent's.
const OWN_RECORD_PREFIX: &str = "mb.";
/// The size of each LUN, in bytes.
const LUN_SIZE: u64 = 10 << 30;
/// How often a read that hangs looks whether it still does.
const HANGS_FOR: Duration = Duration::from_secs(1);

/// A simulated host: an [`Initiator`] whose sessions are entries in a table.
#[derive(Debug)]
pub struct SimulatedHost {
    node: NodeName,
    conditions: Arc<Conditions>,
    state: Mutex<SimulatedState>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct SimulatedState {
    next_id: u32,
    sessions: BTreeMap<u32, Entry>,
    /// The name of the Host, for faults.
    host: Option<ObjectName>,
    /// The interfaces in the Host's spec. The node has them if the facts file does not list the node.
    named: BTreeSet<InterfaceName>,
    /// Targets whose disk, and therefore its map, is open.
    open: BTreeSet<Iqn>,
    /// Targets whose map was flushed.
    flushed: BTreeSet<Iqn>,
    /// The file with the saved sessions.
    file: Option<PathBuf>,
    harm: Vec<String>,
    reads: Reads,
}

/// What reading the host does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// It returns what there is.
    #[default]
    Work,
    /// It returns an error.
    Fail,
    /// It does not return until that changes.
    Hang,
}

#[derive(Debug, Clone)]
struct Entry {
    path: IscsiPath,
    tpgt: u16,
    record: Arc<str>,
    network: Option<NetworkName>,
    credentials: Option<Fingerprint>,
    live_settings: LiveSettings,
}

/// A saved session.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Saved {
    id: u32,
    target: Iqn,
    portal: Portal,
    tpgt: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<InterfaceName>,
    record: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<NetworkName>,
}

impl SimulatedHost {
    /// The host of a node, with the sessions that are saved in `file`.
    pub(super) fn new(node: NodeName, conditions: Arc<Conditions>, file: Option<PathBuf>) -> std::io::Result<Self> {
        let mut state = SimulatedState { next_id: 1, file, ..SimulatedState::default() };
        state.load()?;
        Ok(SimulatedHost { node, conditions, state: Mutex::new(state), changes: watch::Sender::new(()) })
    }

    fn state(&self) -> MutexGuard<'_, SimulatedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces that faults or facts may have changed.
    pub fn announce(&self) {
        self.changes.send_replace(());
    }

    /// Whether the host holds a session.
    #[must_use]
    pub fn has_sessions(&self) -> bool {
        !self.state().sessions.is_empty()
    }

    /// Adds a session that somebody else made, with another interface record than the agent's.
    pub fn connect_foreign(&self, path: IscsiPath, record: &str) {
        let live_settings = SessionSettings::default().into();
        let record = record.into();
        self.state().connect(Entry { path, tpgt: ANY_TPGT, record, network: None, credentials: None, live_settings });
        self.announce();
    }

    /// From now on reading the host works, fails or hangs.
    pub fn set_reads(&self, reads: Reads) {
        self.state().reads = reads;
        self.announce();
    }

    /// Removes the agent's session on a path, without the agent.
    pub fn kill(&self, path: &IscsiPath) {
        let mut state = self.state();
        state.sessions.retain(|_, entry| entry.path != *path || !entry.is_own());
        state.save();
        drop(state);
        self.announce();
    }

    /// The paths of the agent's sessions, and the paths of foreign sessions.
    #[must_use]
    pub fn paths(&self) -> (BTreeSet<IscsiPath>, BTreeSet<IscsiPath>) {
        let state = self.state();
        let (own, foreign): (Vec<_>, Vec<_>) = state.sessions.values().partition(|entry| entry.is_own());
        let paths = |entries: Vec<&Entry>| entries.into_iter().map(|entry| entry.path.clone()).collect();
        (paths(own), paths(foreign))
    }

    /// Starts or stops the use of a target's disk.
    pub fn use_disk(&self, target: &str, is_used: bool) {
        let mut state = self.state();
        if is_used {
            state.open.insert(target.into());
        } else {
            state.open.remove(target);
        }
    }

    /// Violations of the logout rule: a device in use lost its last working path, a foreign session was logged out, or a
    /// map lost its last path before it was flushed.
    #[must_use]
    pub fn harm(&self) -> Vec<String> {
        self.state().harm.clone()
    }

    fn interfaces(&self, state: &SimulatedState) -> Vec<HostInterface> {
        let mut interfaces = match self.conditions.facts_of(&self.node) {
            Some(interfaces) => interfaces,
            None => default_interfaces(&self.node, &state.named),
        };
        let (faults, elapsed) = self.conditions.faults();
        interfaces.retain(|interface| !faults.hides(state.host.as_deref(), &self.node, &interface.name, elapsed));
        interfaces
    }

    fn fault(&self, state: &SimulatedState, path: &IscsiPath, network: Option<&str>) -> Option<FaultKind> {
        let (faults, elapsed) = self.conditions.faults();
        faults.of(FaultSubject { host: state.host.as_deref(), node: &self.node, path, network }, elapsed)
    }

    /// Why no session can work on the path, if none can.
    fn cut_off(
        &self,
        state: &SimulatedState,
        interfaces: &[HostInterface],
        path: &IscsiPath,
        network: Option<&str>,
    ) -> Option<PathError> {
        if let Some(name) = &path.interface {
            let problem = match interfaces.iter().find(|interface| interface.name == *name) {
                None => Some((PathReason::InterfaceNotFound, "does not exist")),
                Some(interface) if interface.addresses.is_empty() => Some((PathReason::NoAddress, "has no address")),
                Some(interface) if !interface.up => Some((PathReason::PortalUnreachable, "has no link")),
                Some(_) => None,
            };
            if let Some((reason, problem)) = problem {
                return Some(PathError::new(reason, format!("the network device {name} {problem}")));
            }
        }
        let (reason, message) = match self.fault(state, path, network)? {
            FaultKind::Unreachable => (PathReason::PortalUnreachable, "no route to the portal (simulated)"),
            FaultKind::Dropped => (PathReason::PortalUnreachable, "the connection breaks off (simulated)"),
            FaultKind::InterfaceNotFound => {
                (PathReason::InterfaceNotFound, "the network device does not exist (simulated)")
            }
            FaultKind::Timeout | FaultKind::AuthenticationFailed | FaultKind::TargetNotFound | FaultKind::InUse => {
                return None;
            }
        };
        Some(PathError::new(reason, message))
    }

    fn inventory_of(&self, state: &SimulatedState, with_users_of: &BTreeSet<u32>) -> Inventory {
        let interfaces = self.interfaces(state);
        let mut maps: BTreeMap<Iqn, Map> = BTreeMap::new();
        let mut sessions = Vec::with_capacity(state.sessions.len());
        for (id, entry) in &state.sessions {
            let network = entry.network.as_deref();
            let lost = self.cut_off(state, &interfaces, &entry.path, network).is_some();
            let in_use = self.fault(state, &entry.path, network) == Some(FaultKind::InUse);
            let disk: Arc<str> = format!("sd{id}").into();
            let target = &entry.path.target;
            if !state.flushed.contains(target) {
                let map = maps.entry(target.clone()).or_insert_with(|| new_map(target, state));
                map.paths.push(MapPath { disk: disk.clone(), active: !lost });
            }
            sessions.push(Session {
                id: *id,
                dialled: entry.path.portal.clone(),
                path: entry.path.clone(),
                tpgt: entry.tpgt,
                owner: entry.owner(),
                state: if lost { SessionState::Failed } else { SessionState::LoggedIn },
                refused: None,
                credentials: entry.credentials,
                stored_credentials: None,
                live_settings: Some(entry.live_settings),
                record_is_kept: Some(true),
                disks: vec![Disk {
                    name: disk,
                    users: with_users_of
                        .contains(id)
                        .then(|| in_use.then(|| DeviceUser::Open("a simulated process".into())).into_iter().collect()),
                    lun: 0,
                    size: LUN_SIZE,
                    wwid: None,
                }],
            });
        }
        Inventory { sessions, maps: maps.into_values().collect() }
    }

    /// Why a login fails, if it does.
    fn login_error(&self, login: &Login) -> Option<PathError> {
        let state = self.state();
        let network = login.network.as_deref();
        if let Some(error) = self.cut_off(&state, &self.interfaces(&state), &login.path, network) {
            return Some(error);
        }
        let (reason, message) = match self.fault(&state, &login.path, network)? {
            FaultKind::AuthenticationFailed => {
                (PathReason::AuthenticationFailed, "the target refuses the credentials (simulated)")
            }
            FaultKind::TargetNotFound => {
                (PathReason::TargetNotFound, "the portal does not know the target (simulated)")
            }
            FaultKind::Timeout => (PathReason::Timeout, "the login took too long (simulated)"),
            FaultKind::Unreachable | FaultKind::Dropped | FaultKind::InUse | FaultKind::InterfaceNotFound => {
                return None;
            }
        };
        Some(PathError::new(reason, message))
    }
}

impl Initiator for SimulatedHost {
    async fn read(&self, filter: &InterfaceFilter) -> Result<(Facts, Inventory), PathError> {
        while self.state().reads == Reads::Hang {
            sleep(HANGS_FOR).await;
        }
        let mut state = self.state();
        if state.reads == Reads::Fail {
            return Err(PathError::internal("the host cannot be read (simulated)"));
        }
        // The interfaces of a node do not vanish with its Host.
        if filter.host.is_some() {
            state.host.clone_from(&filter.host);
            state.named.clone_from(&filter.in_spec);
        }
        let facts = Facts {
            interfaces: self.interfaces(&state),
            initiator_name: Some(format!("iqn.2014-01.dev.multibond.simulated:{}", self.node)),
            initiator: Some("simulated".into()),
            warnings: Vec::new(),
            automatic_records: Vec::new(),
        };
        Ok((facts, self.inventory_of(&state, &BTreeSet::new())))
    }

    fn claim(&self, _planned: BTreeSet<IscsiPath>, _reported: BTreeMap<IscsiPath, Option<u32>>) {}

    fn judge_by(&self, _portals: Arc<PortalRules>) {}

    async fn inventory(&self, with_users_of: &BTreeSet<u32>) -> Result<Inventory, PathError> {
        Ok(self.inventory_of(&self.state(), with_users_of))
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    async fn login(&self, login: &Login) -> Result<(), PathError> {
        sleep(self.conditions.faults().0.latency).await;
        if let Some(error) = self.login_error(login) {
            if error.reason == PathReason::Timeout {
                sleep(Duration::from_secs(login.settings.login_timeout_seconds.into())).await;
            }
            return Err(error);
        }
        let record = format!("{OWN_RECORD_PREFIX}{}", login.path.interface.as_deref().unwrap_or("default"));
        self.state().connect(Entry {
            path: login.path.clone(),
            tpgt: login.expected_tpgt,
            record: record.into(),
            network: login.network.clone(),
            credentials: login.credentials.as_ref().map(Credentials::fingerprint),
            live_settings: login.settings.into(),
        });
        self.announce();
        Ok(())
    }

    async fn logout(&self, session: &Session) -> Result<(), PathError> {
        let mut state = self.state();
        let before = self.inventory_of(&state, &BTreeSet::new());
        state.record_harm_of_logout(session, &before);
        state.sessions.remove(&session.id);
        state.save();
        drop(state);
        self.announce();
        Ok(())
    }

    async fn flush(&self, map: &Map) -> Result<(), PathError> {
        let mut state = self.state();
        let found = self.inventory_of(&state, &BTreeSet::new()).maps.into_iter().find(|found| found.name == map.name);
        match found {
            Some(found) if found.open_count > 0 => {
                Err(PathError::new(PathReason::InUse, "the map is in use (simulated)"))
            }
            Some(_) => {
                let target = state.open_target_of(&map.name);
                state.flushed.extend(target);
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn restore(&self, map: &Map) -> Result<(), PathError> {
        let mut state = self.state();
        let target = state.open_target_of(&map.name);
        state.flushed.retain(|flushed| target.as_ref() != Some(flushed));
        Ok(())
    }

    async fn make_maps(&self, session: &Session) -> Result<(), PathError> {
        self.state().flushed.remove(&session.path.target);
        Ok(())
    }

    /// Names are not resolved here.
    async fn has_moved(&self, _session: &Session) -> Result<bool, PathError> {
        Ok(false)
    }

    async fn adjust(&self, session: &Session, settings: LiveSettings) -> Result<(), PathError> {
        if let Some(entry) = self.state().sessions.get_mut(&session.id) {
            entry.live_settings = settings;
        }
        Ok(())
    }

    async fn stored_credentials(&self, _path: &IscsiPath) -> Option<Credentials> {
        None
    }

    async fn tidy(&self, _keep: &BTreeSet<IscsiPath>) -> Result<(), PathError> {
        Ok(())
    }
}

impl SimulatedState {
    fn connect(&mut self, new: Entry) {
        if self.sessions.values().any(|entry| entry.path == new.path && entry.record == new.record) {
            return;
        }
        self.flushed.remove(&new.path.target);
        self.sessions.insert(self.next_id, new);
        self.next_id += 1;
        self.save();
    }

    fn open_target_of(&self, map: &str) -> Option<Iqn> {
        self.sessions.values().map(|entry| &entry.path.target).find(|target| *map_name(target) == *map).cloned()
    }

    fn record_harm_of_logout(&mut self, session: &Session, before: &Inventory) {
        if !session.is_own() {
            self.harm.push(format!("foreign session {} at {} was logged out", session.id, session.path));
        }
        let own_disk = |disk: &Arc<str>| session.disks.iter().any(|own| own.name == *disk);
        for map in before.maps.iter().filter(|map| map.paths.iter().any(|path| own_disk(&path.disk))) {
            let others = || map.paths.iter().filter(|path| !own_disk(&path.disk));
            if map.open_count > 0 && !others().any(|path| path.active) {
                self.harm.push(format!("map {} is open and lost its last good path at {}", map.name, session.path));
            }
            if others().next().is_none() {
                self.harm.push(format!("map {} lost its last path at {} unflushed", map.name, session.path));
            }
        }
    }

    /// Writes a new file and renames it, so a process that is killed leaves the old or the new one.
    fn save(&self) {
        let Some(file) = &self.file else { return };
        let saved: Vec<Saved> = self.sessions.iter().map(|(id, entry)| Saved::new(*id, entry)).collect();
        let unfinished = file.with_extension("new");
        let written = serde_json::to_vec(&saved)
            .map_err(std::io::Error::from)
            .and_then(|bytes| std::fs::write(&unfinished, bytes))
            .and_then(|()| std::fs::rename(&unfinished, file));
        if let Err(error) = written {
            tracing::warn!(%error, file = %file.display(), "cannot save the simulated sessions");
        }
    }

    fn load(&mut self) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let saved: Vec<Saved> = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for Saved { id, target, portal, tpgt, interface, record, network } in saved {
            let path = IscsiPath { target, portal, interface };
            let live_settings = SessionSettings::default().into();
            self.sessions.insert(id, Entry { path, tpgt, record, network, credentials: None, live_settings });
            self.next_id = self.next_id.max(id + 1);
        }
        Ok(())
    }
}

impl Saved {
    fn new(id: u32, entry: &Entry) -> Self {
        let Entry { path, tpgt, record, network, credentials: _, live_settings: _ } = entry;
        let IscsiPath { target, portal, interface } = path.clone();
        let tpgt = *tpgt;
        Saved { id, target, portal, tpgt, interface, record: record.clone(), network: network.clone() }
    }
}

impl Entry {
    fn is_own(&self) -> bool {
        self.record.starts_with(OWN_RECORD_PREFIX)
    }

    fn owner(&self) -> SessionOwner {
        if self.is_own() { SessionOwner::Agent } else { SessionOwner::Other(self.record.clone()) }
    }
}

/// Every host sees the same LUN behind a target.
fn map_name(target: &str) -> String {
    format!("3600{:029x}", BuildHasherDefault::<DefaultHasher>::default().hash_one(target))
}

fn new_map(target: &Iqn, state: &SimulatedState) -> Map {
    let name = map_name(target);
    let is_open = state.open.contains(target);
    Map {
        wwid: name.clone(),
        name: name.into(),
        open_count: u32::from(is_open),
        users: if is_open { vec![DeviceUser::Holder("a simulated volume".into())] } else { Vec::new() },
        paths: Vec::new(),
        size: LUN_SIZE,
        is_known: true,
    }
}

/// The interfaces of a node whose interface names alone are known: each is up, with an address that is in no real
/// subnet (240.0.0.0/4 is reserved, RFC 1112 section 4).
fn default_interfaces(node: &str, names: &BTreeSet<InterfaceName>) -> Vec<HostInterface> {
    let [.., a, b] = backoff::fraction(Duration::from_secs(65_535), node).as_secs().to_be_bytes();
    names
        .iter()
        .zip(1..=u8::MAX)
        .map(|(name, index)| HostInterface {
            name: name.clone(),
            mac: format!("02:00:00:{a:02x}:{b:02x}:{index:02x}"),
            mtu: 1500,
            up: true,
            addresses: vec![format!("240.{a}.{b}.{index}/32")],
            beside: None,
        })
        .collect()
}
