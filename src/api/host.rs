//! `Host`: one machine of a data center, what it should be connected to, and what it is connected to.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ANY_TPGT, BondName, HostLuns, InterfaceName, Iqn, NetworkName, Portal, Revision, SecretName, SessionSettings,
    StorageName, Summary,
    closed_set::closed_set,
    condition,
    reason::{ConditionType, PathReason, Reason},
    schema,
};

/// A host of a data center.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "multibond.dev",
    version = "v1alpha1",
    kind = "Host",
    plural = "hosts",
    shortname = "mbhost",
    category = "multibond",
    namespaced,
    status = "HostStatus",
    derive = "PartialEq",
    selectable = ".spec.nodeName",
    selectable = ".spec.dataCenter",
    selectable = ".status.phase",
    doc = "A host of a data center: one Node, whose agent holds the sessions that the data center's bonds ask for.",
    printcolumn(name = "Data Center", type_ = "string", json_path = ".spec.dataCenter"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Paths", type_ = "string", json_path = ".status.summary.paths"),
    printcolumn(name = "LUNs", type_ = "string", json_path = ".status.luns.summary"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.summary.reason"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.plan.revision", priority = 1),
    printcolumn(name = "Initiator", type_ = "string", json_path = ".status.agent.initiatorName", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct HostSpec {
    /// The data center that the host belongs to: its name, of lower-case letters, digits and `-`, in the same
    /// namespace. It may change: the host leaves one data center and joins the other.
    #[schemars(schema_with = "schema::label")]
    pub data_center: String,
    /// The Node that this host is: its name, of lower-case letters, digits, `-` and `.`. The agent on that Node serves
    /// this Host. Immutable.
    #[schemars(schema_with = "schema::subdomain")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.nodeName is immutable: delete the host and create one for the other node"))]
    pub node_name: String,
    /// True: disconnect what can be disconnected safely, and stay away; false again activates the host.
    /// Default false.
    #[serde(default)]
    pub maintenance: bool,
    /// Which device carries which networks; for the networks named here it wins over the subnets. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub interfaces: Vec<InterfaceNetworks>,
}

/// A network device and the networks that it carries.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceNetworks {
    /// The device's name on the host, such as `ens2f0` or `bond0.100`: the device that has the address. At most 15
    /// letters, digits and `_.@-`.
    #[schemars(schema_with = "schema::interface_name")]
    pub name: String,
    /// Names of Networks of the data center; a set, at most 64.
    #[serde(default)]
    #[schemars(schema_with = "schema::network_set")]
    pub networks: Vec<String>,
}

/// The fields of [`HostStatus`] that the agent writes. The controller writes all others.
///
/// The agent's patch, the admission policy of the chart, and the tests of permissions are checked against this list.
pub const AGENT_STATUS_FIELDS: [&str; 5] = ["agent", "interfaces", "connections", "multipath", "luns"];

/// What should be on a host, what is, and how the two compare.
///
/// `agent`, `interfaces`, `connections`, `multipath` and `luns` are the agent's; everything else is the controller's.
/// Neither writes what is the other's.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct HostStatus {
    /// The generation of the spec that the plan was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the host stands, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The data center that the host is in service for; what is remembered below belongs to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_center: Option<String>,
    /// How many paths are planned, and how many of them are connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<PathCounts>,
    /// Texts for print columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// The networks that the host carries, and why. One found by its subnet is remembered when its device or address
    /// vanishes, until the host goes through maintenance.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub networks: Arc<[CarriedNetwork]>,
    /// Targets that have had a session since the host entered service.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetStatus>,
    /// What the host should be connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// `Operational`, `FullyConnected`, `LunsHealthy`, `AgentReady`, `HostPrepared`, `Ready`.
    #[schemars(schema_with = "schema::conditions")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The agent that serves the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    /// The host's interfaces that can carry storage traffic; absent until the agent has reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub interfaces: Option<Vec<HostInterface>>,
    /// What the host is connected to, and what it tries to connect to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<Connection>,
    /// Multipath maps over the host's sessions, as dm-multipath reports them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub multipath: Vec<MultipathMap>,
    /// The LUNs that the host sees through its planned sessions; absent until the agent has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub luns: Option<HostLuns>,
}

impl Phase {
    /// The phase as the status has it. A controller of the version before does not know `Lost`, and would treat the
    /// whole data center as unreadable after a rollback; so `Lost` is written as `Connecting`, with the reason
    /// `StorageLost`.
    #[must_use]
    pub fn as_written(self) -> Self {
        match self {
            Phase::Lost => Phase::Connecting,
            Phase::Unassigned
            | Phase::Maintenance
            | Phase::Connecting
            | Phase::Up
            | Phase::Degraded
            | Phase::NonOperational
            | Phase::Unknown => self,
        }
    }
}

impl HostStatus {
    /// The phase, told apart where it is written with the name of another ([`Phase::as_written`]).
    #[must_use]
    pub fn effective_phase(&self) -> Option<Phase> {
        let operational = condition::find(&self.conditions, ConditionType::Operational);
        let lost = operational.is_some_and(|operational| operational.reason == Reason::StorageLost.as_str());
        if lost && self.phase == Some(Phase::Connecting) { Some(Phase::Lost) } else { self.phase }
    }

    /// Whether the plan with this revision is the one that was last written, and the agent has carried it out.
    #[must_use]
    pub fn has_carried_out(&self, revision: &str) -> bool {
        self.plan.as_ref().is_some_and(|written| written.revision == revision) && self.acknowledged()
    }

    /// Whether the agent has carried out the plan that was last written.
    #[must_use]
    pub fn acknowledged(&self) -> bool {
        let (Some(plan), Some(agent)) = (&self.plan, &self.agent) else { return false };
        agent.observed_revision.as_ref() == Some(&plan.revision)
            && agent.observed_sequence.is_none_or(|sequence| sequence == plan.sequence)
    }
}

closed_set! {
    /// Where a host stands.
    Phase {
        /// It has no data center, or another Host has its Node.
        Unassigned,
        /// It is kept away from storage.
        Maintenance,
        /// It has not connected yet.
        Connecting,
        /// It has lost the last path to a target a short while ago, and becomes NonOperational unless a path comes back.
        Lost,
        /// It reaches every target, and no path has failed.
        Up,
        /// It reaches every target, and some path has failed.
        Degraded,
        /// It does not reach a target.
        NonOperational,
        /// Its agent is silent.
        Unknown,
    } else Unknown
}

/// Planned paths, and connected ones among them.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PathCounts {
    /// Planned paths.
    pub desired: u32,
    /// Planned paths that are connected.
    pub connected: u32,
}

/// A network that a host carries.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CarriedNetwork {
    /// The network's name.
    pub name: NetworkName,
    /// The device that carries it.
    pub interface: InterfaceName,
    /// How this is known.
    pub source: CarrySource,
    /// The address of the device in one of the network's subnets, with its prefix length; only for `Subnet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

closed_set! {
    /// How it is known that a host carries a network.
    CarrySource {
        /// `Host.spec.interfaces` says so.
        Spec,
        /// The device has, or had, an address in one of the network's subnets.
        Subnet,
    } else Subnet
}

/// A target that has had a session since the host entered service, or that is held without one.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// The target's iSCSI name.
    pub target: Iqn,
    /// When the last planned path to it was lost; absent while it is reachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub lost_at: Option<Time>,
    /// It is held, and has had no session since the host entered service; `lostAt` says since when it is held without one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_connected: bool,
}

/// What a host should be connected to. Without a revision and paths it is not decoded: a plan that this version does not
/// understand must not be taken for an empty one, by which an agent would log everything out.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Changes exactly when the host has something else to do.
    pub revision: Revision,
    /// Counts the plans that were written to this host: going back to an earlier plan is a new one, which the agent has
    /// not carried out, though its revision is an old one.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub sequence: i64,
    /// Targets whose sessions are left as they are: a bond that covers them names an unknown network, or the host has not
    /// reported its interfaces.
    #[serde(default)]
    pub hold: Vec<Iqn>,
    /// The portals that the held targets have in the data center. A session at another one was taken out with its portal,
    /// and is not held. Absent, as from an older controller: every session is held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hold_portals: Vec<HeldPortals>,
    /// Targets without a path: the host carries none of their bonds' networks, and `defaultNetwork` is `Never`.
    #[serde(default)]
    pub no_network: Vec<Iqn>,
    /// The data center's session settings.
    #[serde(default)]
    pub session: SessionSettings,
    /// The planned paths, sorted.
    pub paths: Arc<[PlannedPath]>,
}

/// The portals of a held target.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldPortals {
    /// The target's iSCSI name.
    pub target: Iqn,
    /// Its portals, sorted.
    pub portals: Vec<Portal>,
}

/// A path that should be connected.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedPath {
    /// The target's iSCSI name.
    pub target: Iqn,
    /// Address and port, canonical: `10.0.1.10:3260`, `[fd00::10]:3260` or `san.example.com:3260`.
    pub portal: Portal,
    /// The only target portal group tag that may be answered; 1 stands for any.
    pub tpgt: u16,
    /// The device that the session is bound to; absent for a path through the default network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<InterfaceName>,
    /// The network that the device carries; absent for a path through the default network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// The storage that the target belongs to.
    pub storage: StorageName,
    /// The bonds that ask for the path; none for a path through the default network.
    #[serde(default)]
    pub bonds: Vec<BondName>,
    /// The Secret with the target's CHAP credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap_secret: Option<SecretName>,
}

/// What tells a path from others: target, portal, and the device. Sorts as plans are sorted.
pub type PathKey<'a> = (&'a str, &'a str, Option<&'a str>);

impl PlannedPath {
    /// What tells it from others.
    #[must_use]
    pub fn key(&self) -> PathKey<'_> {
        (&self.target, &self.portal, self.interface.as_deref())
    }

    /// The only portal group tag that the target may answer; none if it may answer any.
    #[must_use]
    pub fn only_tpgt(&self) -> Option<u16> {
        (self.tpgt != ANY_TPGT).then_some(self.tpgt)
    }
}

impl Connection {
    /// The path that it is of.
    #[must_use]
    pub fn key(&self) -> PathKey<'_> {
        (&self.target, &self.portal, self.interface.as_deref())
    }
}

/// The agent that serves a host.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentStatus {
    /// The agent's version.
    pub version: String,
    /// The last plan of which every path has ended its first attempt, and every surplus path is gone or retained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_revision: Option<Revision>,
    /// The `sequence` of that plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_sequence: Option<i64>,
    /// The host's iSCSI initiator name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initiator_name: Option<String>,
    /// The initiator and its version, such as `open-iscsi 2.1.8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initiator: Option<String>,
    /// What the agent found on the host that wants attention, and stops nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<HostWarning>,
    /// Secrets with CHAP credentials that the plan names and the agent cannot use; at most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub unusable_secrets: Vec<SecretName>,
    /// Like `warnings`, with reasons that the first version of the controller cannot decode.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<HostWarning>,
}

impl AgentStatus {
    /// The status with these warnings, each in the list whose readers know its reason.
    #[must_use]
    pub fn with_warnings(self, warnings: Vec<HostWarning>) -> Self {
        let (warnings, findings) = warnings.into_iter().partition(|warning| warning.reason.is_known_to_every_version());
        AgentStatus { warnings, findings, ..self }
    }

    /// All that the agent found on the host that wants attention.
    pub fn all_warnings(&self) -> impl Iterator<Item = &HostWarning> {
        self.warnings.iter().chain(&self.findings)
    }
}

/// Something on the host that wants attention.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostWarning {
    /// What kind of thing.
    pub reason: super::reason::PreparedReason,
    /// What was found, what was expected, and what to do.
    pub message: String,
}

/// A network interface of a host that can carry storage traffic.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostInterface {
    /// The device's name.
    pub name: InterfaceName,
    /// The hardware address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// The MTU in bytes.
    #[serde(default)]
    pub mtu: u32,
    /// Whether the device is up and has a carrier.
    #[serde(default)]
    pub up: bool,
    /// Addresses with prefix length, such as `10.0.1.21/24`.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// For a macvlan or ipvlan: the device below it, if that has an address in the same subnet. Then that device carries the
    /// networks of the subnet, and this one only those that `spec.interfaces` lists for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<InterfaceName>,
}

/// A path as it is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The target's iSCSI name.
    pub target: Iqn,
    /// Address and port, canonical.
    pub portal: Portal,
    /// The target portal group tag that the target has answered; until it has, the planned one.
    pub tpgt: u16,
    /// The device that the session is bound to; absent for the default network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<InterfaceName>,
    /// Where the path stands.
    pub state: ConnectionState,
    /// The kernel's session number, while there is a session.
    #[serde(default, rename = "sessionID", skip_serializing_if = "Option::is_none")]
    pub session_id: Option<u32>,
    /// Why it has failed, or is retained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<PathReason>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when the path has had this state.
    #[schemars(schema_with = "schema::time")]
    pub since: Time,
    /// The longest pause between two attempts for this reason, such as `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_every: Option<String>,
}

closed_set! {
    /// Where a path stands.
    ConnectionState {
        /// In its first attempt since it was planned.
        Connecting,
        /// There is a session.
        Connected,
        /// There is none; it is retried.
        Failed,
        /// Not planned; the session is being logged out.
        Disconnecting,
        /// Not planned, but kept: its device is in use, or its target is held or has no other session.
        Retained,
    } else Connecting
}

/// A multipath map of the host. A map with paths of several targets has an entry for each.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MultipathMap {
    /// The map's World Wide Identifier.
    pub wwid: String,
    /// The target that its paths lead to.
    pub target: String,
    /// Paths of the map to this target.
    pub paths: u32,
    /// Active ones among them.
    pub active: u32,
    /// The disks of these paths, such as `sda`, if the map also has paths of another target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<String>,
}
