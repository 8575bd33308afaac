//! What a simulated host remembers: its sessions with their disks, and its multipath maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    path::PathBuf,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::array::Luns;
use crate::{
    agent::{
        initiator::{AutomaticRecord, DeviceUser, Inventory, LiveSettings, Map, Session, SessionOwner},
        types::{IscsiPath, credentials::Fingerprint},
    },
    api::{InterfaceName, Iqn, NetworkName, ObjectName, Portal, SessionSettings},
};

/// The prefix of the interface records of the agent. The saved sessions name a record, as open-iscsi's do. Here nobody else
/// makes records with it, so every session with such a name is the agent's.
pub(super) const OWN_RECORD_PREFIX: &str = "mb.";

/// The state of a simulated host.
#[derive(Debug, Default)]
pub(super) struct SimulatedState {
    pub(super) next_id: u32,
    pub(super) sessions: BTreeMap<u32, Entry>,
    /// The name of the Host, for faults.
    pub(super) host: Option<ObjectName>,
    /// The interfaces in the Host's spec. The node has them if the facts file does not list the node.
    pub(super) named: BTreeSet<InterfaceName>,
    /// Maps that are open, or will be as soon as they exist.
    pub(super) open: BTreeSet<Arc<str>>,
    /// The size of each map.
    pub(super) maps: BTreeMap<Arc<str>, u64>,
    /// What others have left to the initiator.
    pub(super) automatic_records: Vec<AutomaticRecord>,
    /// The file with the saved sessions.
    pub(super) file: Option<PathBuf>,
    pub(super) harm: Vec<String>,
    pub(super) reads: Reads,
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

/// A session.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) path: IscsiPath,
    pub(super) tpgt: u16,
    pub(super) record: Arc<str>,
    pub(super) network: Option<NetworkName>,
    pub(super) credentials: Option<Fingerprint>,
    pub(super) live_settings: LiveSettings,
    pub(super) record_is_kept: bool,
    pub(super) disks: Vec<KnownDisk>,
}

/// A disk as the kernel has seen it last.
#[derive(Debug, Clone)]
pub(super) struct KnownDisk {
    pub(super) name: Arc<str>,
    pub(super) lun: u64,
    pub(super) size: u64,
    /// The name of its map, which is its WWID.
    pub(super) map: Arc<str>,
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

impl SimulatedState {
    /// Adds a session, unless there is one on its path with its record.
    pub(super) fn connect(&mut self, new: Entry, luns: &Luns) {
        if self.sessions.values().any(|entry| entry.path == new.path && entry.record == new.record) {
            return;
        }
        self.sessions.insert(self.next_id, new);
        self.scan(self.next_id, luns);
        self.next_id += 1;
        self.save();
    }

    /// The kernel looks at a session: each LUN that it shows has a disk from now on, and sizes are read. Disks of LUNs that it
    /// does not show any more stay.
    pub(super) fn scan(&mut self, id: u32, luns: &Luns) {
        let Some(Entry { path, disks, .. }) = self.sessions.get_mut(&id) else { return };
        let mut new = Vec::new();
        for (lun, size) in luns.at(&path.target, &path.portal) {
            if let Some(known) = disks.iter_mut().find(|known| known.lun == lun) {
                known.size = size;
                continue;
            }
            let name = if lun == 0 { format!("sd{id}") } else { format!("sd{id}-{lun}") };
            new.push(KnownDisk { name: name.into(), lun, size, map: map_name(&path.target, lun) });
        }
        disks.extend(new.iter().cloned());
        self.make_maps(&new);
    }

    /// Each of these disks has a map from now on.
    pub(super) fn make_maps(&mut self, disks: &[KnownDisk]) {
        for disk in disks {
            self.maps.entry(disk.map.clone()).or_insert(disk.size);
        }
    }

    /// Maps go with their last disk, but not while they are open.
    pub(super) fn drop_maps(&mut self) {
        let disks = self.sessions.values().flat_map(|entry| &entry.disks);
        let with_disk: BTreeSet<&Arc<str>> = disks.map(|disk| &disk.map).collect();
        self.maps.retain(|name, _| with_disk.contains(name) || self.open.contains(name));
    }

    pub(super) fn new_map(&self, name: &Arc<str>, size: u64) -> Map {
        let is_open = self.open.contains(name);
        Map {
            wwid: name.to_string(),
            name: name.clone(),
            open_count: u32::from(is_open),
            users: if is_open { vec![DeviceUser::Holder("a simulated volume".into())] } else { Vec::new() },
            paths: Vec::new(),
            size,
            is_known: true,
        }
    }

    pub(super) fn record_harm_of_logout(&mut self, session: &Session, before: &Inventory) {
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
    pub(super) fn save(&self) {
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

    /// Reads the saved sessions.
    pub(super) fn load(&mut self, luns: &Luns) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let saved: Vec<Saved> = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for Saved { id, target, portal, tpgt, interface, record, network } in saved {
            let path = IscsiPath { target, portal, interface };
            let live_settings = SessionSettings::default().into();
            let (credentials, record_is_kept, disks) = (None, true, Vec::new());
            let entry = Entry { path, tpgt, record, network, credentials, live_settings, record_is_kept, disks };
            self.sessions.insert(id, entry);
            self.scan(id, luns);
            self.next_id = self.next_id.max(id + 1);
        }
        Ok(())
    }
}

impl Saved {
    fn new(id: u32, entry: &Entry) -> Self {
        let Entry { path, tpgt, record, network, .. } = entry;
        let IscsiPath { target, portal, interface } = path.clone();
        let tpgt = *tpgt;
        Saved { id, target, portal, tpgt, interface, record: record.clone(), network: network.clone() }
    }
}

impl Entry {
    pub(super) fn is_own(&self) -> bool {
        self.record.starts_with(OWN_RECORD_PREFIX)
    }

    pub(super) fn owner(&self) -> SessionOwner {
        if self.is_own() { SessionOwner::Agent } else { SessionOwner::Other(self.record.clone()) }
    }
}

/// Every host sees the same LUNs behind a target.
pub(super) fn map_name(target: &str, lun: u64) -> Arc<str> {
    format!("3600{:029x}", BuildHasherDefault::<DefaultHasher>::default().hash_one((target, lun))).into()
}
