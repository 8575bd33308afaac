//! The one rule for what needs attention: it decides what the filter *Wrong* shows and counts.

use crate::api::Phase;
use crate::status_view::{BondView, DataCenterView, HostView, ready, unmet_conditions};

/// Whether a host wants attention. One in maintenance does not, and one that connects does not yet.
pub fn host_is_wrong(host: &HostView) -> bool {
    match host.phase {
        None | Some(Phase::Maintenance | Phase::Connecting) => false,
        Some(Phase::Up) => !unmet_conditions(&host.conditions).is_empty(),
        Some(Phase::Unassigned | Phase::Degraded | Phase::NonOperational | Phase::Unknown) => true,
    }
}

/// Whether a bond wants attention.
pub fn bond_is_wrong(bond: &BondView) -> bool {
    !unmet_conditions(&bond.conditions).is_empty()
}

/// Whether a data center wants attention, or something in it.
pub fn data_center_is_wrong(view: &DataCenterView) -> bool {
    !view.exists
        || ready(&view.conditions) == Some(false)
        || !unmet_conditions(&view.conditions).is_empty()
        || view.hosts.iter().any(host_is_wrong)
        || view.bonds.iter().any(bond_is_wrong)
}
