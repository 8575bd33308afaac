//! Which portal group tag a target answers at a portal. Pure.

use std::collections::BTreeSet;

use super::{Reconciler, input::StepInput};
use crate::{
    agent::{initiator::Session, types::IscsiPath},
    api::{ANY_TPGT, Iqn, Portal},
};

impl Reconciler {
    pub(super) fn remember_tpgts(&mut self, input: StepInput<'_>) {
        let planned: BTreeSet<(&Iqn, &Portal)> =
            input.plan.paths.keys().map(|path| (&path.target, &path.portal)).collect();
        self.answered_tpgts.retain(|(target, portal), _| planned.contains(&(target, portal)));
        for Session { path, tpgt, .. } in &input.inventory.sessions {
            if planned.contains(&(&path.target, &path.portal)) {
                self.answered_tpgts.insert((path.target.clone(), path.portal.clone()), *tpgt);
            }
        }
    }

    /// The portal group tag that the target will probably answer on a path.
    pub(super) fn expected_tpgt(&self, path: &IscsiPath, only: Option<u16>) -> u16 {
        let answered = self.answered_tpgts.get(&(path.target.clone(), path.portal.clone()));
        answered.copied().or(only).unwrap_or(ANY_TPGT)
    }
}
