//! metav1 conditions: built as values, and merged so that `lastTransitionTime` moves only with `status`.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use super::reason::{ConditionType, Reason};

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known.
    Unknown,
}

impl Status {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Status::True => "True",
            Status::False => "False",
            Status::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Status::True } else { Status::False }
    }
}

/// What a condition should say, before it is known since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which aspect.
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: Status,
    /// Why, as one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Verdict {
    /// A condition with its reason and message.
    pub fn new(
        kind: ConditionType,
        status: impl Into<Status>,
        reason: impl Into<&'static str>,
        message: impl fmt::Display,
    ) -> Self {
        Verdict { kind, status: status.into(), reason: reason.into(), message: limited(message.to_string()) }
    }
}

macro_rules! word_is_a_reason {
    ($($name:ident),+) => {$(
        impl From<super::reason::$name> for &'static str {
            fn from(word: super::reason::$name) -> Self {
                word.as_str()
            }
        }
    )+};
}
word_is_a_reason!(Reason, EmptyReason, PreparedReason, PathReason);

/// The API allows 32768 characters; nobody reads more than a few lines, and an object has room for 1.5 MB only.
const MESSAGE_LIMIT: usize = 2048;

fn limited(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let cut = (0..=MESSAGE_LIMIT - 4).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(cut);
        message.push('…');
    }
    message
}

/// The conditions of an object: `current` with `verdicts` put in. Conditions of other types are kept; a condition
/// whose status stays keeps its `lastTransitionTime`. The order is that of `current`, new ones at the end.
#[must_use]
pub fn merge(current: &[Condition], verdicts: Vec<Verdict>, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let mut merged = current.to_vec();
    for verdict in verdicts {
        let since = |old: Option<&Condition>| match old {
            // What an object is born with has no time of its own.
            Some(old)
                if old.status == verdict.status.as_str() && old.last_transition_time.0 != Timestamp::UNIX_EPOCH =>
            {
                old.last_transition_time.clone()
            }
            _ => whole_second(now),
        };
        let at = merged.iter().position(|condition| condition.type_ == verdict.kind.as_str());
        let condition = Condition {
            type_: verdict.kind.as_str().to_owned(),
            status: verdict.status.as_str().to_owned(),
            reason: verdict.reason.to_owned(),
            last_transition_time: since(at.map(|at| &merged[at])),
            observed_generation: generation,
            message: verdict.message,
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

/// The API's times have whole seconds; what is compared must have them too.
#[must_use]
pub fn whole_second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// The condition with which every object is born: kstatus must not take it for healthy before it was looked at.
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
