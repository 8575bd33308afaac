//! What others on the host do to the planned targets, and what follows from it. Pure.

use std::collections::BTreeSet;

use super::{Reconciler, TIDY_PAUSE, foreign, input::StepInput, interference::Interfered};
use crate::{agent::initiator::Inventory, api::HostWarning};

impl Reconciler {
    /// What others have changed since the last step. A record that they have changed is put right, but not in a fight.
    pub(super) fn observe_interference(&mut self, input: StepInput<'_>) -> Vec<Interfered> {
        let StepInput { plan, inventory, now, .. } = input;
        let going = self
            .logouts
            .values()
            .chain(self.paths.iter().filter(|(_, state)| state.awaits_relogin()).map(|(path, _)| path));
        let going = going.cloned().collect();
        let failed = self.ended_logins.iter().filter(|(_, result)| result.is_err());
        let refused = failed.map(|(path, _)| path.clone()).collect();
        let interfered = self.interference.observe(plan, inventory, &going, &refused, now);
        if interfered.contains(&Interfered::Record) {
            let not_before = self.tidied_at.map_or(now.monotonic, |at| at + TIDY_PAUSE).max(now.monotonic);
            self.tidy_at.get_or_insert(not_before);
        }
        interfered
    }

    /// After sessions that others have logged out, a path waits longer each time, so that two tools do not fight. But not
    /// while nothing else keeps its target.
    pub(super) fn hasten_lonely_targets(&mut self, inventory: &Inventory) {
        let live = inventory.sessions.iter().filter(|session| session.is_live());
        let kept: BTreeSet<&str> = live.map(|session| &*session.path.target).collect();
        for (path, state) in &mut self.paths {
            if !kept.contains(&*path.target) {
                state.hasten();
            }
        }
    }

    pub(super) fn warnings(&self, input: StepInput<'_>) -> Vec<HostWarning> {
        let StepInput { plan, inventory, facts, .. } = input;
        let mut warnings = foreign::warnings(plan, inventory, facts);
        warnings.extend(self.interference.warning());
        warnings
    }
}
