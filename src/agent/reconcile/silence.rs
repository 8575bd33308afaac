//! Which portals and devices are silent: what logins have found out about paths whose own has not ended. Pure.
//!
//! With many targets behind dead portals it takes minutes to try every path. The paths that wait are reported as failed
//! as soon as those that were tried say enough; they keep their turn, and the first answer takes all of it back.

use std::collections::{BTreeMap, BTreeSet};

use super::path_state::PathState;
use crate::agent::types::IscsiPath;

/// A device on which this many portals have not answered, and none has, counts as dead.
const SILENT_PORTALS: usize = 4;

type Device<'a> = Option<&'a str>;

/// What the logins of the planned paths have found out.
#[derive(Debug, Default)]
pub struct Silence<'a> {
    /// The portals that have not answered, by device.
    silent: BTreeMap<Device<'a>, BTreeSet<&'a str>>,
    /// The portals that have answered, by device.
    answering: BTreeMap<Device<'a>, BTreeSet<&'a str>>,
}

impl<'a> Silence<'a> {
    /// Takes the states of all planned paths.
    #[must_use]
    pub fn of(paths: &'a BTreeMap<IscsiPath, PathState>) -> Self {
        let mut silence = Silence::default();
        for (path, state) in paths {
            let (device, portal) = (path.interface.as_deref(), &*path.portal);
            if state.has_found_somebody() {
                silence.answering.entry(device).or_default().insert(portal);
            } else if state.has_found_nobody() {
                silence.silent.entry(device).or_default().insert(portal);
            }
        }
        silence
    }

    /// Why a path whose first login has not ended will have no answer either, as far as is known.
    #[must_use]
    pub fn around(&self, path: &IscsiPath) -> Option<String> {
        let (device, portal) = (path.interface.as_deref(), &*path.portal);
        let silent = self.silent.get(&device)?;
        let answering = self.answering.get(&device);
        if silent.contains(portal) && !answering.is_some_and(|answering| answering.contains(portal)) {
            return Some("its portal has not answered the login to another target".to_owned());
        }
        let is_dead = silent.len() >= SILENT_PORTALS && answering.is_none();
        is_dead.then(|| format!("none of the {} portals that were tried through its device has answered", silent.len()))
    }
}
