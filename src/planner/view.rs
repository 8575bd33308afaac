//! A data center as the planner needs it: compiled once, then used for each of its hosts. Plain data.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, OnceLock},
};

use ipnet::IpNet;
use kube::Resource;

use super::{
    address::subnets,
    bits::Bits,
    near_miss::{NearMisses, NearlyNamed},
    subnets::SubnetTable,
    too_large::{MAX_BONDS, MAX_NETWORKS, MAX_UNKNOWN_TARGETS, PlanTooLarge},
};
use crate::api::{
    BondName, DataCenter, DefaultNetwork, HeldPortals, Iqn, IscsiBond, Network, NetworkName, Pairing, Portal,
    PortalSpec, SecretName, SessionSettings, Storage, StorageName, address::parse_ip,
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
    pub(super) subnets: SubnetTable,
    /// Sorted by name, without those that are being deleted.
    pub(super) bonds: Vec<BondView>,
    /// Sorted by name.
    pub(super) targets: Vec<TargetView>,
    /// The networks of each [`Place::On`]. Many portals are in the same place.
    pub(super) places: Vec<Bits>,
    /// Why no plan is made from this data center. Then bonds cover nothing and portals are nowhere: nothing that grows
    /// faster than the objects is computed.
    pub(super) too_large: Option<PlanTooLarge>,
    /// The targets that bonds list and no storage has, sorted, with the first few targets that each is a near miss of.
    pub(super) unknown_targets: BTreeMap<String, Vec<Iqn>>,
    /// The names of `networks`, indexed when one is first looked for.
    near_networks: OnceLock<NearMisses>,
    /// Targets that more than one storage lists, with these storages.
    pub(super) duplicate_targets: BTreeMap<String, Vec<String>>,
    /// Portals that a target has more than once, as (target, canonical portal).
    pub(super) duplicate_portals: Vec<(String, Portal)>,
}

#[derive(Clone, Debug)]
pub(super) struct NetworkView {
    pub name: NetworkName,
    pub has_subnets: bool,
    pub mtu: Option<u32>,
    /// The bonds that name it, by their pairing.
    pub auto: Bits,
    pub all_pairs: Bits,
}

#[derive(Clone, Debug)]
pub(super) struct BondView {
    pub name: BondName,
    /// Indices of its networks that exist.
    pub networks: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct TargetView {
    pub iqn: Iqn,
    pub storage: StorageName,
    pub chap_secret: Option<SecretName>,
    /// Sorted by name.
    pub portals: Vec<PortalView>,
    pub coverage: Arc<Coverage>,
    /// Its sessions are left as they are: a bond that covers it names a network that does not exist, or no bond covers it
    /// and a bond lists nearly its name. A mistyped name must not move storage traffic to another network.
    pub held: bool,
    /// The first few bonds that hold it.
    pub held_by: Arc<[BondName]>,
}

impl TargetView {
    /// Its portals, for a plan that holds it.
    pub fn hold_portals(&self) -> HeldPortals {
        let portals = self.portals.iter().map(|portal| portal.name.clone()).collect();
        HeldPortals { target: self.iqn.clone(), portals }
    }
}

/// The bonds that cover a target. Targets that no bond lists share one.
#[derive(Clone, Debug, Default)]
pub(super) struct Coverage {
    pub bonds: Bits,
    /// The networks that these bonds name.
    pub networks: Bits,
    /// A bond among them pairs each portal with each network.
    pub pairs_all: bool,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// On these, by its pin or by subnets: an index of `View::places`. Empty if it is pinned to a network that does not
    /// exist.
    On(usize),
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
        let every_network = networks;
        let networks = present(networks, |network| network.metadata.deletion_timestamp.is_none());
        let bonds = present(bonds, |bond| bond.metadata.deletion_timestamp.is_none());
        let merged = merge_targets(&data_center.spec.storage);
        let unknown = unknown_targets(&merged, &bonds);
        let too_large = if networks.len() > MAX_NETWORKS {
            Some(PlanTooLarge::Networks(networks.len()))
        } else if bonds.len() > MAX_BONDS {
            Some(PlanTooLarge::Bonds(bonds.len()))
        } else if unknown.len() > MAX_UNKNOWN_TARGETS {
            Some(PlanTooLarge::UnknownTargets(unknown.len()))
        } else {
            None
        };
        let unknown = if too_large.is_none() { unknown } else { BTreeSet::new() };
        let paired = if too_large.is_none() { bonds.len() } else { 0 };
        let mut network_views = network_views(&networks, paired);
        let index: HashMap<&str, usize> =
            networks.iter().enumerate().map(|(at, network)| (name_of(*network), at)).collect();
        let subnets = if too_large.is_none() { subnet_table(&networks) } else { SubnetTable::default() };
        let mut places = Places::new(&subnets, &index, network_views.len());
        let bond_views: Vec<BondView> = bonds.iter().map(|bond| bond_view(bond, &index)).collect();
        // The name of a network that is being deleted is not mistyped.
        let existing: HashSet<&str> = every_network.iter().map(|network| name_of(*network)).collect();
        let mut bonds_with_unknown = Bits::new(paired);
        for (at, (bond, view)) in bonds.iter().zip(&bond_views).enumerate().take(paired) {
            let unknown = |name: &String| !existing.contains(name.as_str());
            if bond.spec.networks.iter().any(unknown) {
                bonds_with_unknown.insert(at);
            }
            for network in &view.networks {
                match bond.spec.pairing {
                    Pairing::Auto => network_views[*network].auto.insert(at),
                    Pairing::AllPairs => network_views[*network].all_pairs.insert(at),
                }
            }
        }
        let coverages = coverages(&merged, &bonds[..paired], &network_views);
        let near_targets = near_targets(&merged, &unknown);
        let mut duplicate_portals = Vec::new();
        let mut holders = Holders::new(&bonds[..paired], &bonds_with_unknown, &near_targets);
        let targets = merged
            .by_iqn
            .into_iter()
            .map(|(iqn, target)| {
                let coverage = coverages.of(iqn);
                let held_by = holders.of(coverage, near_targets.held.contains(iqn));
                TargetView {
                    portals: portal_views(iqn, &target.portals, &mut places, &mut duplicate_portals),
                    held: held_by.is_some(),
                    held_by: held_by.unwrap_or_default(),
                    coverage: coverage.clone(),
                    iqn: iqn.into(),
                    storage: target.storage.into(),
                    chap_secret: target.secret.map(SecretName::from),
                }
            })
            .collect();
        View {
            unknown_targets: near_targets.shown,
            near_networks: OnceLock::new(),
            deleting: data_center.metadata.deletion_timestamp.is_some() || namespace_terminating,
            default_network: data_center.spec.default_network,
            session: data_center.spec.session,
            bonds: bond_views,
            targets,
            places: places.found,
            too_large,
            duplicate_targets: merged.duplicates,
            duplicate_portals,
            networks: network_views,
            subnets,
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

    /// Why no plan is made from this data center, if none is.
    #[must_use]
    pub fn too_large(&self) -> Option<&PlanTooLarge> {
        self.too_large.as_ref()
    }

    /// The index of the network with this name.
    pub(super) fn network(&self, name: &str) -> Option<usize> {
        self.networks.binary_search_by(|network| (*network.name).cmp(name)).ok()
    }

    /// The first few networks that a name, which is none's, is probably a mistyped form of.
    pub(super) fn near_networks(&self, name: &str) -> Vec<&str> {
        // There may be very many.
        if self.too_large.is_some() {
            return Vec::new();
        }
        let index = || NearMisses::of(self.networks.iter().map(|network| network.name.as_str()));
        self.near_networks.get_or_init(index).search(name)
    }

    /// Whether a bond names this network.
    pub(super) fn is_named(&self, network: usize) -> bool {
        let NetworkView { auto, all_pairs, .. } = &self.networks[network];
        !(auto.is_empty() && all_pairs.is_empty())
    }
}

/// The objects that are not being deleted, sorted by name.
fn present<'a, K: Resource>(objects: &[&'a K], is_present: impl Fn(&K) -> bool) -> Vec<&'a K> {
    let mut present: Vec<&K> = objects.iter().copied().filter(|object| is_present(object)).collect();
    present.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
    present
}

fn name_of(object: &impl Resource) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

fn network_views(networks: &[&Network], bonds: usize) -> Vec<NetworkView> {
    let view = |network: &&Network| NetworkView {
        name: name_of(*network).into(),
        has_subnets: !network.spec.subnets.is_empty(),
        mtu: network.spec.mtu,
        auto: Bits::new(bonds),
        all_pairs: Bits::new(bonds),
    };
    networks.iter().map(view).collect()
}

fn subnet_table(networks: &[&Network]) -> SubnetTable {
    let of = |(at, network): (usize, &&Network)| subnets(&network.spec.subnets).into_iter().map(move |net| (at, net));
    SubnetTable::new(networks.iter().enumerate().flat_map(of))
}

fn bond_view(bond: &IscsiBond, index: &HashMap<&str, usize>) -> BondView {
    let mut networks: Vec<usize> =
        bond.spec.networks.iter().filter_map(|name| index.get(name.as_str()).copied()).collect();
    networks.sort_unstable();
    BondView { name: name_of(bond).into(), networks }
}

/// The bonds that cover each target.
struct Coverages<'a> {
    /// Of a target that no bond lists.
    every_target: Arc<Coverage>,
    by_target: HashMap<&'a str, Arc<Coverage>>,
}

impl Coverages<'_> {
    fn of(&self, iqn: &str) -> &Arc<Coverage> {
        self.by_target.get(iqn).unwrap_or(&self.every_target)
    }
}

/// The number of bonds that a message names as those that hold a target.
const HOLDERS_SHOWN: usize = 4;

/// The bonds that hold targets.
struct Holders<'a> {
    bonds: &'a [&'a IscsiBond],
    with_unknown_network: &'a Bits,
    /// The first few bonds that list nearly the name of a target.
    nearly: Arc<[BondName]>,
    /// Of the coverage before: targets of one coverage have the same.
    last: Option<(Arc<Coverage>, Arc<[BondName]>)>,
}

impl<'a> Holders<'a> {
    fn new(bonds: &'a [&'a IscsiBond], with_unknown_network: &'a Bits, near: &NearTargets<'_>) -> Self {
        let is_near = |iqn: &String| near.shown.get(iqn).is_some_and(|near| !near.is_empty());
        let listing =
            bonds.iter().filter(|_| !near.held.is_empty()).filter(|bond| bond.spec.targets.iter().any(is_near));
        let nearly = listing.take(HOLDERS_SHOWN).map(|bond| name_of(*bond).into()).collect();
        Holders { bonds, with_unknown_network, nearly, last: None }
    }

    /// The first few bonds that hold a target; `None` if it is not held.
    fn of(&mut self, coverage: &Arc<Coverage>, nearly_named: bool) -> Option<Arc<[BondName]>> {
        if coverage.bonds.is_empty() {
            return nearly_named.then(|| self.nearly.clone());
        }
        if !coverage.bonds.meets(self.with_unknown_network) {
            return None;
        }
        if let Some((_, known)) = self.last.as_ref().filter(|(last, _)| Arc::ptr_eq(last, coverage)) {
            return Some(known.clone());
        }
        let mut holding = coverage.bonds.clone();
        holding.keep(self.with_unknown_network);
        let names: Arc<[BondName]> =
            holding.iter().take(HOLDERS_SHOWN).map(|bond| name_of(self.bonds[bond]).into()).collect();
        self.last = Some((coverage.clone(), names.clone()));
        Some(names)
    }
}

/// The targets that bonds list and no storage has, sorted.
fn unknown_targets<'a>(merged: &MergedTargets<'_>, bonds: &[&'a IscsiBond]) -> BTreeSet<&'a str> {
    let listed = bonds.iter().flat_map(|bond| &bond.spec.targets).map(String::as_str);
    listed.filter(|iqn| !merged.by_iqn.contains_key(iqn)).collect()
}

/// What unknown targets are near misses of.
#[derive(Default)]
struct NearTargets<'a> {
    /// The first few, by unknown target.
    shown: BTreeMap<String, Vec<Iqn>>,
    /// All.
    held: HashSet<&'a str>,
}

fn near_targets<'a>(merged: &MergedTargets<'a>, unknown: &BTreeSet<&str>) -> NearTargets<'a> {
    if unknown.is_empty() {
        return NearTargets::default();
    }
    let index = NearMisses::of(merged.by_iqn.keys().copied());
    let mut noted = NearlyNamed::default();
    let mut shown = BTreeMap::new();
    for name in unknown {
        let near = index.note(name, &mut noted).into_iter().map(Iqn::from).collect();
        shown.insert((*name).to_owned(), near);
    }
    let known = merged.by_iqn.keys().enumerate();
    let held = known.filter(|(at, _)| index.is_noted(*at, &noted)).map(|(_, iqn)| *iqn).collect();
    NearTargets { shown, held }
}

fn coverages<'a>(merged: &MergedTargets<'a>, bonds: &[&IscsiBond], networks: &[NetworkView]) -> Coverages<'a> {
    let known: HashMap<&str, &'a str> = merged.by_iqn.keys().map(|iqn| (*iqn, *iqn)).collect();
    let mut every_target = Bits::new(bonds.len());
    let mut listed: HashMap<&'a str, Bits> = HashMap::new();
    for (at, bond) in bonds.iter().enumerate() {
        if bond.spec.targets.is_empty() {
            every_target.insert(at);
        }
        for iqn in bond.spec.targets.iter().filter_map(|iqn| known.get(iqn.as_str()).copied()) {
            listed.entry(iqn).or_insert_with(|| Bits::new(bonds.len())).insert(at);
        }
    }
    let coverage = |bonds: Bits| {
        let mut named = Bits::new(networks.len());
        let mut pairs_all = false;
        for (at, network) in networks.iter().enumerate() {
            let all_pairs = network.all_pairs.meets(&bonds);
            pairs_all |= all_pairs;
            if all_pairs || network.auto.meets(&bonds) {
                named.insert(at);
            }
        }
        Arc::new(Coverage { bonds, networks: named, pairs_all })
    };
    let by_target = listed.into_iter().map(|(iqn, mut bonds)| {
        bonds.add(&every_target);
        (iqn, coverage(bonds))
    });
    Coverages { by_target: by_target.collect(), every_target: coverage(every_target) }
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

/// The distinct places of portals, while they are collected.
struct Places<'a> {
    subnets: &'a SubnetTable,
    networks: &'a HashMap<&'a str, usize>,
    count: usize,
    found: Vec<Bits>,
    /// By the network of the pin, if it exists.
    pinned: HashMap<Option<usize>, usize>,
    /// By the longest subnet.
    by_subnet: HashMap<IpNet, usize>,
}

impl<'a> Places<'a> {
    fn new(subnets: &'a SubnetTable, networks: &'a HashMap<&'a str, usize>, count: usize) -> Self {
        let (pinned, by_subnet) = (HashMap::new(), HashMap::new());
        Places { subnets, networks, count, found: Vec::new(), pinned, by_subnet }
    }

    fn of(&mut self, portal: &PortalSpec) -> Place {
        if let Some(pin) = &portal.network {
            let network = self.networks.get(pin.as_str()).copied();
            let known = self.pinned.get(&network).copied();
            let place = known.unwrap_or_else(|| self.add(network));
            self.pinned.insert(network, place);
            return Place::On(place);
        }
        let Some(address) = parse_ip(&portal.address) else { return Place::Anywhere };
        let Some(longest) = self.subnets.longest(address) else { return Place::Anywhere };
        let known = self.by_subnet.get(&longest).copied();
        let place = known.unwrap_or_else(|| self.add(self.subnets.networks_of(address)));
        self.by_subnet.insert(longest, place);
        Place::On(place)
    }

    fn add(&mut self, networks: impl IntoIterator<Item = usize>) -> usize {
        let mut place = Bits::new(self.count);
        for network in networks {
            place.insert(network);
        }
        self.found.push(place);
        self.found.len() - 1
    }
}

/// One portal per canonical address and port; of equal ones the one with the smallest pin counts.
fn portal_views(
    iqn: &str,
    portals: &[&PortalSpec],
    places: &mut Places<'_>,
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
        views.push(PortalView { name, tpgt: portal.tpgt, pin: portal.network.clone(), place: places.of(portal) });
    }
    duplicates.dedup();
    views
}
