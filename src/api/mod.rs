//! The four kinds of `multibond.dev/v1alpha1`: what a user writes, and what the controller and the agents report.
//!
//! The types are the schema: `crds/` is generated from them (`multibond crds`). Closed sets (phases, states, reasons)
//! are enums that serve the schema, the code and the documentation alike.

pub mod address;
mod closed_set;
pub mod condition;
mod data_center;
#[allow(clippy::duplicated_attributes, reason = "columns that look alike are no duplicates")]
mod host;
mod iscsi_bond;
mod names;
mod network;
pub mod node_owner;
mod object_key;
pub mod ownership;
mod parts;
pub mod reason;
pub mod schema;

pub(crate) use data_center::DEFAULT_NON_OPERATIONAL_AFTER_SECONDS;
pub use data_center::{
    Chap, DataCenter, DataCenterSpec, DataCenterStatus, DefaultNetwork, HostCounts, HostTemplate, NonOperationalTaint,
    PortalSpec, SecretReference, SessionSettings, Storage, Target,
};
pub use host::{
    AGENT_STATUS_FIELDS, AgentStatus, CarriedNetwork, CarrySource, Connection, ConnectionState, Host, HostInterface,
    HostSpec, HostStatus, HostWarning, InterfaceNetworks, MultipathMap, PathCounts, PathKey, Phase, PlanStatus,
    PlannedPath, TargetStatus,
};
pub use iscsi_bond::{BondHostCounts, BondNetwork, IscsiBond, IscsiBondSpec, IscsiBondStatus, Pairing};
pub use names::{
    BondName, InterfaceName, Iqn, Namespace, NetworkName, NodeName, ObjectName, Portal, Revision, SecretName,
    StorageName,
};
pub use network::{Network, NetworkSpec, NetworkStatus};
pub(crate) use object_key::ObjectKey;
pub(crate) use parts::{LeasePart, NamespacePart, NodePart};

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
/// Finalizer of data centers, networks and hosts: the controller lets go when the hosts concerned have disconnected.
pub const FINALIZER: &str = "multibond.dev/disconnect";
/// Label of Hosts made for `DataCenter.spec.hosts`; its value is the data center's name.
pub const MADE_FOR_LABEL: &str = "multibond.dev/made-for";
/// Annotation of a made Host: since when its Node is gone or no longer matches (RFC 3339).
pub const NODE_GONE_ANNOTATION: &str = "multibond.dev/node-gone-since";
/// Annotation of an object imported from oVirt whose name had to change: the name that it had there.
pub const OVIRT_NAME_ANNOTATION: &str = "multibond.dev/ovirt-name";
/// The lease by which the agent of a node tells that it is alive has this name, with the node's after it.
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
    /// Connected paths of planned paths, such as `158/160`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<String>,
}

/// The custom resource definitions, in the order in which they are documented.
///
/// What the derive cannot say is added here; see [`finish`] and [`born_pending`].
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

/// What holds for every field: a description's line breaks are those of the source, and mean nothing to a reader; and
/// `null` says nothing that leaving the field out does not say, so the API server drops it.
fn finish(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(description) = &mut schema.description {
        *description = description.split("\n\n").map(|text| text.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
}

/// The condition with which each object is born: without one kstatus takes an object for healthy, and a pipeline's
/// sync wave would run past it. Apart from that the API server must not fill in what nobody has reported (an absent
/// `interfaces` is not an empty one), nor take a negative count.
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
