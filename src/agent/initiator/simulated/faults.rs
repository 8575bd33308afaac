//! The two files of a simulation: faults, and the interfaces of nodes.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

use crate::{agent::types::IscsiPath, api::HostInterface, ops};

/// The default duration of a login.
const DEFAULT_LATENCY: Duration = Duration::from_millis(50);

/// The faults file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// The duration of a login.
    #[serde(default = "latency", deserialize_with = "duration")]
    pub latency: Duration,
    /// The faults. The first one that matches a path applies.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

fn latency() -> Duration {
    DEFAULT_LATENCY
}

impl Default for Faults {
    fn default() -> Self {
        Faults { latency: DEFAULT_LATENCY, faults: Vec::new() }
    }
}

/// A fault, and the paths it applies to: those that match all given fields.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The name of the Host or of its node.
    #[serde(default)]
    pub host: Option<String>,
    /// Address and port of the portal.
    #[serde(default)]
    pub portal: Option<String>,
    /// The target's iSCSI name.
    #[serde(default)]
    pub target: Option<String>,
    /// The interface.
    #[serde(default)]
    pub interface: Option<String>,
    /// The name of the network in the plan.
    #[serde(default)]
    pub network: Option<String>,
    /// The kind of fault.
    #[serde(rename = "fault")]
    pub kind: FaultKind,
    /// The delay after the file was read before the fault starts.
    #[serde(default, deserialize_with = "duration")]
    pub after: Duration,
}

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum FaultKind {
    /// The portal cannot be reached: logins fail, and existing sessions fail until the fault ends.
    Unreachable,
    /// Logins time out. Existing sessions keep working.
    Timeout,
    /// The target refuses the credentials. Existing sessions keep working.
    AuthenticationFailed,
    /// The portal does not know the target. Existing sessions keep working.
    TargetNotFound,
    /// Connections break off: existing sessions and logins fail until the fault ends.
    Dropped,
    /// The disk of the session is in use, so the session must not be logged out.
    InUse,
    /// The interface does not exist. If the fault names no portal, target and network, it is not reported either.
    InterfaceNotFound,
}

/// The path of a host that a fault may match.
#[derive(Clone, Copy, Debug)]
pub struct FaultSubject<'a> {
    /// The name of the Host, if it is known.
    pub host: Option<&'a str>,
    /// The node.
    pub node: &'a str,
    /// The path.
    pub path: &'a IscsiPath,
    /// The network of the path; none for the default network.
    pub network: Option<&'a str>,
}

impl Faults {
    /// The fault that applies to a path, at the time `elapsed` after the file was read.
    #[must_use]
    pub fn of(&self, subject: FaultSubject<'_>, elapsed: Duration) -> Option<FaultKind> {
        let FaultSubject { host, node, path, network } = subject;
        let fault = self.faults.iter().find(|fault| {
            fault.after <= elapsed
                && (matches(fault.host.as_deref(), host) || matches(fault.host.as_deref(), Some(node)))
                && matches(fault.portal.as_deref(), Some(&path.portal))
                && matches(fault.target.as_deref(), Some(&path.target))
                && matches(fault.interface.as_deref(), path.interface.as_deref())
                && matches(fault.network.as_deref(), network)
        });
        fault.map(|fault| fault.kind)
    }

    /// Whether an interface of a host is not reported.
    #[must_use]
    pub fn hides(&self, host: Option<&str>, node: &str, interface: &str, elapsed: Duration) -> bool {
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

    /// The delays after the file was read before faults start; sorted.
    #[must_use]
    pub fn start_times(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.faults.iter().map(|fault| fault.after).collect();
        times.sort();
        times.dedup();
        times.retain(|after| !after.is_zero());
        times
    }
}

fn matches(wanted: Option<&str>, found: Option<&str>) -> bool {
    wanted.is_none() || wanted == found
}

/// The facts file: the interfaces of nodes, by the name of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts(pub BTreeMap<String, Vec<HostInterface>>);

impl<'de> Deserialize<'de> for NodeFacts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct FactsFile {
            #[serde(default)]
            facts: Vec<Entry>,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Entry {
            node: String,
            #[serde(default)]
            interfaces: Vec<HostInterface>,
        }
        let mut nodes = BTreeMap::new();
        for Entry { node, mut interfaces } in FactsFile::deserialize(deserializer)?.facts {
            for address in interfaces.iter().flat_map(|interface| &interface.addresses) {
                if address.parse::<ipnet::IpNet>().is_err() {
                    let form = "an address with its prefix length, such as 10.0.1.21/24 or fd00:1::21/64";
                    return Err(de::Error::custom(format!("node {node}: {address:?} is not {form}")));
                }
            }
            interfaces.sort_by(|a, b| a.name.cmp(&b.name));
            if nodes.insert(node.clone(), interfaces).is_some() {
                return Err(de::Error::custom(format!("node {node} is listed twice")));
            }
        }
        Ok(NodeFacts(nodes))
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
        let subject = FaultSubject { host: Some(host), node: &node, path, network: Some("san-a") };
        faults.of(subject, Duration::from_secs(seconds))
    }

    #[test]
    fn the_documented_file_is_parsed() {
        let faults = faults(
            "latency: 200ms
faults:
- {portal: \"10.0.2.10:3260\", fault: Unreachable, after: 5s}
- {host: worker-2, interface: ens2f0, fault: InterfaceNotFound}
",
        );
        assert_eq!(faults.latency, Duration::from_millis(200));
        assert_eq!(faults.start_times(), [Duration::from_secs(5)]);
        let (cut, fine) = (path("a", "2", "ens1"), path("a", "1", "ens2f0"));
        assert_eq!(of(&faults, "worker-1", &cut, 4), None);
        assert_eq!(of(&faults, "worker-1", &cut, 5), Some(FaultKind::Unreachable));
        assert_eq!(of(&faults, "worker-1", &fine, 5), None);
        assert_eq!(of(&faults, "worker-2", &fine, 5), Some(FaultKind::InterfaceNotFound));
        assert!(faults.hides(Some("worker-2"), "x", "ens2f0", Duration::ZERO));
        assert!(!faults.hides(Some("worker-1"), "x", "ens2f0", Duration::ZERO));
    }

    #[test]
    fn the_first_matching_fault_applies_by_host_or_node_name() {
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
    fn a_bad_file_is_refused_with_the_line_and_the_expectation() {
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
            let error = serde_saphyr::from_str::<NodeFacts>(yaml).unwrap_err().to_string();
            assert!(error.contains(words), "{yaml}: {error}");
        }
    }
}
