//! The names of the agent's records in open-iscsi's database.
//!
//! Interface records of the agent have its prefix, and its node records and sessions have the names of these. The name alone
//! proves nothing, because others can make records with it too: see [`claims`](super::claims).

use std::fmt;

use crate::{
    agent::{
        initiator::PathError,
        types::{FileName, IscsiPath},
    },
    api::{InterfaceName, Portal, reason::PathReason},
};

/// The prefix of the agent's interface records.
const OWN_PREFIX: &str = "mb.";
/// The name of open-iscsi's own record for sessions that are bound to no interface. With the prefix, the agent's record
/// for the default network.
pub const DEFAULT_RECORD: &str = "default";

/// A node record of the agent: exactly one target, portal and interface. A path has one record; its portal group tag may be
/// another one after the target has answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRecord {
    /// The interface record.
    pub interface: InterfaceRecord,
    /// The target's iSCSI name.
    pub target: FileName,
    /// The address or name of the portal; IPv6 without brackets.
    pub address: FileName,
    /// The portal's port.
    pub port: u16,
    /// The target portal group tag.
    pub tpgt: u16,
}

/// An interface record of the agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceRecord {
    /// The interface that it binds to; none for the default network.
    pub device: Option<FileName>,
}

impl InterfaceRecord {
    /// The name of the record. An interface name has at most 15 characters, a record name 64.
    #[must_use]
    pub fn name(&self) -> String {
        record_name(self.device.as_deref())
    }

    /// The record with this name; none if it is not the agent's.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let device = name.strip_prefix(OWN_PREFIX)?;
        let device = if device == DEFAULT_RECORD { None } else { Some(FileName::new(device).ok()?) };
        Some(InterfaceRecord { device })
    }

    /// The name of the interface that it binds to; none for the default network.
    #[must_use]
    pub fn interface(&self) -> Option<InterfaceName> {
        self.device.as_deref().map(InterfaceName::from)
    }
}

/// The name of the agent's record of an interface; none is the default network.
#[must_use]
pub fn record_name(device: Option<&str>) -> String {
    format!("{OWN_PREFIX}{}", device.unwrap_or(DEFAULT_RECORD))
}

impl NodeRecord {
    /// The record of a path, in a portal group.
    ///
    /// # Errors
    /// `InvalidRecord` if a part of the path must not become a file on the host, or if its portal is not an address and a
    /// port.
    pub fn of(path: &IscsiPath, tpgt: u16) -> Result<Self, PathError> {
        let invalid = |message| PathError::new(PathReason::InvalidRecord, message);
        let name = |text: &str| FileName::new(text).map_err(|error| invalid(error.to_string()));
        let port = path.portal.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        Ok(NodeRecord {
            interface: InterfaceRecord { device: path.interface.as_deref().map(name).transpose()? },
            target: name(&path.target)?,
            address: name(path.portal.host())?,
            port: port.ok_or_else(|| invalid(format!("{:?} is not an address and a port", &*path.portal)))?,
            tpgt,
        })
    }

    /// The path of the record.
    #[must_use]
    pub fn path(&self) -> IscsiPath {
        IscsiPath {
            target: (&*self.target).into(),
            portal: Portal::new(&self.address, self.port),
            interface: self.interface.interface(),
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
    fn a65_no_record_is_made_of_a_name_that_leaves_its_directory() {
        let path = |target: &str, portal: &str, interface: &str| IscsiPath {
            target: target.into(),
            portal: portal.into(),
            interface: Some(interface.into()),
        };
        for (path, part) in [
            (path("iqn.2003-01.org.example:x/../../../../srv/pwn", "10.0.0.1:3260", "ens1"), "/srv/pwn"),
            (path("iqn.2003-01.org.example:..", "10.0.0.1:3260", "ens1"), "example:.."),
            (path("iqn.2003-01.org.example:x\n", "10.0.0.1:3260", "ens1"), r"x\n"),
            (path("iqn.2003-01.org.example:x", "../../x:3260", "ens1"), "../../x"),
            (path("iqn.2003-01.org.example:x", "--help:3260", "ens1"), "--help"),
            (path("iqn.2003-01.org.example:x", "10.0.0.1:x", "ens1"), "10.0.0.1:x"),
            (path("iqn.2003-01.org.example:x", "10.0.0.1:3260", "../ens1"), "../ens1"),
        ] {
            let error = NodeRecord::of(&path, 1).unwrap_err();
            assert_eq!(error.reason, PathReason::InvalidRecord);
            assert!(error.message.contains(part), "{error}");
        }
        assert_eq!(InterfaceRecord::from_name("mb..."), None, "a file of somebody else");
    }

    #[test]
    fn only_names_with_the_prefix_are_records_of_the_agent() {
        let bound = InterfaceRecord { device: Some("bond0.100".into()) };
        let unbound = InterfaceRecord { device: None };
        assert_eq!(InterfaceRecord::from_name("mb.bond0.100"), Some(bound));
        assert_eq!(InterfaceRecord::from_name("mb.default"), Some(unbound));
        assert_eq!(InterfaceRecord::from_name("default"), None, "a record of somebody else");
    }
}
