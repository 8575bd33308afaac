//! Network: one of the networks that a data center's hosts may carry.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Summary, schema};

/// A network of a data center that storage traffic may use.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "multibond.dev",
    version = "v1alpha1",
    kind = "Network",
    plural = "networks",
    shortname = "mbnet",
    category = "multibond",
    namespaced,
    status = "NetworkStatus",
    derive = "PartialEq",
    selectable = ".spec.dataCenter",
    doc = "A network of a data center that storage traffic may use. A host carries it through an interface that has an address in one of its subnets, or that the Host names for it.",
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must be a DNS label: at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit"),
    printcolumn(name = "Data Center", type_ = "string", json_path = ".spec.dataCenter"),
    printcolumn(name = "Subnets", type_ = "string", json_path = ".status.summary.subnets", priority = 1),
    printcolumn(name = "Hosts", type_ = "integer", json_path = ".status.hosts"),
    printcolumn(name = "Bonds", type_ = "string", json_path = ".status.summary.bonds"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.status!=\"True\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSpec {
    /// The data center that the network belongs to: its name, of lower-case letters, digits and `-`, in the same
    /// namespace. Immutable.
    #[schemars(schema_with = "schema::label")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.dataCenter is immutable: delete the network and create it in the other data center"))]
    pub data_center: String,
    /// What the network is, for people. At most 4000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::description")]
    pub description: Option<String>,
    /// Subnets in CIDR form, such as `10.0.1.0/24` or `fd00:1::/64`: a host interface with an address in one of them
    /// carries this network, and a portal with an address in one of them is on it. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::subnet_set")]
    pub subnets: Vec<String>,
    /// The MTU that the network needs, in bytes, such as 9000: an interface that carries it with another MTU gets a
    /// warning condition on its Host. 68 to 65536.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 68, max = 65536))]
    pub mtu: Option<u32>,
}

/// What the controller knows of a network.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkStatus {
    /// The generation of the spec that this status was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Hosts that carry the network.
    pub hosts: u32,
    /// Bonds of the data center that name the network.
    pub bonds: Vec<String>,
    /// Texts for print columns.
    pub summary: Summary,
    /// `SubnetsDistinct`, `Ready`.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
