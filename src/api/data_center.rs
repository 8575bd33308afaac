//! `DataCenter`: the storage attached to it, and how its hosts use that storage.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{Iqn, NetworkName, Portal, Summary, closed_set::closed_set, schema};

/// A data center: its iSCSI storage, and how its hosts connect to it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "multibond.dev",
    version = "v1alpha1",
    kind = "DataCenter",
    plural = "datacenters",
    shortname = "mbdc",
    category = "multibond",
    namespaced,
    status = "DataCenterStatus",
    derive = "PartialEq",
    doc = "A data center: the iSCSI storage attached to it, and how its hosts connect to it. Networks, bonds and hosts of the same namespace belong to it by naming it.",
    validation = Rule::new("self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must be a DNS label: at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit"),
    printcolumn(name = "Storage", type_ = "integer", json_path = ".status.storage"),
    printcolumn(name = "Networks", type_ = "integer", json_path = ".status.networks"),
    printcolumn(name = "Bonds", type_ = "integer", json_path = ".status.bonds"),
    printcolumn(name = "Hosts", type_ = "string", json_path = ".status.summary.hosts"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.status!=\"True\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DataCenterSpec {
    /// What the data center is, for people. At most 4000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::description")]
    pub description: Option<String>,
    /// The iSCSI storage attached to the data center, each with a name of its own; may be empty, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub storage: Vec<Storage>,
    /// When given, one Host is made for every Node that matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<HostTemplate>,
    /// Whether a host without any of the networks of a target's bonds connects through its default network.
    /// `Use` or `Never`; default `Use`.
    #[serde(default)]
    pub default_network: DefaultNetwork,
    /// Settings of every iSCSI session; the defaults suit multipath.
    #[serde(default)]
    pub session: SessionSettings,
    /// How long a running host may have no path to a target before it is NonOperational, in seconds; short outages
    /// are bridged by dm-multipath's queue. 0 to 3600, default 60.
    #[serde(default = "default_non_operational_after")]
    #[schemars(range(min = 0, max = 3600))]
    pub non_operational_after_seconds: u32,
    /// The effect of the taint `multibond.dev/non-operational` that is put on the Node of a host that has lost a
    /// target, and taken off when it recovers. `None`, `NoSchedule` or `NoExecute`; default `None`.
    #[serde(default)]
    pub non_operational_taint: NonOperationalTaint,
}

/// The default of [`DataCenterSpec::non_operational_after_seconds`].
pub(crate) const DEFAULT_NON_OPERATIONAL_AFTER_SECONDS: u32 = 60;

fn default_non_operational_after() -> u32 {
    DEFAULT_NON_OPERATIONAL_AFTER_SECONDS
}

/// The defaults of the CRD's schema.
impl Default for DataCenterSpec {
    fn default() -> Self {
        DataCenterSpec {
            description: None,
            storage: Vec::new(),
            hosts: None,
            default_network: DefaultNetwork::default(),
            session: SessionSettings::default(),
            non_operational_after_seconds: DEFAULT_NON_OPERATIONAL_AFTER_SECONDS,
            non_operational_taint: NonOperationalTaint::default(),
        }
    }
}

/// One storage array, or one iSCSI server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// The storage's name, unique in the data center: a DNS label, such as `array-a`.
    #[schemars(schema_with = "schema::label")]
    pub name: String,
    /// The targets of the storage, each with an iSCSI name of its own; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["iqn".into()]))]
    pub targets: Vec<Target>,
}

/// An iSCSI target.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The target's iSCSI name in `iqn.`, `eui.` or `naa.` form, such as `iqn.2003-01.org.example:array-a`; without
    /// `/` and `..`, because hosts have a directory of this name.
    #[schemars(schema_with = "schema::iqn")]
    pub iqn: String,
    /// The addresses at which the target answers, each with its port; at least 1, at most 32.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["address".into(), "port".into()]))]
    pub portals: Vec<PortalSpec>,
    /// How hosts authenticate to the target; without it they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap: Option<Chap>,
}

/// A portal of a target.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PortalSpec {
    /// An IPv4 address, an IPv6 address (without brackets) or a DNS name.
    #[schemars(schema_with = "schema::address")]
    pub address: String,
    /// The TCP port, 1 to 65535; default 3260.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The target portal group tag, 0 to 65535; default 1, which stands for any: the tag is what the target answers. Another
    /// number admits only that one: a new session with another tag is logged out again, and the path is `TargetNotFound`.
    #[serde(default = "any_tpgt")]
    #[schemars(range(min = 0, max = 65535))]
    pub tpgt: u16,
    /// The Network that the portal is on, where subnets do not tell: its name, of lower-case letters, digits and `-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_of_portal")]
    pub network: Option<String>,
}

fn default_port() -> u16 {
    3260
}

/// The portal group tag that stands for any. The schema fills it in where none is given, so it cannot mean itself.
pub const ANY_TPGT: u16 = 1;

fn any_tpgt() -> u16 {
    ANY_TPGT
}

impl Default for PortalSpec {
    fn default() -> Self {
        PortalSpec { address: String::new(), port: default_port(), tpgt: ANY_TPGT, network: None }
    }
}

/// CHAP authentication of a target.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Chap {
    /// A Secret of the same namespace and of type `kubernetes.io/iscsi-chap`: `node.session.auth.username` and
    /// `node.session.auth.password`, for mutual CHAP also `node.session.auth.username_in` and `…password_in`.
    pub secret_ref: SecretReference,
}

/// A Secret of the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct SecretReference {
    /// The Secret's name, such as `array-a-chap`: lower-case letters, digits, `-` and `.`.
    #[schemars(schema_with = "schema::subdomain")]
    pub name: String,
}

/// Which Nodes get a Host of the data center.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostTemplate {
    /// The Nodes, by their labels, such as `{matchLabels: {storage.example.com/san: "true"}}`; an empty selector
    /// matches every Node.
    #[schemars(schema_with = "label_selector")]
    pub node_selector: LabelSelector,
}

fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels that a Node must have, each with this value.",
                "maxProperties": 64,
                "additionalProperties": {"type": "string", "maxLength": 63}
            },
            "matchExpressions": {
                "type": "array",
                "description": "Requirements on a Node's labels, all of which must hold.",
                "maxItems": 64,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string", "maxLength": 317, "description": "The label's key."},
                        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                            "description": "How the label relates to the values."},
                        "values": {"type": "array", "maxItems": 64, "x-kubernetes-list-type": "atomic",
                            "items": {"type": "string", "maxLength": 63},
                            "description": "The values for In and NotIn (at least one); none for Exists and DoesNotExist."}
                    },
                    "x-kubernetes-validations": [{
                        "rule": "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0",
                        "message": "In and NotIn need at least one value, Exists and DoesNotExist take none"
                    }]
                }
            }
        }
    })
}

closed_set! {
    /// What a host without any of a target's bond networks does.
    #[derive(Default)]
    DefaultNetwork {
        /// It connects through its default network.
        #[default]
        Use,
        /// It does not connect, and is NonOperational.
        Never,
    }
}

closed_set! {
    /// The effect of the taint on the Node of a host that has lost a target.
    #[derive(Default)]
    NonOperationalTaint {
        /// No taint.
        #[default]
        None,
        /// New pods stay away.
        NoSchedule,
        /// Running pods are evicted as well; held back while the storage and not the hosts seem to be at fault.
        NoExecute,
    }
}

/// Settings of iSCSI sessions, in seconds. Defaults suit dm-multipath, which wants a failed path to be known soon.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionSettings {
    /// How long a login may take before it has failed (`node.conn[0].timeo.login_timeout`). 1 to 60, default 5.
    #[schemars(range(min = 1, max = 60))]
    pub login_timeout_seconds: u16,
    /// How long a lost session holds I/O back before it fails it to multipath
    /// (`node.session.timeo.replacement_timeout`). 0 to 3600, default 15.
    #[schemars(range(min = 0, max = 3600))]
    pub replacement_timeout_seconds: u16,
    /// How often an idle connection is probed (`node.conn[0].timeo.noop_out_interval`). 0 (never) to 300, default 5.
    #[schemars(range(min = 0, max = 300))]
    pub noop_interval_seconds: u16,
    /// How long a probe may take before the connection is lost (`node.conn[0].timeo.noop_out_timeout`).
    /// 0 (never) to 300, default 5.
    #[schemars(range(min = 0, max = 300))]
    pub noop_timeout_seconds: u16,
}

impl Default for SessionSettings {
    fn default() -> Self {
        SessionSettings {
            login_timeout_seconds: 5,
            replacement_timeout_seconds: 15,
            noop_interval_seconds: 5,
            noop_timeout_seconds: 5,
        }
    }
}

/// What the controller knows of a data center.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct DataCenterStatus {
    /// The generation of the spec that this status was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The data center's hosts by phase.
    pub hosts: HostCounts,
    /// Bonds of the data center.
    pub bonds: u32,
    /// Networks of the data center.
    pub networks: u32,
    /// Storages attached to the data center.
    pub storage: u32,
    /// Portals that fail on more than one host, each until it fails on none; at most 32.
    #[schemars(length(max = 32))]
    pub portals: Vec<PortalFailure>,
    /// Texts for print columns.
    pub summary: Summary,
    /// `StorageValid`, `PortalsReachable`, `Ready`; with `spec.hosts` also `HostsMade`; `EvictionsHeld` while the storage seems to have
    /// failed and no host is evicted.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// The most entries of [`DataCenterStatus::portals`].
pub const MAX_PORTAL_FAILURES: usize = 32;

/// A portal that fails on more than one host.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortalFailure {
    /// The target's iSCSI name.
    pub target: Iqn,
    /// Address and port, canonical.
    pub portal: Portal,
    /// The network through which it fails; absent for the default network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// Hosts on which every path to it through this network has failed.
    pub failed: u32,
    /// Hosts with such a path, without those whose agent is silent.
    pub hosts: u32,
    /// Since when it is listed.
    #[schemars(schema_with = "schema::time")]
    pub since: Time,
}

impl PortalFailure {
    /// What tells it from others.
    #[must_use]
    pub fn place(&self) -> (&Iqn, &Portal, Option<&NetworkName>) {
        (&self.target, &self.portal, self.network.as_ref())
    }
}

/// Hosts of a data center by phase.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HostCounts {
    /// All Hosts that name the data center.
    pub total: u32,
    /// Phase Up.
    pub up: u32,
    /// Phase Lost: a target has lost its last path a short while ago.
    pub lost: u32,
    /// Phase Connecting.
    pub connecting: u32,
    /// Phase Unassigned.
    pub unassigned: u32,
    /// Phase Degraded.
    pub degraded: u32,
    /// Phase NonOperational.
    pub non_operational: u32,
    /// Phase Maintenance.
    pub maintenance: u32,
    /// Phase Unknown.
    pub unknown: u32,
}
