//! The objects of the cluster as last seen, and what changes them. No domain logic: the store does not know what an
//! object means.

pub(crate) mod cache;
pub(crate) mod key;
pub(crate) mod watched;

use crate::api::{DataCenter, Host, IscsiBond, LeasePart, NamespacePart, Network, NodePart};
use watched::{Event, Watched};

/// A step of one of the watches.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    DataCenter(Event<Watched<DataCenter>>),
    Network(Event<Watched<Network>>),
    Host(Event<Watched<Host>>),
    Bond(Event<Watched<IscsiBond>>),
    Node(Event<Watched<NodePart>>),
    Namespace(Event<Watched<NamespacePart>>),
    Lease(Event<Watched<LeasePart>>),
}

/// The object that the API server returned for a write.
#[derive(Debug)]
pub(crate) enum Written {
    DataCenter(Watched<DataCenter>),
    Network(Watched<Network>),
    Host(Watched<Host>),
    Bond(Watched<IscsiBond>),
    Node(Watched<NodePart>),
}
