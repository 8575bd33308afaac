//! The identity of a path: target, portal and device.

use std::fmt;

use crate::api::{Connection, InterfaceName, Iqn, PlannedPath, Portal};

/// A target at a portal, through a device or through the default network. Sorts as plans are sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IscsiPath {
    /// The target's iSCSI name.
    pub target: Iqn,
    /// Address and port, canonical.
    pub portal: Portal,
    /// The device that the session is bound to; none for the default network.
    pub interface: Option<InterfaceName>,
}

impl IscsiPath {
    /// Whether the two have the same target, interface and port, so that a name and an address may be one portal.
    #[must_use]
    pub fn differs_in_host_alone(&self, other: &IscsiPath) -> bool {
        (&self.target, &self.interface, self.portal.port()) == (&other.target, &other.interface, other.portal.port())
    }
}

impl From<&PlannedPath> for IscsiPath {
    fn from(planned: &PlannedPath) -> Self {
        IscsiPath {
            target: planned.target.clone(),
            portal: planned.portal.clone(),
            interface: planned.interface.clone(),
        }
    }
}

impl From<&Connection> for IscsiPath {
    fn from(connection: &Connection) -> Self {
        IscsiPath {
            target: connection.target.clone(),
            portal: connection.portal.clone(),
            interface: connection.interface.clone(),
        }
    }
}

impl fmt::Display for IscsiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} through ", self.target, self.portal)?;
        match &self.interface {
            Some(interface) => write!(f, "{interface}"),
            None => write!(f, "the default network"),
        }
    }
}
