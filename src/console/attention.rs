//! The rule for objects that need attention. The filter *Wrong* shows and counts these objects.

use crate::api::{Phase, reason::Reason};
use crate::status_view::{BondView, DataCenterView, HostView, ready, unmet_conditions};

/// Whether a host needs attention. A host in maintenance or one that is still connecting does not; nor does one that is only
/// Degraded by portals that fail on other hosts too, for which its data center does.
pub fn host_needs_attention(host: &HostView) -> bool {
    match host.phase {
        None | Some(Phase::Maintenance) => false,
        Some(Phase::Connecting) => is_held(host),
        Some(Phase::Degraded) => !host.explained,
        Some(Phase::Up) => !unmet_conditions(&host.conditions).is_empty(),
        Some(Phase::Unassigned | Phase::Lost | Phase::NonOperational | Phase::Unknown) => true,
    }
}

/// Whether a host waits for a person to correct a bond.
fn is_held(host: &HostView) -> bool {
    host.conditions.iter().any(|condition| condition.reason == Reason::TargetsHeld.as_str())
}

/// Whether a bond needs attention.
pub fn bond_needs_attention(bond: &BondView) -> bool {
    !unmet_conditions(&bond.conditions).is_empty()
}

/// Whether a data center needs attention, or a host or bond in it.
pub fn data_center_needs_attention(view: &DataCenterView) -> bool {
    !view.exists
        || ready(&view.conditions) == Some(false)
        || !unmet_conditions(&view.conditions).is_empty()
        || view.hosts.iter().any(host_needs_attention)
        || view.bonds.iter().any(bond_needs_attention)
}
