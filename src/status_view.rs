//! The status of a cluster, as `multibond status` and the console show it.
//!
//! [`StatusView`] lists data centers, each with its networks, bonds and hosts, and each host with its paths. A path of
//! several bonds is one path: paths are listed by host, with the names of their bonds. A value that was not reported
//! yet is `None`. The document that `multibond status -o json` prints is [`json`], a type of its own: a field that a
//! page needs here does not become part of that format by itself.

pub mod json;
pub mod luns;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use crate::api::condition::Status;
use crate::api::reason::{ConditionType, PathReason, Reason};
use crate::api::{
    BondHostCounts, BondName, Connection, ConnectionState, DataCenter, Host, HostStatus, InterfaceName, Iqn, IscsiBond,
    Network, NetworkName, PathCounts, PathKey, Phase, PlannedPath, Portal, PortalFailure, is_explained_by,
};

/// The objects that were read from a cluster.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Data centers, in any order.
    pub data_centers: Vec<Arc<DataCenter>>,
    /// Networks, in any order.
    pub networks: Vec<Arc<Network>>,
    /// Bonds, in any order.
    pub bonds: Vec<Arc<IscsiBond>>,
    /// Hosts, in any order.
    pub hosts: Vec<Arc<Host>>,
    /// One line for each kind or object that could not be read, with the reason.
    pub unreadable: Vec<String>,
}

/// Everything that `multibond status` shows.
#[derive(Debug, Default)]
pub struct StatusView {
    /// Sorted by namespace and name.
    pub data_centers: Vec<DataCenterView>,
    /// One line for each kind or object that could not be read, with the reason. All others are shown.
    pub unreadable: Vec<String>,
}

/// A data center with its networks, bonds and hosts.
#[derive(Debug, Default)]
pub struct DataCenterView {
    /// The namespace of the data center, and of everything in it.
    pub namespace: String,
    /// The name of the `DataCenter`.
    pub name: String,
    /// Whether the `DataCenter` exists. If not, networks, bonds or hosts name it in `spec.dataCenter`.
    pub exists: bool,
    /// The names of `spec.storage`.
    pub storage: Vec<String>,
    /// From the status of the object.
    pub conditions: Vec<ConditionView>,
    /// Portals that fail on more than one host.
    pub portals: Vec<PortalFailure>,
    /// Sorted by name.
    pub networks: Vec<NetworkView>,
    /// Sorted by name.
    pub bonds: Vec<BondView>,
    /// Sorted by name.
    pub hosts: Vec<HostView>,
}

/// A condition of an object.
#[derive(Clone, Debug)]
pub struct ConditionView {
    /// Such as `Ready`.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Such as `NetworkNotFound`.
    pub reason: String,
    /// The reason as a sentence.
    pub message: String,
}

/// Shown for an object whose status the controller has not written yet.
pub const NOT_PROCESSED: &str = "not processed yet";

/// The conditions that are not True, without repetitions of the same reason and message. A condition that the
/// controller has not written yet (`Pending`) is left out.
#[must_use]
pub fn unmet_conditions(conditions: &[ConditionView]) -> Vec<&ConditionView> {
    let mut unmet: Vec<&ConditionView> = Vec::new();
    for it in conditions {
        if it.status == Status::True.as_str() || it.reason == Reason::Pending.as_str() {
            continue;
        }
        if !unmet.iter().any(|other| (&other.reason, &other.message) == (&it.reason, &it.message)) {
            unmet.push(it);
        }
    }
    unmet
}

/// Whether an object is Ready; `None` until the controller has written the condition.
#[must_use]
pub fn ready(conditions: &[ConditionView]) -> Option<bool> {
    let ready = conditions.iter().find(|condition| condition.r#type == ConditionType::Ready.as_str())?;
    match ready.status.as_str() {
        status if status == Status::True.as_str() => Some(true),
        status if status == Status::False.as_str() => Some(false),
        _ => None,
    }
}

/// A network.
#[derive(Debug)]
pub struct NetworkView {
    /// The name of the `Network`.
    pub name: String,
    /// In CIDR notation, from the spec.
    pub subnets: Vec<String>,
    /// The number of hosts that carry it; `None` until the controller has counted them.
    pub hosts: Option<u32>,
    /// From the status of the object.
    pub conditions: Vec<ConditionView>,
}

/// A bond.
#[derive(Debug)]
pub struct BondView {
    /// The name of the `IscsiBond`.
    pub name: String,
    /// The names in `spec.networks`, also of networks that do not exist.
    pub networks: Vec<String>,
    /// The iSCSI names in `spec.targets`; an empty list covers all targets.
    pub targets: Vec<String>,
    /// The hosts of the data center, counted by their state for this bond.
    pub hosts: Option<BondHostCounts>,
    /// Planned and connected paths of all hosts in service.
    pub paths: Option<PathCounts>,
    /// From the status of the object.
    pub conditions: Vec<ConditionView>,
}

/// A host.
#[derive(Debug)]
pub struct HostView {
    /// The name of the `Host`.
    pub name: String,
    /// The name of the Node that the host is.
    pub node: String,
    /// `None` until the controller has decided it.
    pub phase: Option<Phase>,
    /// Planned and connected paths.
    pub counts: Option<PathCounts>,
    /// From the status of the object.
    pub conditions: Vec<ConditionView>,
    /// Planned paths in the order of the plan, and then sessions that are not planned.
    pub paths: Vec<PathView>,
    /// Every path that has failed is one to a portal that fails on other hosts too: `DataCenterView::portals` has it.
    pub explained: bool,
}

/// A path.
#[derive(Debug)]
pub struct PathView {
    /// The iSCSI name of the target.
    pub target: Iqn,
    /// Address and port, in canonical form.
    pub portal: Portal,
    /// The target portal group tag.
    pub tpgt: u16,
    /// The network device; `None` for the default network.
    pub interface: Option<InterfaceName>,
    /// The name of the network; `None` for the default network, and for a path that is not planned.
    pub network: Option<NetworkName>,
    /// The bonds that it belongs to; empty for the default network.
    pub bonds: Vec<BondName>,
    /// Whether it is in the plan of the host.
    pub planned: bool,
    /// The state that the agent has reported; `None` before its first report.
    pub state: Option<ConnectionState>,
    /// Why it has failed or is retained.
    pub reason: Option<PathReason>,
    /// The reason as a sentence.
    pub message: Option<String>,
    /// The time at which it entered this state.
    pub since: Option<jiff::Timestamp>,
    /// The longest pause between two attempts, such as `30s`.
    pub retry_every: Option<String>,
}

impl From<&Snapshot> for StatusView {
    fn from(Snapshot { data_centers, networks, bonds, hosts, unreadable }: &Snapshot) -> Self {
        let mut views = Views::default();
        for it in data_centers {
            let view = views.of(it.namespace(), &it.name_any());
            view.exists = true;
            view.storage = it.spec.storage.iter().map(|storage| storage.name.clone()).collect();
            view.conditions = conditions(it.status.as_ref().map(|status| status.conditions.as_slice()));
            view.portals = it.status.as_ref().map(|status| status.portals.clone()).unwrap_or_default();
        }
        for it in networks {
            views.of(it.namespace(), &it.spec.data_center).networks.push(network(it));
        }
        for it in bonds {
            views.of(it.namespace(), &it.spec.data_center).bonds.push(bond(it));
        }
        for it in hosts {
            let center = views.of(it.namespace(), &it.spec.data_center);
            let explained = it.status.as_ref().is_some_and(|status| is_explained_by(status, &center.portals));
            center.hosts.push(HostView { explained, ..host(it) });
        }
        let mut data_centers: Vec<_> = views.0.into_values().collect();
        for view in &mut data_centers {
            view.networks.sort_by(|a, b| a.name.cmp(&b.name));
            view.bonds.sort_by(|a, b| a.name.cmp(&b.name));
            view.hosts.sort_by(|a, b| a.name.cmp(&b.name));
        }
        StatusView { data_centers, unreadable: unreadable.clone() }
    }
}

/// Data centers by namespace and name, also those that do not exist but are named by other objects.
#[derive(Default)]
struct Views(BTreeMap<(String, String), DataCenterView>);

impl Views {
    fn of(&mut self, namespace: Option<String>, name: &str) -> &mut DataCenterView {
        let namespace = namespace.unwrap_or_default();
        self.0.entry((namespace.clone(), name.to_owned())).or_insert_with(|| DataCenterView {
            namespace,
            name: name.to_owned(),
            ..DataCenterView::default()
        })
    }
}

fn conditions(conditions: Option<&[Condition]>) -> Vec<ConditionView> {
    let view = |condition: &Condition| ConditionView {
        r#type: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    };
    conditions.unwrap_or_default().iter().map(view).collect()
}

fn network(network: &Network) -> NetworkView {
    let status = network.status.as_ref();
    NetworkView {
        name: network.name_any(),
        subnets: network.spec.subnets.clone(),
        hosts: status.filter(|status| status.observed_generation.is_some()).map(|status| status.hosts),
        conditions: conditions(status.map(|status| status.conditions.as_slice())),
    }
}

fn bond(bond: &IscsiBond) -> BondView {
    // Before the first reconcile the status has only conditions: zeros would be taken for counts.
    let status = bond.status.as_ref();
    let observed = status.filter(|status| status.observed_generation.is_some());
    BondView {
        name: bond.name_any(),
        networks: bond.spec.networks.clone(),
        targets: bond.spec.targets.clone(),
        hosts: observed.map(|status| status.hosts),
        paths: observed.map(|status| status.paths),
        conditions: conditions(status.map(|status| status.conditions.as_slice())),
    }
}

/// The view of one host.
#[must_use]
pub fn host(host: &Host) -> HostView {
    let status = host.status.as_ref();
    let planned = status.and_then(|status| status.plan.as_ref()).map(|plan| &*plan.paths).unwrap_or_default();
    let connections = status.map(|status| status.connections.as_slice()).unwrap_or_default();
    // When two sessions are on one path, the first is shown.
    let actual: HashMap<PathKey<'_>, &Connection> = connections.iter().rev().map(|it| (it.key(), it)).collect();
    let wanted: HashSet<PathKey<'_>> = planned.iter().map(PlannedPath::key).collect();
    let paths = planned.iter().map(|path| {
        let connection = actual.get(&path.key()).copied();
        PathView {
            network: path.network.clone(),
            bonds: path.bonds.clone(),
            planned: true,
            interface: path.interface.clone(),
            ..path_view(&path.target, &path.portal, connection.map_or(path.tpgt, |it| it.tpgt), connection)
        }
    });
    let surplus = connections.iter().filter(|connection| !wanted.contains(&connection.key()));
    let surplus = surplus.map(|connection| PathView {
        interface: connection.interface.clone(),
        ..path_view(&connection.target, &connection.portal, connection.tpgt, Some(connection))
    });
    HostView {
        name: host.name_any(),
        node: host.spec.node_name.clone(),
        phase: status.and_then(HostStatus::effective_phase),
        counts: status.and_then(|status| status.paths),
        conditions: conditions(status.map(|status| status.conditions.as_slice())),
        paths: paths.chain(surplus).collect(),
        explained: false,
    }
}

fn path_view(target: &Iqn, portal: &Portal, tpgt: u16, connection: Option<&Connection>) -> PathView {
    PathView {
        target: target.clone(),
        portal: portal.clone(),
        tpgt,
        interface: None,
        network: None,
        bonds: Vec::new(),
        planned: false,
        state: connection.map(|connection| connection.state),
        reason: connection.and_then(|connection| connection.reason),
        message: connection.and_then(|connection| connection.message.clone()),
        since: connection.map(|connection| connection.since.0),
        retry_every: connection.and_then(|connection| connection.retry_every.clone()),
    }
}

/// A cluster for the tests of `multibond status` and of the console.
#[cfg(test)]
pub(crate) mod fixture {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Fixture {
        data_centers: Vec<Arc<DataCenter>>,
        networks: Vec<Arc<Network>>,
        bonds: Vec<Arc<IscsiBond>>,
        hosts: Vec<Arc<Host>>,
        unreadable: Vec<String>,
    }

    pub(crate) fn snapshot() -> Snapshot {
        let Fixture { data_centers, networks, bonds, hosts, unreadable } =
            serde_saphyr::from_str(include_str!("../tests/cli/data/status.yaml")).unwrap();
        Snapshot { data_centers, networks, bonds, hosts, unreadable }
    }
}
