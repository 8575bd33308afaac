//! The initiator of one simulated host.
//!
//! The state of a session is not stored. It is computed from the current faults and facts, as on a real host it depends on
//! cables and portals.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use super::{
    conditions::Conditions,
    faults::{FaultKind, FaultSubject},
    state::{Entry, KnownDisk, OWN_RECORD_PREFIX, Reads, SimulatedState, map_name},
};
use crate::{
    agent::{
        initiator::{
            AutomaticRecord, DeviceUser, Disk, Facts, Initiator, InterfaceFilter, Inventory, LiveSettings, Login, Map,
            MapPath, PathError, Session, SessionState,
        },
        types::{IscsiPath, credentials::Credentials},
    },
    api::{
        ANY_TPGT, HostInterface, InterfaceName, NodeName, SessionSettings, portal_policy::PortalRules,
        reason::PathReason,
    },
    ops::backoff,
};

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

impl SimulatedHost {
    /// The host of a node, with the sessions that are saved in `file`.
    pub(super) fn new(node: NodeName, conditions: Arc<Conditions>, file: Option<PathBuf>) -> std::io::Result<Self> {
        let mut state = SimulatedState { next_id: 1, file, ..SimulatedState::default() };
        state.load(&conditions.luns())?;
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
        let entry = Entry {
            path,
            tpgt: ANY_TPGT,
            record: record.into(),
            network: None,
            credentials: None,
            live_settings,
            record_is_kept: true,
            disks: Vec::new(),
        };
        self.state().connect(entry, &self.conditions.luns());
        self.announce();
    }

    /// Removes a session that somebody else made.
    pub fn disconnect_foreign(&self, path: &IscsiPath) {
        self.remove(|entry| entry.path == *path && !entry.is_own());
    }

    /// From now on reading the host works, fails or hangs.
    pub fn set_reads(&self, reads: Reads) {
        self.state().reads = reads;
        self.announce();
    }

    /// Removes the agent's session on a path, without the agent.
    pub fn kill(&self, path: &IscsiPath) {
        self.remove(|entry| entry.path == *path && entry.is_own());
    }

    fn remove(&self, goes: impl Fn(&Entry) -> bool) {
        let mut state = self.state();
        state.sessions.retain(|_, entry| !goes(entry));
        state.drop_maps();
        state.save();
        drop(state);
        self.announce();
    }

    /// Changes the record of the agent's session on a path, without the agent.
    pub fn change_record(&self, path: &IscsiPath) {
        let mut state = self.state();
        let of_path = state.sessions.values_mut().filter(|entry| entry.path == *path && entry.is_own());
        of_path.for_each(|entry| entry.record_is_kept = false);
        drop(state);
        self.announce();
    }

    /// Replaces the records by which the initiator logs in by itself.
    pub fn set_automatic_records(&self, records: Vec<AutomaticRecord>) {
        self.state().automatic_records = records;
        self.announce();
    }

    /// Lets the kernel look at the sessions to a portal again: LUNs that are new get disks, and sizes are read. What the
    /// array does not show any more stays.
    pub fn rescan(&self, portal: &str) {
        let mut state = self.state();
        let interfaces = self.interfaces(&state);
        let of_portal = state.sessions.iter().filter(|(_, entry)| *entry.path.portal == *portal);
        let live = of_portal
            .filter(|(_, entry)| self.cut_off(&state, &interfaces, &entry.path, entry.network.as_deref()).is_none());
        let ids: Vec<u32> = live.map(|(id, _)| *id).collect();
        let luns = self.conditions.luns();
        for id in ids {
            state.scan(id, &luns);
        }
        drop(state);
        self.announce();
    }

    /// Lets each map take the size of its disks, if that is one.
    pub fn resize_maps(&self) {
        let mut state = self.state();
        let SimulatedState { sessions, maps, .. } = &mut *state;
        for (name, size) in maps {
            let disks = sessions.values().flat_map(|entry| &entry.disks).filter(|disk| disk.map == *name);
            let sizes: BTreeSet<u64> = disks.map(|disk| disk.size).collect();
            if let (1, Some(only)) = (sizes.len(), sizes.first()) {
                *size = *only;
            }
        }
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

    /// Starts or stops the use of a LUN of a target.
    pub fn use_lun(&self, target: &str, lun: u64, is_used: bool) {
        let (mut state, map) = (self.state(), map_name(target, lun));
        if is_used {
            state.open.insert(map);
        } else {
            state.open.remove(&map);
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
        let luns = self.conditions.luns();
        let mut maps: BTreeMap<Arc<str>, Map> = BTreeMap::new();
        let mut sessions = Vec::with_capacity(state.sessions.len());
        for (id, entry) in &state.sessions {
            let network = entry.network.as_deref();
            let lost = self.cut_off(state, &interfaces, &entry.path, network).is_some();
            let in_use = self.fault(state, &entry.path, network) == Some(FaultKind::InUse);
            let shown = luns.at(&entry.path.target, &entry.path.portal);
            let mut disks = Vec::with_capacity(entry.disks.len());
            for KnownDisk { name, lun, size, map } in &entry.disks {
                if let Some(size) = state.maps.get(map) {
                    let map = maps.entry(map.clone()).or_insert_with(|| state.new_map(map, *size));
                    let active = !lost && shown.iter().any(|(number, _)| number == lun);
                    map.paths.push(MapPath { disk: name.clone(), active });
                }
                let users = || in_use.then(|| DeviceUser::Open("a simulated process".into())).into_iter().collect();
                disks.push(Disk {
                    name: name.clone(),
                    users: with_users_of.contains(id).then(users),
                    lun: *lun,
                    size: *size,
                    wwid: (!state.maps.contains_key(map)).then(|| map.clone()),
                });
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
                record_is_kept: Some(entry.record_is_kept),
                disks,
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
            automatic_records: state.automatic_records.clone(),
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
        let entry = Entry {
            path: login.path.clone(),
            tpgt: login.expected_tpgt,
            record: record.into(),
            network: login.network.clone(),
            credentials: login.credentials.as_ref().map(Credentials::fingerprint),
            live_settings: login.settings.into(),
            record_is_kept: true,
            disks: Vec::new(),
        };
        self.state().connect(entry, &self.conditions.luns());
        self.announce();
        Ok(())
    }

    async fn logout(&self, session: &Session) -> Result<(), PathError> {
        let mut state = self.state();
        let before = self.inventory_of(&state, &BTreeSet::new());
        state.record_harm_of_logout(session, &before);
        state.sessions.remove(&session.id);
        state.drop_maps();
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
                state.maps.remove(&map.name);
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn restore(&self, map: &Map) -> Result<(), PathError> {
        let mut state = self.state();
        let disks = state.sessions.values().flat_map(|entry| &entry.disks).filter(|disk| disk.map == map.name);
        let disks: Vec<KnownDisk> = disks.cloned().collect();
        state.make_maps(&disks);
        Ok(())
    }

    async fn make_maps(&self, session: &Session) -> Result<(), PathError> {
        let mut state = self.state();
        let disks = state.sessions.get(&session.id).map(|entry| entry.disks.clone());
        state.make_maps(&disks.unwrap_or_default());
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

    async fn tidy(&self, keep: &BTreeSet<IscsiPath>) -> Result<(), PathError> {
        let mut state = self.state();
        let kept = state.sessions.values_mut().filter(|entry| keep.contains(&entry.path));
        kept.for_each(|entry| entry.record_is_kept = true);
        Ok(())
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
