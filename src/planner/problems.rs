//! Problems between objects, such as a name that refers to nothing. The API server accepts such objects, so the problem
//! is reported on the object that has to be corrected.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    hash::Hash,
    sync::Arc,
};

use super::{
    address::subnets,
    host_warnings::host_warnings,
    names::{HOST_SHOWN, UnknownName},
    plan::HostPlan,
    too_large::PlanTooLarge,
    view::{Place, PortalView, TargetView, View},
};
use crate::api::{
    BondName, DataCenter, Host, Iqn, IscsiBond, Network, NetworkName, ObjectKind, PlannedPath, Portal, first_few,
    iscsi_name, portal_policy,
    reason::{EmptyReason, Reason},
};

/// A problem of an object that only shows together with other objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object's kind.
    pub kind: ObjectKind,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The reason of the condition that reports the problem in a cluster.
    pub reason: &'static str,
    /// The message for the user: what was found, what was expected, and what to do.
    pub message: String,
}

impl Problem {
    /// Whether this may be meant: hosts of several kinds, or a network that no host carries yet. Everything else is wrong
    /// whatever was meant.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        [Reason::HostsDiffer, Reason::NetworkNotCarried].iter().any(|reason| reason.as_str() == self.reason)
    }
}

/// The problems of a data center's storage.
#[must_use]
pub fn data_center_problems(view: &View, namespace: &str, name: &str) -> Vec<Problem> {
    let problem = |reason: Reason, message: String| Problem {
        kind: ObjectKind::DataCenter,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        reason: reason.as_str(),
        message,
    };
    let targets = view.duplicate_targets.iter().map(|(target, storages)| {
        problem(
            Reason::DuplicateTarget,
            format!(
                "target {target} is listed by the storages {}: it counts as one target of {} with the portals of all; list it once",
                storages.join(", "),
                storages[0]
            ),
        )
    });
    let portals = view.duplicate_portals.iter().map(|(target, portal)| {
        problem(
            Reason::DuplicatePortal,
            format!("target {target} lists the portal {portal} more than once; list it once"),
        )
    });
    let pins = view.targets.iter().flat_map(|target| target.portals.iter().map(move |portal| (target, portal)));
    let pins = pins.filter_map(|(target, portal)| {
        let pin = portal.pin.as_deref().filter(|_| is_nowhere(view, portal.place))?;
        Some(problem(
            Reason::PortalNetworkNotFound,
            format!(
                "portal {} of target {} is pinned to the network {pin}, and the data center has no such Network",
                portal.name, target.iqn
            ),
        ))
    });
    let names = target_name_messages(view).into_iter().map(|message| problem(Reason::InvalidTargetName, message));
    let useless = useless_portal_messages(view).into_iter().map(|message| problem(Reason::UselessPortal, message));
    names.chain(useless).chain(targets).chain(portals).chain(pins).collect()
}

fn target_name_messages(view: &View) -> Vec<String> {
    let not_used = view.targets.iter().filter_map(|target| {
        let why = iscsi_name::why_unsafe(&target.iqn)?;
        Some(format!(
            "the name of target {:?} {why}, so no host logs in to it; correct the name, or take the target out",
            &*target.iqn
        ))
    });
    let forbidden = view.targets.iter().filter_map(|target| {
        let characters = iscsi_name::forbidden_characters(&target.iqn).into_iter().filter(|character| *character != '/');
        let listed: Vec<String> = characters.map(|character| format!("{character:?}")).collect();
        (!listed.is_empty()).then(|| {
            format!(
                "the name of target {} has {}, which RFC 3722 does not allow in iSCSI names: it is used as it is, but other initiators and targets may refuse it",
                target.iqn,
                listed.join(", ")
            )
        })
    });
    not_used.chain(forbidden).collect()
}

fn useless_portal_messages(view: &View) -> Vec<String> {
    let portals = view.targets.iter().flat_map(|target| target.portals.iter().map(move |portal| (target, portal)));
    let useless =
        portals.filter_map(|(target, portal)| Some((target, portal, portal_policy::why_useless(&portal.name)?)));
    useless
        .map(|(target, portal, why)| {
            format!("portal {} of target {} is never dialled: {why}; take it out", portal.name, target.iqn)
        })
        .collect()
}

/// Whether a portal is pinned to a network that does not exist.
fn is_nowhere(view: &View, place: Place) -> bool {
    match place {
        Place::On(place) => view.places[place].is_empty(),
        Place::Anywhere => false,
    }
}

/// The problem of a host whose plan is too large, or of a data center from which no plan is made.
#[must_use]
pub fn too_large_problem(kind: ObjectKind, namespace: &str, name: &str, too_large: &PlanTooLarge) -> Problem {
    Problem {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        reason: Reason::PlanTooLarge.as_str(),
        message: too_large.to_string(),
    }
}

/// The problem of a network, if it has one. `view` is its data center, if that exists.
#[must_use]
pub fn network_problem(network: &Network, view: Option<&View>) -> Option<Problem> {
    let (reason, message) = match view {
        None => (
            Reason::DataCenterNotFound,
            data_center_not_found(network.metadata.namespace.as_deref(), &network.spec.data_center),
        ),
        Some(view) => subnet_overlap(network, view)?,
    };
    Some(Problem {
        kind: ObjectKind::Network,
        namespace: network.metadata.namespace.clone().unwrap_or_default(),
        name: network.metadata.name.clone().unwrap_or_default(),
        reason: reason.as_str(),
        message,
    })
}

/// The reason and the message, if a subnet of a network is also one of another network, or within one. Which paths there
/// are does not change: the addresses in it are on both networks.
fn subnet_overlap(network: &Network, view: &View) -> Option<(Reason, String)> {
    let own = view.network(network.metadata.name.as_deref()?)?;
    let mut own_subnets = subnets(&network.spec.subnets);
    own_subnets.sort_unstable();
    own_subnets.dedup();
    let mut reason = Reason::SubnetNested;
    let mut found: Vec<String> = Vec::new();
    let overlaps = own_subnets.iter().flat_map(|subnet| {
        let others = view.subnets.around(*subnet).filter(|(_, other)| *other != own);
        others.map(move |(outer, other)| (*subnet, outer, other))
    });
    for (subnet, outer, other) in overlaps.take(SHOWN) {
        let other = &view.networks[other].name;
        found.push(if outer == subnet {
            reason = Reason::SubnetShared;
            format!("{subnet} is a subnet of {other} too")
        } else {
            format!("{subnet} is within {outer} of {other}")
        });
    }
    let message = format!(
        "{}: hosts and portals with an address in it are on both networks; correct spec.subnets of one of them",
        found.join(", ")
    );
    (!found.is_empty()).then_some((reason, message))
}

fn data_center_not_found(namespace: Option<&str>, data_center: &str) -> String {
    let namespace = namespace.unwrap_or_default();
    format!("there is no DataCenter {data_center} in namespace {namespace}; create it, or correct spec.dataCenter")
}

/// The problems of a host. `view` is its data center, if that exists. `node_owner` is the namespace and the name of the
/// Host that owns its node, if that is another Host.
#[must_use]
pub fn host_problems(
    host: &Host,
    view: Option<&View>,
    plan: &HostPlan,
    node_owner: Option<(&str, &str)>,
) -> Vec<Problem> {
    let problem = |reason, message| host_problem(host, reason, message);
    let empty = match plan.reason {
        Some(reason @ (EmptyReason::NodeClaimed | EmptyReason::DataCenterNotFound)) => {
            Some(problem(reason.as_str(), empty_message(host, reason, node_owner)))
        }
        // Only to a plan from files: the agent is about to report.
        Some(reason @ EmptyReason::InterfacesUnknown) => Some(problem(
            reason.as_str(),
            format!(
                "{}, so its plan is not known; name them in Host.spec.interfaces, or add what the agents have reported to the input: `kubectl get hosts.multibond.dev -A -o yaml`",
                empty_message(host, reason, node_owner)
            ),
        )),
        // No problems: the user wants the deletion or the maintenance.
        Some(EmptyReason::DataCenterDeleting | EmptyReason::Maintenance) | None => None,
    };
    let no_network = (!plan.no_network.is_empty())
        .then(|| problem(Reason::NoNetwork.as_str(), no_network_message(&plan.no_network)));
    let warnings = view.map(|view| host_warnings(view, host, plan)).unwrap_or_default();
    let warnings = warnings.into_iter().map(|warning| problem(warning.reason.as_str(), warning.message));
    empty.into_iter().chain(no_network).chain(warnings).collect()
}

pub(super) fn host_problem(host: &Host, reason: &'static str, message: String) -> Problem {
    Problem {
        kind: ObjectKind::Host,
        namespace: host.metadata.namespace.clone().unwrap_or_default(),
        name: host.metadata.name.clone().unwrap_or_default(),
        reason,
        message,
    }
}

/// The problem of a data center for whose Nodes Hosts are made, if the input has none of these Hosts: nothing is known of
/// their plans.
#[must_use]
pub fn hosts_unknown_problem(data_center: &DataCenter, hosts: &[Host]) -> Option<Problem> {
    let DataCenter { metadata, spec, .. } = data_center;
    let made = |host: &Host| {
        host.metadata.namespace == metadata.namespace && Some(&host.spec.data_center) == metadata.name.as_ref()
    };
    let unknown = spec.hosts.is_some() && metadata.deletion_timestamp.is_none() && !hosts.iter().any(made);
    unknown.then(|| Problem {
        kind: ObjectKind::DataCenter,
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        reason: Reason::HostsUnknown.as_str(),
        message: "its Hosts are made for the Nodes that spec.hosts selects, and the input has none of them, so their plans are not known; add them to the input: `kubectl get hosts.multibond.dev -A -o yaml`".to_owned(),
    })
}

/// The message that says why a host's plan is empty.
pub(super) fn empty_message(host: &Host, reason: EmptyReason, node_owner: Option<(&str, &str)>) -> String {
    let node = &host.spec.node_name;
    match reason {
        EmptyReason::NodeClaimed => match node_owner {
            Some((namespace, name)) => {
                format!(
                    "node {node} is served as Host {namespace}/{name}, which comes first (the older, then by namespace and name); delete one of the two"
                )
            }
            None => format!("node {node} is served as another Host; delete one of the two"),
        },
        EmptyReason::DataCenterNotFound => {
            data_center_not_found(host.metadata.namespace.as_deref(), &host.spec.data_center)
        }
        EmptyReason::DataCenterDeleting => format!("data center {} is being deleted", host.spec.data_center),
        EmptyReason::Maintenance => "spec.maintenance is true".to_owned(),
        EmptyReason::InterfacesUnknown => {
            format!(
                "the agent on node {node} has not reported the host's interfaces, which decide the networks it carries"
            )
        }
    }
}

/// The message that says why a host has no network for targets.
pub(super) fn no_network_message(targets: &[Iqn]) -> String {
    format!(
        "this host carries none of the networks of the bonds for {}, and the data center's defaultNetwork is Never",
        first_few(targets, HOST_SHOWN, ToString::to_string)
    )
}

/// The networks and portals that the plans of a data center's hosts use, collected host by host.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Networks that at least one host carries.
    carried: HashSet<NetworkName>,
    /// The hosts that carry exactly these networks, for the first few sets of networks.
    hosts_by_networks: BTreeMap<Vec<NetworkName>, SomeHosts>,
    /// The networks that lead to a path, by bond.
    uses: HashMap<BondName, HashSet<NetworkName>>,
    /// The portals with a path of a bond, by target.
    portals: HashMap<Iqn, HashSet<Portal>>,
    /// The last plan that was added. Most hosts share their plan with the host before.
    last: Option<SharedLists>,
}

/// A number of hosts, and the names of the first few.
#[derive(Clone, Debug, Default)]
struct SomeHosts {
    count: usize,
    first: Vec<String>,
}

/// The most sets of networks that are told apart. Hosts of one kind carry the same networks.
const MAX_SETS: usize = 64;
/// The number of hosts of each set that a message names.
const HOSTS_SHOWN: usize = 3;

/// The lists of a plan that hosts share.
type SharedLists = (Arc<[(BondName, NetworkName)]>, Arc<[PlannedPath]>);

impl Usage {
    /// Adds the plan of a host.
    pub fn add(&mut self, host: &str, plan: &HostPlan) {
        if plan.reason.is_some() {
            return;
        }
        for network in &*plan.networks {
            note(&mut self.carried, &network.name);
        }
        self.add_host(host, plan);
        let same = |(uses, paths): &SharedLists| Arc::ptr_eq(uses, &plan.uses) && Arc::ptr_eq(paths, &plan.paths);
        if self.last.as_ref().is_some_and(same) {
            return;
        }
        self.last = Some((plan.uses.clone(), plan.paths.clone()));
        for (bond, network) in &*plan.uses {
            note_of(&mut self.uses, bond, network);
        }
        for path in plan.paths.iter().filter(|path| path.interface.is_some()) {
            note_of(&mut self.portals, &path.target, &path.portal);
        }
    }
}

impl Usage {
    fn add_host(&mut self, host: &str, plan: &HostPlan) {
        let mut networks: Vec<NetworkName> = plan.networks.iter().map(|carried| carried.name.clone()).collect();
        networks.dedup();
        if self.hosts_by_networks.len() >= MAX_SETS && !self.hosts_by_networks.contains_key(&networks) {
            return;
        }
        let hosts = self.hosts_by_networks.entry(networks).or_default();
        hosts.count += 1;
        if hosts.first.len() < HOSTS_SHOWN {
            hosts.first.push(host.to_owned());
        }
    }
}

impl SomeHosts {
    fn add(&mut self, other: &SomeHosts) {
        self.count += other.count;
        self.first.extend(other.first.iter().cloned());
        self.first.sort_unstable();
        self.first.truncate(HOSTS_SHOWN);
    }
}

impl fmt::Display for SomeHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

/// Clones the name only when it is new: most hosts have the same names as another host.
fn note<T: Clone + Eq + Hash>(known: &mut HashSet<T>, name: &T) {
    if !known.contains(name) {
        known.insert(name.clone());
    }
}

fn note_of<K: Clone + Eq + Hash, T: Clone + Eq + Hash>(known: &mut HashMap<K, HashSet<T>>, of: &K, name: &T) {
    match known.get_mut(of) {
        Some(names) => note(names, name),
        None => drop(known.insert(of.clone(), HashSet::from([name.clone()]))),
    }
}

/// The number of names that a message lists.
const SHOWN: usize = 8;

/// The problems of a bond, as lists of names and messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The message, if its data center does not exist.
    pub data_center_not_found: Option<String>,
    /// Networks that it names and that do not exist.
    pub not_found: Vec<UnknownName>,
    /// Networks that it names and that belong to another data center.
    pub elsewhere: Vec<String>,
    /// Targets that it lists and no storage has.
    pub unknown_targets: Vec<UnknownName>,
    /// Networks of it that no host in service carries.
    pub not_carried: Vec<String>,
    /// Networks without a portal, and portals without a network.
    pub without_path: Vec<String>,
    /// Hosts that carry fewer of its networks than others.
    pub fewer: Vec<String>,
}

/// The problems of a bond. `view` is its data center, if that exists. `usage` is collected from the data center's
/// hosts. `exists` returns whether the bond's namespace has a Network of that name, of any data center.
#[must_use]
pub fn bond_problems(
    bond: &IscsiBond,
    view: Option<&View>,
    usage: Option<&Usage>,
    exists: &dyn Fn(&str) -> bool,
) -> Findings {
    let Some(view) = view else {
        let message = data_center_not_found(bond.metadata.namespace.as_deref(), &bond.spec.data_center);
        return Findings { data_center_not_found: Some(message), ..Findings::default() };
    };
    let known = |name: &String| view.network(name).is_some();
    let mut unknown: Vec<String> = bond.spec.networks.iter().filter(|name| !known(name)).cloned().collect();
    unknown.sort_unstable();
    let (elsewhere, not_found): (Vec<String>, Vec<String>) = unknown.into_iter().partition(|name| exists(name));
    let nothing = Usage::default();
    let used = network_findings(bond, view, usage.unwrap_or(&nothing));
    Findings {
        not_found: not_found.iter().map(|name| UnknownName::of_network(view, name)).collect(),
        elsewhere,
        unknown_targets: unknown_targets(bond, view),
        ..used
    }
}

/// The findings about networks that exist, and the portals that they lead to.
fn network_findings(bond: &IscsiBond, view: &View, usage: &Usage) -> Findings {
    if view.too_large.is_some() {
        return Findings::default();
    }
    let name = bond.metadata.name.as_deref().unwrap_or_default();
    let Ok(index) = view.bonds.binary_search_by(|candidate| (*candidate.name).cmp(name)) else {
        return Findings::default();
    };
    let this = &view.bonds[index];
    let networks: Vec<&NetworkName> = this.networks.iter().map(|&network| &view.networks[network].name).collect();
    let (carried, not_carried): (Vec<_>, Vec<_>) =
        networks.iter().partition(|network| usage.hosts_by_networks.is_empty() || usage.carried.contains(**network));
    Findings {
        not_carried: not_carried.into_iter().map(ToString::to_string).collect(),
        without_path: without_path(view, index, &carried, usage),
        fewer: fewer(&networks, usage),
        ..Findings::default()
    }
}

/// Hosts that carry some networks of a bond, and fewer than other hosts. A host with none uses its default network, which
/// is what the data center asks for.
fn fewer(networks: &[&NetworkName], usage: &Usage) -> Vec<String> {
    let mut hosts_by_carried: BTreeMap<Vec<&NetworkName>, SomeHosts> = BTreeMap::new();
    for (set, hosts) in &usage.hosts_by_networks {
        let carried = networks.iter().copied().filter(|network| set.binary_search(network).is_ok()).collect();
        hosts_by_carried.entry(carried).or_default().add(hosts);
    }
    let most = hosts_by_carried.keys().map(Vec::len).max().unwrap_or_default();
    let fewer = hosts_by_carried.iter().filter(|(carried, _)| (1..most).contains(&carried.len()));
    let describe = |(carried, hosts): (&Vec<&NetworkName>, &SomeHosts)| {
        let hosts = if hosts.count == 1 { format!("host {hosts} carries") } else { format!("hosts {hosts} carry") };
        format!("{hosts} only {}", first_few(carried, SHOWN, ToString::to_string))
    };
    fewer.map(describe).collect()
}

fn unknown_targets(bond: &IscsiBond, view: &View) -> Vec<UnknownName> {
    let unknown = bond.spec.targets.iter().filter_map(|iqn| {
        let near_misses = view.unknown_targets.get(iqn)?.iter().map(ToString::to_string).collect();
        Some(UnknownName { name: iqn.clone(), near_misses })
    });
    let mut unknown: Vec<UnknownName> = unknown.collect();
    unknown.sort_by(|a, b| a.name.cmp(&b.name));
    unknown
}

/// The networks of a bond that hosts carry and that lead to no portal, and the portals that are on no network of it.
/// `index` is the bond's in the view.
fn without_path(view: &View, index: usize, carried: &[&NetworkName], usage: &Usage) -> Vec<String> {
    if view.targets.is_empty() {
        return Vec::new();
    }
    let this = &view.bonds[index].name;
    let used = |network: &NetworkName| usage.uses.get(this).is_some_and(|used| used.contains(network));
    let idle = carried.iter().filter(|network| usage.carried.contains(**network) && !used(network));
    let mut found: Vec<String> = idle.map(|network| format!("network {network} leads to no portal")).collect();
    for target in view.targets.iter().filter(|target| target.coverage.bonds.contains(index)) {
        let reached = usage.portals.get(&target.iqn);
        let outside = target.portals.iter().filter(|portal| is_outside(view, target, portal, reached));
        found.extend(
            outside.map(|portal| format!("portal {} of {} is on no network of the bond", portal.name, target.iqn)),
        );
    }
    found
}

/// Whether a portal is on none of the networks that a target's bonds name, by its pin or by subnets. `reached` are the
/// portals of the target to which a host has a path of a bond.
fn is_outside(view: &View, target: &TargetView, portal: &PortalView, reached: Option<&HashSet<Portal>>) -> bool {
    let (Place::On(place), coverage) = (portal.place, &target.coverage) else { return false };
    let place = &view.places[place];
    // A pin to a network that does not exist is reported elsewhere, unless it is the reason that there is no path.
    let is_known = !place.is_empty() || reached.is_some_and(|reached| !reached.contains(&portal.name));
    is_known && !coverage.networks.is_empty() && !coverage.pairs_all && !place.meets(&coverage.networks)
}

impl Findings {
    /// The message of `NetworkNotFound` and `NetworkInOtherDataCenter`; it names only the networks that are not
    /// resolved.
    #[must_use]
    pub fn unresolved_message(&self, bond: &IscsiBond) -> Option<(Reason, String)> {
        let data_center = &bond.spec.data_center;
        let reason = if self.not_found.is_empty() { Reason::NetworkInOtherDataCenter } else { Reason::NetworkNotFound };
        let mut parts = Vec::new();
        if !self.not_found.is_empty() {
            parts.push(format!(
                "there is no Network {}; create it, or correct spec.networks: until then no session of the bond's targets is logged out, and what is not planned is not connected again",
                first_few(&self.not_found, SHOWN, UnknownName::describe)
            ));
        }
        if !self.elsewhere.is_empty() {
            parts.push(format!(
                "Network {} belongs to another data center than {data_center}; take it out of spec.networks",
                self.elsewhere.join(", ")
            ));
        }
        (!parts.is_empty()).then(|| (reason, parts.join("; ")))
    }

    /// The message of `TargetNotFound`.
    #[must_use]
    pub fn unknown_targets_message(&self, bond: &IscsiBond) -> Option<String> {
        let data_center = &bond.spec.data_center;
        let held = self.unknown_targets.iter().any(|unknown| !unknown.near_misses.is_empty());
        let held = if held {
            ": until then a target with nearly this name that no other bond covers keeps its sessions, and they are not connected again"
        } else {
            ""
        };
        let names = first_few(&self.unknown_targets, SHOWN, UnknownName::describe);
        (!names.is_empty()).then(|| format!("no storage of data center {data_center} has the target {names}; add it there, or correct spec.targets{held}"))
    }

    /// The reasons and messages about networks that exist: `NetworkNotCarried`, `NetworkWithoutPath` and `HostsDiffer`.
    #[must_use]
    pub fn unused(&self) -> Vec<(Reason, String)> {
        let few = |names: &[String], hint: &str| {
            (!names.is_empty()).then(|| format!("{}; {hint}", first_few(names, SHOWN, Clone::clone)))
        };
        let not_carried =
            few(&self.not_carried, "check the network's subnets, Host.spec.interfaces, and the addresses of the hosts");
        let not_carried = not_carried.map(|names| format!("no host in service carries {names}"));
        let without_path =
            few(&self.without_path, "check the portals' addresses and pins, the networks' subnets and spec.targets");
        let fewer =
            few(&self.fewer, "other hosts carry more of the bond's networks: check the interfaces of these hosts");
        [
            (Reason::NetworkNotCarried, not_carried),
            (Reason::NetworkWithoutPath, without_path),
            (Reason::HostsDiffer, fewer),
        ]
        .into_iter()
        .filter_map(|(reason, message)| Some((reason, message?)))
        .collect()
    }

    /// The findings as problems, one per reason.
    #[must_use]
    pub fn into_problems(self, bond: &IscsiBond) -> Vec<Problem> {
        let not_found = Findings { not_found: self.not_found.clone(), ..Findings::default() };
        let elsewhere = Findings { elsewhere: self.elsewhere.clone(), ..Findings::default() };
        let missing = self.data_center_not_found.clone().map(|message| (Reason::DataCenterNotFound, message));
        let targets = self.unknown_targets_message(bond).map(|message| (Reason::TargetNotFound, message));
        [missing, not_found.unresolved_message(bond), elsewhere.unresolved_message(bond), targets]
            .into_iter()
            .flatten()
            .chain(self.unused())
            .map(|(reason, message)| Problem {
                kind: ObjectKind::IscsiBond,
                namespace: bond.metadata.namespace.clone().unwrap_or_default(),
                name: bond.metadata.name.clone().unwrap_or_default(),
                reason: reason.as_str(),
                message,
            })
            .collect()
    }
}
