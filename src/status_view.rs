//! What `multibond status` and the console show, as a value: `multibond status -o json` is this structure.
//!
//! Data centers, each with its networks, bonds and hosts; each host with its paths. A path of several bonds is one
//! path, so paths are listed by host, with the names of their bonds. Fields that nobody has reported are absent.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde::Serialize;

use crate::api::condition::Status;
use crate::api::reason::{ConditionType, PathReason, Reason};
use crate::api::{
    BondHostCounts, Connection, ConnectionState, DataCenter, Host, IscsiBond, Network, PathCounts, PathKey, Phase,
    PlannedPath,
};

/// What was read from a cluster.
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
    /// What could not be read, and why.
    pub unreadable: Vec<String>,
}

/// Everything that `multibond status` shows.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// By namespace and name.
    pub data_centers: Vec<DataCenterView>,
    /// What could not be read, and why: with few permissions the rest is still shown.
    pub unreadable: Vec<String>,
}

/// A data center, and what belongs to it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataCenterView {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether there is a `DataCenter`; if not, only others name it.
    pub exists: bool,
    /// Names of its storages.
    pub storage: Vec<String>,
    /// Its conditions.
    pub conditions: Vec<ConditionView>,
    /// Its networks, by name.
    pub networks: Vec<NetworkView>,
    /// Its bonds, by name.
    pub bonds: Vec<BondView>,
    /// Its hosts, by name.
    pub hosts: Vec<HostView>,
}

/// A condition of an object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionView {
    /// Which aspect.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, as one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

/// The conditions that are not True, those with the same reason and message once. A condition that the controller has
/// not written yet (`Pending`) is left out.
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
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkView {
    /// Its name.
    pub name: String,
    /// Its subnets.
    pub subnets: Vec<String>,
    /// Hosts that carry it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<u32>,
    /// Its conditions.
    pub conditions: Vec<ConditionView>,
}

/// A bond.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BondView {
    /// Its name.
    pub name: String,
    /// The networks that it names.
    pub networks: Vec<String>,
    /// The targets that it covers; none means all.
    pub targets: Vec<String>,
    /// The data center's hosts, by how they stand towards the bond.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<BondHostCounts>,
    /// Its paths on all hosts in service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<PathCounts>,
    /// Its conditions.
    pub conditions: Vec<ConditionView>,
}

/// A host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostView {
    /// Its name.
    pub name: String,
    /// Its Node.
    pub node: String,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// How many paths are planned, and how many of them are connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<PathCounts>,
    /// Its conditions.
    pub conditions: Vec<ConditionView>,
    /// Planned paths, in the plan's order, and then those that are connected and not planned.
    pub paths: Vec<PathView>,
}

/// A path.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathView {
    /// The target's iSCSI name.
    pub target: String,
    /// Address and port.
    pub portal: String,
    /// The target portal group tag.
    pub tpgt: u16,
    /// The device; null for the default network.
    pub interface: Option<String>,
    /// The network; null for the default network, and for a path that is not planned.
    pub network: Option<String>,
    /// The bonds that ask for it; none for the default network.
    pub bonds: Vec<String>,
    /// Whether it is planned.
    pub planned: bool,
    /// Where it stands; absent until the agent has reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ConnectionState>,
    /// Why it has failed, or is retained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<PathReason>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
    /// The longest pause between two attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
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
        }
        for it in networks {
            views.of(it.namespace(), &it.spec.data_center).networks.push(network(it));
        }
        for it in bonds {
            views.of(it.namespace(), &it.spec.data_center).bonds.push(bond(it));
        }
        for it in hosts {
            views.of(it.namespace(), &it.spec.data_center).hosts.push(host(it));
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

/// Data centers by namespace and name, also those that are only named.
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
    // Before the controller has looked there are conditions only: zeros would be read as counts.
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

/// A host with its paths.
#[must_use]
pub fn host(host: &Host) -> HostView {
    let status = host.status.as_ref();
    let planned = status.and_then(|status| status.plan.as_ref()).map(|plan| &*plan.paths).unwrap_or_default();
    let connections = status.map(|status| status.connections.as_slice()).unwrap_or_default();
    // Of two sessions on one path the first is shown.
    let actual: HashMap<PathKey<'_>, &Connection> = connections.iter().rev().map(|it| (it.key(), it)).collect();
    let wanted: HashSet<PathKey<'_>> = planned.iter().map(PlannedPath::key).collect();
    let paths = planned.iter().map(|path| {
        let connection = actual.get(&path.key()).copied();
        PathView {
            network: path.network.as_deref().map(str::to_owned),
            bonds: path.bonds.iter().map(ToString::to_string).collect(),
            planned: true,
            interface: path.interface.as_deref().map(str::to_owned),
            ..path_view(&path.target, &path.portal, path.tpgt, connection)
        }
    });
    let surplus = connections.iter().filter(|connection| !wanted.contains(&connection.key()));
    let surplus = surplus.map(|connection| PathView {
        interface: connection.interface.as_deref().map(str::to_owned),
        ..path_view(&connection.target, &connection.portal, connection.tpgt, Some(connection))
    });
    HostView {
        name: host.name_any(),
        node: host.spec.node_name.clone(),
        phase: status.and_then(|status| status.phase),
        counts: status.and_then(|status| status.paths),
        conditions: conditions(status.map(|status| status.conditions.as_slice())),
        paths: paths.chain(surplus).collect(),
    }
}

fn path_view(target: &str, portal: &str, tpgt: u16, connection: Option<&Connection>) -> PathView {
    PathView {
        target: target.to_owned(),
        portal: portal.to_owned(),
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

/// A cluster for tests: what `multibond status` and the console show of it.
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
