//! The objects of the engine's REST API, with the fields that the import needs.
//!
//! The types and fields follow oVirt's public API model (`ovirt-engine-api-model`, `src/main/java/types`). In its JSON
//! numbers and booleans are often strings, links are objects with an `id`, and a list is an object whose one field is
//! named after the element (`{"network": [...]}`).

use std::{fmt::Display, str::FromStr};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The lists that are read.
const LISTS: [&str; 8] =
    ["data_center", "cluster", "network", "host", "host_nic", "storage_connection", "storage_domain", "iscsi_bond"];

/// All objects that were read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct OvirtEngine {
    #[serde(rename = "data_center")]
    pub data_centers: Vec<OvirtDataCenter>,
    #[serde(rename = "cluster")]
    pub clusters: Vec<OvirtCluster>,
    #[serde(rename = "network")]
    pub networks: Vec<OvirtNetwork>,
    #[serde(rename = "host")]
    pub hosts: Vec<OvirtHost>,
    #[serde(rename = "host_nic")]
    pub nics: Vec<HostNic>,
    #[serde(rename = "storage_connection")]
    pub connections: Vec<StorageConnection>,
    #[serde(rename = "storage_domain")]
    pub domains: Vec<StorageDomain>,
    #[serde(rename = "iscsi_bond")]
    pub bonds: Vec<OvirtBond>,
}

/// A data center.
#[derive(Clone, Debug, Deserialize)]
pub struct OvirtDataCenter {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
}

/// A reference to an object; some answers have only the name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Link {
    pub id: Option<String>,
    pub name: Option<String>,
}

impl Link {
    /// Whether the link refers to the object with this id.
    pub fn is(&self, id: &str) -> bool {
        self.id.as_deref() == Some(id)
    }
}

/// A cluster: it belongs to a data center, and has hosts.
#[derive(Clone, Debug, Deserialize)]
pub struct OvirtCluster {
    pub id: String,
    #[serde(default)]
    pub data_center: Link,
}

/// A logical network.
#[derive(Clone, Debug, Deserialize)]
pub struct OvirtNetwork {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub data_center: Link,
    /// In bytes; 0 means the engine's default.
    #[serde(default, deserialize_with = "possibly_quoted")]
    pub mtu: Option<u32>,
    /// The name of the bridge on the hosts, if the network's own name is not valid there.
    #[serde(default)]
    pub vdsm_name: Option<String>,
}

/// A host.
#[derive(Clone, Debug, Deserialize)]
pub struct OvirtHost {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub cluster: Link,
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub nics: Nics,
}

/// The NICs of a host, if the request followed them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Nics {
    pub host_nic: Vec<HostNic>,
}

/// A device of a host: a NIC, a VLAN or a bonding device.
#[derive(Clone, Debug, Deserialize)]
pub struct HostNic {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub host: Link,
    #[serde(default)]
    pub network: Option<Link>,
    #[serde(default)]
    pub ip: Option<Ip>,
    #[serde(default)]
    pub ipv6: Option<Ip>,
    /// True if the network is on a bridge over the device. The bridge then has the address.
    #[serde(default, deserialize_with = "possibly_quoted")]
    pub bridged: Option<bool>,
}

/// An address with its mask: dotted for IPv4, a prefix length for IPv6.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ip {
    pub address: Option<String>,
    pub netmask: Option<String>,
}

/// A connection to a storage server; for iSCSI one portal of one target.
#[derive(Clone, Debug, Deserialize)]
pub struct StorageConnection {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    #[serde(default)]
    pub address: Option<String>,
    #[serde(default, deserialize_with = "possibly_quoted")]
    pub port: Option<u16>,
    #[serde(default)]
    pub target: Option<String>,
    /// The target portal group tag, alone or as in `10.0.0.1:3260,1`.
    #[serde(default)]
    pub portal: Option<String>,
    #[serde(default)]
    pub username: Option<String>,
}

/// A list of storage connections inside another object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct StorageConnections {
    pub storage_connection: Vec<StorageConnection>,
}

/// A storage domain, which may use several targets.
#[derive(Clone, Debug, Deserialize)]
pub struct StorageDomain {
    pub name: String,
    #[serde(default)]
    pub data_centers: DataCenters,
    #[serde(default)]
    pub storage_connections: StorageConnections,
}

/// The data centers that a storage domain is attached to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DataCenters {
    pub data_center: Vec<Link>,
}

/// An iSCSI bond.
#[derive(Clone, Debug, Deserialize)]
pub struct OvirtBond {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub data_center: Link,
    #[serde(default)]
    pub networks: Networks,
    #[serde(default)]
    pub storage_connections: StorageConnections,
}

/// The networks of a bond.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Networks {
    pub network: Vec<Link>,
}

impl OvirtEngine {
    /// Reads answers of the API; one text may have several.
    ///
    /// # Errors
    /// If the text is not JSON, not a known list, or a list whose items do not have the fields of the API.
    pub fn read(&mut self, text: &str) -> anyhow::Result<()> {
        for answer in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            let answer = answer.context("expected an answer of the engine's API in JSON (Accept: application/json)")?;
            let understood = answer.as_object().is_some_and(|list| {
                // An empty list is an empty object.
                list.is_empty() || LISTS.iter().any(|name| list.get(*name).is_some_and(Value::is_array))
            });
            ensure!(understood, "expected a list, which is an object with one of the fields {}", LISTS.join(", "));
            self.add(serde_json::from_value(answer).context("an object differs from the engine's API")?);
        }
        Ok(())
    }

    /// Adds objects. An object that several answers contain counts once; the first one stays.
    fn add(&mut self, other: OvirtEngine) {
        let OvirtEngine { data_centers, clusters, networks, hosts, nics, connections, domains, bonds } = other;
        add_new(&mut self.data_centers, data_centers, |center| center.id.clone());
        add_new(&mut self.clusters, clusters, |cluster| cluster.id.clone());
        add_new(&mut self.networks, networks, |network| network.id.clone());
        add_new(&mut self.hosts, hosts, |host| host.id.clone());
        add_new(&mut self.nics, nics, |nic| nic.id.clone());
        add_new(&mut self.connections, connections, |connection| connection.id.clone());
        add_new(&mut self.domains, domains, |domain| domain.name.clone());
        add_new(&mut self.bonds, bonds, |bond| bond.id.clone());
    }

    /// The hosts of a data center, sorted by name.
    pub fn hosts_of(&self, data_center: &str) -> Vec<&OvirtHost> {
        let in_center = |cluster: &&OvirtCluster| cluster.data_center.is(data_center);
        let clusters: Vec<&OvirtCluster> = self.clusters.iter().filter(in_center).collect();
        let mut hosts: Vec<&OvirtHost> =
            self.hosts.iter().filter(|host| clusters.iter().any(|cluster| host.cluster.is(&cluster.id))).collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts
    }

    /// The devices of a host, whether they were followed or listed separately.
    pub fn nics_of<'a>(&'a self, host: &'a OvirtHost) -> impl Iterator<Item = &'a HostNic> {
        let listed = self
            .nics
            .iter()
            .filter(|nic| nic.host.is(&host.id) && !host.nics.host_nic.iter().any(|followed| followed.id == nic.id));
        host.nics.host_nic.iter().chain(listed)
    }
}

fn add_new<T, K: PartialEq>(all: &mut Vec<T>, new: Vec<T>, id: impl Fn(&T) -> K) {
    for object in new {
        if !all.iter().any(|known| id(known) == id(&object)) {
            all.push(object);
        }
    }
}

/// Reads a number or a boolean that may be written as a string.
fn possibly_quoted<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: Display,
{
    let text = match Option::<Value>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    };
    text.parse().map(Some).map_err(|error| serde::de::Error::custom(format_args!("{text:?}: {error}")))
}
