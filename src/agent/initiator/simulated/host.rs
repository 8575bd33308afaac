//! The initiator of one simulated host.
//!
//! Whether a session works is not stored: it follows from the faults and the facts of the moment, as on a real host it
//! follows from cables and portals.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

use super::{FaultKind, Simulation, Subject};
use crate::{
    agent::{
        credentials::{Credentials, Fingerprint},
        initiator::{
            DeviceUser, Disk, Facts, Initiator, InterfaceFilter, Inventory, Login, Map, MapPath, OWN_RECORD_PREFIX,
            PathError, Session, SessionState,
        },
        path::IscsiPath,
    },
    api::{HostInterface, SessionSettings, reason::PathReason},
    ops::backoff,
};

/// A simulated host: an [`Initiator`] whose sessions are entries in a table.
#[derive(Debug)]
pub struct SimulatedHost {
    node: Arc<str>,
    simulation: Arc<Simulation>,
    world: Mutex<World>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct World {
    next_id: u32,
    sessions: BTreeMap<u32, Entry>,
    /// The name of the Host, for faults.
    host: Option<Arc<str>>,
    /// What the Host says that the node has, where the facts file says nothing.
    named: BTreeSet<Arc<str>>,
    /// Targets whose disk is open, and therefore its map.
    open: BTreeSet<Arc<str>>,
    /// Targets whose map was removed.
    flushed: BTreeSet<Arc<str>>,
    /// Where the sessions survive the process.
    file: Option<PathBuf>,
    harm: Vec<String>,
}

#[derive(Debug, Clone)]
struct Entry {
    path: IscsiPath,
    record: Arc<str>,
    network: Option<Arc<str>>,
    credentials: Option<Fingerprint>,
    replacement_timeout: u16,
}

/// A session in the file that survives the process.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Saved {
    id: u32,
    target: Arc<str>,
    portal: Arc<str>,
    tpgt: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<Arc<str>>,
    record: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<Arc<str>>,
}

impl SimulatedHost {
    /// The host of a node, with the sessions that `file` remembers.
    pub(super) fn new(node: Arc<str>, simulation: Arc<Simulation>, file: Option<PathBuf>) -> std::io::Result<Self> {
        let mut world = World { next_id: 1, file, ..World::default() };
        world.load()?;
        Ok(SimulatedHost { node, simulation, world: Mutex::new(world), changes: watch::Sender::new(()) })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something outside may have changed: faults, facts, a cable.
    pub fn announce(&self) {
        self.changes.send_replace(());
    }

    /// Whether the host holds a session.
    #[must_use]
    pub fn has_sessions(&self) -> bool {
        !self.world().sessions.is_empty()
    }

    /// A session that somebody else has made, through a record of theirs.
    pub fn connect_foreign(&self, path: IscsiPath, record: &str) {
        self.world().connect(path, record.into(), None, None, SessionSettings::default());
        self.announce();
    }

    /// Our session on a path vanishes behind the agent's back.
    pub fn kill(&self, path: &IscsiPath) {
        let mut world = self.world();
        world.sessions.retain(|_, entry| entry.path != *path || !is_own(&entry.record));
        world.save();
        drop(world);
        self.announce();
    }

    /// The paths of our sessions, and those of foreign ones.
    #[must_use]
    pub fn paths(&self) -> (BTreeSet<IscsiPath>, BTreeSet<IscsiPath>) {
        let world = self.world();
        let (own, foreign): (Vec<_>, Vec<_>) = world.sessions.values().partition(|entry| is_own(&entry.record));
        let paths = |entries: Vec<&Entry>| entries.into_iter().map(|entry| entry.path.clone()).collect();
        (paths(own), paths(foreign))
    }

    /// Something begins, or ceases, to use the disk of a target.
    pub fn use_disk(&self, target: &str, is_used: bool) {
        let mut world = self.world();
        if is_used {
            world.open.insert(target.into());
        } else {
            world.open.remove(target);
        }
    }

    /// What was done that must not be done: a device in use lost its last good path, a foreign session was touched, a
    /// map lost its last path without being removed before.
    #[must_use]
    pub fn harm(&self) -> Vec<String> {
        self.world().harm.clone()
    }

    fn interfaces(&self, world: &World) -> Vec<HostInterface> {
        let mut interfaces = match self.simulation.facts_of(&self.node) {
            Some(interfaces) => interfaces,
            None => made_up(&self.node, &world.named),
        };
        let (faults, elapsed) = self.simulation.faults();
        interfaces.retain(|interface| !faults.hide(world.host.as_deref(), &self.node, &interface.name, elapsed));
        interfaces
    }

    fn fault(&self, world: &World, path: &IscsiPath, network: Option<&str>) -> Option<FaultKind> {
        let (faults, elapsed) = self.simulation.faults();
        faults.of(Subject { host: world.host.as_deref(), node: &self.node, path, network }, elapsed)
    }

    /// Why nothing can go over the path, whoever wants to.
    fn cut_off(
        &self,
        world: &World,
        interfaces: &[HostInterface],
        path: &IscsiPath,
        network: Option<&str>,
    ) -> Option<PathError> {
        if let Some(name) = &path.interface {
            let error = |reason, what: &str| Some(PathError::new(reason, format!("the network device {name} {what}")));
            match interfaces.iter().find(|interface| interface.name == *name) {
                None => return error(PathReason::InterfaceNotFound, "does not exist"),
                Some(interface) if interface.addresses.is_empty() => {
                    return error(PathReason::NoAddress, "has no address");
                }
                Some(interface) if !interface.up => return error(PathReason::PortalUnreachable, "has no link"),
                Some(_) => {}
            }
        }
        match self.fault(world, path, network)? {
            FaultKind::Unreachable => {
                Some(PathError::new(PathReason::PortalUnreachable, "no route to the portal (simulated)"))
            }
            FaultKind::Dropped => {
                Some(PathError::new(PathReason::PortalUnreachable, "the connection breaks off (simulated)"))
            }
            FaultKind::InterfaceNotFound => {
                Some(PathError::new(PathReason::InterfaceNotFound, "the network device does not exist (simulated)"))
            }
            FaultKind::Timeout | FaultKind::AuthenticationFailed | FaultKind::TargetNotFound | FaultKind::InUse => None,
        }
    }

    fn inventory_of(&self, world: &World, in_question: &BTreeSet<u32>) -> Inventory {
        let interfaces = self.interfaces(world);
        let mut maps: BTreeMap<Arc<str>, Map> = BTreeMap::new();
        let mut sessions = Vec::with_capacity(world.sessions.len());
        for (id, entry) in &world.sessions {
            let network = entry.network.as_deref();
            let lost = self.cut_off(world, &interfaces, &entry.path, network).is_some();
            let in_use = self.fault(world, &entry.path, network) == Some(FaultKind::InUse);
            let disk: Arc<str> = format!("sd{id}").into();
            let target = &entry.path.target;
            if !world.flushed.contains(target) {
                let map = maps.entry(target.clone()).or_insert_with(|| new_map(&self.node, target, world));
                map.paths.push(MapPath { disk: disk.clone(), active: !lost });
            }
            sessions.push(Session {
                id: *id,
                path: entry.path.clone(),
                record: entry.record.clone(),
                state: if lost { SessionState::Failed } else { SessionState::LoggedIn },
                credentials: entry.credentials,
                replacement_timeout: Some(entry.replacement_timeout),
                disks: vec![Disk {
                    name: disk,
                    users: in_question
                        .contains(id)
                        .then(|| in_use.then(|| DeviceUser::Open("a simulated process".into())).into_iter().collect()),
                }],
            });
        }
        Inventory { sessions, maps: maps.into_values().collect() }
    }

    fn refusal(&self, login: &Login) -> Option<PathError> {
        let world = self.world();
        let network = login.network.as_deref();
        let cut_off = self.cut_off(&world, &self.interfaces(&world), &login.path, network);
        cut_off.or_else(|| match self.fault(&world, &login.path, network)? {
            FaultKind::AuthenticationFailed => {
                Some(PathError::new(PathReason::AuthenticationFailed, "the target refuses the credentials (simulated)"))
            }
            FaultKind::TargetNotFound => {
                Some(PathError::new(PathReason::TargetNotFound, "the portal does not know the target (simulated)"))
            }
            FaultKind::Timeout => Some(PathError::new(PathReason::Timeout, "the login took too long (simulated)")),
            FaultKind::Unreachable | FaultKind::Dropped | FaultKind::InUse | FaultKind::InterfaceNotFound => None,
        })
    }
}

impl Initiator for SimulatedHost {
    async fn facts(&self, named: &InterfaceFilter) -> Result<Facts, PathError> {
        let mut world = self.world();
        // A node's devices do not vanish with the object that names them.
        if named.host.is_some() {
            world.host.clone_from(&named.host);
            world.named.clone_from(&named.in_spec);
        }
        Ok(Facts {
            interfaces: self.interfaces(&world),
            initiator_name: Some(format!("iqn.2014-01.dev.multibond.simulated:{}", self.node)),
            initiator: Some("simulated".into()),
            warnings: Vec::new(),
        })
    }

    async fn inventory(&self, in_question: &BTreeSet<u32>) -> Result<Inventory, PathError> {
        Ok(self.inventory_of(&self.world(), in_question))
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    async fn login(&self, login: &Login) -> Result<(), PathError> {
        sleep(self.simulation.faults().0.latency).await;
        let refusal = self.refusal(login);
        if refusal.as_ref().is_some_and(|refusal| refusal.reason == PathReason::Timeout) {
            sleep(Duration::from_secs(login.settings.login_timeout_seconds.into())).await;
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let record = format!("{OWN_RECORD_PREFIX}{}", login.path.interface.as_deref().unwrap_or("default"));
        let credentials = login.credentials.as_ref().map(Credentials::fingerprint);
        self.world().connect(login.path.clone(), record.into(), login.network.clone(), credentials, login.settings);
        self.announce();
        Ok(())
    }

    async fn logout(&self, session: &Session) -> Result<(), PathError> {
        let mut world = self.world();
        let before = self.inventory_of(&world, &BTreeSet::new());
        world.note_harm_of_logout(session, &before);
        world.sessions.remove(&session.id);
        world.save();
        drop(world);
        self.announce();
        Ok(())
    }

    async fn flush(&self, map: &Map) -> Result<(), PathError> {
        let mut world = self.world();
        let found = self.inventory_of(&world, &BTreeSet::new()).maps.into_iter().find(|found| found.name == map.name);
        match found {
            Some(found) if found.open_count > 0 => {
                Err(PathError::new(PathReason::InUse, "the map is in use (simulated)"))
            }
            Some(_) => {
                let target = world.open_target_of(&map.name, &self.node);
                world.flushed.extend(target);
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn adjust(&self, session: &Session, settings: SessionSettings) -> Result<(), PathError> {
        if let Some(entry) = self.world().sessions.get_mut(&session.id) {
            entry.replacement_timeout = settings.replacement_timeout_seconds;
        }
        Ok(())
    }

    async fn tidy(&self, _keep: &BTreeSet<IscsiPath>) -> Result<(), PathError> {
        Ok(())
    }
}

impl World {
    fn connect(
        &mut self,
        path: IscsiPath,
        record: Arc<str>,
        network: Option<Arc<str>>,
        credentials: Option<Fingerprint>,
        settings: SessionSettings,
    ) {
        if self.sessions.values().any(|entry| entry.path == path && entry.record == record) {
            return;
        }
        self.flushed.remove(&path.target);
        let replacement_timeout = settings.replacement_timeout_seconds;
        self.sessions.insert(self.next_id, Entry { path, record, network, credentials, replacement_timeout });
        self.next_id += 1;
        self.save();
    }

    fn open_target_of(&self, map: &str, node: &str) -> Option<Arc<str>> {
        self.sessions.values().map(|entry| &entry.path.target).find(|target| *map_name(node, target) == *map).cloned()
    }

    fn note_harm_of_logout(&mut self, session: &Session, before: &Inventory) {
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

    /// Written and renamed, so that a process that is killed leaves the old file or the new one.
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
            let path = IscsiPath { target, portal, tpgt, interface };
            let replacement_timeout = SessionSettings::default().replacement_timeout_seconds;
            self.sessions.insert(id, Entry { path, record, network, credentials: None, replacement_timeout });
            self.next_id = self.next_id.max(id + 1);
        }
        Ok(())
    }
}

impl Saved {
    fn new(id: u32, entry: &Entry) -> Self {
        let Entry { path, record, network, credentials: _, replacement_timeout: _ } = entry;
        let IscsiPath { target, portal, tpgt, interface } = path.clone();
        Saved { id, target, portal, tpgt, interface, record: record.clone(), network: network.clone() }
    }
}

fn is_own(record: &str) -> bool {
    record.starts_with(OWN_RECORD_PREFIX)
}

fn map_name(node: &str, target: &str) -> String {
    let drawn = backoff::fraction(Duration::from_secs(u32::MAX.into()), (node, target)).as_nanos();
    format!("3600{drawn:028x}")
}

fn new_map(node: &str, target: &Arc<str>, world: &World) -> Map {
    let name = map_name(node, target);
    let is_open = world.open.contains(target);
    Map {
        wwid: name.clone(),
        name: name.into(),
        open_count: u32::from(is_open),
        users: if is_open { vec![DeviceUser::Holder("a simulated volume".into())] } else { Vec::new() },
        paths: Vec::new(),
    }
}

/// What a host has of which nothing is known but the names of its devices: each up, with an address of its own that is
/// in nobody's subnet (240.0.0.0/4 is reserved, RFC 1112 section 4).
fn made_up(node: &str, names: &BTreeSet<Arc<str>>) -> Vec<HostInterface> {
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
        })
        .collect()
}
