//! `IscsiBond`: which networks storage traffic uses.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PathCounts, Summary, closed_set::closed_set, schema};

/// Which networks of a data center storage traffic uses.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "multibond.dev",
    version = "v1alpha1",
    kind = "IscsiBond",
    plural = "iscsibonds",
    shortname = "ib",
    category = "multibond",
    namespaced,
    status = "IscsiBondStatus",
    derive = "PartialEq",
    selectable = ".spec.dataCenter",
    doc = "Which networks of a data center storage traffic uses: every host that carries one of them holds a session through it to every target that the bond covers.",
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must be a DNS label: at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit"),
    printcolumn(name = "Data Center", type_ = "string", json_path = ".spec.dataCenter"),
    printcolumn(name = "Networks", type_ = "string", json_path = ".status.summary.networks"),
    printcolumn(name = "Hosts", type_ = "string", json_path = ".status.summary.hosts"),
    printcolumn(name = "Paths", type_ = "string", json_path = ".status.summary.paths"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.status!=\"True\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct IscsiBondSpec {
    /// The data center that the bond belongs to: its name, of lower-case letters, digits and `-`, in the same
    /// namespace. Immutable.
    #[schemars(schema_with = "schema::label")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.dataCenter is immutable: delete the bond and create it in the other data center"))]
    pub data_center: String,
    /// What the bond is for, for people. At most 4000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::description")]
    pub description: Option<String>,
    /// Names of Networks of the data center, such as `[san-a, san-b]`; a set, none included, at most 64.
    #[serde(default)]
    #[schemars(schema_with = "schema::network_set")]
    pub networks: Vec<String>,
    /// iSCSI names of the targets that the bond covers; empty means every target of the data center. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::iqn_set")]
    pub targets: Vec<String>,
    /// Which portals are reached through which networks. `Auto`: a portal through the network it is on (its pin, or
    /// the subnets), a routed portal through all. `AllPairs`: each portal through each network. Default `Auto`.
    #[serde(default)]
    pub pairing: Pairing,
}

closed_set! {
    /// How portals are paired with networks.
    #[derive(Default)]
    Pairing {
        /// A portal goes with the network that it is on; a routed one, or a DNS name, with all of the bond's.
        #[default]
        Auto,
        /// Each portal goes with each network; pins and subnets are ignored.
        AllPairs,
    }
}

/// What the controller knows of a bond.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct IscsiBondStatus {
    /// The generation of the spec that this status was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The data center's hosts, by how they stand towards the bond.
    pub hosts: BondHostCounts,
    /// Paths of the bond on all hosts in service.
    pub paths: PathCounts,
    /// Per network of the bond: the hosts in service that carry it, and the bond's paths through it.
    pub networks: Vec<BondNetwork>,
    /// Texts for print columns.
    pub summary: Summary,
    /// `NetworksResolved`, `TargetsResolved`, `NetworksUsed`, `FullyConnected`, `Ready`.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Hosts in service of a bond's data center. A host is counted once among `connected`, `degraded`,
/// `nonOperational`, `unknown` and those that still connect; `default` counts across these.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BondHostCounts {
    /// Hosts in service.
    pub total: u32,
    /// Hosts on which every path of the bond is connected.
    pub connected: u32,
    /// Hosts that reach every target of the bond, with a path of it failed.
    pub degraded: u32,
    /// Hosts that are Lost: a target has lost its last path a short while ago.
    pub lost: u32,
    /// Hosts that are NonOperational.
    pub non_operational: u32,
    /// Hosts with none of the bond's networks, which use their default network.
    pub default: u32,
    /// Hosts whose agent is silent.
    pub unknown: u32,
}

/// A network of a bond, in numbers.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BondNetwork {
    /// The network's name.
    pub name: String,
    /// Hosts in service that carry it.
    pub hosts: u32,
    /// Planned paths of the bond through it.
    pub paths: u32,
}
