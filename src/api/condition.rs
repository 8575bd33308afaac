//! metav1 conditions: built as values, and merged so that `lastTransitionTime` moves only with `status`.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use super::{
    closed_set::closed_set,
    reason::{ConditionType, Reason},
};

closed_set! {
    /// A condition's status.
    Status {
        /// It holds.
        True,
        /// It does not hold.
        False,
        /// It is not known.
        Unknown,
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Status::True } else { Status::False }
    }
}

/// A condition without a time. [`merge`] sets `lastTransitionTime`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionUpdate {
    /// The condition's type.
    pub kind: ConditionType,
    /// The status: `True`, `False` or `Unknown`.
    pub status: Status,
    /// The reason, from a closed set.
    pub reason: &'static str,
    /// The reason as a sentence; at most 2048 bytes.
    pub message: String,
}

impl ConditionUpdate {
    /// A condition with its reason and message.
    pub fn new(
        kind: ConditionType,
        status: impl Into<Status>,
        reason: impl Into<&'static str>,
        message: impl fmt::Display,
    ) -> Self {
        ConditionUpdate { kind, status: status.into(), reason: reason.into(), message: limited(message.to_string()) }
    }
}

/// The API allows 32768 characters. People read a few lines, and an object has room for 1.5 MB only.
pub(super) const MESSAGE_LIMIT: usize = 2048;

fn limited(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let cut = (0..=MESSAGE_LIMIT - 4).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(cut);
        message.push('…');
    }
    message
}

/// The conditions of an object: `current` with `updates` applied. Conditions of other types are kept. A condition whose
/// status stays the same keeps its `lastTransitionTime`. The order of `current` stays, and new conditions come last.
#[must_use]
pub fn merge(
    current: &[Condition],
    updates: Vec<ConditionUpdate>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut merged = current.to_vec();
    for update in updates {
        let since = |old: Option<&Condition>| match old {
            // The condition from the CRD's default has the epoch as its time, which has no meaning.
            Some(old)
                if old.status == update.status.as_str() && old.last_transition_time.0 != Timestamp::UNIX_EPOCH =>
            {
                old.last_transition_time.clone()
            }
            _ => whole_second(now),
        };
        let at = merged.iter().position(|condition| condition.type_ == update.kind.as_str());
        let condition = Condition {
            type_: update.kind.as_str().to_owned(),
            status: update.status.as_str().to_owned(),
            reason: update.reason.to_owned(),
            last_transition_time: since(at.map(|at| &merged[at])),
            observed_generation: generation,
            message: update.message,
        };
        match at {
            Some(at) => merged[at] = condition,
            None => merged.push(condition),
        }
    }
    merged
}

/// `current` without the condition of this type.
#[must_use]
pub fn without(current: &[Condition], kind: ConditionType) -> Vec<Condition> {
    current.iter().filter(|condition| condition.type_ != kind.as_str()).cloned().collect()
}

/// The condition of this type.
#[must_use]
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// The condition that says why a host is Degraded: that of its paths, unless none has failed and a LUN has a problem.
#[must_use]
pub fn why_degraded(conditions: &[Condition]) -> ConditionType {
    let failed =
        find(conditions, ConditionType::FullyConnected).is_some_and(|it| it.reason == Reason::PathsFailed.as_str());
    let luns = find(conditions, ConditionType::LunsHealthy).is_some_and(|it| it.status == Status::False.as_str());
    if luns && !failed { ConditionType::LunsHealthy } else { ConditionType::FullyConnected }
}

/// Times of the API have whole seconds. Times that are compared with them must have whole seconds too.
#[must_use]
pub fn whole_second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// The condition that the CRD's default gives every new object: kstatus must not report an object as healthy before the
/// controller has seen it.
#[must_use]
pub fn pending() -> Value {
    json!({
        "type": ConditionType::Ready.as_str(),
        "status": Status::Unknown.as_str(),
        "reason": Reason::Pending.as_str(),
        "message": "Waiting for the controller",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    })
}
