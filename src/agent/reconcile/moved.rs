//! Lost sessions whose portal has a DNS name that stands for other addresses now. open-iscsi would try to get such a session
//! back at its old address for ever, so it is logged out, and the path is connected at a new one. Pure.

use std::{collections::BTreeMap, time::Duration};

use super::{Action, LogoutReason, Reconciler, input::StepInput, logout};
use crate::agent::{initiator::Session, types::IscsiPath};

/// The pause between two looks at the name of a portal whose session is lost.
const LOOK_UP_EVERY: Duration = Duration::from_secs(30);

/// The last look at the name of a path's portal.
#[derive(Clone, Copy, Debug)]
pub struct LookUp {
    began: Duration,
    /// The session that was lost then.
    session: u32,
    /// None until it has ended.
    has_moved: Option<bool>,
}

impl Reconciler {
    /// Looks at the names of the portals of lost sessions, and logs out those whose name has moved.
    pub(super) fn follow_names(
        &mut self,
        input: StepInput<'_>,
        sessions: &BTreeMap<&IscsiPath, &Session>,
    ) -> Vec<Action> {
        let StepInput { plan, inventory, now, .. } = input;
        let mut actions = Vec::new();
        self.look_ups.retain(|path, _| sessions.get(path).is_some_and(|session| !session.is_live()));
        for path in plan.paths.keys().filter(|path| path.portal.has_name()) {
            let Some(session) = sessions.get(path).filter(|session| session.is_own() && !session.is_live()) else {
                continue;
            };
            if !self.has_failed(path) {
                continue;
            }
            if self.has_moved(session) {
                if !self.is_relogin_paused(now)
                    && self.may_start_logout(inventory, session)
                    && logout::for_relogin(plan, inventory, session, &self.logging_out()).is_some()
                {
                    actions.push(self.log_out(session, LogoutReason::NewAddress));
                }
                continue;
            }
            let is_due =
                |last: &LookUp| last.session != session.id || now.monotonic.saturating_sub(last.began) >= LOOK_UP_EVERY;
            if self.look_ups.get(path).is_none_or(is_due) {
                let look_up = LookUp { began: now.monotonic, session: session.id, has_moved: None };
                self.look_ups.insert(path.clone(), look_up);
                actions.push(Action::LookUp { session: (*session).clone() });
            }
        }
        actions
    }

    /// A look at the name of the portal of a lost session has ended.
    pub fn look_up_ended(&mut self, path: &IscsiPath, session: u32, has_moved: bool) {
        if let Some(look_up) = self.look_ups.get_mut(path).filter(|look_up| look_up.session == session) {
            look_up.has_moved = Some(has_moved);
        }
    }

    /// Whether the name of the session's portal is known to stand for other addresses now.
    pub(super) fn has_moved(&self, session: &Session) -> bool {
        let look_up = self.look_ups.get(&session.path).filter(|look_up| look_up.session == session.id);
        look_up.is_some_and(|look_up| look_up.has_moved == Some(true))
    }
}
