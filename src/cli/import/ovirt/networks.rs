//! Networks: their subnets come from the addresses that the hosts have on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    engine::{Engine, Host, HostNic, Ip, Network},
    names::Names,
};

/// A network as it will be.
#[derive(Debug)]
pub struct ImportedNetwork {
    /// In the engine.
    pub id: String,
    pub name: String,
    /// The engine's name.
    pub original: String,
    pub description: Option<String>,
    pub mtu: Option<u32>,
    /// In which hosts have their addresses on it.
    pub subnets: BTreeSet<IpNet>,
    /// Devices that must be named because no subnet tells them, by the id of the host.
    pub devices: BTreeMap<String, Vec<String>>,
}

/// The networks of a data center that its iSCSI bonds use, and what cannot be imported of them.
pub fn import(
    engine: &Engine,
    data_center: &str,
    used: &BTreeSet<&str>,
    hosts: &[&Host],
) -> (Vec<ImportedNetwork>, Vec<String>) {
    let of_center: Vec<&Network> =
        engine.networks.iter().filter(|network| network.data_center.is(data_center)).collect();
    let mut wanted: Vec<&Network> =
        of_center.iter().copied().filter(|network| used.contains(network.id.as_str())).collect();
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    let (mut names, mut remarks) = (Names::default(), Vec::new());
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
                "network {}: its subnet {subnet} is another network's too, so its devices are named on each host",
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
                        "host {}: network {} is on {device} by name: see that the node's device is named so",
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
            // 0 stands for the engine's default; what IPv4 or Ethernet cannot do was never in use.
            mtu: network.mtu.filter(|mtu| (68..=65536).contains(mtu)),
            subnets,
            devices,
        });
    }
    (imported, remarks)
}

/// The subnets in which the hosts have their addresses on a network.
fn subnets(engine: &Engine, network: &Network, hosts: &[&Host]) -> BTreeSet<IpNet> {
    let nics = hosts.iter().flat_map(|host| on_network(engine, host, network));
    nics.flat_map(addresses_of).map(|address| address.trunc()).collect()
}

fn on_network<'a>(engine: &'a Engine, host: &'a Host, network: &'a Network) -> impl Iterator<Item = &'a HostNic> {
    engine.nics_of(host).filter(|nic| {
        // Some answers name the network and do not link it.
        let link = nic.network.as_ref();
        link.is_some_and(|link| link.is(&network.id) || link.id.is_none() && link.name.as_ref() == Some(&network.name))
    })
}

/// The device that has the address: the bridge, where the network is on one (vdsm names it after the network).
fn device(nic: &HostNic, network: &Network) -> String {
    if nic.bridged == Some(true) {
        network.vdsm_name.clone().unwrap_or_else(|| network.name.clone())
    } else {
        nic.name.clone()
    }
}

/// The addresses of a device that hosts can be reached by from elsewhere.
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
