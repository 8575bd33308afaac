//! Names of objects, as queues and indices use them.

use std::{fmt, sync::Arc};

use crate::planner::Kind;

/// Namespace and name of an object; the namespace is empty for what has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectKey {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        ObjectKey { namespace: namespace.into(), name: name.into() }
    }

    /// An object of the same namespace.
    pub(crate) fn beside(&self, name: impl Into<Arc<str>>) -> Self {
        ObjectKey { namespace: self.namespace.clone(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// An object that the controller looks after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    /// One of our kinds.
    Object(Kind, ObjectKey),
    /// A Node, for its condition and taint.
    Node(Arc<str>),
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
