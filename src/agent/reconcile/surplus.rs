//! Sessions of ours that are not planned, until they are gone. Pure.
//!
//! Such a session is Disconnecting while it is expected to go by itself. It is Retained as soon as something keeps it,
//! and stays Retained for as long as it exists: when it is logged out in the end, it just disappears from the report.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::{Discriminant, discriminant},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    backoff,
    flapping::LOST_AFTER,
    logout::{KeepReason, LogoutDecision},
};
use crate::{
    agent::{
        initiator::{Inventory, PathError, Session},
        types::IscsiPath,
    },
    api::{Connection, ConnectionState, Iqn, condition::whole_second, reason::PathReason},
    ops::Now,
};

/// The time for a map in use to include the path that replaces the old one. A new session's disks are found and added
/// to their maps within a second or two.
const MAP_SETTLES_WITHIN: Duration = Duration::from_secs(3);

/// All surplus sessions of the host, by the kernel's session number.
#[derive(Debug, Default)]
pub struct SurplusSessions {
    sessions: BTreeMap<u32, SurplusSession>,
}

impl SurplusSessions {
    /// Updates each session with the decision of the logout rule, and returns those that may be logged out.
    ///
    /// `connecting_targets` have a planned path in its first attempt. `reported` is the last report before the agent
    /// was started, and of paths that have just left the plan; connections that become the start of a session are
    /// removed from it.
    pub fn observe<'a>(
        &mut self,
        decisions: Vec<(&'a Session, LogoutDecision<'a>)>,
        connecting_targets: &BTreeSet<Iqn>,
        reported: &mut BTreeMap<IscsiPath, Connection>,
        now: Now,
    ) -> Vec<&'a Session> {
        let ids: BTreeSet<u32> = decisions.iter().map(|(session, _)| session.id).collect();
        self.sessions.retain(|id, _| ids.contains(id));

        let mut may_go = Vec::new();
        for (session, decision) in decisions {
            let surplus = self.sessions.entry(session.id).or_insert_with(|| match reported.remove(&session.path) {
                Some(reported) => SurplusSession::from_report(&reported, now),
                None => SurplusSession::new(now),
            });
            let kept = match decision {
                LogoutDecision::LogOut { .. } => {
                    may_go.push(session);
                    None
                }
                LogoutDecision::Keep(reason) => Some(reason),
            };
            let target_is_connecting = connecting_targets.contains(&session.path.target);
            surplus.observe(&Observation { session, kept, target_is_connecting }, now);
        }
        may_go
    }

    /// The number of sessions.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// The session is gone.
    pub fn logged_out(&mut self, id: u32) {
        self.sessions.remove(&id);
    }

    /// The logout of the session has failed; it is retried after a pause.
    pub fn logout_failed(&mut self, id: u32, cause: PathError, now: Now, seed: u64) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.logout_failed(cause, now, seed);
        }
    }

    /// Whether the pause after a failed logout is over. The session must be one that may be logged out.
    #[must_use]
    pub fn is_logout_due(&self, id: u32, now: Now) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.retry_at.is_none_or(|at| at <= now.monotonic))
    }

    /// Whether at least one session is expected to go by itself.
    #[must_use]
    pub fn is_any_disconnecting(&self) -> bool {
        self.sessions.values().any(SurplusSession::is_disconnecting)
    }

    /// Whether at least one session is kept because its device is in use.
    #[must_use]
    pub fn is_any_in_use(&self) -> bool {
        self.sessions.values().any(SurplusSession::is_in_use)
    }

    /// The time at which a state may change without another event.
    #[must_use]
    pub fn wake_at(&self, now: Now) -> Option<Duration> {
        self.sessions.values().filter_map(|session| session.wake_at(now)).min()
    }

    /// The sessions as they are reported.
    pub fn report(&self, inventory: &Inventory) -> impl Iterator<Item = Connection> {
        inventory.sessions.iter().filter_map(|session| {
            let surplus = self.sessions.get(&session.id)?;
            Some(surplus.report(session))
        })
    }
}

/// One surplus session.
#[derive(Clone, Debug)]
struct SurplusSession {
    state: ConnectionState,
    since: Time,
    explanation: Option<Explanation>,
    /// Since when a map has waited for its new path.
    waiting_since: Option<Duration>,
    lost_at: Option<Duration>,
    failures: u32,
    retry_at: Option<Duration>,
    /// The error of the last logout, until a logout succeeds.
    logout_error: Option<PathError>,
}

/// Why a session stays, as it is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Explanation {
    reason: Option<PathReason>,
    message: String,
    /// The kind of thing that keeps it; none if only the error of a logout does. The message is replaced when the kind
    /// changes, but not with each name in it.
    kind: Option<Discriminant<KeepReason>>,
}

/// The input of a step about one surplus session.
#[derive(Clone, Debug)]
struct Observation<'a> {
    session: &'a Session,
    /// Why the logout rule keeps it, if it does.
    kept: Option<KeepReason>,
    /// A planned path of its target is in its first attempt.
    target_is_connecting: bool,
}

impl SurplusSession {
    /// A session that has just left the plan.
    fn new(now: Now) -> Self {
        SurplusSession {
            state: ConnectionState::Disconnecting,
            since: whole_second(now.wall),
            explanation: None,
            waiting_since: None,
            lost_at: None,
            failures: 0,
            retry_at: None,
            logout_error: None,
        }
    }

    /// A session that was reported before the agent was restarted, or as that of a planned path.
    fn from_report(reported: &Connection, now: Now) -> Self {
        match reported.state {
            ConnectionState::Retained | ConnectionState::Disconnecting | ConnectionState::Failed => {
                SurplusSession { state: reported.state, since: reported.since.clone(), ..SurplusSession::new(now) }
            }
            ConnectionState::Connecting | ConnectionState::Connected => SurplusSession::new(now),
        }
    }

    fn observe(&mut self, observation: &Observation<'_>, now: Now) {
        let explanation = match (&observation.kept, &self.logout_error) {
            (Some(kept), _) => {
                Some(Explanation { reason: kept.reason(), message: kept.to_string(), kind: Some(discriminant(kept)) })
            }
            (None, Some(error)) => Some(Explanation {
                reason: Some(error.reason),
                message: format!("the logout has failed: {error}"),
                kind: None,
            }),
            (None, None) => None,
        };
        let is_lost = self.is_lost(observation.session, now);
        let (state, explanation) = match explanation {
            _ if is_lost => (ConnectionState::Failed, Some(lost_explanation(explanation.as_ref()))),
            Some(_) if self.goes_soon(observation, now) => (ConnectionState::Disconnecting, None),
            Some(explanation) => (ConnectionState::Retained, Some(explanation)),
            None if self.state == ConnectionState::Retained => return,
            None => (ConnectionState::Disconnecting, None),
        };
        self.set_state(state, explanation, now);
    }

    fn is_lost(&mut self, session: &Session, now: Now) -> bool {
        if session.is_live() {
            self.lost_at = None;
            return false;
        }
        let lost_at = *self.lost_at.get_or_insert(now.monotonic);
        // What was lost before stays so: if it were reported as kept for a moment, the delay of its target would begin anew.
        self.state == ConnectionState::Failed || now.monotonic.saturating_sub(lost_at) >= LOST_AFTER
    }

    /// Whether the session is expected to go when the current logins or logouts have ended. A Retained session stays
    /// Retained.
    fn goes_soon(&mut self, observation: &Observation<'_>, now: Now) -> bool {
        if self.state == ConnectionState::Retained {
            return false;
        }
        match observation.kept {
            Some(KeepReason::NoOtherPath) => observation.target_is_connecting,
            Some(KeepReason::MapInUse { .. }) => {
                observation.target_is_connecting || {
                    let waiting_since = *self.waiting_since.get_or_insert(now.monotonic);
                    now.monotonic.saturating_sub(waiting_since) < MAP_SETTLES_WITHIN
                }
            }
            Some(KeepReason::Held | KeepReason::DiskInUse { .. }) | None => false,
        }
    }

    fn set_state(&mut self, state: ConnectionState, explanation: Option<Explanation>, now: Now) {
        if self.state != state {
            self.since = whole_second(now.wall);
            self.state = state;
            self.explanation = explanation;
            return;
        }
        let identity = |explanation: &Explanation| (explanation.reason, explanation.kind);
        if self.explanation.as_ref().map(identity) != explanation.as_ref().map(identity) {
            self.explanation = explanation;
        }
    }

    fn logout_failed(&mut self, cause: PathError, now: Now, seed: u64) {
        self.failures += 1;
        self.retry_at = Some(now.monotonic + backoff::pause(cause.reason, self.failures, seed));
        self.logout_error = Some(cause);
    }

    fn is_disconnecting(&self) -> bool {
        self.state == ConnectionState::Disconnecting
    }

    fn is_in_use(&self) -> bool {
        self.explanation.as_ref().is_some_and(|explanation| explanation.reason == Some(PathReason::InUse))
    }

    fn wake_at(&self, now: Now) -> Option<Duration> {
        let lost = self.lost_at.filter(|_| self.state != ConnectionState::Failed).map(|at| at + LOST_AFTER);
        let settled = self.waiting_since.filter(|_| self.is_disconnecting()).map(|at| at + MAP_SETTLES_WITHIN);
        [lost, settled, self.retry_at].into_iter().flatten().filter(|at| *at > now.monotonic).min()
    }

    fn report(&self, session: &Session) -> Connection {
        let Session { id, path, tpgt, .. } = session;
        Connection {
            target: path.target.clone(),
            portal: path.portal.clone(),
            tpgt: *tpgt,
            interface: path.interface.clone(),
            state: self.state,
            session_id: Some(*id),
            reason: self.explanation.as_ref().and_then(|explanation| explanation.reason),
            message: self.explanation.as_ref().map(|explanation| explanation.message.clone()),
            since: self.since.clone(),
            retry_every: None,
        }
    }
}

/// The explanation for a lost session, which keeps no I/O alive: it must not look like a working session.
fn lost_explanation(kept: Option<&Explanation>) -> Explanation {
    let kept_too = kept.map(|kept| format!(", and it is {}", kept.message)).unwrap_or_default();
    Explanation {
        reason: Some(PathReason::PortalUnreachable),
        message: format!("the session is not planned, and it is lost{kept_too}"),
        kind: kept.and_then(|kept| kept.kind),
    }
}
