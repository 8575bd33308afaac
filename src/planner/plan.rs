//! The plan of a host.

use std::sync::Arc;

use super::{
    attachment::{Attachment, interfaces_unknown},
    revision::revision,
    view::{BondView, Place, TargetView, View},
};
use crate::api::{
    BondName, CarriedNetwork, DefaultNetwork, Host, Iqn, NetworkName, Pairing, PlanStatus, PlannedPath, Revision,
    SessionSettings, reason::EmptyReason,
};

/// The paths that a host should have, and the reasons for paths that it does not get.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostPlan {
    /// Why the plan is empty; `None` if it has paths, or if the data center has no targets.
    pub reason: Option<EmptyReason>,
    /// The networks that the host carries.
    pub networks: Arc<[CarriedNetwork]>,
    /// Targets whose sessions are left as they are: a bond that covers them names an unknown network, or the host has not
    /// reported its interfaces.
    pub hold: Vec<Iqn>,
    /// Targets that have no network on this host, and the default network may not be used.
    pub no_network: Vec<Iqn>,
    /// The paths, sorted by target, portal, tpgt and interface.
    pub paths: Arc<[PlannedPath]>,
    /// The networks of bonds that lead to a path, as (bond, network), sorted. A path names only one network, even if
    /// its device carries several.
    pub uses: Arc<[(BondName, NetworkName)]>,
    /// Settings of every session.
    pub session: SessionSettings,
    /// A hash of the work of the host. Plans with other names but the same work have the same revision.
    pub revision: Revision,
}

impl HostPlan {
    /// A plan without paths.
    #[must_use]
    pub fn empty(reason: Option<EmptyReason>, session: SessionSettings) -> Self {
        HostPlan { reason, session, revision: revision(&[], &[], session), ..HostPlan::default() }
    }

    /// The plan of a host whose data center does not exist. `node_claimed`: another Host owns its node.
    #[must_use]
    pub fn without_data_center(node_claimed: bool) -> Self {
        let reason = if node_claimed { EmptyReason::NodeClaimed } else { EmptyReason::DataCenterNotFound };
        HostPlan::empty(Some(reason), SessionSettings::default())
    }

    /// A plan that leaves every session as it is and asks for none, because the host's interfaces are not known.
    #[must_use]
    pub fn holding(view: &View) -> Self {
        let hold: Vec<Iqn> = view.targets.iter().map(|target| target.iqn.clone()).collect();
        let revision = revision(&[], &hold, view.session);
        HostPlan { session: view.session, hold, revision, ..HostPlan::default() }
    }

    /// The plan in a Host's status.
    #[must_use]
    pub fn from_status(status: &PlanStatus, networks: &Arc<[CarriedNetwork]>, reason: Option<EmptyReason>) -> Self {
        HostPlan {
            reason,
            networks: networks.clone(),
            hold: status.hold.clone(),
            no_network: status.no_network.clone(),
            paths: status.paths.clone(),
            uses: Arc::default(),
            session: status.session,
            revision: status.revision.clone(),
        }
    }

    /// The plan in the form of a Host's status.
    #[must_use]
    pub fn to_status(&self) -> PlanStatus {
        PlanStatus {
            revision: self.revision.clone(),
            sequence: 0,
            hold: self.hold.clone(),
            no_network: self.no_network.clone(),
            session: self.session,
            paths: self.paths.clone(),
        }
    }

    /// Whether the host is in service: it has a data center, owns its node, and is not in maintenance.
    #[must_use]
    pub fn in_service(&self) -> bool {
        match self.reason {
            None | Some(EmptyReason::InterfacesUnknown) => true,
            Some(
                EmptyReason::NodeClaimed
                | EmptyReason::DataCenterNotFound
                | EmptyReason::DataCenterDeleting
                | EmptyReason::Maintenance,
            ) => false,
        }
    }
}

/// Why a host of this data center has an empty plan; the first reason that applies.
pub(super) fn empty_reason(view: &View, host: &Host, node_claimed: bool) -> Option<EmptyReason> {
    if node_claimed {
        Some(EmptyReason::NodeClaimed)
    } else if view.deleting {
        Some(EmptyReason::DataCenterDeleting)
    } else if host.spec.maintenance {
        Some(EmptyReason::Maintenance)
    } else if interfaces_unknown(view, host) {
        Some(EmptyReason::InterfacesUnknown)
    } else {
        None
    }
}

/// The part of a plan that hosts with equal attachments share: everything but the networks, whose addresses differ.
pub(super) fn plan_attachments(view: &View, attachments: &[Attachment]) -> HostPlan {
    let mut lists = PlanLists::default();
    for target in &view.targets {
        plan_target(view, target, attachments, &mut lists);
    }
    let PlanLists { hold, no_network, paths, mut uses } = lists;
    uses.sort_unstable();
    uses.dedup();
    HostPlan {
        reason: None,
        networks: Arc::default(),
        revision: revision(&paths, &hold, view.session),
        hold,
        no_network,
        paths: paths.into(),
        uses: uses.into(),
        session: view.session,
    }
}

/// The lists of a plan, filled target by target.
#[derive(Default)]
struct PlanLists {
    hold: Vec<Iqn>,
    no_network: Vec<Iqn>,
    paths: Vec<PlannedPath>,
    uses: Vec<(BondName, NetworkName)>,
}

/// The attachments to networks of a bond.
fn of_bond<'a>(bond: &'a BondView, attachments: &'a [Attachment]) -> impl Iterator<Item = &'a Attachment> {
    attachments.iter().filter(|attachment| bond.networks.binary_search(&attachment.network).is_ok())
}

fn plan_target(view: &View, target: &TargetView, attachments: &[Attachment], lists: &mut PlanLists) {
    let covering = || target.bonds.iter().map(|&bond| &view.bonds[bond]);
    if covering().all(|bond| of_bond(bond, attachments).next().is_none()) {
        if covering().any(|bond| bond.names_unknown_network) {
            lists.hold.push(target.iqn.clone());
        } else if view.default_network == DefaultNetwork::Use {
            lists.paths.extend(target.portals.iter().map(|portal| PlannedPath {
                target: target.iqn.clone(),
                portal: portal.name.clone(),
                tpgt: portal.tpgt,
                interface: None,
                network: None,
                storage: target.storage.clone(),
                bonds: Vec::new(),
                chap_secret: target.chap_secret.clone(),
            }));
        } else {
            lists.no_network.push(target.iqn.clone());
        }
        return;
    }
    let mut links: Vec<Link<'_>> = covering().flat_map(|bond| pair(target, bond, attachments, bond.pairing)).collect();
    if links.is_empty() {
        // By pins and subnets no portal is on any of the networks. Paths for all pairs are better than no storage.
        links = covering().flat_map(|bond| pair(target, bond, attachments, Pairing::AllPairs)).collect();
    }
    links.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
    for same_path in links.chunk_by(|a, b| (a.portal, &a.carried.interface) == (b.portal, &b.carried.interface)) {
        let portal = &target.portals[same_path[0].portal];
        let mut bonds: Vec<BondName> = same_path.iter().map(|link| link.bond.clone()).collect();
        bonds.sort_unstable();
        bonds.dedup();
        lists.uses.extend(same_path.iter().map(|link| (link.bond.clone(), link.carried.name.clone())));
        lists.paths.push(PlannedPath {
            target: target.iqn.clone(),
            portal: portal.name.clone(),
            tpgt: portal.tpgt,
            interface: Some(same_path[0].carried.interface.clone()),
            network: Some(same_path[0].carried.name.clone()),
            storage: target.storage.clone(),
            bonds,
            chap_secret: target.chap_secret.clone(),
        });
    }
}

/// One reason for a path: this bond asks for this portal through this network on this interface.
struct Link<'a> {
    portal: usize,
    carried: &'a CarriedNetwork,
    bond: &'a BondName,
}

impl Link<'_> {
    fn key(&self) -> (usize, &str, &str, &str) {
        (self.portal, &self.carried.interface, &self.carried.name, self.bond)
    }
}

fn pair<'a>(
    target: &'a TargetView,
    bond: &'a BondView,
    attachments: &'a [Attachment],
    pairing: Pairing,
) -> impl Iterator<Item = Link<'a>> {
    let pairs_with = move |place: &Place, network: usize| match (pairing, place) {
        (Pairing::AllPairs, _) | (Pairing::Auto, Place::Anywhere) => true,
        (Pairing::Auto, Place::On(networks)) => networks.contains(&network),
    };
    of_bond(bond, attachments).flat_map(move |attachment| {
        let portals =
            target.portals.iter().enumerate().filter(move |(_, portal)| pairs_with(&portal.place, attachment.network));
        portals.map(move |(portal, _)| Link { portal, carried: &attachment.entry, bond: &bond.name })
    })
}
