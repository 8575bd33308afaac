//! The LUNs of the simulated array.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Iqn, Portal};

/// The size of a LUN that nobody has set, in bytes.
const SIZE: u64 = 10 << 30;

/// The LUNs of each target, by their numbers. A target that is not listed has one, with the number 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Luns(pub BTreeMap<Iqn, BTreeMap<u64, Lun>>);

/// A LUN of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lun {
    /// Its size in bytes.
    pub size: u64,
    /// The portals that do not show it.
    pub hidden_at: BTreeSet<Portal>,
}

impl Default for Lun {
    fn default() -> Self {
        Lun { size: SIZE, hidden_at: BTreeSet::new() }
    }
}

impl Luns {
    /// The LUNs that a target shows at a portal: number and size.
    pub(super) fn at(&self, target: &Iqn, portal: &Portal) -> Vec<(u64, u64)> {
        match self.0.get(target) {
            None => vec![(0, SIZE)],
            Some(luns) => {
                let shown = luns.iter().filter(|(_, lun)| !lun.hidden_at.contains(portal));
                shown.map(|(number, lun)| (*number, lun.size)).collect()
            }
        }
    }
}
