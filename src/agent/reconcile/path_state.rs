//! Where one planned path stands: the state machine behind each of a host's reported connections. Pure.
//!
//! A path is Connecting during its first attempt, then Connected or Failed. It stays Failed while it is retried, so
//! that nothing is written when a retry fails as before, and it stays Connected for [`LOST_AFTER`] when its session is
//! lost, because most of what is lost comes back.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff;
use crate::{
    agent::{
        initiator::{PathError, Session},
        path::{IscsiPath, Now},
    },
    api::{Connection, ConnectionState, condition::whole_second, reason::PathReason},
};

/// How long a session may be lost before its path has failed.
pub const LOST_AFTER: Duration = Duration::from_secs(3);
/// A session that lasted this long makes up for the failures before it.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// Where a planned path stands.
#[derive(Clone, Debug)]
pub struct Standing {
    state: State,
    since: Time,
    /// The session that the path has, or had until a moment ago.
    session_id: Option<u32>,
    connected_at: Option<Instant>,
    lost_at: Option<Instant>,
    /// Why the last attempt to bring a lost session back has failed, until the path counts as failed.
    problem: Option<PathError>,
    failures: u32,
    retry_at: Option<Instant>,
    /// The circumstances of the last attempt: when they change, the next one is due at once.
    tried_in: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Connected,
    Failed(PathError),
}

/// What is found of a path.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its session, if there is one.
    pub session: Option<&'a Session>,
    /// What makes an attempt pointless: no device, no address, no credentials.
    pub trouble: Option<&'a PathError>,
    /// When a login that has not ended was begun, and how long it may take.
    pub login: Option<(Instant, Duration)>,
}

impl Standing {
    /// A path that has just been planned.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Standing {
            state: State::Connecting,
            since: whole_second(now.wall),
            session_id: None,
            connected_at: None,
            lost_at: None,
            problem: None,
            failures: 0,
            retry_at: None,
            tried_in: None,
        }
    }

    /// A path that was reported on before the agent was restarted.
    #[must_use]
    pub fn restored(reported: &Connection, now: Now) -> Self {
        let state = match (reported.state, reported.reason) {
            (ConnectionState::Connected, _) => State::Connected,
            (ConnectionState::Failed, Some(reason)) => {
                State::Failed(PathError::new(reason, reported.message.clone().unwrap_or_default()))
            }
            (ConnectionState::Connecting, _) => State::Connecting,
            (ConnectionState::Failed | ConnectionState::Disconnecting | ConnectionState::Retained, _) => {
                return Standing::new(now);
            }
        };
        Standing { state, since: reported.since.clone(), session_id: reported.session_id, ..Standing::new(now) }
    }

    /// Takes in what is found of the path.
    pub fn observe(&mut self, found: Found<'_>, now: Now, seed: u64) {
        let gone = || PathError::new(PathReason::PortalUnreachable, "the session is gone");
        match (found.session, found.login) {
            (Some(session), _) if session.is_live() => self.connected(session, now),
            (_, Some(_)) if self.state == State::Connected => self.lost(gone(), now, seed),
            // A session that does not work yet belongs to the login; only the length of the first is watched, because
            // what has failed keeps its reason until an attempt has ended with another.
            (_, Some((begun, patience))) => {
                if self.is_first_attempt() && now.instant.duration_since(begun) >= patience {
                    let message = format!("the initiator has not ended the login within {} s", patience.as_secs());
                    self.fail(PathError::new(PathReason::Timeout, message), now);
                }
            }
            (Some(_), None) => {
                let lost = "the session is lost; the initiator is trying to get it back";
                let cause = || PathError::new(PathReason::PortalUnreachable, lost);
                self.lost(found.trouble.cloned().unwrap_or_else(cause), now, seed);
            }
            (None, None) => match (&self.state, found.trouble) {
                (State::Connected, trouble) => {
                    let cause = trouble.cloned().or_else(|| self.problem.clone()).unwrap_or_else(gone);
                    self.lost(cause, now, seed);
                }
                (State::Connecting | State::Failed(_), Some(trouble)) => self.fail(trouble.clone(), now),
                (State::Connecting | State::Failed(_), None) => {}
            },
        }
    }

    fn connected(&mut self, session: &Session, now: Now) {
        if self.state != State::Connected {
            self.state = State::Connected;
            self.since = whole_second(now.wall);
        }
        self.session_id = Some(session.id);
        self.connected_at.get_or_insert(now.instant);
        self.lost_at = None;
        self.problem = None;
        self.retry_at = None;
    }

    /// A session that keeps coming and going is not brought back at once each time.
    fn lost(&mut self, cause: PathError, now: Now, seed: u64) {
        if self.lost_at.is_none() {
            let lasted = self.connected_at.take().map(|at| now.instant.duration_since(at));
            if lasted.is_some_and(|lasted| lasted >= STABLE_AFTER) {
                self.failures = 0;
            } else if lasted.is_some() && self.tried_in.is_some() {
                self.failures += 1;
                self.retry_at = Some(now.instant + backoff::pause(cause.reason, self.failures, seed));
            }
        }
        let lost_at = *self.lost_at.get_or_insert(now.instant);
        let over = now.instant.duration_since(lost_at) >= LOST_AFTER;
        match self.state {
            State::Failed(_) => self.fail(cause, now),
            State::Connected | State::Connecting if over => self.fail(cause, now),
            State::Connected | State::Connecting => {}
        }
    }

    /// Another reason is news, but no new failure.
    fn fail(&mut self, cause: PathError, now: Now) {
        match &self.state {
            State::Failed(known) if known.reason == cause.reason => return,
            State::Failed(_) => {}
            State::Connecting | State::Connected => self.since = whole_second(now.wall),
        }
        self.state = State::Failed(cause);
    }

    /// An attempt is being made.
    pub fn attempt(&mut self, circumstances: u64) {
        self.tried_in = Some(circumstances);
    }

    /// An attempt has failed.
    pub fn attempt_failed(&mut self, cause: PathError, now: Now, seed: u64) {
        self.failures += 1;
        self.retry_at = Some(now.instant + backoff::pause(cause.reason, self.failures, seed));
        match self.state {
            // Lost a moment ago: the attempt was to bring it back before anybody notices.
            State::Connected => self.problem = Some(cause),
            State::Connecting | State::Failed(_) => self.fail(cause, now),
        }
    }

    /// The session was logged out to be made anew, which is no loss.
    pub fn renewed(&mut self, now: Now) {
        self.lost_at = Some(now.instant);
        self.connected_at = None;
        self.failures = 0;
        self.retry_at = None;
        self.tried_in = None;
    }

    /// Whether a login is due, provided that there is neither a session nor a login.
    #[must_use]
    pub fn is_due(&self, circumstances: u64, now: Now) -> bool {
        self.tried_in != Some(circumstances) || self.retry_at.is_none_or(|at| at <= now.instant)
    }

    /// When time alone changes something.
    #[must_use]
    pub fn wake_at(&self, found: Found<'_>, now: Now) -> Option<Instant> {
        let pending = !matches!(self.state, State::Failed(_));
        let lost = self.lost_at.filter(|_| pending).map(|at| at + LOST_AFTER);
        let overdue = found.login.filter(|_| self.is_first_attempt()).map(|(begun, patience)| begun + patience);
        let idle = found.session.is_none() && found.login.is_none() && found.trouble.is_none();
        let retry = self.retry_at.filter(|_| idle);
        [lost, overdue, retry].into_iter().flatten().filter(|at| *at > now.instant).min()
    }

    /// Whether the path is in its first attempt.
    #[must_use]
    pub fn is_first_attempt(&self) -> bool {
        self.state == State::Connecting
    }

    /// Whether it has failed, for this reason.
    #[must_use]
    pub fn failure(&self) -> Option<PathReason> {
        match &self.state {
            State::Failed(cause) => Some(cause.reason),
            State::Connecting | State::Connected => None,
        }
    }

    /// The path as it is reported.
    #[must_use]
    pub fn report(&self, path: &IscsiPath, session: Option<&Session>) -> Connection {
        let found = session.map(|session| session.id);
        let (state, cause, session_id) = match &self.state {
            State::Connecting => (ConnectionState::Connecting, None, None),
            // Whoever reads that a path is connected wants to know the session, also while it is being healed.
            State::Connected => (ConnectionState::Connected, None, self.session_id),
            State::Failed(cause) => (ConnectionState::Failed, Some(cause), found),
        };
        Connection {
            target: path.target.clone(),
            portal: path.portal.clone(),
            tpgt: path.tpgt,
            interface: path.interface.clone(),
            state,
            session_id,
            reason: cause.map(|cause| cause.reason),
            message: cause.map(|cause| cause.message.clone()),
            since: self.since.clone(),
            retry_every: cause.map(|cause| backoff::retry_every(cause.reason)),
        }
    }
}
