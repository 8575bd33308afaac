//! The objects that are deleted or changed together with a data center or a network. The controller carries that out,
//! and the console shows it before the deletion: both use these functions.

use kube::ResourceExt as _;
use kube::api::ObjectMeta;

use super::{DataCenter, Host, IscsiBond, MADE_FOR_LABEL, Network};

/// The data center that a Host was generated for, from its label; `None` for a Host that a user has created.
///
/// Only the label counts. The owner reference of a generated Host serves the garbage collector of Kubernetes, and
/// anybody may set one on a Host of their own.
#[must_use]
pub fn generated_for(host: &ObjectMeta) -> Option<&str> {
    host.labels.as_ref()?.get(MADE_FOR_LABEL).map(String::as_str)
}

/// Whether a Host was generated for the data center of this namespace and name. `spec.dataCenter` does not count: the
/// controller sets it back.
#[must_use]
pub fn is_generated_for(host: &ObjectMeta, namespace: &str, data_center: &str) -> bool {
    host.namespace.as_deref() == Some(namespace) && generated_for(host) == Some(data_center)
}

/// Whether a network is deleted with the data center. All networks of the data center are.
#[must_use]
pub fn network_goes_with(network: &Network, data_center: &DataCenter) -> bool {
    network.namespace() == data_center.namespace() && network.spec.data_center == data_center.name_any()
}

/// Whether a bond is deleted with the data center. All bonds of the data center are.
#[must_use]
pub fn bond_goes_with(bond: &IscsiBond, data_center: &DataCenter) -> bool {
    bond.namespace() == data_center.namespace() && bond.spec.data_center == data_center.name_any()
}

/// Whether a Host is deleted with the data center: only a Host that was generated for it is. Hosts of users stay,
/// without a data center.
#[must_use]
pub fn host_goes_with(host: &Host, data_center: &DataCenter) -> bool {
    is_generated_for(&host.metadata, &data_center.namespace().unwrap_or_default(), &data_center.name_any())
}

/// Whether a bond names the network, of the same data center. The bond stays when the network is deleted, and the name
/// is removed from it.
#[must_use]
pub fn bond_names(bond: &IscsiBond, network: &Network) -> bool {
    bond.namespace() == network.namespace()
        && bond.spec.data_center == network.spec.data_center
        && bond.spec.networks.contains(&network.name_any())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    fn labelled(value: &str) -> ObjectMeta {
        let labels = BTreeMap::from([(MADE_FOR_LABEL.to_owned(), value.to_owned())]);
        ObjectMeta { namespace: Some("ns".to_owned()), labels: Some(labels), ..ObjectMeta::default() }
    }

    #[test]
    fn the_label_tells_which_data_center_a_host_was_generated_for() {
        assert!(is_generated_for(&labelled("fra"), "ns", "fra"));
        assert!(!is_generated_for(&labelled("fra"), "ns", "muc"));
        assert!(!is_generated_for(&labelled("fra"), "other", "fra"));
        assert_eq!(generated_for(&labelled("fra")), Some("fra"));
    }

    #[test]
    fn an_owner_reference_alone_does_not_make_a_host_generated() {
        let owner =
            OwnerReference { kind: "DataCenter".to_owned(), name: "fra".to_owned(), ..OwnerReference::default() };
        let metadata = ObjectMeta {
            namespace: Some("ns".to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        };
        assert!(!is_generated_for(&metadata, "ns", "fra"));
        assert_eq!(generated_for(&metadata), None);
    }
}
