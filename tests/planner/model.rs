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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub paths: Paths,
    pub held: bool,
    /// The portals whose sessions a hold keeps: those that the data center still has.
    pub kept: BTreeSet<String>,
    pub no_network: bool,
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
        // A network that is being deleted is not unknown.
        let unknown = |name: &String| {
            let of_that_name = |n: &&Network| here(&n.spec.data_center) && n.metadata.name.as_ref() == Some(name);
            !objects.networks.iter().any(|network| of_that_name(&network))
        };
        let listed = bonds.iter().flat_map(|bond| &bond.spec.targets);
        let mut nearly = listed.filter(|listed| !targets.contains_key(*listed) && is_near_miss(listed, iqn));
        let held = named.clone().any(unknown) || (covering.is_empty() && nearly.next().is_some());
        let kept = unique(portals).into_keys().filter(|_| held).collect();
        let outcome = Outcome { held, kept, ..Outcome::default() };
        if named.clone().any(has) {
            let auto = pair(&covering, &networks, portals, carried, |bond| bond.spec.pairing);
            let all = || pair(&covering, &networks, portals, carried, |_| Pairing::AllPairs);
            Outcome { paths: if auto.is_empty() { all() } else { auto }, ..outcome }
        } else if held {
            outcome
        } else if spec.default_network == DefaultNetwork::Never {
            Outcome { no_network: true, ..outcome }
        } else {
            let default =
                unique(portals).into_iter().map(|(text, portal)| ((text, portal.tpgt, None), Default::default()));
            Outcome { paths: default.collect(), ..outcome }
        }
    };
    targets.iter().map(|(iqn, portals)| (iqn.clone(), outcome(iqn, portals))).collect()
}

/// Whether two names are equal but for case and punctuation, or one character was inserted, left out, or swapped with
/// its neighbour.
fn is_near_miss(one: &str, other: &str) -> bool {
    let letters = |name: &str| name.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "");
    let without = |name: &str, at: usize| name.chars().enumerate().filter(|(i, _)| *i != at).map(|(_, c)| c).collect();
    let shorter = |name: &str| (0..name.chars().count()).map(|at| without(name, at)).collect::<Vec<String>>();
    let swapped = |name: &str| {
        let swap = |at: usize| {
            let mut chars: Vec<char> = name.chars().collect();
            chars.swap(at, at + 1);
            chars.into_iter().collect::<String>()
        };
        (0..name.chars().count().saturating_sub(1)).map(swap).collect::<Vec<String>>()
    };
    one != other
        && (letters(one) == letters(other)
            || shorter(one).iter().any(|name| name == other)
            || shorter(other).iter().any(|name| name == one)
            || swapped(one).iter().any(|name| name == other))
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
