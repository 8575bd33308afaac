//! Problems between objects, such as a name that refers to nothing. The API server accepts such objects, so the problem
//! is reported on the object that has to be corrected.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use super::{
    attachment::mtu_warnings,
    plan::HostPlan,
    too_large::PlanTooLarge,
    view::{BondView, Place, TargetView, View},
};
use crate::api::{
    BondName, Host, Iqn, IscsiBond, Network, NetworkName, ObjectKind, PlannedPath, Portal, first_few, iscsi_name,
    portal_policy,
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
pub fn network_problems(network: &Network, view: Option<&View>) -> Option<Problem> {
    view.is_none().then(|| Problem {
        kind: ObjectKind::Network,
        namespace: network.metadata.namespace.clone().unwrap_or_default(),
        name: network.metadata.name.clone().unwrap_or_default(),
        reason: Reason::DataCenterNotFound.as_str(),
        message: data_center_not_found(network.metadata.namespace.as_deref(), &network.spec.data_center),
    })
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
    let problem = |reason: &'static str, message: String| Problem {
        kind: ObjectKind::Host,
        namespace: host.metadata.namespace.clone().unwrap_or_default(),
        name: host.metadata.name.clone().unwrap_or_default(),
        reason,
        message,
    };
    let empty = match plan.reason {
        Some(reason @ (EmptyReason::NodeClaimed | EmptyReason::DataCenterNotFound)) => {
            Some(problem(reason.as_str(), empty_message(host, reason, node_owner)))
        }
        // No problems: the user wants the deletion or the maintenance, and the agent is about to report.
        Some(EmptyReason::DataCenterDeleting | EmptyReason::Maintenance | EmptyReason::InterfacesUnknown) | None => {
            None
        }
    };
    let no_network = (!plan.no_network.is_empty())
        .then(|| problem(Reason::NoNetwork.as_str(), no_network_message(&plan.no_network)));
    let mtu = view.map(|view| mtu_warnings(view, host, &plan.networks)).unwrap_or_default();
    let mtu = mtu.into_iter().map(|warning| problem(warning.reason.as_str(), warning.message));
    empty.into_iter().chain(no_network).chain(mtu).collect()
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

/// The number of targets, paths or warnings that a message of a Host lists.
pub(super) const HOST_SHOWN: usize = 4;

/// The networks and portals that the plans of a data center's hosts use, collected host by host.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Networks that at least one host carries.
    carried: HashSet<NetworkName>,
    /// The networks that lead to a path, by bond.
    uses: HashMap<BondName, HashSet<NetworkName>>,
    /// The portals with a path of a bond, by target.
    portals: HashMap<Iqn, HashSet<Portal>>,
    /// The last plan that was added. Most hosts share their plan with the host before.
    last: Option<SharedLists>,
}

/// The lists of a plan that hosts share.
type SharedLists = (Arc<[(BondName, NetworkName)]>, Arc<[PlannedPath]>);

impl Usage {
    /// Adds the plan of a host.
    pub fn add(&mut self, plan: &HostPlan) {
        if plan.reason.is_some() {
            return;
        }
        for network in &*plan.networks {
            note(&mut self.carried, &network.name);
        }
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
    /// Networks without a portal, and portals without a network.
    pub without_path: Vec<String>,
}

/// A name that refers to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    /// The name as it is written.
    pub name: String,
    /// The first few names that it is probably a mistyped form of.
    pub near_misses: Vec<String>,
}

impl UnknownName {
    /// The name, and what was probably meant.
    fn describe(&self) -> String {
        if self.near_misses.is_empty() {
            return self.name.clone();
        }
        format!("{} (did you mean {}?)", self.name, self.near_misses.join(" or "))
    }
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
    let known = |name: &String| view.networks.binary_search_by(|network| (*network.name).cmp(name)).is_ok();
    let mut unknown: Vec<String> = bond.spec.networks.iter().filter(|name| !known(name)).cloned().collect();
    unknown.sort_unstable();
    let (elsewhere, not_found): (Vec<String>, Vec<String>) = unknown.into_iter().partition(|name| exists(name));
    let not_found = not_found.into_iter().map(|name| {
        let near_misses = view.near_networks.search(&name).into_iter().map(ToOwned::to_owned).collect();
        UnknownName { name, near_misses }
    });
    let without_path = usage.map(|usage| without_path(bond, view, usage)).unwrap_or_default();
    let unknown_targets = unknown_targets(bond, view);
    Findings { data_center_not_found: None, not_found: not_found.collect(), elsewhere, unknown_targets, without_path }
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

fn without_path(bond: &IscsiBond, view: &View, usage: &Usage) -> Vec<String> {
    let name = bond.metadata.name.as_deref().unwrap_or_default();
    if view.too_large.is_some() {
        return Vec::new();
    }
    let Ok(index) = view.bonds.binary_search_by(|candidate| (*candidate.name).cmp(name)) else { return Vec::new() };
    let this = &view.bonds[index];
    let names = this.networks.iter().map(|&network| &view.networks[network].name);
    let carried: Vec<&NetworkName> = names.filter(|&name| usage.carried.contains(name)).collect();
    if view.targets.is_empty() {
        return Vec::new();
    }
    let used = |network: &NetworkName| usage.uses.get(&this.name).is_some_and(|used| used.contains(network));
    let idle = carried.into_iter().filter(|network| !used(network));
    let mut found: Vec<String> = idle.map(|network| format!("network {network} leads to no portal")).collect();

    for target in view.targets.iter().filter(|target| target.coverage.bonds.contains(index)) {
        // A target without any path of a bond uses the default network, or is held: other conditions report that.
        let Some(reached) = usage.portals.get(&target.iqn) else { continue };
        let unreached = target.portals.iter().filter(|portal| !reached.contains(&portal.name));
        let why = unreached.filter_map(|portal| Some((portal, why_unreached(view, this, target, portal.place)?)));
        found.extend(why.map(|(portal, why)| format!("portal {} of {} {why}", portal.name, target.iqn)));
    }
    found
}

/// Why no host has a path to a portal; `None` if any network reaches it, or another bond names its network.
fn why_unreached(view: &View, this: &BondView, target: &TargetView, place: Place) -> Option<String> {
    let Place::On(place) = place else { return None };
    let place = &view.places[place];
    let ours: Vec<&str> = this
        .networks
        .iter()
        .filter(|network| place.contains(**network))
        .map(|network| &*view.networks[*network].name)
        .collect();
    if !ours.is_empty() {
        return Some(format!("is on {}, which no host in service carries", ours.join(" and ")));
    }
    (!place.meets(&target.coverage.networks)).then(|| "is on no network of the bond".to_owned())
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

    /// The message of `NetworkWithoutPath`.
    #[must_use]
    pub fn unused_message(&self) -> Option<String> {
        let hint = "check the portals' addresses and pins, the networks' subnets and spec.targets";
        let networks = first_few(&self.without_path, SHOWN, Clone::clone);
        (!networks.is_empty()).then(|| format!("{networks}; {hint}"))
    }

    /// The findings as problems, one per reason.
    #[must_use]
    pub fn into_problems(self, bond: &IscsiBond) -> Vec<Problem> {
        let not_found = Findings { not_found: self.not_found.clone(), ..Findings::default() };
        let elsewhere = Findings { elsewhere: self.elsewhere.clone(), ..Findings::default() };
        let missing = self.data_center_not_found.clone().map(|message| (Reason::DataCenterNotFound, message));
        let targets = self.unknown_targets_message(bond).map(|message| (Reason::TargetNotFound, message));
        let unused = self.unused_message().map(|message| (Reason::NetworkWithoutPath, message));
        [missing, not_found.unresolved_message(bond), elsewhere.unresolved_message(bond), targets, unused]
            .into_iter()
            .flatten()
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
