//! A session that is not planned, on its way out. Pure.
//!
//! It is Disconnecting while it can be expected to go by itself, and Retained from the moment that something keeps it,
//! for as long as it lasts: a Retained session that is let go after all just vanishes from the report.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{backoff, logout::Kept, path_state::LOST_AFTER};
use crate::{
    agent::{
        initiator::{PathError, Session},
        path::{IscsiPath, Now},
    },
    api::{Connection, ConnectionState, condition::whole_second, reason::PathReason},
};

/// How long a map that is in use is given to take up the path that replaces the one that is to go: a new session's disks
/// are found and added to their maps within a second or two.
const MAP_SETTLES_WITHIN: Duration = Duration::from_secs(3);

/// A session that is not planned.
#[derive(Clone, Debug)]
pub struct Leaving {
    state: ConnectionState,
    since: Time,
    why: Option<Why>,
    /// Since when a map has waited for its new path.
    waiting_since: Option<Instant>,
    lost_at: Option<Instant>,
    failures: u32,
    retry_at: Option<Instant>,
    /// The last logout's error, until the next succeeds.
    problem: Option<PathError>,
}

/// What is said of a session that does not go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Why {
    reason: Option<PathReason>,
    message: String,
    /// What kind of thing keeps it: the message is renewed with it, not with each name in it.
    kind: std::mem::Discriminant<Kept>,
}

/// What is found of a session that is not planned.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    /// The session.
    pub session: &'a Session,
    /// Why it stays, if it does.
    pub kept: Option<Kept>,
    /// Whether a planned path of its target is in its first attempt.
    pub target_is_connecting: bool,
}

impl Leaving {
    /// A session that is not planned any more.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Leaving {
            state: ConnectionState::Disconnecting,
            since: whole_second(now.wall),
            why: None,
            waiting_since: None,
            lost_at: None,
            failures: 0,
            retry_at: None,
            problem: None,
        }
    }

    /// A session that was reported on before the agent was restarted.
    #[must_use]
    pub fn restored(reported: &Connection, now: Now) -> Self {
        let kept = matches!(reported.state, ConnectionState::Retained | ConnectionState::Disconnecting);
        let since = if kept { reported.since.clone() } else { whole_second(now.wall) };
        let state = if kept { reported.state } else { ConnectionState::Disconnecting };
        Leaving { state, since, ..Leaving::new(now) }
    }

    /// Takes in what is found of the session.
    pub fn observe(&mut self, judged: &Judged<'_>, now: Now) {
        let kept = match (&judged.kept, &self.problem) {
            (Some(kept), _) => {
                Some(Why { reason: kept.reason(), message: kept.to_string(), kind: std::mem::discriminant(kept) })
            }
            (None, Some(problem)) => Some(Why {
                reason: Some(problem.reason),
                message: format!("the logout has failed: {problem}"),
                kind: std::mem::discriminant(&Kept::NoOtherPath),
            }),
            (None, None) => None,
        };
        let lost = self.is_lost(judged.session, now);
        let (state, why) = match kept {
            _ if lost => (ConnectionState::Failed, Some(lost_and(kept.as_ref()))),
            Some(_) if self.goes_soon(judged, now) => (ConnectionState::Disconnecting, None),
            Some(why) => (ConnectionState::Retained, Some(why)),
            None if self.state == ConnectionState::Retained => return,
            None => (ConnectionState::Disconnecting, None),
        };
        self.become_(state, why, now);
    }

    fn is_lost(&mut self, session: &Session, now: Now) -> bool {
        if session.is_live() {
            self.lost_at = None;
            return false;
        }
        now.instant.duration_since(*self.lost_at.get_or_insert(now.instant)) >= LOST_AFTER
    }

    /// What is Retained stays so, and what will go as soon as something under way has ended is not yet.
    fn goes_soon(&mut self, judged: &Judged<'_>, now: Now) -> bool {
        if self.state == ConnectionState::Retained {
            return false;
        }
        match judged.kept {
            Some(Kept::NoOtherPath) => judged.target_is_connecting,
            Some(Kept::MapInUse { .. }) => {
                judged.target_is_connecting
                    || now.instant.duration_since(*self.waiting_since.get_or_insert(now.instant)) < MAP_SETTLES_WITHIN
            }
            Some(Kept::Held | Kept::DiskInUse { .. }) | None => false,
        }
    }

    fn become_(&mut self, state: ConnectionState, why: Option<Why>, now: Now) {
        let word = |why: &Option<Why>| why.as_ref().and_then(|why| why.reason);
        let kind = |why: &Option<Why>| why.as_ref().map(|why| why.kind);
        if self.state != state {
            self.since = whole_second(now.wall);
            self.state = state;
            self.why = why;
        } else if word(&self.why) != word(&why) || kind(&self.why) != kind(&why) {
            self.why = why;
        }
    }

    /// Whether a logout may be tried now, provided that the session may go.
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        self.retry_at.is_none_or(|at| at <= now.instant)
    }

    /// The logout has failed.
    pub fn logout_failed(&mut self, cause: PathError, now: Now, seed: u64) {
        self.failures += 1;
        self.retry_at = Some(now.instant + backoff::pause(cause.reason, self.failures, seed));
        self.problem = Some(cause);
    }

    /// Whether it can still be expected to go by itself.
    #[must_use]
    pub fn is_disconnecting(&self) -> bool {
        self.state == ConnectionState::Disconnecting
    }

    /// Whether something keeps it that no event may tell the end of.
    #[must_use]
    pub fn is_kept_by_use(&self) -> bool {
        self.why.as_ref().is_some_and(|why| why.reason == Some(PathReason::InUse))
    }

    /// When time alone changes something.
    #[must_use]
    pub fn wake_at(&self, now: Now) -> Option<Instant> {
        let lost = self.lost_at.filter(|_| self.state != ConnectionState::Failed).map(|at| at + LOST_AFTER);
        let settles = self.waiting_since.filter(|_| self.is_disconnecting()).map(|at| at + MAP_SETTLES_WITHIN);
        [lost, settles, self.retry_at].into_iter().flatten().filter(|at| *at > now.instant).min()
    }

    /// The session as it is reported.
    #[must_use]
    pub fn report(&self, path: &IscsiPath, id: u32) -> Connection {
        Connection {
            target: path.target.clone(),
            portal: path.portal.clone(),
            tpgt: path.tpgt,
            interface: path.interface.clone(),
            state: self.state,
            session_id: Some(id),
            reason: self.why.as_ref().and_then(|why| why.reason),
            message: self.why.as_ref().map(|why| why.message.clone()),
            since: self.since.clone(),
            retry_every: None,
        }
    }
}

/// A lost session keeps no I/O alive, so it must not be taken for one that does.
fn lost_and(kept: Option<&Why>) -> Why {
    let kept_too = kept.map(|why| format!(", and it is {}", why.message)).unwrap_or_default();
    Why {
        reason: Some(PathReason::PortalUnreachable),
        message: format!("the session is not planned, and it is lost{kept_too}"),
        kind: kept.map_or(std::mem::discriminant(&Kept::Held), |why| why.kind),
    }
}
