//! The rule for the Host that owns a node if several Hosts name it. Controller and agent use the same rule.

use std::collections::HashMap;

use jiff::Timestamp;

use super::Host;

/// A Host's rank among the Hosts that name its node: the smallest owns the node.
///
/// Older comes before newer, a Host without a creation time last; then by namespace, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnerRank<'a> {
    created: Timestamp,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> OwnerRank<'a> {
    /// The rank of a Host; none for a Host that is being deleted, which cannot own a node.
    #[must_use]
    pub fn of(host: &'a Host) -> Option<Self> {
        let metadata = &host.metadata;
        metadata.deletion_timestamp.is_none().then(|| OwnerRank {
            created: metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0),
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            name: metadata.name.as_deref().unwrap_or_default(),
        })
    }
}

/// For each node that a Host names, namespace and name of the Host that owns it.
#[must_use]
pub fn owners_of_nodes<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> HashMap<&'a str, (&'a str, &'a str)> {
    let mut owners: HashMap<&str, OwnerRank<'_>> = HashMap::new();
    for host in hosts {
        let Some(rank) = OwnerRank::of(host) else { continue };
        let owner = owners.entry(&host.spec.node_name).or_insert_with(|| rank.clone());
        if rank < *owner {
            *owner = rank;
        }
    }
    owners.into_iter().map(|(node, rank)| (node, (rank.namespace, rank.name))).collect()
}
