//! What goes wrong in a simulation, and what its hosts have: two files, read again when they change.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

use crate::{agent::path::IscsiPath, api::HostInterface, ops};

/// How long a login takes where nothing else is said.
const LATENCY: Duration = Duration::from_millis(50);

/// The faults file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// How long a login takes.
    #[serde(default = "latency", deserialize_with = "duration")]
    pub latency: Duration,
    /// The faults; of those that concern a path the first counts.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

fn latency() -> Duration {
    LATENCY
}

impl Default for Faults {
    fn default() -> Self {
        Faults { latency: LATENCY, faults: Vec::new() }
    }
}

/// A fault, and which paths it concerns: those that are like every field that is given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The name of a Host, or of its node.
    #[serde(default)]
    pub host: Option<String>,
    /// Address and port.
    #[serde(default)]
    pub portal: Option<String>,
    /// The target's iSCSI name.
    #[serde(default)]
    pub target: Option<String>,
    /// The device.
    #[serde(default)]
    pub interface: Option<String>,
    /// The network, by the name in the plan.
    #[serde(default)]
    pub network: Option<String>,
    /// What goes wrong.
    #[serde(rename = "fault")]
    pub kind: FaultKind,
    /// How long after the file was read.
    #[serde(default, deserialize_with = "duration")]
    pub after: Duration,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum FaultKind {
    /// The portal is cut off: nothing connects, and existing sessions are lost until it is back.
    Unreachable,
    /// The initiator does not answer within the login timeout; existing sessions go on.
    Timeout,
    /// The target refuses the credentials; existing sessions go on.
    AuthenticationFailed,
    /// The portal does not know the target; existing sessions go on.
    TargetNotFound,
    /// Existing sessions are lost, and new ones break off, until the fault goes.
    Dropped,
    /// The session's disk is in use: it cannot be logged out.
    InUse,
    /// The device is gone. Without portal, target and network it is not reported either.
    InterfaceNotFound,
}

/// A path of a host, as faults match it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The Host's name, where it is known.
    pub host: Option<&'a str>,
    /// The node.
    pub node: &'a str,
    /// The path.
    pub path: &'a IscsiPath,
    /// The network that the path goes through.
    pub network: Option<&'a str>,
}

impl Faults {
    /// The fault of a path, so long after the file was read.
    #[must_use]
    pub fn of(&self, subject: Subject<'_>, elapsed: Duration) -> Option<FaultKind> {
        let Subject { host, node, path, network } = subject;
        let like =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| Some(wanted) == found);
        let concerns = |fault: &&Fault| {
            fault.after <= elapsed
                && (like(&fault.host, host) || like(&fault.host, Some(node)))
                && like(&fault.portal, Some(&path.portal))
                && like(&fault.target, Some(&path.target))
                && like(&fault.interface, path.interface.as_deref())
                && like(&fault.network, network)
        };
        self.faults.iter().find(concerns).map(|fault| fault.kind)
    }

    /// Whether a device of a host is gone altogether.
    #[must_use]
    pub fn hide(&self, host: Option<&str>, node: &str, interface: &str, elapsed: Duration) -> bool {
        self.faults.iter().any(|fault| {
            let Fault { host: of, portal: None, target: None, interface: device, network: None, kind, after } = fault
            else {
                return false;
            };
            *kind == FaultKind::InterfaceNotFound
                && *after <= elapsed
                && of.as_deref().is_none_or(|of| Some(of) == host || of == node)
                && device.as_deref().is_none_or(|device| device == interface)
        })
    }

    /// When faults begin, after the file was read.
    #[must_use]
    pub fn beginnings(&self) -> Vec<Duration> {
        let mut beginnings: Vec<Duration> = self.faults.iter().map(|fault| fault.after).collect();
        beginnings.sort();
        beginnings.dedup();
        beginnings.retain(|after| !after.is_zero());
        beginnings
    }
}

/// The facts file: what nodes have, by node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactsBook(pub BTreeMap<String, Vec<HostInterface>>);

impl<'de> Deserialize<'de> for FactsBook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Book {
            #[serde(default)]
            facts: Vec<NodeFacts>,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct NodeFacts {
            node: String,
            #[serde(default)]
            interfaces: Vec<HostInterface>,
        }
        let mut book = BTreeMap::new();
        for NodeFacts { node, mut interfaces } in Book::deserialize(deserializer)?.facts {
            for address in interfaces.iter().flat_map(|interface| &interface.addresses) {
                if address.parse::<ipnet::IpNet>().is_err() {
                    let form = "an address with its prefix length, such as 10.0.1.21/24 or fd00:1::21/64";
                    return Err(de::Error::custom(format!("node {node}: {address:?} is not {form}")));
                }
            }
            interfaces.sort_by(|a, b| a.name.cmp(&b.name));
            if book.insert(node.clone(), interfaces).is_some() {
                return Err(de::Error::custom(format!("node {node} is listed twice")));
            }
        }
        Ok(FactsBook(book))
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Text;
    impl de::Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration with its unit, such as 200ms, 5s or 1m30s")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            ops::duration(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::fixtures::path;

    fn faults(yaml: &str) -> Faults {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn of(faults: &Faults, host: &str, path: &IscsiPath, seconds: u64) -> Option<FaultKind> {
        let node = format!("node-of-{host}");
        let subject = Subject { host: Some(host), node: &node, path, network: Some("san-a") };
        faults.of(subject, Duration::from_secs(seconds))
    }

    #[test]
    fn the_documented_file_is_understood() {
        let faults = faults(
            "latency: 200ms
faults:
- {portal: \"10.0.2.10:3260\", fault: Unreachable, after: 5s}
- {host: worker-2, interface: ens2f0, fault: InterfaceNotFound}
",
        );
        assert_eq!(faults.latency, Duration::from_millis(200));
        assert_eq!(faults.beginnings(), [Duration::from_secs(5)]);
        let (cut, fine) = (path("a", "2", "ens1"), path("a", "1", "ens2f0"));
        assert_eq!(of(&faults, "worker-1", &cut, 4), None);
        assert_eq!(of(&faults, "worker-1", &cut, 5), Some(FaultKind::Unreachable));
        assert_eq!(of(&faults, "worker-1", &fine, 5), None);
        assert_eq!(of(&faults, "worker-2", &fine, 5), Some(FaultKind::InterfaceNotFound));
        assert!(faults.hide(Some("worker-2"), "x", "ens2f0", Duration::ZERO));
        assert!(!faults.hide(Some("worker-1"), "x", "ens2f0", Duration::ZERO));
    }

    #[test]
    fn the_first_fault_that_matches_counts_and_a_host_is_meant_by_either_name() {
        let faults = faults(
            "faults:
- {host: node-of-a, network: san-a, fault: Timeout}
- {host: b, target: \"iqn.2003-01.org.example:a\", fault: Dropped}
- {fault: InUse}
",
        );
        let any = path("a", "1", "-");
        assert_eq!(of(&faults, "a", &any, 0), Some(FaultKind::Timeout));
        assert_eq!(of(&faults, "b", &any, 0), Some(FaultKind::Dropped));
        assert_eq!(of(&faults, "c", &any, 0), Some(FaultKind::InUse));
    }

    #[test]
    fn a_bad_file_is_refused_with_the_place_and_what_is_allowed() {
        let cases = [
            ("latency: 5\n", "a duration with its unit"),
            ("latency: soon\n", "200ms, 5s or 1m30s"),
            ("faults:\n- {fault: Broken}\n", "Unreachable"),
            ("faults:\n- {portals: x, fault: InUse}\n", "portals"),
            ("faults:\n- {portal: x}\n", "fault"),
            ("fault: []\n", "fault"),
        ];
        for (yaml, words) in cases {
            let error = serde_saphyr::from_str::<Faults>(yaml).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("line"), "{yaml}: {error}");
        }
        let facts = [
            ("facts:\n- {node: a, interfaces: [{name: e, addresses: [10.0.0.1]}]}\n", "10.0.1.21/24"),
            ("facts:\n- {node: a}\n- {node: a}\n", "node a is listed twice"),
            ("facts:\n- {host: a}\n", "host"),
        ];
        for (yaml, words) in facts {
            let error = serde_saphyr::from_str::<FactsBook>(yaml).unwrap_err().to_string();
            assert!(error.contains(words), "{yaml}: {error}");
        }
    }
}
