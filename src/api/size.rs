//! How large a Host becomes as JSON, and how much of it is whose. etcd takes requests of 1.5 MiB
//! (`--max-request-bytes`); a status that is larger is refused for ever, so controller and agent each keep to their part.

use std::io;

use serde::Serialize;

/// The largest object that etcd takes with its default settings, in bytes.
pub const OBJECT_LIMIT: usize = 1_572_864;
/// The room for the controller's fields of a Host's status, in bytes.
pub const CONTROLLER_ROOM: usize = 665_000;
/// The room for the agent's fields of a Host's status, in bytes. What is left of the object is for its metadata and
/// spec, which people write.
pub const AGENT_ROOM: usize = 740_000;
/// The room for the conditions and the counts of a Host's status: six messages, each byte of which may need two in
/// JSON, and their frames.
pub const CONDITIONS_ROOM: usize = 6 * (2 * super::condition::MESSAGE_LIMIT + 300) + 1_000;
/// The room for the agent's fields that do not grow with the paths: what it says of itself, and 64 interfaces.
pub const AGENT_BASE_ROOM: usize = 40_000;
/// The room for the message of each reported path, on average. An agent with more to say leaves something out. With more
/// room fewer than 64 targets with 32 portals, the most that a storage can have, fit beside each other.
const MESSAGE_ROOM: usize = 30;

/// The length of a value as JSON, in bytes; the value is not stored.
#[must_use]
pub fn json_length(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What has no JSON form is not written either.
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX,
    }
}

/// The names of a path that are written into a Host, by their lengths.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathNames<'a> {
    /// The target's name.
    pub target: &'a str,
    /// The portal.
    pub portal: &'a str,
    /// The device.
    pub interface: &'a str,
    /// The network.
    pub network: &'a str,
    /// The storage.
    pub storage: &'a str,
    /// The Secret.
    pub chap_secret: &'a str,
    /// The bytes of the list of bonds; see [`name_list`].
    pub bonds: usize,
}

impl PathNames<'_> {
    /// The bytes of the path in a plan, at most.
    #[must_use]
    pub fn planned(&self) -> usize {
        let PathNames { target, portal, interface, network, storage, chap_secret, bonds } = self;
        let names = [target, portal, interface, network, storage, chap_secret];
        names.iter().map(|name| name.len()).sum::<usize>() + bonds + PLANNED_FRAME
    }

    /// The bytes of the path in a report, at most, with a message of [`MESSAGE_ROOM`].
    #[must_use]
    pub fn reported(&self) -> usize {
        self.target.len() + self.portal.len() + self.interface.len() + REPORTED_FRAME + MESSAGE_ROOM
    }
}

/// The field names and numbers of a planned path; a test compares it with the longest one.
const PLANNED_FRAME: usize = 122;
/// The field names, numbers and words of a connection with an empty message; a test compares it with the longest one.
const REPORTED_FRAME: usize = 212;

/// The bytes of a list of names, at most.
#[must_use]
pub fn name_list<'a>(names: impl IntoIterator<Item = &'a str>) -> usize {
    names.into_iter().map(|name| name.len() + 3).sum()
}

/// The bytes of the entry of a target in `status.targets`, at most.
#[must_use]
pub fn target_entry(target: &str) -> usize {
    target.len() + 75
}

/// The bytes of an entry of `status.networks`, at most: a device, and an address of IPv6 with its prefix length.
#[must_use]
pub fn carried_network(network: &str, interface: &str) -> usize {
    network.len() + interface.len() + 120
}

/// The bytes of a held target and its portals, at most.
#[must_use]
pub fn held_target<'a>(target: &str, portals: impl IntoIterator<Item = &'a str>) -> usize {
    2 * target.len() + name_list(portals) + 30
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::{
        CarriedNetwork, CarrySource, Connection, ConnectionState, PlannedPath, TargetStatus, reason::PathReason,
    };

    fn names() -> PathNames<'static> {
        PathNames {
            target: "iqn.2003-01.org.example:a",
            portal: "10.0.1.10:3260",
            interface: "ens3",
            network: "san-a",
            storage: "array",
            chap_secret: "secret",
            bonds: name_list(["gold", "silver"]),
        }
    }

    fn longest_word(words: impl Iterator<Item = &'static str>) -> usize {
        words.map(str::len).max().unwrap()
    }

    #[test]
    fn a_planned_path_is_not_longer_than_it_is_counted() {
        let names = names();
        let path = PlannedPath {
            target: names.target.into(),
            portal: names.portal.into(),
            tpgt: u16::MAX,
            interface: Some(names.interface.into()),
            network: Some(names.network.into()),
            storage: names.storage.into(),
            bonds: vec!["gold".into(), "silver".into()],
            chap_secret: Some(names.chap_secret.into()),
        };
        assert!((names.planned() - 20..=names.planned()).contains(&(json_length(&[path]) - 1)));
    }

    #[test]
    fn a_reported_path_is_not_longer_than_it_is_counted() {
        let names = names();
        let connection = Connection {
            target: names.target.into(),
            portal: names.portal.into(),
            tpgt: u16::MAX,
            interface: Some(names.interface.into()),
            state: ConnectionState::Disconnecting,
            session_id: Some(u32::MAX),
            reason: Some(PathReason::AuthenticationFailed),
            message: Some("m".repeat(MESSAGE_ROOM)),
            since: Time(Timestamp::UNIX_EPOCH),
            retry_every: Some("10m".to_owned()),
        };
        let state = longest_word(ConnectionState::ALL.iter().map(|state| state.as_str()));
        let reason = longest_word(PathReason::ALL.iter().map(|reason| reason.as_str()));
        assert_eq!(
            (state, reason),
            ("Disconnecting".len(), "AuthenticationFailed".len()),
            "the longest words are used"
        );
        assert!((names.reported() - 20..=names.reported()).contains(&(json_length(&[connection]) - 1)));
    }

    #[test]
    fn targets_and_networks_are_not_longer_than_they_are_counted() {
        let target =
            TargetStatus { target: "iqn.a".into(), lost_at: Some(Time(Timestamp::UNIX_EPOCH)), never_connected: true };
        assert!(json_length(&target) < target_entry("iqn.a"));
        let address = Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128".to_owned());
        let entry = CarriedNetwork { name: "a".into(), interface: "b".into(), source: CarrySource::Subnet, address };
        assert!(json_length(&entry) < carried_network("a", "b"));
    }
}
