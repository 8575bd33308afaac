//! The networks of an address, by their subnets. A lookup costs as many steps as there are prefix lengths, however many
//! networks and subnets a data center has.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

/// The networks (indices in the view) of each subnet.
#[derive(Clone, Debug, Default)]
pub(super) struct SubnetTable {
    networks: HashMap<IpNet, Vec<usize>>,
    /// The prefix lengths that occur, for IPv4 and for IPv6; the longest first.
    lengths: [Vec<u8>; 2],
}

impl SubnetTable {
    /// The table of these subnets, each with the index of its network. Host bits must be zero.
    pub(super) fn new(subnets: impl IntoIterator<Item = (usize, IpNet)>) -> Self {
        let mut table = SubnetTable::default();
        let mut lengths = [BTreeSet::new(), BTreeSet::new()];
        for (network, subnet) in subnets {
            lengths[usize::from(subnet.addr().is_ipv6())].insert(subnet.prefix_len());
            let networks = table.networks.entry(subnet).or_default();
            if networks.last() != Some(&network) {
                networks.push(network);
            }
        }
        table.lengths = lengths.map(|lengths| lengths.into_iter().rev().collect());
        table
    }

    /// The longest subnet that contains an address. Subnets are nested, so two addresses with the same longest subnet
    /// are in the same subnets.
    pub(super) fn longest(&self, address: IpAddr) -> Option<IpNet> {
        self.containing(address).next().map(|(subnet, _)| subnet)
    }

    /// The networks whose subnets contain an address; a network may come more than once.
    pub(super) fn networks_of(&self, address: IpAddr) -> impl Iterator<Item = usize> {
        self.containing(address).flat_map(|(_, networks)| networks.iter().copied())
    }

    /// The networks that have this subnet or one around it, with that one; the narrowest first.
    pub(super) fn around(&self, subnet: IpNet) -> impl Iterator<Item = (IpNet, usize)> {
        let around = self.containing(subnet.addr()).filter(move |(outer, _)| outer.prefix_len() <= subnet.prefix_len());
        around.flat_map(|(outer, networks)| networks.iter().map(move |network| (outer, *network)))
    }

    fn containing(&self, address: IpAddr) -> impl Iterator<Item = (IpNet, &[usize])> {
        self.lengths[usize::from(address.is_ipv6())].iter().filter_map(move |length| {
            let subnet = IpNet::new(address, *length).ok()?.trunc();
            Some((subnet, self.networks.get(&subnet)?.as_slice()))
        })
    }
}
