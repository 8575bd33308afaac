//! The parts of core objects (Node, Lease, Namespace) that Multibond reads. The rest is not even decoded: Nodes are large,
//! and a cluster may have thousands.

use std::borrow::Cow;

use k8s_openapi::{
    api::core::v1::Taint,
    apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
};
use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Deserializer};

use super::NODE_CONDITION;

/// Makes a part of a core object a resource of that object's kind.
macro_rules! part_of {
    ($part:ident, $whole:ty) => {
        impl Resource for $part {
            type DynamicType = ();
            type Scope = <$whole as Resource>::Scope;

            fn kind(dt: &()) -> Cow<'_, str> {
                <$whole>::kind(dt)
            }
            fn group(dt: &()) -> Cow<'_, str> {
                <$whole>::group(dt)
            }
            fn version(dt: &()) -> Cow<'_, str> {
                <$whole>::version(dt)
            }
            fn plural(dt: &()) -> Cow<'_, str> {
                <$whole>::plural(dt)
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

/// A Node: its metadata, its taints, and Multibond's condition.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct NodePart {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: NodeSpecPart,
    #[serde(default)]
    pub status: NodeStatusPart,
}

/// The part of a Node's spec that is read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct NodeSpecPart {
    #[serde(default)]
    pub taints: Vec<Taint>,
}

/// The part of a Node's status that is read: only [`NODE_CONDITION`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct NodeStatusPart {
    #[serde(default, deserialize_with = "only_ours")]
    pub conditions: Vec<NodeConditionPart>,
}

/// Keeps Multibond's condition only: the others are several texts on each of thousands of Nodes.
fn only_ours<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NodeConditionPart>, D::Error> {
    let all = Vec::<NodeConditionPart>::deserialize(deserializer)?;
    Ok(all.into_iter().find(|condition| condition.kind == NODE_CONDITION).into_iter().collect())
}

/// A condition of a Node, without its heartbeat.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct NodeConditionPart {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
    #[serde(default, rename = "lastTransitionTime")]
    pub last_transition_time: Option<Time>,
}
part_of!(NodePart, k8s_openapi::api::core::v1::Node);

/// A Lease: its metadata, its holder and its times.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct LeasePart {
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: LeaseSpecPart,
}

/// The part of a Lease's spec that is read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LeaseSpecPart {
    #[serde(default)]
    pub holder_identity: Option<String>,
    #[serde(default)]
    pub renew_time: Option<MicroTime>,
    #[serde(default)]
    pub lease_duration_seconds: Option<u32>,
}
part_of!(LeasePart, k8s_openapi::api::coordination::v1::Lease);

/// A Namespace: its metadata, which says whether it is being deleted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct NamespacePart {
    pub metadata: ObjectMeta,
}
part_of!(NamespacePart, k8s_openapi::api::core::v1::Namespace);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_our_condition_of_a_node_is_kept() {
        let condition =
            |kind: &str| json!({"type": kind, "status": "True", "message": "kubelet is posting ready status"});
        let all = ["MemoryPressure", NODE_CONDITION, "Ready"].map(condition);
        let node = json!({"metadata": {"name": "n"}, "status": {"conditions": all}});
        let node: NodePart = serde_json::from_value(node).unwrap();
        let kept: Vec<_> = node.status.conditions.iter().map(|condition| condition.kind.as_str()).collect();
        assert_eq!(kept, [NODE_CONDITION]);
    }
}
