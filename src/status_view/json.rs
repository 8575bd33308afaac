//! The document that `multibond status -o json` and `-o yaml` print. Scripts rely on it: a field stays as it is, and new
//! ones are added only on purpose.

use serde::Serialize;

use super::{BondView, ConditionView, DataCenterView, HostView, NetworkView, PathView, StatusView};
use crate::api::reason::PathReason;
use crate::api::{BondHostCounts, BondName, ConnectionState, PathCounts, Phase, PortalFailure};

/// The document, which borrows from the view that it shows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<'a> {
    data_centers: Vec<DataCenter<'a>>,
    unreadable: &'a [String],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DataCenter<'a> {
    namespace: &'a str,
    name: &'a str,
    exists: bool,
    storage: &'a [String],
    conditions: Vec<Condition<'a>>,
    /// Portals that fail on more than one host.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    portals: &'a [PortalFailure],
    networks: Vec<Network<'a>>,
    bonds: Vec<Bond<'a>>,
    hosts: Vec<Host<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Condition<'a> {
    r#type: &'a str,
    status: &'a str,
    reason: &'a str,
    message: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Network<'a> {
    name: &'a str,
    subnets: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<u32>,
    conditions: Vec<Condition<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bond<'a> {
    name: &'a str,
    networks: &'a [String],
    targets: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<BondHostCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<PathCounts>,
    conditions: Vec<Condition<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Host<'a> {
    name: &'a str,
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<PathCounts>,
    conditions: Vec<Condition<'a>>,
    paths: Vec<Path<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Path<'a> {
    target: &'a str,
    portal: &'a str,
    tpgt: u16,
    /// Null for the default network.
    interface: Option<&'a str>,
    /// Null for the default network, and for a path that is not planned.
    network: Option<&'a str>,
    bonds: &'a [BondName],
    planned: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<ConnectionState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<PathReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_every: Option<&'a str>,
}

impl<'a> From<&'a StatusView> for Document<'a> {
    fn from(view: &'a StatusView) -> Self {
        Document { data_centers: all(&view.data_centers), unreadable: &view.unreadable }
    }
}

fn all<'a, View, Json: From<&'a View>>(views: &'a [View]) -> Vec<Json> {
    views.iter().map(Json::from).collect()
}

impl<'a> From<&'a DataCenterView> for DataCenter<'a> {
    fn from(view: &'a DataCenterView) -> Self {
        DataCenter {
            namespace: &view.namespace,
            name: &view.name,
            exists: view.exists,
            storage: &view.storage,
            conditions: all(&view.conditions),
            portals: &view.portals,
            networks: all(&view.networks),
            bonds: all(&view.bonds),
            hosts: all(&view.hosts),
        }
    }
}

impl<'a> From<&'a ConditionView> for Condition<'a> {
    fn from(view: &'a ConditionView) -> Self {
        Condition { r#type: &view.r#type, status: &view.status, reason: &view.reason, message: &view.message }
    }
}

impl<'a> From<&'a NetworkView> for Network<'a> {
    fn from(view: &'a NetworkView) -> Self {
        Network { name: &view.name, subnets: &view.subnets, hosts: view.hosts, conditions: all(&view.conditions) }
    }
}

impl<'a> From<&'a BondView> for Bond<'a> {
    fn from(view: &'a BondView) -> Self {
        Bond {
            name: &view.name,
            networks: &view.networks,
            targets: &view.targets,
            hosts: view.hosts,
            paths: view.paths,
            conditions: all(&view.conditions),
        }
    }
}

impl<'a> From<&'a HostView> for Host<'a> {
    fn from(view: &'a HostView) -> Self {
        Host {
            name: &view.name,
            node: &view.node,
            phase: view.phase,
            counts: view.counts,
            conditions: all(&view.conditions),
            paths: all(&view.paths),
        }
    }
}

impl<'a> From<&'a PathView> for Path<'a> {
    fn from(view: &'a PathView) -> Self {
        Path {
            target: &view.target,
            portal: &view.portal,
            tpgt: view.tpgt,
            interface: view.interface.as_deref(),
            network: view.network.as_deref(),
            bonds: &view.bonds,
            planned: view.planned,
            state: view.state,
            reason: view.reason,
            message: view.message.as_deref(),
            since: view.since,
            retry_every: view.retry_every.as_deref(),
        }
    }
}
