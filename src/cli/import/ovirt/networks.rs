//! Imports networks. Their subnets come from the addresses that the hosts have on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    engine::{HostNic, Ip, OvirtEngine, OvirtHost, OvirtNetwork},
    names::UniqueNames,
};

/// A network as it is written into the manifests.
#[derive(Debug)]
pub struct ImportedNetwork {
    /// The id in the engine.
    pub id: String,
    pub name: String,
    /// The name in the engine.
    pub original: String,
    pub description: Option<String>,
    pub mtu: Option<u32>,
    /// The subnets of the addresses that hosts have on it; empty if another network has one of them too.
    pub subnets: BTreeSet<IpNet>,
    /// The devices that Hosts must name, because no subnet identifies them; by the id of the host.
    pub devices: BTreeMap<String, Vec<String>>,
}

/// The networks of a data center that its iSCSI bonds use, and remarks on what cannot be imported.
pub fn import(
    engine: &OvirtEngine,
    data_center: &str,
    used: &BTreeSet<&str>,
    hosts: &[&OvirtHost],
) -> (Vec<ImportedNetwork>, Vec<String>) {
    let of_center: Vec<&OvirtNetwork> =
        engine.networks.iter().filter(|network| network.data_center.is(data_center)).collect();
    let mut wanted: Vec<&OvirtNetwork> =
        of_center.iter().copied().filter(|network| used.contains(network.id.as_str())).collect();
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    let (mut names, mut remarks) = (UniqueNames::default(), Vec::new());
    if wanted.len() < of_center.len() {
        remarks.push(format!("{} networks that no iSCSI bond uses are left out", of_center.len() - wanted.len()));
    }

    let addresses: Vec<BTreeSet<IpNet>> = wanted.iter().map(|network| subnets(engine, network, hosts)).collect();
    let mut imported = Vec::new();
    for (at, network) in wanted.iter().enumerate() {
        let others = || addresses.iter().enumerate().filter(|(other, _)| *other != at).flat_map(|(_, nets)| nets);
        let shared = addresses[at].iter().find(|subnet| others().any(|other| overlap(subnet, other)));
        if let Some(subnet) = shared {
            remarks.push(format!(
                "network {}: its subnet {subnet} belongs to another network too, so each Host names its devices",
                network.name
            ));
        }
        let subnets = if shared.is_some() { BTreeSet::new() } else { addresses[at].clone() };
        let mut devices: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for host in hosts {
            for nic in on_network(engine, host, network) {
                if subnets.is_empty() || addresses_of(nic).next().is_none() {
                    let device = device(nic, network);
                    remarks.push(format!(
                        "host {}: network {} is assigned to {device} by name: check that the node's device has this name",
                        host.name, network.name
                    ));
                    devices.entry(host.id.clone()).or_default().push(device);
                }
            }
        }
        if subnets.is_empty() && devices.is_empty() {
            remarks.push(format!("network {}: no host has a device on it", network.name));
        }
        imported.push(ImportedNetwork {
            id: network.id.clone(),
            name: names.give(&network.id, &network.name),
            original: network.name.clone(),
            description: network.description.clone(),
            // 0 means the engine's default; values that IPv4 or Ethernet do not allow were never in use.
            mtu: network.mtu.filter(|mtu| (68..=65536).contains(mtu)),
            subnets,
            devices,
        });
    }
    (imported, remarks)
}

/// The subnets in which the hosts have their addresses on a network.
fn subnets(engine: &OvirtEngine, network: &OvirtNetwork, hosts: &[&OvirtHost]) -> BTreeSet<IpNet> {
    let nics = hosts.iter().flat_map(|host| on_network(engine, host, network));
    nics.flat_map(addresses_of).map(|address| address.trunc()).collect()
}

fn on_network<'a>(
    engine: &'a OvirtEngine,
    host: &'a OvirtHost,
    network: &'a OvirtNetwork,
) -> impl Iterator<Item = &'a HostNic> {
    engine.nics_of(host).filter(|nic| {
        // Some answers have the name of the network and no link to it.
        let link = nic.network.as_ref();
        link.is_some_and(|link| link.is(&network.id) || link.id.is_none() && link.name.as_ref() == Some(&network.name))
    })
}

/// The device that has the address: the bridge if there is one (vdsm names it after the network), else the NIC.
fn device(nic: &HostNic, network: &OvirtNetwork) -> String {
    if nic.bridged == Some(true) {
        network.vdsm_name.clone().unwrap_or_else(|| network.name.clone())
    } else {
        nic.name.clone()
    }
}

/// The addresses of a device that other machines can reach: not link-local, not unspecified.
fn addresses_of(nic: &HostNic) -> impl Iterator<Item = IpNet> {
    [&nic.ip, &nic.ipv6].into_iter().flatten().filter_map(address).filter(|net| match net.addr() {
        IpAddr::V4(address) => !address.is_link_local() && !address.is_unspecified(),
        IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_unspecified(),
    })
}

fn address(ip: &Ip) -> Option<IpNet> {
    let mask = ip.netmask.as_deref()?;
    match ip.address.as_deref()?.parse().ok()? {
        IpAddr::V4(address) => {
            let mask: Ipv4Addr = mask.parse().ok()?;
            Ipv4Net::with_netmask(address, mask).ok().map(IpNet::V4)
        }
        IpAddr::V6(address) => Ipv6Net::new(address, mask.parse().ok()?).ok().map(IpNet::V6),
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}
