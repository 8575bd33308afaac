//! The four kinds of `multibond.dev/v1alpha1`: what a user writes, and what the controller and the agents report.
//!
//! The types are the schema: `crds/` is generated from them (`multibond crds`). Closed sets (phases, states, reasons)
//! are enums that serve the schema, the code and the documentation alike.

pub mod address;
#[cfg(test)]
mod admitted;
mod closed_set;
pub mod condition;
mod data_center;
mod explained;
mod first_few;
#[allow(clippy::duplicated_attributes, reason = "columns that look alike are no duplicates")]
mod host;
mod iscsi_bond;
pub mod iscsi_name;
mod luns;
mod names;
mod network;
pub mod node_owner;
mod object_key;
pub mod ownership;
mod parts;
pub mod portal_policy;
mod readable;
pub mod reason;
pub mod schema;
pub mod size;
pub(crate) mod text_rule;

pub(crate) use data_center::DEFAULT_NON_OPERATIONAL_AFTER_SECONDS;
pub use data_center::{
    ANY_TPGT, Chap, DataCenter, DataCenterSpec, DataCenterStatus, DefaultNetwork, HostCounts, HostTemplate,
    MAX_PORTAL_FAILURES, NonOperationalTaint, PortalFailure, PortalSpec, SecretReference, SessionSettings, Storage,
    Target,
};
pub use explained::is_explained_by;
pub use first_few::first_few;
pub use host::{
    AGENT_STATUS_FIELDS, AgentStatus, CarriedNetwork, CarrySource, Connection, ConnectionState, HeldPortals, Host,
    HostInterface, HostSpec, HostStatus, HostWarning, InterfaceNetworks, MultipathMap, PathCounts, PathKey, Phase,
    PlanStatus, PlannedPath, TargetStatus,
};
pub use iscsi_bond::{BondHostCounts, BondNetwork, IscsiBond, IscsiBondSpec, IscsiBondStatus, Pairing};
pub use luns::{HealthyLun, HostLuns, LISTED_LUNS, LunAddress, LunProblem, LunProblemKind};
pub use names::{
    BondName, InterfaceName, Iqn, Namespace, NetworkName, NodeName, ObjectName, Portal, Revision, SecretName,
    StorageName,
};
pub use network::{Network, NetworkSpec, NetworkStatus};
pub(crate) use object_key::ObjectKey;
pub(crate) use parts::{LeasePart, NamespacePart, NodePart};
pub use readable::Readable;
pub(crate) use readable::{Decoded, decode, metadata};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::{CustomResourceExt as _, api::ObjectMeta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The API group of all four kinds.
pub const GROUP: &str = "multibond.dev";
/// The served and stored version.
pub const VERSION: &str = "v1alpha1";
/// Field manager of everything that the controller writes.
pub const CONTROLLER_MANAGER: &str = "multibond-controller";
/// Field manager of everything that an agent writes.
pub const AGENT_MANAGER: &str = "multibond-agent";
/// Field manager of every edit that is made in the console.
pub const CONSOLE_MANAGER: &str = "multibond-console";
/// The lease that the leading controller holds, in the namespace of the release.
pub const LEADER_LEASE: &str = "multibond-controller";
/// Finalizer of data centers, networks and hosts: removed when the affected hosts have disconnected.
pub const FINALIZER: &str = "multibond.dev/disconnect";
/// Label of Hosts that are generated for `DataCenter.spec.hosts`; its value is the data center's name.
pub const MADE_FOR_LABEL: &str = "multibond.dev/made-for";
/// Annotation of a generated Host: the time since which its Node is gone or no longer matches (RFC 3339).
pub const NODE_GONE_ANNOTATION: &str = "multibond.dev/node-gone-since";
/// Annotation of an object imported from oVirt whose name had to change: the name that it had there.
pub const OVIRT_NAME_ANNOTATION: &str = "multibond.dev/ovirt-name";
/// Prefix of the name of an agent's lease, which shows that the agent is alive; the name of the node follows.
pub const AGENT_LEASE_PREFIX: &str = "agent-";
/// Condition that the controller sets on the Node of a Host in service.
pub const NODE_CONDITION: &str = "multibond.dev/StorageOperational";
/// Taint that `nonOperationalTaint` puts on the Node of a host that lost a target.
pub const NODE_TAINT: &str = "multibond.dev/non-operational";

/// Whether an object has Multibond's finalizer.
#[must_use]
pub fn has_finalizer(metadata: &ObjectMeta) -> bool {
    metadata.finalizers.as_ref().is_some_and(|finalizers| finalizers.iter().any(|name| name == FINALIZER))
}

closed_set::closed_set! {
    /// The kinds of objects that Multibond defines.
    ObjectKind {
        /// `DataCenter`.
        DataCenter,
        /// `Network`.
        Network,
        /// `Host`.
        Host,
        /// `IscsiBond`.
        IscsiBond,
    }
}

/// Texts for print columns; a column reads one field.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Hosts that are fine, of all in service, such as `39/40`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    /// Connected paths of planned paths, such as `158/160`; of a host with sessions that are kept without being planned, with
    /// their number: `2/2 (4 kept)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<String>,
    /// Networks that the object names, such as `san-a,san-b`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<String>,
    /// Bonds that name the object, such as `storage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bonds: Option<String>,
    /// Subnets of the object, such as `10.0.1.0/24,fd00:1::/64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnets: Option<String>,
    /// What is wrong, where another column does not say it: reasons, such as `PortalUnreachable`. Absent if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The largest number of names in a text of [`Summary`].
const SUMMARY_NAMES: usize = 8;

impl Summary {
    /// The text for a list of names: `san-a,san-b`. Of a long list it has the first names, and the number of the others.
    #[must_use]
    pub fn list<T: AsRef<str>>(names: &[T]) -> Option<String> {
        let shown: Vec<&str> = names.iter().take(SUMMARY_NAMES).map(AsRef::as_ref).collect();
        let others = names.len() - shown.len();
        let more = if others > 0 { format!(",+{others}") } else { String::new() };
        (!shown.is_empty()).then(|| shown.join(",") + &more)
    }
}

/// The custom resource definitions, in the order in which they are documented.
///
/// Adds the parts of the schemas that the derive cannot express; see [`finish`] and [`born_pending`].
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![DataCenter::crd(), Network::crd(), Host::crd(), IscsiBond::crd()];
    let roots = crds.iter_mut().flat_map(|crd| crd.spec.versions.iter_mut());
    for root in roots.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut()) {
        for_each_schema(root, &mut finish);
        root.properties.iter_mut().filter_map(|properties| properties.get_mut("status")).for_each(born_pending);
    }
    crds
}

/// Applies three rules to every field. Descriptions lose their line breaks, which only come from the source code. No
/// field is nullable: `null` means the same as an absent field, so the API server drops it. And an integer has the range
/// of its Rust type, unless a smaller one is declared: what the API server admits must decode.
fn finish(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    limit_integer(schema);
    if let Some(description) = &mut schema.description {
        *description = description.split("\n\n").map(|text| text.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
}

/// Gives an integer its range. `OpenAPI` has only two formats, and the API server checks only the range that is written.
fn limit_integer(schema: &mut JSONSchemaProps) {
    let (format, largest) = match schema.format.as_deref() {
        Some("uint8") => ("int32", f64::from(u8::MAX)),
        Some("uint16") => ("int32", f64::from(u16::MAX)),
        Some("uint32") => ("int64", f64::from(u32::MAX)),
        _ => return,
    };
    schema.format = Some(format.to_owned());
    schema.minimum.get_or_insert(0.0);
    schema.maximum.get_or_insert(largest);
}

/// Gives each new object a default condition: without a condition kstatus reports an object as healthy, and the sync
/// waves of a pipeline would not wait for it. The API server must set no other defaults in a status (an absent
/// `interfaces` differs from an empty one), and must refuse negative counts.
fn born_pending(status: &mut JSONSchemaProps) {
    for_each_schema(status, &mut |schema| {
        schema.default = None;
        if schema.type_.as_deref() == Some("integer") {
            schema.minimum = Some(0.0);
        }
    });
    status.default = Some(JSON(json!({"conditions": [condition::pending()]})));
}

/// Visits a schema and all schemas in it.
fn for_each_schema(schema: &mut JSONSchemaProps, visit: &mut dyn FnMut(&mut JSONSchemaProps)) {
    visit(schema);
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        for_each_schema(property, visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        for_each_schema(items, visit);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        for_each_schema(values, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn a_list_in_a_column_is_short_and_has_no_brackets() {
        let names = |count: usize| (1..=count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(Summary::list(&names(0)), None);
        assert_eq!(Summary::list(&names(2)).as_deref(), Some("1,2"));
        assert_eq!(Summary::list(&names(10)).as_deref(), Some("1,2,3,4,5,6,7,8,+2"));
    }
}
