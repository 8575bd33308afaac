//! The choice of the Host that the agent of a node serves, among the Hosts that name the node. Pure.

use std::sync::Arc;

use crate::api::{Host, node_owner::OwnerRank};

/// The Host that owns the node by the controller's rule. If none does, because all that name the node are being deleted,
/// the first of them by namespace and name: its sessions have to be logged out.
#[must_use]
pub fn served_host(hosts: &[Arc<Host>]) -> Option<&Arc<Host>> {
    let candidates = hosts.iter().filter_map(|host| Some((OwnerRank::of(host)?, host)));
    let owner = candidates.min_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, host)| host);
    owner.or_else(|| hosts.iter().min_by_key(|host| (&host.metadata.namespace, &host.metadata.name)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::HostSpec;

    fn host(namespace: &str, name: &str, created: Option<i64>, deleted: bool) -> Arc<Host> {
        let time = |second| Time(Timestamp::from_second(second).unwrap());
        let mut host = Host::new(name, HostSpec::default());
        host.metadata.namespace = Some(namespace.into());
        host.metadata.creation_timestamp = created.map(time);
        host.metadata.deletion_timestamp = deleted.then(|| time(9));
        Arc::new(host)
    }

    #[test]
    fn a28_the_oldest_host_is_served_and_a_deleted_one_only_if_all_are() {
        let cases = [
            (vec![], None),
            (vec![host("b", "old", Some(1), false), host("a", "new", Some(2), false)], Some("old")),
            (vec![host("a", "ageless", None, false), host("b", "old", Some(1), false)], Some("old")),
            (vec![host("b", "x", Some(1), false), host("a", "y", Some(1), false)], Some("y")),
            (vec![host("a", "y", Some(1), false), host("a", "x", Some(1), false)], Some("x")),
            (vec![host("a", "gone", Some(1), true), host("a", "new", Some(2), false)], Some("new")),
            (vec![host("a", "y", Some(1), true), host("a", "x", Some(2), true)], Some("x")),
        ];
        for (mut hosts, expected) in cases {
            for _ in 0..2 {
                assert_eq!(served_host(&hosts).and_then(|host| host.metadata.name.as_deref()), expected);
                hosts.reverse();
            }
        }
    }
}
