//! An independent model of behaviour 1.4 to 1.7, written literally with sets and loops, without caches or indexes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use multibond::{
    api::{CarriedNetwork, DefaultNetwork, IscsiBond, Network, Pairing, PortalSpec, address::canonical_portal},
    planner::Objects,
};

/// Expected paths: (portal, tpgt, interface) -> the bonds that need the path, and the networks that it serves.
pub type Paths = BTreeMap<(String, u16, Option<String>), (BTreeSet<String>, BTreeSet<String>)>;

/// The expected outcome of a target on a host.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Paths(Paths),
    Held,
    NoNetwork,
}

/// The outcome of each target of a data center that is not being deleted, on a host that carries these networks.
pub fn outcomes(objects: &Objects, data_center: &str, carried: &[CarriedNetwork]) -> BTreeMap<String, Outcome> {
    let here = |d: &String| d == data_center;
    let networks: Vec<&Network> = objects
        .networks
        .iter()
        .filter(|n| here(&n.spec.data_center) && n.metadata.deletion_timestamp.is_none())
        .collect();
    let bonds: Vec<&IscsiBond> =
        objects.bonds.iter().filter(|b| here(&b.spec.data_center) && b.metadata.deletion_timestamp.is_none()).collect();
    let found = objects.data_centers.iter().find(|d| d.metadata.name.as_deref() == Some(data_center));
    let spec = &found.expect("the data center").spec;

    let mut targets: BTreeMap<String, Vec<&PortalSpec>> = BTreeMap::new();
    for target in spec.storage.iter().flat_map(|storage| &storage.targets) {
        targets.entry(target.iqn.clone()).or_default().extend(&target.portals);
    }
    let outcome = |iqn: &str, portals: &[&PortalSpec]| {
        let covering: Vec<&IscsiBond> = bonds
            .iter()
            .copied()
            .filter(|b| b.spec.targets.is_empty() || b.spec.targets.iter().any(|t| t == iqn))
            .collect();
        let named = covering.iter().flat_map(|bond| &bond.spec.networks);
        let exists = |name: &String| networks.iter().any(|network| network.metadata.name.as_ref() == Some(name));
        let has = |name: &String| exists(name) && carried.iter().any(|carried| carried.name == *name);
        if named.clone().any(has) {
            let auto = pair(&covering, &networks, portals, carried, |bond| bond.spec.pairing);
            let all = || pair(&covering, &networks, portals, carried, |_| Pairing::AllPairs);
            Outcome::Paths(if auto.is_empty() { all() } else { auto })
        } else if named.clone().any(|name| !exists(name)) {
            Outcome::Held
        } else if spec.default_network == DefaultNetwork::Never {
            Outcome::NoNetwork
        } else {
            let default =
                unique(portals).into_iter().map(|(text, portal)| ((text, portal.tpgt, None), Default::default()));
            Outcome::Paths(default.collect())
        }
    };
    targets.iter().map(|(iqn, portals)| (iqn.clone(), outcome(iqn, portals))).collect()
}

/// Removes duplicate portals. The one with the smallest pin stays.
fn unique<'a>(portals: &[&'a PortalSpec]) -> BTreeMap<String, &'a PortalSpec> {
    let mut sorted = portals.to_vec();
    sorted.sort_by_key(|portal| std::cmp::Reverse((&portal.network, portal.tpgt)));
    sorted.into_iter().map(|portal| (canonical_portal(&portal.address, portal.port), portal)).collect()
}

fn pair(
    bonds: &[&IscsiBond],
    networks: &[&Network],
    portals: &[&PortalSpec],
    carried: &[CarriedNetwork],
    pairing: impl Fn(&IscsiBond) -> Pairing,
) -> Paths {
    let mut paths = Paths::new();
    for (text, portal) in unique(portals) {
        for bond in bonds {
            let exist = networks.iter().filter_map(|network| network.metadata.name.as_deref());
            for network in exist.filter(|name| bond.spec.networks.iter().any(|named| named == name)) {
                if pairing(bond) == Pairing::Auto && !leads_to(portal, network, networks) {
                    continue;
                }
                for on in carried.iter().filter(|on| *on.name == *network) {
                    let key = (text.clone(), portal.tpgt, Some(on.interface.to_string()));
                    let (wanting, serving) = paths.entry(key).or_default();
                    wanting.insert(bond.metadata.name.clone().expect("a name"));
                    serving.insert(network.to_owned());
                }
            }
        }
    }
    paths
}

fn leads_to(portal: &PortalSpec, network: &str, networks: &[&Network]) -> bool {
    if let Some(pin) = &portal.network {
        return pin == network;
    }
    let Ok(address) = portal.address.parse::<IpAddr>() else { return true };
    let contains =
        |n: &&&Network| n.spec.subnets.iter().any(|s| s.parse::<IpNet>().expect("a subnet").contains(&address));
    let on: Vec<_> = networks.iter().filter(contains).filter_map(|n| n.metadata.name.as_deref()).collect();
    on.is_empty() || on.contains(&network)
}
