//! The networks that a host is attached to, and their devices. The API says that a host "carries" these networks.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use super::{
    address::host_address,
    view::{NetworkView, View},
};
use crate::api::{CarriedNetwork, CarrySource, Host, HostInterface, HostSpec, InterfaceName};

/// A network that a host carries.
#[derive(Clone, Debug)]
pub(super) struct Attachment {
    /// The network's index in the view.
    pub network: usize,
    /// The entry of `status.networks`.
    pub entry: CarriedNetwork,
}

/// The attachments of a host, sorted by network and interface.
///
/// `Host.spec.interfaces` decides for the networks that it names. For every other network, the interfaces count that
/// have or had an address in one of its subnets: a pulled NIC must not move storage traffic to another network. An
/// interface beside the one below it never counts, whichever of the two was seen first.
pub(super) fn attachments(view: &View, host: &Host) -> Vec<Attachment> {
    let mut by_spec = by_spec(&host.spec);
    let reported = reported(host);
    let mut remembered = remembered(host);
    let mut inside = inside(view, &reported);
    let mut attachments = Vec::new();
    for (index, network) in view.networks.iter().enumerate() {
        let before = remembered.remove(&*network.name).unwrap_or_default();
        let inside = inside.remove(&index).unwrap_or_default();
        let entries = match by_spec.remove(&*network.name) {
            Some(interfaces) => of_spec(network, interfaces),
            None if inside.is_empty() && before.is_empty() => continue,
            None => by_subnet(view, index, inside, &reported, &before),
        };
        attachments.extend(entries.into_iter().map(|entry| Attachment { network: index, entry }));
    }
    attachments
}

/// Whether the attachments depend on interfaces that the host has not reported: a bond names a network with subnets,
/// and `spec.interfaces` does not name that network.
pub(super) fn interfaces_unknown(view: &View, host: &Host) -> bool {
    if host.status.as_ref().is_some_and(|status| status.interfaces.is_some()) {
        return false;
    }
    let by_spec = by_spec(&host.spec);
    view.networks
        .iter()
        .enumerate()
        .any(|(index, network)| network.has_subnets && view.is_named(index) && !by_spec.contains_key(&*network.name))
}

/// The interfaces that the spec names for each network.
fn by_spec(spec: &HostSpec) -> HashMap<&str, Vec<&str>> {
    let mut interfaces: HashMap<&str, Vec<&str>> = HashMap::new();
    for interface in &spec.interfaces {
        for network in &interface.networks {
            interfaces.entry(network).or_default().push(&interface.name);
        }
    }
    interfaces
}

fn of_spec(network: &NetworkView, mut interfaces: Vec<&str>) -> Vec<CarriedNetwork> {
    interfaces.sort_unstable();
    interfaces.dedup();
    let entry = |interface: &str| CarriedNetwork {
        name: network.name.clone(),
        interface: interface.into(),
        source: CarrySource::Spec,
        address: None,
    };
    interfaces.into_iter().map(entry).collect()
}

/// An interface that the agent reports, with its addresses parsed.
struct Reported<'a> {
    interface: &'a HostInterface,
    addresses: Vec<(IpAddr, &'a str)>,
}

fn reported(host: &Host) -> Vec<Reported<'_>> {
    let interfaces = host.status.as_ref().and_then(|status| status.interfaces.as_deref()).unwrap_or_default();
    interfaces
        .iter()
        .map(|interface| Reported {
            interface,
            addresses: interface
                .addresses
                .iter()
                .filter_map(|text| Some((host_address(text)?, text.as_str())))
                .collect(),
        })
        .collect()
}

/// The entries of `status.networks` that were found by a subnet, by network; none if they belong to another data center.
fn remembered(host: &Host) -> HashMap<&str, Vec<&CarriedNetwork>> {
    let mut remembered: HashMap<&str, Vec<&CarriedNetwork>> = HashMap::new();
    if let Some(status) = &host.status
        && status.data_center.as_ref().is_none_or(|name| *name == host.spec.data_center)
    {
        for entry in status.networks.iter().filter(|entry| entry.source == CarrySource::Subnet) {
            remembered.entry(&entry.name).or_default().push(entry);
        }
    }
    remembered
}

/// The addresses of a host in the subnets of a network, by the position of their interface.
type Inside<'a> = BTreeMap<usize, Vec<&'a str>>;

/// The addresses of a host in the subnets of each network.
fn inside<'a>(view: &View, reported: &[Reported<'a>]) -> HashMap<usize, Inside<'a>> {
    let mut inside: HashMap<usize, Inside<'a>> = HashMap::new();
    for (at, Reported { addresses, .. }) in reported.iter().enumerate() {
        for (address, text) in addresses {
            for network in view.subnets.networks_of(*address) {
                inside.entry(network).or_default().entry(at).or_default().push(text);
            }
        }
    }
    // Where both have an address in a network, the interface below carries it.
    for carriers in inside.values_mut() {
        let names: BTreeSet<&str> = carriers.keys().map(|at| &*reported[*at].interface.name).collect();
        let is_beside = |at: usize| reported[at].interface.beside.as_deref().is_some_and(|below| names.contains(below));
        carriers.retain(|at, _| !is_beside(*at));
    }
    inside
}

fn by_subnet(
    view: &View,
    network: usize,
    inside: Inside<'_>,
    reported: &[Reported<'_>],
    before: &[&CarriedNetwork],
) -> Vec<CarriedNetwork> {
    let name = &view.networks[network].name;
    let mut entries = Vec::new();
    for (at, mut addresses) in inside {
        let interface = &reported[at].interface.name;
        let known = before.iter().find(|entry| entry.interface == *interface);
        let still = |text: &&str| known.is_some_and(|entry| entry.address.as_deref() == Some(*text));
        addresses.sort_unstable();
        // The last reported address is kept while the interface has it, so that a second address changes nothing.
        if let Some(address) = addresses.iter().copied().find(still).or(addresses.first().copied()) {
            entries.push(CarriedNetwork {
                name: name.clone(),
                interface: interface.clone(),
                source: CarrySource::Subnet,
                address: Some(address.to_owned()),
            });
        }
    }
    let carrying: Vec<InterfaceName> = entries.iter().map(|entry| entry.interface.clone()).collect();
    let is_beside = |entry: &CarriedNetwork| {
        let below = reported.iter().find(|it| it.interface.name == entry.interface);
        below.and_then(|it| it.interface.beside.as_ref()).is_some_and(|below| carrying.contains(below))
    };
    for entry in before.iter().filter(|entry| !is_beside(entry)) {
        let Some(address) = entry.address.as_deref().and_then(host_address) else { continue };
        let replaced = entries.iter().any(|now| now.interface == entry.interface);
        let moved = reported.iter().any(|other| {
            other.interface.name != entry.interface && other.addresses.iter().any(|(ip, _)| *ip == address)
        });
        if !replaced && !moved && view.subnets.networks_of(address).any(|within| within == network) {
            entries.push((*entry).clone());
        }
    }
    entries.sort();
    entries.dedup_by(|a, b| a.interface == b.interface);
    entries
}
