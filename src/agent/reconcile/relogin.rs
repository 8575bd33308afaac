//! Which sessions are logged in again with the new credentials of a Secret. Pure.

use std::collections::BTreeMap;

use super::{
    Action, LogoutReason, Reconciler,
    input::{PathInput, StepInput, credentials},
    logout,
    plan::LoginParams,
};
use crate::{
    agent::{
        initiator::Session,
        types::{
            IscsiPath,
            credentials::{Fingerprint, SecretState},
        },
    },
    api::{SecretName, reason::PathReason},
    ops::Now,
};

impl Reconciler {
    /// Planned sessions with old credentials are logged in again: one at a time for each target, and none whose login would
    /// not even be tried. A session that is lost counts too once its path has failed: the initiator would try to get it back
    /// with the old credentials for ever.
    pub(super) fn relogins(&mut self, input: StepInput<'_>, sessions: &BTreeMap<&IscsiPath, &Session>) -> Vec<Action> {
        let StepInput { plan, inventory, secrets, now, .. } = input;
        let mut actions = Vec::new();
        if self.is_relogin_paused(now) {
            return actions;
        }
        for (path, params) in &plan.paths {
            let Some(session) = sessions.get(path).filter(|session| session.is_own()) else { continue };
            let Some(new) = self.new_credentials(session, params, secrets) else { continue };
            let is_blocked = PathInput::new(path, params, Some(session), None, input).is_blocked();
            if (session.is_live() || self.has_failed(path))
                && !is_blocked
                && self.may_rotate(session, new, sessions)
                && self.may_start_logout(inventory, session)
                && logout::for_relogin(plan, inventory, session, &self.logging_out()).is_some()
            {
                self.relogged_in.insert(path.clone(), new);
                actions.push(self.log_out(session, LogoutReason::NewCredentials));
            }
        }
        actions
    }

    /// The credentials of the Secret, if the session was authenticated with others and a new login may change that. It does
    /// not if the path was logged in again for them already: by this agent, or, as the initiator's store shows, before
    /// its start.
    pub(super) fn new_credentials(
        &self,
        session: &Session,
        params: &LoginParams,
        secrets: &BTreeMap<SecretName, SecretState>,
    ) -> Option<Fingerprint> {
        let wanted = credentials(params, secrets)?.fingerprint();
        // A live session without CHAP works. Once it is lost, a target that asks for CHAP now refuses it for ever.
        let is_old = session.credentials.map_or(!session.is_live(), |found| found != wanted);
        let was_tried =
            self.relogged_in.get(&session.path) == Some(&wanted) || session.stored_credentials == Some(wanted);
        (is_old && !was_tried).then_some(wanted)
    }

    /// Whether no planned session is logged out for now, because the last such logout has failed.
    pub(super) fn is_relogin_paused(&self, now: Now) -> bool {
        self.relogin_after.is_some_and(|after| after > now.monotonic)
    }

    pub(super) fn has_failed(&self, path: &IscsiPath) -> bool {
        self.paths.get(path).is_some_and(|state| state.failure().is_some())
    }

    /// Whether a session may be logged in again with the wanted credentials, as far as the other paths of its target tell.
    ///
    /// No path of the target is being connected or has just lost its session, and the wanted credentials are not known to
    /// be refused. And a live session stays while another path was taken out for the same credentials and has not come
    /// back, for whatever reason: a full disk or a locked database must not take one path after the other.
    fn may_rotate(&self, session: &Session, wanted: Fingerprint, sessions: &BTreeMap<&IscsiPath, &Session>) -> bool {
        let target = &session.path.target;
        let works = sessions
            .values()
            .any(|other| other.path.target == *target && other.is_live() && other.credentials == Some(wanted));
        let mut same_target = self.paths.iter().filter(|(other, _)| other.target == *target);
        same_target.all(|(other, state)| {
            let Some(reason) = state.failure() else {
                return sessions.contains_key(other) && !state.is_first_attempt();
            };
            let is_back = sessions.get(other).is_some_and(|session| session.is_live());
            let taken_out = self.relogged_in.get(other) == Some(&wanted) && !is_back;
            let under_way = self.logins.contains_key(other) || state.awaits_relogin();
            let refused = !works && may_be_refusal(reason, taken_out);
            let costs_another = taken_out && session.is_live();
            !(under_way || refused || costs_another)
        })
    }
}

/// Whether a login may have failed because of its credentials. With mutual CHAP, a target that cannot prove who it is
/// counts as not found; but where the path had no session before, there may be no such target.
fn may_be_refusal(reason: PathReason, had_session: bool) -> bool {
    reason == PathReason::AuthenticationFailed || (had_session && reason == PathReason::TargetNotFound)
}
