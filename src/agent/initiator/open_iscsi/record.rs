//! The names of the agent's records in open-iscsi's database.
//!
//! The agent owns the interface records with its prefix, and the node records of these interfaces. Sessions with any
//! other record belong to somebody else.

use std::fmt;

use crate::{
    agent::types::IscsiPath,
    api::{InterfaceName, Iqn, Portal},
};

/// The prefix of the agent's interface records.
const OWN_PREFIX: &str = "mb.";
/// The name of open-iscsi's own record for sessions that are bound to no interface. With the prefix, the agent's record
/// for the default network.
pub const DEFAULT_RECORD: &str = "default";

/// A node record of the agent: exactly one target, portal and interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRecord {
    /// The interface record.
    pub interface: InterfaceRecord,
    /// The target's iSCSI name.
    pub target: Iqn,
    /// The address or name of the portal; IPv6 without brackets.
    pub address: String,
    /// The portal's port.
    pub port: u16,
    /// The target portal group tag.
    pub tpgt: u16,
}

/// An interface record of the agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceRecord {
    /// The interface that it binds to; none for the default network.
    pub device: Option<InterfaceName>,
}

impl InterfaceRecord {
    /// The name of the record. An interface name has at most 15 characters, a record name 64.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{OWN_PREFIX}{}", self.device.as_deref().unwrap_or(DEFAULT_RECORD))
    }

    /// The record with this name; none if it is not the agent's.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let device = name.strip_prefix(OWN_PREFIX)?;
        Some(InterfaceRecord { device: (device != DEFAULT_RECORD).then(|| device.into()) })
    }
}

impl NodeRecord {
    /// The record of a path; none if its portal is not an address and a port.
    #[must_use]
    pub fn of(path: &IscsiPath) -> Option<Self> {
        let (address, port) = path.portal.rsplit_once(':')?;
        let address = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        Some(NodeRecord {
            interface: InterfaceRecord { device: path.interface.clone() },
            target: path.target.clone(),
            address: address.to_owned(),
            port: port.parse().ok()?,
            tpgt: path.tpgt,
        })
    }

    /// The path of the record.
    #[must_use]
    pub fn path(&self) -> IscsiPath {
        IscsiPath {
            target: self.target.clone(),
            portal: Portal::new(&self.address, self.port),
            tpgt: self.tpgt,
            interface: self.interface.device.clone(),
        }
    }

    /// The portal as `iscsiadm` expects it, with the portal group tag. Without the tag, records of different tags
    /// overwrite each other.
    #[must_use]
    pub fn portal(&self) -> String {
        let NodeRecord { address, port, tpgt, .. } = self;
        if address.contains(':') { format!("[{address}]:{port},{tpgt}") } else { format!("{address}:{port},{tpgt}") }
    }
}

impl fmt::Display for NodeRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} through {}", self.target, self.portal(), self.interface.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_the_prefix_are_records_of_the_agent() {
        let bound = InterfaceRecord { device: Some("bond0.100".into()) };
        let unbound = InterfaceRecord { device: None };
        assert_eq!(InterfaceRecord::from_name("mb.bond0.100"), Some(bound));
        assert_eq!(InterfaceRecord::from_name("mb.default"), Some(unbound));
        assert_eq!(InterfaceRecord::from_name("default"), None, "a record of somebody else");
    }
}
