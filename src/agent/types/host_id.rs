//! Which Host object is meant.

use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use crate::api::Host;

/// The identity of a Host object. A Host that was deleted and created again has another uid.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The uid; empty for an object that was never in an API server.
    pub uid: String,
}

impl From<&Host> for HostId {
    fn from(host: &Host) -> Self {
        HostId {
            namespace: host.namespace().unwrap_or_default(),
            name: host.name_any(),
            uid: host.uid().unwrap_or_default(),
        }
    }
}
