//! The state machine of one planned path, behind each of a host's reported connections. Pure.
//!
//! A path is Connecting during its first attempt, then Connected or Failed. It stays Failed while it is retried, so
//! that a retry that fails as before changes nothing in the report. It stays Connected for [`LOST_AFTER`] after its
//! session is lost, because most sessions come back.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    backoff,
    flapping::{LOST_AFTER, ShortLosses},
};
use crate::{
    agent::{
        initiator::{PathError, Session},
        types::IscsiPath,
    },
    api::{Connection, ConnectionState, condition::whole_second, reason::PathReason},
    ops::Now,
};

/// A session that lasted this long resets the number of failures.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// A session that is removed within this time after another one of its path was does not count as stable: something
/// logs them out again and again.
const REPEATED_WITHIN: Duration = Duration::from_secs(300);
/// The pause after a session that was removed, while its target has no other session.
const LONELY_PAUSE: Duration = Duration::from_secs(1);

/// The state of a planned path.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is about another event, and all of them may be true")]
pub struct PathState {
    /// The time at which it was planned, or this agent has first seen it.
    planned_at: Duration,
    state: State,
    since: Time,
    /// The session that the path has, or had until a moment ago.
    session_id: Option<u32>,
    connected_at: Option<Duration>,
    lost_at: Option<Duration>,
    /// Why the last attempt to restore a lost session has failed, until the path counts as Failed.
    restore_error: Option<PathError>,
    failures: u32,
    retry_at: Option<Duration>,
    /// When its last session that worked was removed from the kernel.
    removed_at: Option<Duration>,
    /// No login has begun since.
    waits_after_removal: bool,
    /// The fingerprint of the last attempt. When it changes, the next attempt is due at once.
    tried_with: Option<u64>,
    /// It has failed with others that had no answer, before its own first attempt has ended.
    is_untried: bool,
    /// Its session was logged out to log it in again, and that has not begun.
    awaits_relogin: bool,
    /// Its session was lost by itself, and is not back.
    is_lost: bool,
    short_losses: ShortLosses,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Connected,
    Failed(PathError),
}

/// The input of a step about one path.
#[derive(Clone, Copy, Debug)]
pub struct PathObservation<'a> {
    /// Its session, if there is one.
    pub session: Option<&'a Session>,
    /// Why an attempt would be pointless: no device, no address, no credentials.
    pub blocker: Option<&'a PathError>,
    /// Its login, if one has not ended.
    pub login: Option<PendingLogin>,
}

/// A login that has not ended.
#[derive(Clone, Copy, Debug)]
pub struct PendingLogin {
    /// The time of its start.
    pub started: Duration,
    /// The time it may take before the path counts as Failed.
    pub timeout: Duration,
}

impl PendingLogin {
    fn deadline(self) -> Duration {
        self.started + self.timeout
    }
}

impl PathState {
    /// A path that has just been planned.
    #[must_use]
    pub fn new(now: Now) -> Self {
        PathState {
            planned_at: now.monotonic,
            state: State::Connecting,
            since: whole_second(now.wall),
            session_id: None,
            connected_at: None,
            lost_at: None,
            restore_error: None,
            failures: 0,
            retry_at: None,
            removed_at: None,
            waits_after_removal: false,
            tried_with: None,
            is_untried: false,
            awaits_relogin: false,
            is_lost: false,
            short_losses: ShortLosses::default(),
        }
    }

    /// A path that was reported before the agent was restarted.
    #[must_use]
    pub fn from_report(reported: &Connection, now: Now) -> Self {
        let state = match (reported.state, reported.reason) {
            (ConnectionState::Connected, _) => State::Connected,
            (ConnectionState::Failed, Some(reason)) => {
                State::Failed(PathError::new(reason, reported.message.clone().unwrap_or_default()))
            }
            (ConnectionState::Connecting, _) => State::Connecting,
            (ConnectionState::Failed | ConnectionState::Disconnecting | ConnectionState::Retained, _) => {
                return PathState::new(now);
            }
        };
        PathState { state, since: reported.since.clone(), session_id: reported.session_id, ..PathState::new(now) }
    }

    /// Updates the state with the input of a step.
    pub fn observe(&mut self, observation: PathObservation<'_>, now: Now, seed: u64) {
        let PathObservation { session, blocker, login } = observation;
        self.awaits_relogin &= blocker.is_none();
        self.short_losses.forget_if_calm(now);
        match (session, login) {
            (Some(session), _) if session.is_live() => self.connected(session, now),
            (_, Some(_)) if self.state == State::Connected => self.lost(session_gone(), session.is_none(), now, seed),
            // A session that does not work yet belongs to the login. Only the first login has a deadline: a path that
            // has failed keeps its reason until an attempt has ended with another one.
            (_, Some(login)) => {
                if self.is_first_attempt() && now.monotonic >= login.deadline() {
                    let seconds = login.timeout.as_secs();
                    let message = format!("the initiator has not ended the login within {seconds} s");
                    self.fail(PathError::new(PathReason::Timeout, message), now);
                }
            }
            (Some(_), None) => self.lost(blocker.cloned().unwrap_or_else(session_lost), false, now, seed),
            (None, None) => match (&self.state, blocker) {
                (State::Connected, blocker) => {
                    let cause = blocker.cloned().or_else(|| self.restore_error.clone()).unwrap_or_else(session_gone);
                    self.lost(cause, true, now, seed);
                }
                (State::Connecting | State::Failed(_), Some(blocker)) => self.fail(blocker.clone(), now),
                (State::Connecting | State::Failed(_), None) => {}
            },
        }
    }

    fn connected(&mut self, session: &Session, now: Now) {
        if self.state != State::Connected {
            self.state = State::Connected;
            self.since = whole_second(now.wall);
        } else if self.is_lost {
            self.short_losses.add(now);
        }
        self.is_lost = false;
        self.session_id = Some(session.id);
        self.connected_at.get_or_insert(now.monotonic);
        self.lost_at = None;
        self.restore_error = None;
        self.retry_at = None;
        self.is_untried = false;
    }

    /// The first loss of a stable session is retried at once, and the first removal of any session. After a short-lived
    /// session that was lost, and after sessions that are removed again and again, there is a pause.
    fn lost(&mut self, cause: PathError, is_removed: bool, now: Now, seed: u64) {
        if self.lost_at.is_none() {
            self.is_lost = true;
            let lasted = self.connected_at.take().map(|at| now.monotonic.saturating_sub(at));
            let is_recent = |at: Duration| now.monotonic.saturating_sub(at) < REPEATED_WITHIN;
            let is_repeated = self.removed_at.is_some_and(is_recent);
            let was_stable = lasted.is_some_and(|lasted| lasted >= STABLE_AFTER);
            let is_due_at_once = if is_removed { !is_repeated } else { was_stable };
            self.removed_at = is_removed.then_some(now.monotonic).or(self.removed_at);
            self.waits_after_removal = is_removed;
            if is_due_at_once {
                self.failures = 0;
            } else if lasted.is_some() && self.tried_with.is_some() {
                self.failures += 1;
                self.retry_at = Some(now.monotonic + backoff::pause(cause.reason, self.failures, seed));
            }
        }
        let lost_at = *self.lost_at.get_or_insert(now.monotonic);
        let has_failed = now.monotonic.saturating_sub(lost_at) >= LOST_AFTER;
        match self.state {
            State::Failed(_) => self.fail(cause, now),
            State::Connected | State::Connecting if has_failed => self.fail(cause, now),
            State::Connected | State::Connecting => {}
        }
    }

    /// A path that has failed already takes the new reason, and keeps the time since when it has failed.
    fn fail(&mut self, cause: PathError, now: Now) {
        match &self.state {
            State::Failed(known) if known.reason == cause.reason => return,
            State::Failed(_) => {}
            State::Connecting | State::Connected => self.since = whole_second(now.wall),
        }
        self.state = State::Failed(cause);
    }

    /// An attempt is made. `fingerprint` is a hash of everything that may decide its result.
    pub fn attempt_started(&mut self, fingerprint: u64) {
        self.tried_with = Some(fingerprint);
        self.waits_after_removal = false;
        self.is_untried = false;
        self.awaits_relogin = false;
    }

    /// The first attempt has not ended, and others have found out that it would have no answer.
    pub fn fail_untried(&mut self, cause: &str, now: Now) {
        let message = format!("it has no answer yet; {cause}");
        self.fail(PathError::new(PathReason::PortalUnreachable, message), now);
        self.is_untried = true;
    }

    /// An attempt has failed.
    pub fn attempt_failed(&mut self, cause: PathError, now: Now, seed: u64) {
        self.failures += 1;
        self.is_untried = false;
        self.retry_at = Some(now.monotonic + backoff::pause(cause.reason, self.failures, seed));
        match self.state {
            // The session was lost a moment ago; the path is still reported as Connected.
            State::Connected => self.restore_error = Some(cause),
            State::Connecting | State::Failed(_) => self.fail(cause, now),
        }
    }

    /// Its target has no session: if the path waits because its last session was removed, it need not wait long.
    pub fn hasten(&mut self) {
        if let (true, Some(removed_at), Some(retry_at)) =
            (self.waits_after_removal, self.removed_at, &mut self.retry_at)
        {
            *retry_at = (*retry_at).min(removed_at + LONELY_PAUSE);
        }
    }

    /// The session was logged out only to log it in again: that is no failure.
    pub fn logged_out_for_relogin(&mut self, now: Now) {
        self.lost_at = Some(now.monotonic);
        self.connected_at = None;
        self.failures = 0;
        self.retry_at = None;
        self.tried_with = None;
        self.awaits_relogin = true;
    }

    /// Whether its session was logged out to log it in again, and that has not begun.
    #[must_use]
    pub fn awaits_relogin(&self) -> bool {
        self.awaits_relogin
    }

    /// Whether an attempt is due. The path must have neither a session nor a login.
    #[must_use]
    pub fn is_due(&self, fingerprint: u64, now: Now) -> bool {
        self.tried_with != Some(fingerprint) || self.retry_at.is_none_or(|at| at <= now.monotonic)
    }

    /// The time at which the state may change without another event.
    #[must_use]
    pub fn wake_at(&self, observation: PathObservation<'_>, now: Now) -> Option<Duration> {
        let PathObservation { session, blocker, login } = observation;
        let has_failed = matches!(self.state, State::Failed(_));
        let lost = self.lost_at.filter(|_| !has_failed).map(|at| at + LOST_AFTER);
        let overdue = login.filter(|_| self.is_first_attempt()).map(PendingLogin::deadline);
        let idle = session.is_none() && login.is_none() && blocker.is_none();
        let retry = self.retry_at.filter(|_| idle);
        let calm = self.short_losses.calm_at();
        [lost, overdue, retry, calm].into_iter().flatten().filter(|at| *at > now.monotonic).min()
    }

    /// Whether the path is in its first attempt.
    #[must_use]
    pub fn is_first_attempt(&self) -> bool {
        self.state == State::Connecting
    }

    /// Whether its next attempt is one after a failure.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        self.failure().is_some() && !self.is_untried
    }

    /// Whether its attempts have had no answer.
    #[must_use]
    pub fn has_found_nobody(&self) -> bool {
        let is_silence = |reason| matches!(reason, PathReason::PortalUnreachable | PathReason::Timeout);
        self.tried_with.is_some() && !self.is_untried && self.failure().is_some_and(is_silence)
    }

    /// Whether it has had an answer: a session, or a refusal.
    #[must_use]
    pub fn has_found_somebody(&self) -> bool {
        match &self.state {
            State::Connected => true,
            State::Connecting => false,
            State::Failed(cause) => {
                matches!(cause.reason, PathReason::TargetNotFound | PathReason::AuthenticationFailed)
            }
        }
    }

    /// Whether it was in its first attempt before, which may not have begun.
    #[must_use]
    pub fn is_waiting(&self, now: Now) -> bool {
        self.is_first_attempt() && self.planned_at < now.monotonic
    }

    /// The reason for which it has failed, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<PathReason> {
        match &self.state {
            State::Failed(cause) => Some(cause.reason),
            State::Connecting | State::Connected => None,
        }
    }

    /// The path as it is reported, with its portal group tag.
    #[must_use]
    pub fn report(&self, path: &IscsiPath, tpgt: u16, session: Option<&Session>) -> Connection {
        let present = session.map(|session| session.id);
        let (state, cause, session_id) = match &self.state {
            State::Connecting => (ConnectionState::Connecting, None, None),
            // With the number of its last session, also while that is being restored.
            State::Connected => (ConnectionState::Connected, None, self.session_id),
            State::Failed(cause) => (ConnectionState::Failed, Some(cause), present),
        };
        Connection {
            target: path.target.clone(),
            portal: path.portal.clone(),
            tpgt,
            interface: path.interface.clone(),
            state,
            session_id,
            reason: cause.map(|cause| cause.reason),
            message: match &self.state {
                State::Failed(cause) => Some(cause.message.clone()),
                State::Connecting => None,
                State::Connected => self.short_losses.message(),
            },
            since: self.since.clone(),
            retry_every: cause.map(|cause| backoff::retry_every(cause.reason)),
        }
    }
}

fn session_gone() -> PathError {
    PathError::new(PathReason::PortalUnreachable, "the session is gone")
}

fn session_lost() -> PathError {
    PathError::new(PathReason::PortalUnreachable, "the session is lost; the initiator is trying to get it back")
}
