//! Owner references, by which the garbage collector of Kubernetes deletes objects with their data center.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;

use crate::api::DataCenter;

/// The reference to a data center as the owner of another object.
pub(super) fn owner_reference(data_center: &DataCenter) -> OwnerReference {
    OwnerReference { block_owner_deletion: Some(true), ..data_center.owner_ref(&()).unwrap_or_default() }
}
