//! The networks that a host is attached to, and their devices. The API says that a host "carries" these networks.

use std::net::IpAddr;

use super::{
    address::host_address,
    view::{NetworkView, View},
};
use crate::api::{
    CarriedNetwork, CarrySource, Host, HostInterface, HostSpec, HostWarning, NetworkName, reason::PreparedReason,
};

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
/// have or had an address in one of its subnets: a pulled NIC must not move storage traffic to another network.
pub(super) fn attachments(view: &View, host: &Host) -> Vec<Attachment> {
    let reported = reported(host);
    let remembered = remembered(host);
    let mut attachments = Vec::new();
    for (index, network) in view.networks.iter().enumerate() {
        let by_spec = by_spec(&host.spec, &network.name);
        let entries = if by_spec.is_empty() { by_subnet(network, &reported, remembered) } else { by_spec };
        attachments.extend(entries.into_iter().map(|entry| Attachment { network: index, entry }));
    }
    attachments
}

/// Whether the attachments depend on interfaces that the host has not reported: a bond names a network with subnets,
/// and `spec.interfaces` does not name that network.
pub(super) fn interfaces_unknown(view: &View, host: &Host) -> bool {
    let reported = host.status.as_ref().is_some_and(|status| status.interfaces.is_some());
    let decided_by_subnet = |network: usize| {
        let network = &view.networks[network];
        !network.subnets.is_empty() && !spec_names(&host.spec, &network.name)
    };
    !reported && view.bonds.iter().flat_map(|bond| &bond.networks).any(|&network| decided_by_subnet(network))
}

fn spec_names(spec: &HostSpec, network: &str) -> bool {
    spec.interfaces.iter().any(|interface| interface.networks.iter().any(|name| name == network))
}

fn by_spec(spec: &HostSpec, network: &NetworkName) -> Vec<CarriedNetwork> {
    let mut entries: Vec<CarriedNetwork> = spec
        .interfaces
        .iter()
        .filter(|interface| interface.networks.iter().any(|name| network == name))
        .map(|interface| CarriedNetwork {
            name: network.clone(),
            interface: interface.name.as_str().into(),
            source: CarrySource::Spec,
            address: None,
        })
        .collect();
    entries.sort();
    entries.dedup();
    entries
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

/// The entries of `status.networks`; none if they belong to another data center.
fn remembered(host: &Host) -> &[CarriedNetwork] {
    match &host.status {
        Some(status) if status.data_center.as_ref().is_none_or(|name| *name == host.spec.data_center) => {
            &status.networks
        }
        _ => &[],
    }
}

fn by_subnet(network: &NetworkView, reported: &[Reported<'_>], remembered: &[CarriedNetwork]) -> Vec<CarriedNetwork> {
    if network.subnets.is_empty() {
        return Vec::new();
    }
    let within = |address: &IpAddr| network.subnets.iter().any(|subnet| subnet.contains(address));
    let before: Vec<&CarriedNetwork> =
        remembered.iter().filter(|entry| *entry.name == *network.name && entry.source == CarrySource::Subnet).collect();

    let mut entries = Vec::new();
    for Reported { interface, addresses } in reported {
        let known = before.iter().find(|entry| *entry.interface == *interface.name);
        let still = |text: &&str| known.is_some_and(|entry| entry.address.as_deref() == Some(*text));
        let mut inside: Vec<&str> = addresses.iter().filter(|(ip, _)| within(ip)).map(|(_, text)| *text).collect();
        inside.sort_unstable();
        // The last reported address is kept while the interface has it, so that a second address changes nothing.
        if let Some(address) = inside.iter().copied().find(still).or(inside.first().copied()) {
            entries.push(CarriedNetwork {
                name: network.name.clone(),
                interface: interface.name.clone(),
                source: CarrySource::Subnet,
                address: Some(address.to_owned()),
            });
        }
    }
    for entry in before {
        let Some(address) = entry.address.as_deref().and_then(host_address) else { continue };
        let replaced = entries.iter().any(|now| now.interface == entry.interface);
        let moved = reported.iter().any(|other| {
            other.interface.name != entry.interface && other.addresses.iter().any(|(ip, _)| *ip == address)
        });
        if !replaced && !moved && within(&address) {
            entries.push(entry.clone());
        }
    }
    entries.sort();
    entries.dedup_by(|a, b| a.interface == b.interface);
    entries
}

/// Warns of each interface whose MTU differs from the MTU of its network. An MTU of 0 was not reported.
#[must_use]
pub fn mtu_warnings(view: &View, host: &Host, networks: &[CarriedNetwork]) -> Vec<HostWarning> {
    let interfaces = host.status.as_ref().and_then(|status| status.interfaces.as_deref()).unwrap_or_default();
    let warning = |attached: &CarriedNetwork| {
        let CarriedNetwork { name, interface, .. } = attached;
        let needed = view.networks.iter().find(|network| network.name == *name)?.mtu?;
        let found = interfaces.iter().find(|reported| reported.name == *interface)?.mtu;
        let message = format!("{interface} carries {name} with MTU {found}, and the network needs {needed}");
        (found != 0 && found != needed).then_some(HostWarning { reason: PreparedReason::MTUMismatch, message })
    };
    networks.iter().filter_map(warning).collect()
}
