//! What `iscsiadm` is asked, as values.

use std::fmt;

use crate::agent::{credentials::Password, initiator::OWN_RECORD_PREFIX, path::IscsiPath};

/// The name of the interface record for the default network, after our prefix.
const DEFAULT: &str = "default";

/// A record of ours: exactly one target, portal and interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// The interface record.
    pub interface: InterfaceRecord,
    /// The target's iSCSI name.
    pub target: String,
    /// The portal's address, an IPv6 one without brackets.
    pub address: String,
    /// The portal's port.
    pub port: u16,
    /// The target portal group tag.
    pub tpgt: u16,
}

/// An interface record of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceRecord {
    /// The device that it binds to; none for the default network.
    pub device: Option<String>,
}

impl InterfaceRecord {
    /// The record's name. A device has at most 15 characters, a record 64.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{OWN_RECORD_PREFIX}{}", self.device.as_deref().unwrap_or(DEFAULT))
    }

    /// The record of that name, if it is ours.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let device = name.strip_prefix(OWN_RECORD_PREFIX)?;
        Some(InterfaceRecord { device: (device != DEFAULT).then(|| device.to_owned()) })
    }
}

impl Record {
    /// The record of a path; none when its portal is not an address and a port.
    #[must_use]
    pub fn of(path: &IscsiPath) -> Option<Self> {
        let (address, port) = path.portal.rsplit_once(':')?;
        let address = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        Some(Record {
            interface: InterfaceRecord { device: path.interface.as_deref().map(str::to_owned) },
            target: path.target.to_string(),
            address: address.to_owned(),
            port: port.parse().ok()?,
            tpgt: path.tpgt,
        })
    }

    /// The portal as `iscsiadm` wants it, with the tag: without it, records of one portal overwrite each other.
    fn portal(&self) -> String {
        let Record { address, port, tpgt, .. } = self;
        if address.contains(':') { format!("[{address}]:{port},{tpgt}") } else { format!("{address}:{port},{tpgt}") }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} through {}", self.target, self.portal(), self.interface.name())
    }
}

/// One setting of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value; empty when it is to be unset.
    pub value: Value,
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// For all to see.
    Plain(String),
    /// Shown to nobody.
    Secret(Password),
}

impl Value {
    /// The text, for the one who has to type it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        match self {
            Value::Plain(text) => text,
            Value::Secret(password) => password.reveal(),
        }
    }
}

/// What `iscsiadm` is asked to do. One record or session each: a command over several goes on after the first error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// To tell its version.
    Version,
    /// To make an interface record, which overwrites one of that name. Old versions make it and leave it unbound.
    NewInterface(&'a InterfaceRecord),
    /// To bind an interface record.
    UpdateInterface(&'a InterfaceRecord),
    /// To delete an interface record, and every node record with it; refused while a session uses one.
    DeleteInterface(&'a InterfaceRecord),
    /// To make a node record with the defaults of the host, which overwrites one of that name.
    NewNode(&'a Record),
    /// To change settings of a node record.
    UpdateNode(&'a Record, &'a [Setting]),
    /// To delete a node record; refused while a session uses it.
    DeleteNode(&'a Record),
    /// To log in.
    Login(&'a Record),
    /// To log a session out, which needs no record.
    Logout(u32),
}

/// What kind of thing is asked: exit codes mean different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To tell something.
    Tell,
    /// To make or change a record.
    Change,
    /// To delete a record.
    Delete,
    /// To make a session.
    Login,
    /// To end a session.
    Logout,
}

impl Command<'_> {
    /// What kind of thing is asked.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Command::Version => Kind::Tell,
            Command::NewInterface(_) | Command::UpdateInterface(_) | Command::NewNode(_) | Command::UpdateNode(..) => {
                Kind::Change
            }
            Command::DeleteInterface(_) | Command::DeleteNode(_) => Kind::Delete,
            Command::Login(_) => Kind::Login,
            Command::Logout(_) => Kind::Logout,
        }
    }

    /// The arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let interface = |record: &InterfaceRecord, rest: &[&str]| {
            let name = record.name();
            [words(&["-m", "iface", "-I", &name]), words(rest)].concat()
        };
        let node = |record: &Record, rest: &[&str]| {
            let (name, portal) = (record.interface.name(), record.portal());
            [words(&["-m", "node", "-T", &record.target, "-I", &name, "-p", &portal]), words(rest)].concat()
        };
        // An unbound record is made so by its name alone: an empty value would be refused.
        let bound = |record: &InterfaceRecord, operation: &str| match &record.device {
            Some(device) => interface(record, &[operation, "-n", "iface.net_ifacename", "-v", device]),
            None => interface(record, &[operation]),
        };
        match self {
            Command::Version => words(&["--version"]),
            Command::NewInterface(record) => bound(record, "--op=new"),
            Command::UpdateInterface(record) => bound(record, "--op=update"),
            Command::DeleteInterface(record) => interface(record, &["--op=delete"]),
            Command::NewNode(record) => node(record, &["--op=new"]),
            Command::UpdateNode(record, settings) => {
                let pairs = settings.iter().flat_map(|setting| ["-n", setting.name, "-v", setting.value.reveal()]);
                node(record, &[&["--op=update"], &pairs.collect::<Vec<_>>()[..]].concat())
            }
            Command::DeleteNode(record) => node(record, &["--op=delete"]),
            Command::Login(record) => node(record, &["--login"]),
            Command::Logout(id) => words(&["-m", "session", "-r", &id.to_string(), "--logout"]),
        }
    }
}

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Version => write!(f, "the version of iscsiadm"),
            Command::NewInterface(record) => write!(f, "making the interface record {}", record.name()),
            Command::UpdateInterface(record) => write!(f, "changing the interface record {}", record.name()),
            Command::DeleteInterface(record) => write!(f, "deleting the interface record {}", record.name()),
            Command::NewNode(record) => write!(f, "making the record {record}"),
            Command::UpdateNode(record, _) => write!(f, "changing the record {record}"),
            Command::DeleteNode(record) => write!(f, "deleting the record {record}"),
            Command::Login(record) => write!(f, "the login to {record}"),
            Command::Logout(id) => write!(f, "the logout of session {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(portal: &str, device: Option<&str>) -> Record {
        let interface = device.map(Into::into);
        Record::of(&IscsiPath { target: "iqn.a".into(), portal: portal.into(), tpgt: 3, interface }).unwrap()
    }

    #[test]
    fn a24_every_form_of_portal_is_named_with_its_tag() {
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
    fn an_interface_record_is_made_and_bound_in_one_call() {
        let bound = InterfaceRecord { device: Some("bond0.100".into()) };
        let arguments = Command::NewInterface(&bound).arguments();
        assert_eq!(
            arguments,
            ["-m", "iface", "-I", "mb.bond0.100", "--op=new", "-n", "iface.net_ifacename", "-v", "bond0.100"]
        );
        let unbound = InterfaceRecord { device: None };
        assert_eq!(Command::NewInterface(&unbound).arguments(), ["-m", "iface", "-I", "mb.default", "--op=new"]);
        assert_eq!(InterfaceRecord::named("mb.bond0.100"), Some(bound));
        assert_eq!(InterfaceRecord::named("mb.default"), Some(unbound));
        assert_eq!(InterfaceRecord::named("default"), None, "a record of somebody else");
    }

    #[test]
    fn settings_are_changed_in_one_call_and_secrets_are_in_no_text() {
        let secret = Value::Secret(Password::from("hunter2".to_owned()));
        let settings = [
            Setting { name: "node.startup", value: Value::Plain("manual".into()) },
            Setting { name: "node.session.auth.password", value: secret },
        ];
        let record = record("10.0.1.10:3260", None);
        let command = Command::UpdateNode(&record, &settings);
        let tail = command.arguments()[8..].to_vec();
        assert_eq!(
            tail,
            ["--op=update", "-n", "node.startup", "-v", "manual", "-n", "node.session.auth.password", "-v", "hunter2"]
        );
        assert!(!format!("{command} {command:?}").contains("hunter2"));
    }
}
