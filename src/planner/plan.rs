//! The plan of a host.

use std::sync::Arc;

use super::{
    attachment::interfaces_unknown,
    revision::revision,
    view::{TargetView, View},
};
use crate::api::{
    BondName, CarriedNetwork, HeldPortals, Host, Iqn, NetworkName, PlanStatus, PlannedPath, Portal, Revision,
    SessionSettings, reason::EmptyReason,
};

/// The paths that a host should have, and the reasons for paths that it does not get.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostPlan {
    /// Why the plan is empty; `None` if it has paths, or if the data center has no targets.
    pub reason: Option<EmptyReason>,
    /// The networks that the host carries.
    pub networks: Arc<[CarriedNetwork]>,
    /// Targets whose sessions are left as they are, sorted: a bond that covers them names an unknown network, a bond names
    /// them nearly, or the host has not reported its interfaces. They may have paths too.
    pub hold: Vec<Iqn>,
    /// The portals that held targets have in the data center, for each of them; empty in a plan of an older controller.
    pub hold_portals: Vec<HeldPortals>,
    /// The first few bonds that hold targets.
    pub held_by: Vec<BondName>,
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
        HostPlan { reason, session, revision: revision(&[], &[], &[], session), ..HostPlan::default() }
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
        let hold_portals: Vec<HeldPortals> = view.targets.iter().map(TargetView::hold_portals).collect();
        let revision = revision(&[], &hold, &hold_portals, view.session);
        HostPlan { session: view.session, hold, hold_portals, revision, ..HostPlan::default() }
    }

    /// The plan that a host keeps while its new plan is too large; `None` if it has no paths, or is of the data center
    /// that the host has left.
    #[must_use]
    pub fn as_last_written(host: &Host) -> Option<Self> {
        let status = host.status.as_ref()?;
        let has_moved = status.data_center.as_ref().is_some_and(|before| *before != host.spec.data_center);
        if has_moved {
            return None;
        }
        let plan = status.plan.as_ref().filter(|plan| !plan.paths.is_empty())?;
        Some(HostPlan::from_status(plan, &status.networks, None))
    }

    /// The plan in a Host's status.
    #[must_use]
    pub fn from_status(status: &PlanStatus, networks: &Arc<[CarriedNetwork]>, reason: Option<EmptyReason>) -> Self {
        HostPlan {
            reason,
            networks: networks.clone(),
            hold: status.hold.clone(),
            hold_portals: status.hold_portals.clone(),
            held_by: Vec::new(),
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
            hold_portals: self.hold_portals.clone(),
            no_network: self.no_network.clone(),
            session: self.session,
            paths: self.paths.clone(),
        }
    }

    /// The memory of its lists, in bytes; names are shared with the objects.
    pub(super) fn heap_size(&self) -> usize {
        let names: usize = self.paths.iter().map(|path| size_of_val(path.bonds.as_slice())).sum();
        let targets = size_of_val(self.hold.as_slice()) + size_of_val(self.no_network.as_slice());
        let portals: usize = self.hold_portals.iter().map(|held| size_of_val(held.portals.as_slice())).sum();
        let held_by = size_of_val(self.held_by.as_slice());
        names
            + targets
            + held_by
            + portals
            + size_of_val(self.hold_portals.as_slice())
            + size_of_val(&*self.paths)
            + size_of_val(&*self.uses)
            + size_of_val(&*self.networks)
    }

    /// Whether a session of this target at this portal stays, though no path is planned for it.
    #[must_use]
    pub fn holds(&self, target: &Iqn, portal: &Portal) -> bool {
        let portals = self.hold_portals.iter().find(|held| held.target == *target);
        self.hold.contains(target) && portals.is_none_or(|held| held.portals.contains(portal))
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
