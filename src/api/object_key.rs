//! The name of an object within one kind.

use std::fmt;

use kube::api::ObjectMeta;

use super::{Namespace, ObjectName};

/// Namespace and name of an object. The namespace of a cluster-wide object is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectKey {
    pub namespace: Namespace,
    pub name: ObjectName,
}

impl ObjectKey {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        ObjectKey { namespace: namespace.into(), name: name.into() }
    }

    /// The key of the object with this metadata.
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        ObjectKey::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }

    /// The key of another object of the same namespace.
    pub(crate) fn beside(&self, name: impl Into<ObjectName>) -> Self {
        ObjectKey { namespace: self.namespace.clone(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}
