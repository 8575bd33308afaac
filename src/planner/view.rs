//! A data center as the planner needs it: compiled once, then used for each of its hosts. Plain data.

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;

use super::address::subnets;
use crate::api::{
    BondName, DataCenter, DefaultNetwork, Iqn, IscsiBond, Network, NetworkName, Pairing, Portal, PortalSpec,
    SecretName, SessionSettings, Storage, StorageName, address::parse_ip,
};

/// A data center with its networks and bonds, indexed: the cost of a host's plan does not grow with the number of other
/// hosts, or of objects that do not concern the host.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) deleting: bool,
    pub(super) default_network: DefaultNetwork,
    pub(super) session: SessionSettings,
    /// Sorted by name, without those that are being deleted.
    pub(super) networks: Vec<NetworkView>,
    /// Sorted by name, without those that are being deleted.
    pub(super) bonds: Vec<BondView>,
    /// Sorted by name.
    pub(super) targets: Vec<TargetView>,
    /// Targets that more than one storage lists, with these storages.
    pub(super) duplicate_targets: BTreeMap<String, Vec<String>>,
    /// Portals that a target has more than once, as (target, canonical portal).
    pub(super) duplicate_portals: Vec<(String, Portal)>,
}

#[derive(Clone, Debug)]
pub(super) struct NetworkView {
    pub name: NetworkName,
    pub subnets: Vec<IpNet>,
    pub mtu: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct BondView {
    pub name: BondName,
    /// Indices of its networks that exist.
    pub networks: Vec<usize>,
    /// The bond names a network that does not exist in the data center.
    pub names_unknown_network: bool,
    pub pairing: Pairing,
}

#[derive(Clone, Debug)]
pub(super) struct TargetView {
    pub iqn: Iqn,
    pub storage: StorageName,
    pub chap_secret: Option<SecretName>,
    /// Sorted by name.
    pub portals: Vec<PortalView>,
    /// Indices of the bonds that cover it.
    pub bonds: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct PortalView {
    pub name: Portal,
    pub tpgt: u16,
    /// The network's name. The network need not exist.
    pub pin: Option<String>,
    pub place: Place,
}

/// The networks that a portal is on, for `Pairing::Auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On these, by its pin or by subnets. Empty if it is pinned to a network that does not exist.
    On(Vec<usize>),
    /// On none: it is routed, or a DNS name, and can be reached through any network.
    Anywhere,
}

impl View {
    /// Compiles a data center. `networks` and `bonds` are those that name it, in any order; `namespace_terminating`
    /// makes it count as being deleted.
    #[must_use]
    pub fn compile(
        data_center: &DataCenter,
        networks: &[&Network],
        bonds: &[&IscsiBond],
        namespace_terminating: bool,
    ) -> Self {
        let networks = network_views(networks);
        let index: HashMap<&str, usize> = networks.iter().enumerate().map(|(i, n)| (&*n.name, i)).collect();
        let (bond_views, coverage) = bond_views(bonds, &index);
        let merged = merge_targets(&data_center.spec.storage);
        let mut duplicate_portals = Vec::new();
        let targets = merged
            .by_iqn
            .into_iter()
            .map(|(iqn, target)| TargetView {
                portals: portal_views(iqn, &target.portals, &networks, &index, &mut duplicate_portals),
                bonds: coverage.of(iqn),
                iqn: iqn.into(),
                storage: target.storage.into(),
                chap_secret: target.secret.map(SecretName::from),
            })
            .collect();
        View {
            deleting: data_center.metadata.deletion_timestamp.is_some() || namespace_terminating,
            default_network: data_center.spec.default_network,
            session: data_center.spec.session,
            bonds: bond_views,
            targets,
            duplicate_targets: merged.duplicates,
            duplicate_portals,
            networks,
        }
    }

    /// Whether the data center is being deleted.
    #[must_use]
    pub fn deleting(&self) -> bool {
        self.deleting
    }

    /// The session settings of every path.
    #[must_use]
    pub fn session(&self) -> SessionSettings {
        self.session
    }
}

fn network_views(networks: &[&Network]) -> Vec<NetworkView> {
    let mut views: Vec<NetworkView> = networks
        .iter()
        .filter(|network| network.metadata.deletion_timestamp.is_none())
        .map(|network| NetworkView {
            name: network.metadata.name.as_deref().unwrap_or_default().into(),
            subnets: subnets(&network.spec.subnets),
            mtu: network.spec.mtu,
        })
        .collect();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views
}

/// The bonds that cover each target.
struct Coverage {
    every_target: Vec<usize>,
    by_target: HashMap<String, Vec<usize>>,
}

impl Coverage {
    fn of(&self, iqn: &str) -> Vec<usize> {
        let listed = self.by_target.get(iqn).map(Vec::as_slice).unwrap_or_default();
        let mut bonds = [self.every_target.as_slice(), listed].concat();
        bonds.sort_unstable();
        bonds
    }
}

fn bond_views(bonds: &[&IscsiBond], networks: &HashMap<&str, usize>) -> (Vec<BondView>, Coverage) {
    let mut present: Vec<&IscsiBond> =
        bonds.iter().copied().filter(|bond| bond.metadata.deletion_timestamp.is_none()).collect();
    present.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));

    let mut coverage = Coverage { every_target: Vec::new(), by_target: HashMap::new() };
    let mut views = Vec::with_capacity(present.len());
    for (index, bond) in present.iter().enumerate() {
        let mut known: Vec<usize> =
            bond.spec.networks.iter().filter_map(|name| networks.get(name.as_str()).copied()).collect();
        known.sort_unstable();
        views.push(BondView {
            name: bond.metadata.name.as_deref().unwrap_or_default().into(),
            names_unknown_network: known.len() < bond.spec.networks.len(),
            networks: known,
            pairing: bond.spec.pairing,
        });
        if bond.spec.targets.is_empty() {
            coverage.every_target.push(index);
        }
        for iqn in &bond.spec.targets {
            coverage.by_target.entry(iqn.clone()).or_default().push(index);
        }
    }
    (views, coverage)
}

/// A target that one or more storages list.
struct MergedTarget<'a> {
    storage: &'a str,
    secret: Option<&'a str>,
    portals: Vec<&'a PortalSpec>,
}

struct MergedTargets<'a> {
    by_iqn: BTreeMap<&'a str, MergedTarget<'a>>,
    duplicates: BTreeMap<String, Vec<String>>,
}

/// One target per name: the union of its portals, everything else from the first storage by name.
fn merge_targets(storage: &[Storage]) -> MergedTargets<'_> {
    let mut sorted: Vec<&Storage> = storage.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut merged = MergedTargets { by_iqn: BTreeMap::new(), duplicates: BTreeMap::new() };
    for (storage, target) in sorted.iter().flat_map(|storage| storage.targets.iter().map(move |t| (storage, t))) {
        if let Some(known) = merged.by_iqn.get_mut(target.iqn.as_str()) {
            known.portals.extend(&target.portals);
            let first = || vec![known.storage.to_owned()];
            merged.duplicates.entry(target.iqn.clone()).or_insert_with(first).push(storage.name.clone());
        } else {
            let secret = target.chap.as_ref().map(|chap| chap.secret_ref.name.as_str());
            let portals = target.portals.iter().collect();
            merged.by_iqn.insert(&target.iqn, MergedTarget { storage: &storage.name, secret, portals });
        }
    }
    merged
}

/// One portal per canonical address and port; of equal ones the one with the smallest pin counts.
fn portal_views(
    iqn: &str,
    portals: &[&PortalSpec],
    networks: &[NetworkView],
    index: &HashMap<&str, usize>,
    duplicates: &mut Vec<(String, Portal)>,
) -> Vec<PortalView> {
    let mut sorted: Vec<(Portal, &PortalSpec)> =
        portals.iter().map(|portal| (Portal::new(&portal.address, portal.port), *portal)).collect();
    sorted.sort_by(|(a_name, a), (b_name, b)| (a_name, &a.network, a.tpgt).cmp(&(b_name, &b.network, b.tpgt)));
    let mut views: Vec<PortalView> = Vec::with_capacity(sorted.len());
    for (name, portal) in sorted {
        if views.last().is_some_and(|last| last.name == name) {
            duplicates.push((iqn.to_owned(), name));
            continue;
        }
        views.push(PortalView {
            name,
            tpgt: portal.tpgt,
            pin: portal.network.clone(),
            place: place(portal, networks, index),
        });
    }
    duplicates.dedup();
    views
}

fn place(portal: &PortalSpec, networks: &[NetworkView], index: &HashMap<&str, usize>) -> Place {
    if let Some(pin) = &portal.network {
        return Place::On(index.get(pin.as_str()).copied().into_iter().collect());
    }
    let Some(address) = parse_ip(&portal.address) else { return Place::Anywhere };
    let on: Vec<usize> = (0..networks.len())
        .filter(|&network| networks[network].subnets.iter().any(|subnet| subnet.contains(&address)))
        .collect();
    if on.is_empty() { Place::Anywhere } else { Place::On(on) }
}
