//! The commands of `iscsiadm`.

use std::fmt;

use crate::agent::initiator::open_iscsi::record::{InterfaceRecord, NodeRecord};

/// A command of `iscsiadm`, for a single record or session: with several, `iscsiadm` goes on after the first error. None has
/// a secret in its arguments, which every user of the host can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Prints its version.
    Version,
    /// Creates or overwrites an interface record, which others see until it is hidden.
    NewInterface(&'a InterfaceRecord),
    /// Deletes an interface record and all its node records. Refused while a session uses one of them.
    DeleteInterface(&'a InterfaceRecord),
    /// Creates or overwrites a node record, with the defaults of the host.
    NewNode(&'a NodeRecord),
    /// Deletes a node record. Refused while a session uses it.
    DeleteNode(&'a NodeRecord),
    /// Logs in.
    Login(&'a NodeRecord),
    /// Logs out a session, by its ID. Needs no record.
    Logout(u32),
}

/// The kind of a command. The meaning of an exit code depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// Reads something.
    Query,
    /// Creates or changes a record.
    Change,
    /// Deletes a record.
    Delete,
    /// Logs in.
    Login,
    /// Logs out.
    Logout,
}

impl Command<'_> {
    /// The kind of the command.
    #[must_use]
    pub fn kind(&self) -> CommandKind {
        match self {
            Command::Version => CommandKind::Query,
            Command::NewInterface(_) | Command::NewNode(_) => CommandKind::Change,
            Command::DeleteInterface(_) | Command::DeleteNode(_) => CommandKind::Delete,
            Command::Login(_) => CommandKind::Login,
            Command::Logout(_) => CommandKind::Logout,
        }
    }

    /// The arguments of `iscsiadm`.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        match self {
            Command::Version => owned(&["--version"]),
            Command::NewInterface(record) => bind(record, "--op=new"),
            Command::DeleteInterface(record) => interface(record, &["--op=delete"]),
            Command::NewNode(record) => node(record, &["--op=new"]),
            Command::DeleteNode(record) => node(record, &["--op=delete"]),
            Command::Login(record) => node(record, &["--login"]),
            Command::Logout(id) => owned(&["-m", "session", "-r", &id.to_string(), "--logout"]),
        }
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn interface(record: &InterfaceRecord, rest: &[&str]) -> Vec<String> {
    [owned(&["-m", "iface", "-I", &record.name()]), owned(rest)].concat()
}

/// A record is unbound if no interface is given; an empty name would be refused.
fn bind(record: &InterfaceRecord, operation: &str) -> Vec<String> {
    match &record.device {
        Some(device) => interface(record, &[operation, "-n", "iface.net_ifacename", "-v", device]),
        None => interface(record, &[operation]),
    }
}

fn node(record: &NodeRecord, rest: &[&str]) -> Vec<String> {
    let (name, portal) = (record.interface.name(), record.portal());
    [owned(&["-m", "node", "-T", &record.target, "-I", &name, "-p", &portal]), owned(rest)].concat()
}

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Version => write!(f, "the version of iscsiadm"),
            Command::NewInterface(record) => write!(f, "creating the interface record {}", record.name()),
            Command::DeleteInterface(record) => write!(f, "deleting the interface record {}", record.name()),
            Command::NewNode(record) => write!(f, "creating the record {record}"),
            Command::DeleteNode(record) => write!(f, "deleting the record {record}"),
            Command::Login(record) => write!(f, "the login to {record}"),
            Command::Logout(id) => write!(f, "the logout of session {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::types::IscsiPath;

    fn record(portal: &str, device: Option<&str>) -> NodeRecord {
        let interface = device.map(Into::into);
        NodeRecord::of(&IscsiPath { target: "iqn.a".into(), portal: portal.into(), interface }, 3).unwrap()
    }

    #[test]
    fn a24_every_form_of_portal_is_passed_with_its_tag() {
        let cases = [
            ("10.0.1.10:3260", "10.0.1.10:3260,3"),
            ("[fd00::10]:3261", "[fd00::10]:3261,3"),
            ("san.example.com:3260", "san.example.com:3260,3"),
        ];
        for (portal, expected) in cases {
            let record = record(portal, Some("ens1"));
            let arguments = Command::Login(&record).arguments();
            assert_eq!(
                arguments,
                ["-m", "node", "-T", "iqn.a", "-I", "mb.ens1", "-p", expected, "--login"],
                "exactly one target, portal and interface"
            );
        }
    }

    #[test]
    fn an_interface_record_is_created_and_bound_in_one_call() {
        let bound = InterfaceRecord { device: Some("bond0.100".into()) };
        let arguments = Command::NewInterface(&bound).arguments();
        assert_eq!(
            arguments,
            ["-m", "iface", "-I", "mb.bond0.100", "--op=new", "-n", "iface.net_ifacename", "-v", "bond0.100"]
        );
        let unbound = InterfaceRecord { device: None };
        assert_eq!(Command::NewInterface(&unbound).arguments(), ["-m", "iface", "-I", "mb.default", "--op=new"]);
    }
}
