//! Which Host has a node, when several name it.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::api::Host;

/// A Host's rank among those that name its node: the smallest has the node.
///
/// Older before newer, without a creation time last, then by namespace, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence<'a> {
    created: Timestamp,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Precedence<'a> {
    /// The rank of a Host; none for one that is being deleted, which has no claim.
    #[must_use]
    pub fn of(host: &'a Host) -> Option<Self> {
        let metadata = &host.metadata;
        metadata.deletion_timestamp.is_none().then(|| Precedence {
            created: metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0),
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            name: metadata.name.as_deref().unwrap_or_default(),
        })
    }
}

/// The namespace and name of the Host that has each node.
#[must_use]
pub fn claims<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> HashMap<&'a str, (&'a str, &'a str)> {
    let mut first: HashMap<&str, Precedence<'_>> = HashMap::new();
    for host in hosts {
        let Some(rank) = Precedence::of(host) else { continue };
        let winner = first.entry(&host.spec.node_name).or_insert_with(|| rank.clone());
        if rank < *winner {
            *winner = rank;
        }
    }
    first.into_iter().map(|(node, rank)| (node, (rank.namespace, rank.name))).collect()
}
