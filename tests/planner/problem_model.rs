//! An independent model of the mistakes that span objects: for each object the reasons, found by trying every pair.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use multibond::{
    api::{Host, IscsiBond, Network},
    planner::{Objects, PlannedHost},
};

/// Kind, name and reason of a problem.
pub type Mistake = (&'static str, String, &'static str);

/// The reasons that the model finds. It finds nothing about a data center itself.
pub const REASONS: [(&str, &[&str]); 3] = [
    ("Network", &["DataCenterNotFound", "SubnetShared", "SubnetNested"]),
    (
        "IscsiBond",
        &[
            "DataCenterNotFound",
            "NetworkNotFound",
            "NetworkInOtherDataCenter",
            "TargetNotFound",
            "NetworkNotCarried",
            "HostsDiffer",
        ],
    ),
    (
        "Host",
        &["DataCenterNotFound", "NetworkNotFound", "AddressOutsideSubnets", "DuplicateInitiatorName", "NoNetwork"],
    ),
];

/// The mistakes in objects of one namespace. What hosts carry is taken from their plans.
pub fn mistakes(objects: &Objects, plans: &[PlannedHost]) -> BTreeSet<Mistake> {
    let model = Model { objects, plans };
    let networks = objects.networks.iter().filter(|network| network.metadata.deletion_timestamp.is_none());
    let bonds = objects.bonds.iter().filter(|bond| bond.metadata.deletion_timestamp.is_none());
    let hosts = objects.hosts.iter().filter(|host| host.metadata.deletion_timestamp.is_none());
    let mut found = BTreeSet::new();
    for network in networks {
        let name = network.metadata.name.clone().expect("a name");
        found.extend(model.of_network(network).into_iter().map(|reason| ("Network", name.clone(), reason)));
    }
    for bond in bonds {
        let name = bond.metadata.name.clone().expect("a name");
        found.extend(model.of_bond(bond).into_iter().map(|reason| ("IscsiBond", name.clone(), reason)));
    }
    for host in hosts {
        let name = host.metadata.name.clone().expect("a name");
        found.extend(model.of_host(host).into_iter().map(|reason| ("Host", name.clone(), reason)));
    }
    found
}

struct Model<'a> {
    objects: &'a Objects,
    plans: &'a [PlannedHost],
}

impl Model<'_> {
    fn exists(&self, data_center: &str) -> bool {
        self.objects.data_centers.iter().any(|center| center.metadata.name.as_deref() == Some(data_center))
    }

    /// The networks of a data center that are not being deleted.
    fn networks(&self, data_center: &str) -> Vec<&Network> {
        let here = |network: &&Network| {
            network.spec.data_center == data_center && network.metadata.deletion_timestamp.is_none()
        };
        self.objects.networks.iter().filter(here).collect()
    }

    fn network(&self, data_center: &str, name: &str) -> Option<&Network> {
        self.networks(data_center).into_iter().find(|network| network.metadata.name.as_deref() == Some(name))
    }

    fn of_network(&self, network: &Network) -> Vec<&'static str> {
        let center = &network.spec.data_center;
        if !self.exists(center) {
            return vec!["DataCenterNotFound"];
        }
        let others = self.networks(center).into_iter().filter(|other| other.metadata.name != network.metadata.name);
        let others: Vec<IpNet> = others.flat_map(subnets).collect();
        let shared = subnets(network).iter().any(|subnet| others.contains(subnet));
        let nested = subnets(network).iter().any(|subnet| others.iter().any(|other| other.contains(subnet)));
        if shared {
            vec!["SubnetShared"]
        } else if nested {
            vec!["SubnetNested"]
        } else {
            Vec::new()
        }
    }

    /// For each host of the data center that is in service, the networks of a bond that it carries.
    fn carried(&self, bond: &IscsiBond) -> Vec<BTreeSet<String>> {
        let here =
            |planned: &&PlannedHost| planned.data_center == bond.spec.data_center && planned.plan.reason.is_none();
        let of_bond = |planned: &PlannedHost| {
            let names = planned.plan.networks.iter().map(|carried| carried.name.to_string());
            names.filter(|name| bond.spec.networks.contains(name)).collect()
        };
        self.plans.iter().filter(here).map(of_bond).collect()
    }

    fn of_bond(&self, bond: &IscsiBond) -> Vec<&'static str> {
        let center = &bond.spec.data_center;
        if !self.exists(center) {
            return vec!["DataCenterNotFound"];
        }
        let mut found = Vec::new();
        let anywhere = |name: &String| {
            let present = self.objects.networks.iter().filter(|network| network.metadata.deletion_timestamp.is_none());
            present.filter_map(|network| network.metadata.name.as_ref()).any(|present| present == name)
        };
        let (known, unknown): (Vec<&String>, Vec<&String>) =
            bond.spec.networks.iter().partition(|name| self.network(center, name).is_some());
        if unknown.iter().any(|name| !anywhere(name)) {
            found.push("NetworkNotFound");
        }
        if unknown.iter().any(|name| anywhere(name)) {
            found.push("NetworkInOtherDataCenter");
        }
        let this = self.objects.data_centers.iter().filter(|it| it.metadata.name.as_ref() == Some(center));
        let storages = this.flat_map(|center| &center.spec.storage).flat_map(|storage| &storage.targets);
        let targets: Vec<&String> = storages.map(|target| &target.iqn).collect();
        if bond.spec.targets.iter().any(|target| !targets.contains(&target)) {
            found.push("TargetNotFound");
        }
        let carried = self.carried(bond);
        if !carried.is_empty() && known.iter().any(|name| !carried.iter().any(|host| host.contains(*name))) {
            found.push("NetworkNotCarried");
        }
        let most = carried.iter().map(BTreeSet::len).max().unwrap_or_default();
        if carried.iter().any(|host| !host.is_empty() && host.len() < most) {
            found.push("HostsDiffer");
        }
        found
    }

    fn of_host(&self, host: &Host) -> Vec<&'static str> {
        let mut found = Vec::new();
        let initiator = initiator_name(host);
        let others = self.objects.hosts.iter().filter(|other| other.metadata.deletion_timestamp.is_none());
        let mut others = others.filter(|other| other.spec.node_name != host.spec.node_name);
        if initiator.is_some() && others.any(|other| initiator_name(other) == initiator) {
            found.push("DuplicateInitiatorName");
        }
        let center = &host.spec.data_center;
        let plan = self.plans.iter().find(|planned| Some(&planned.name) == host.metadata.name.as_ref());
        if !self.exists(center) {
            let claimed = plan.and_then(|planned| planned.plan.reason).is_some_and(|why| why.as_str() == "NodeClaimed");
            found.extend((!claimed).then_some("DataCenterNotFound"));
            return found;
        }
        if plan.is_some_and(|planned| !planned.plan.no_network.is_empty()) {
            found.push("NoNetwork");
        }
        let named = || host.spec.interfaces.iter().flat_map(|it| it.networks.iter().map(move |name| (&it.name, name)));
        if named().any(|(_, name)| self.network(center, name).is_none()) {
            found.push("NetworkNotFound");
        }
        let outside = |interface: &String, network: &Network| {
            let addresses = addresses(host, interface);
            let inside = |address: &IpAddr| subnets(network).iter().any(|subnet| subnet.contains(address));
            !network.spec.subnets.is_empty() && !addresses.is_empty() && !addresses.iter().any(inside)
        };
        let mut on_networks = named().filter_map(|(name, network)| Some((name, self.network(center, network)?)));
        if on_networks.any(|(interface, network)| outside(interface, network)) {
            found.push("AddressOutsideSubnets");
        }
        found
    }
}

fn subnets(network: &Network) -> Vec<IpNet> {
    network.spec.subnets.iter().map(|subnet| subnet.parse().expect("a subnet")).collect()
}

fn initiator_name(host: &Host) -> Option<&String> {
    host.status.as_ref()?.agent.as_ref()?.initiator_name.as_ref()
}

/// The addresses that the agent has reported for a device.
fn addresses(host: &Host, interface: &str) -> Vec<IpAddr> {
    let reported = host.status.iter().filter_map(|status| status.interfaces.as_ref()).flatten();
    let of_device = reported.filter(|device| *device.name == *interface).flat_map(|device| &device.addresses);
    of_device.map(|address| address.parse::<IpNet>().expect("an address").addr()).collect()
}
