//! Invariant 9: nobody but a neighbour logs its sessions out.

use std::collections::{BTreeMap, BTreeSet};

use multibond::agent::{initiator::Inventory, types::IscsiPath};

/// The sessions of the neighbour on each node.
#[derive(Default)]
pub struct Neighbours(BTreeMap<String, BTreeSet<IscsiPath>>);

impl Neighbours {
    /// The neighbour logs in or out.
    pub fn change(&mut self, node: &str, change: impl FnOnce(&mut BTreeSet<IscsiPath>) -> bool) {
        change(self.0.entry(node.to_owned()).or_default());
    }

    pub fn look(&self, node: &str, inventory: &Inventory) -> Result<(), String> {
        let Some(sessions) = self.0.get(node) else { return Ok(()) };
        let exists = |path: &IscsiPath| inventory.sessions.iter().any(|it| it.path == *path && !it.is_own());
        match sessions.iter().find(|path| !exists(path)) {
            Some(path) => Err(format!("9: on {node} a neighbour's session is gone: {path}")),
            None => Ok(()),
        }
    }
}
