//! The key of a reconcile: an object of one of our kinds, or a Node.

use std::fmt;

use crate::api::{NodeName, ObjectKey, ObjectKind};

/// An object that the controller reconciles.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    /// One of our kinds.
    Object(ObjectKind, ObjectKey),
    /// A Node, for its condition and taint.
    Node(NodeName),
}

impl Key {
    /// The kind, for metrics and logs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Key::Object(kind, _) => kind.as_str(),
            Key::Node(_) => "Node",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Object(kind, key) => write!(f, "{kind} {key}"),
            Key::Node(name) => write!(f, "Node {name}"),
        }
    }
}
