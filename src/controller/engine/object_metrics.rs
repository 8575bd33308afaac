//! The gauges of objects: hosts by phase, paths by bond, host and portal, and conditions. They are computed from the index at
//! each scrape, so that they are neither older than it nor kept after their object. Labels are closed sets, and names of
//! objects and portals; what has no bound by itself is limited here.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::{
    api::{
        ConnectionState, Host, HostCounts, LunProblemKind, ObjectKey, ObjectKind, Phase,
        condition::{self, Status},
        reason::ConditionType,
    },
    controller::{
        index::{DataCenterIndex, Index, state::HostState},
        reconcile::aggregates,
    },
};

/// The largest number of portals of a data center that have gauges. Those with failed paths come first.
const MAX_PORTALS: usize = 1024;

/// A bond.
#[derive(Clone, Debug, EncodeLabelSet)]
pub(crate) struct BondLabel {
    pub namespace: String,
    pub data_center: String,
    pub bond: String,
}

/// Hosts of a data center in a phase.
#[derive(Clone, Debug, EncodeLabelSet)]
pub(crate) struct PhaseLabel {
    pub namespace: String,
    pub data_center: String,
    pub phase: &'static str,
}

/// A host, and the node that it is.
#[derive(Clone, Debug, EncodeLabelSet)]
pub(crate) struct HostLabel {
    pub namespace: String,
    pub data_center: String,
    pub host: String,
    pub node: String,
}

/// Paths of a host in a state.
#[derive(Clone, Debug, EncodeLabelSet)]
pub(crate) struct HostStateLabel {
    pub namespace: String,
    pub data_center: String,
    pub host: String,
    pub node: String,
    pub state: &'static str,
}

/// LUNs with a problem.
#[derive(Clone, Debug, EncodeLabelSet)]
pub(crate) struct LunLabel {
    pub namespace: String,
    pub data_center: String,
    pub problem: &'static str,
}

/// Paths to a portal of a target in a state.
#[derive(Clone, Debug, EncodeLabelSet)]
pub(crate) struct PortalLabel {
    pub namespace: String,
    pub data_center: String,
    pub target: String,
    pub portal: String,
    pub state: &'static str,
}

/// Paths through a network in a state; the name is empty for the default network.
#[derive(Clone, Debug, EncodeLabelSet)]
pub(crate) struct NetworkLabel {
    pub namespace: String,
    pub data_center: String,
    pub network: String,
    pub state: &'static str,
}

/// A condition of an object, with its present status.
#[derive(Clone, Debug, EncodeLabelSet)]
pub(crate) struct ConditionLabel {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub r#type: &'static str,
    pub status: &'static str,
}

/// Planned paths by state.
#[derive(Clone, Copy, Default)]
struct States {
    connected: u32,
    failed: u32,
    connecting: u32,
}

impl States {
    fn count(&mut self, connected: bool, failed: bool) {
        if connected {
            self.connected += 1;
        } else if failed {
            self.failed += 1;
        } else {
            self.connecting += 1;
        }
    }

    fn all(self) -> [(ConnectionState, u32); 3] {
        [
            (ConnectionState::Connected, self.connected),
            (ConnectionState::Failed, self.failed),
            (ConnectionState::Connecting, self.connecting),
        ]
    }
}

/// The gauges of objects at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    hosts: Vec<(PhaseLabel, u32)>,
    bond_desired: Vec<(BondLabel, u32)>,
    bond_connected: Vec<(BondLabel, u32)>,
    host_desired: Vec<(HostLabel, u32)>,
    host_paths: Vec<(HostStateLabel, u32)>,
    portal_paths: Vec<(PortalLabel, u32)>,
    network_paths: Vec<(NetworkLabel, u32)>,
    lun_problems: Vec<(LunLabel, u32)>,
    conditions: Vec<(ConditionLabel, u32)>,
}

impl Snapshot {
    /// The gauges of all objects that the index knows.
    pub(super) fn of(index: &Index) -> Self {
        let mut snapshot = Snapshot::default();
        for (key, object) in index.data_centers.iter() {
            snapshot.add_conditions(
                ObjectKind::DataCenter,
                key,
                object.status.as_ref().map(|status| &status.conditions),
            );
            let (Some(center), Some(aggregates)) = (index.data_center(key), aggregates(index, key)) else { continue };
            snapshot.add_phases(key, aggregates.phases);
            for (bond, counts) in &aggregates.bonds {
                let label = BondLabel {
                    namespace: key.namespace.to_string(),
                    data_center: key.name.to_string(),
                    bond: bond.to_string(),
                };
                snapshot.bond_desired.push((label.clone(), counts.paths.desired));
                snapshot.bond_connected.push((label, counts.paths.connected));
            }
            snapshot.add_paths(index, key, center);
        }
        for (key, object) in index.networks.iter() {
            snapshot.add_conditions(ObjectKind::Network, key, object.status.as_ref().map(|status| &status.conditions));
        }
        for (key, object) in index.hosts.iter() {
            snapshot.add_conditions(ObjectKind::Host, key, object.status.as_ref().map(|status| &status.conditions));
        }
        for (key, object) in index.bonds.iter() {
            snapshot.add_conditions(
                ObjectKind::IscsiBond,
                key,
                object.status.as_ref().map(|status| &status.conditions),
            );
        }
        snapshot
    }

    fn add_phases(&mut self, key: &ObjectKey, hosts: HostCounts) {
        for (phase, count) in [
            (Phase::Unassigned, hosts.unassigned),
            (Phase::Connecting, hosts.connecting),
            (Phase::Up, hosts.up),
            (Phase::Degraded, hosts.degraded),
            (Phase::Lost, hosts.lost),
            (Phase::NonOperational, hosts.non_operational),
            (Phase::Maintenance, hosts.maintenance),
            (Phase::Unknown, hosts.unknown),
        ] {
            let (namespace, data_center) = (key.namespace.to_string(), key.name.to_string());
            self.hosts.push((PhaseLabel { namespace, data_center, phase: phase.as_str() }, count));
        }
    }

    fn add_paths(&mut self, index: &Index, key: &ObjectKey, center: &DataCenterIndex) {
        let mut portals: HashMap<(&str, &str), States> = HashMap::new();
        // A data center has at most 1,024 networks (`planner::MAX_NETWORKS`).
        let mut networks: BTreeMap<&str, States> = BTreeMap::new();
        let mut lun_problems: BTreeMap<LunProblemKind, u32> = BTreeMap::new();
        for name in &center.hosts {
            let host_key = key.beside(name.clone());
            let (Some(host), Some(state)) = (index.hosts.get(&host_key), index.host_state(&host_key)) else { continue };
            for (at, path) in state.plan.paths.iter().enumerate() {
                let states = portals.entry((path.target.as_str(), path.portal.as_str())).or_default();
                states.count(state.connected[at], state.failed[at]);
                let states = networks.entry(path.network.as_deref().unwrap_or_default()).or_default();
                states.count(state.connected[at], state.failed[at]);
            }
            for lun in host.status.iter().flat_map(|status| &status.luns).flat_map(|luns| &luns.problems) {
                *lun_problems.entry(lun.problem).or_default() += 1;
            }
            self.add_host(key, &host_key, host, state);
        }
        self.add_networks(key, networks);
        for problem in LunProblemKind::ALL {
            let label = LunLabel {
                namespace: key.namespace.to_string(),
                data_center: key.name.to_string(),
                problem: problem.as_str(),
            };
            self.lun_problems.push((label, lun_problems.get(problem).copied().unwrap_or(0)));
        }
        let mut portals: Vec<_> = portals.into_iter().collect();
        portals.sort_by_key(|(portal, states)| (Reverse(states.failed), *portal));
        portals.truncate(MAX_PORTALS);
        for ((target, portal), states) in portals {
            for (state, count) in states.all() {
                let label = PortalLabel {
                    namespace: key.namespace.to_string(),
                    data_center: key.name.to_string(),
                    target: target.to_owned(),
                    portal: portal.to_owned(),
                    state: state.as_str(),
                };
                self.portal_paths.push((label, count));
            }
        }
    }

    fn add_networks(&mut self, key: &ObjectKey, networks: BTreeMap<&str, States>) {
        for (network, states) in networks {
            for (state, count) in states.all() {
                let label = NetworkLabel {
                    namespace: key.namespace.to_string(),
                    data_center: key.name.to_string(),
                    network: network.to_owned(),
                    state: state.as_str(),
                };
                self.network_paths.push((label, count));
            }
        }
    }

    fn add_host(&mut self, center: &ObjectKey, key: &ObjectKey, host: &Host, state: &HostState) {
        let mut states = States::default();
        state.connected.iter().zip(&state.failed).for_each(|(connected, failed)| states.count(*connected, *failed));
        let connections = host.status.as_ref().map(|status| status.connections.as_slice()).unwrap_or_default();
        let retained = connections.iter().filter(|connection| connection.state == ConnectionState::Retained).count();
        let retained = (ConnectionState::Retained, u32::try_from(retained).unwrap_or(u32::MAX));
        let label = HostLabel {
            namespace: key.namespace.to_string(),
            data_center: center.name.to_string(),
            host: key.name.to_string(),
            node: host.spec.node_name.clone(),
        };
        for (state, count) in states.all().into_iter().chain([retained]) {
            let HostLabel { namespace, data_center, host, node } = label.clone();
            self.host_paths.push((HostStateLabel { namespace, data_center, host, node, state: state.as_str() }, count));
        }
        self.host_desired.push((label, states.connected + states.failed + states.connecting));
    }

    /// Conditions of types and with statuses that Multibond defines; another writer cannot add series.
    fn add_conditions(&mut self, kind: ObjectKind, key: &ObjectKey, conditions: Option<&Vec<Condition>>) {
        let Some(conditions) = conditions else { return };
        for kind_of in ConditionType::ALL {
            let Some(condition) = condition::find(conditions, *kind_of) else { continue };
            let known = [Status::True, Status::False, Status::Unknown];
            let Some(status) = known.into_iter().find(|status| status.as_str() == condition.status) else { continue };
            let label = ConditionLabel {
                kind: kind.as_str(),
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                r#type: kind_of.as_str(),
                status: status.as_str(),
            };
            self.conditions.push((label, 1));
        }
    }
}

/// The gauges of objects, as of the last scrape. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectMetrics(Arc<Mutex<Snapshot>>);

impl ObjectMetrics {
    pub(super) fn set(&self, snapshot: Snapshot) {
        *self.lock() = snapshot;
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for ObjectMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let all = self.lock();
        let encoder = &mut encoder;
        gauges(encoder, "hosts", "Hosts of each data center by phase.", &all.hosts)?;
        gauges(encoder, "bond_paths_desired", "Planned paths of each bond.", &all.bond_desired)?;
        gauges(encoder, "bond_paths_connected", "Connected paths of each bond.", &all.bond_connected)?;
        gauges(encoder, "host_paths_desired", "Planned paths of each host, also without a bond.", &all.host_desired)?;
        gauges(encoder, "host_paths", "Paths of each host by state.", &all.host_paths)?;
        gauges(encoder, "portal_paths", "Planned paths to each portal of a target by state.", &all.portal_paths)?;
        gauges(encoder, "network_paths", "Planned paths through each network by state.", &all.network_paths)?;
        gauges(
            encoder,
            "lun_problems",
            "LUNs of hosts that have this problem, each counted on each host.",
            &all.lun_problems,
        )?;
        gauges(encoder, "condition", "1 for each condition of an object, with its status.", &all.conditions)
    }
}

fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[(L, u32)],
) -> Result<(), fmt::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (label, value) in rows {
        ConstGauge::new(i64::from(*value)).encode(family.encode_family(label)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::{
        fixtures::{NOW, TARGET, applied, cluster, decide, key, lease, object, read, storage},
        store::{Change, watched::Event},
    };

    /// The samples of an index.
    fn samples(index: &Index) -> String {
        let mut registry = Registry::default();
        let metrics = ObjectMetrics::default();
        registry.sub_registry_with_prefix("multibond").register_collector(Box::new(metrics.clone()));
        metrics.set(Snapshot::of(index));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[track_caller]
    fn check(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|sample| sample == *line), "{line} in\n{text}");
        }
    }

    #[test]
    fn the_gauges_of_an_object_go_with_it() {
        let bond = object("IscsiBond", "b", &json!({"dataCenter": "dc", "networks": []}));
        let mut index = cluster([object("DataCenter", "dc", &json!({})), bond.clone()]);
        check(&samples(&index), &["multibond_bond_paths_desired{namespace=\"ns\",data_center=\"dc\",bond=\"b\"} 0"]);
        index.apply(Change::Bond(Event::Deleted(read(bond))), NOW);
        let after = samples(&index);
        assert!(!after.contains("bond=") && after.contains("phase=\"Up\""), "{after}");
    }

    #[test]
    fn paths_have_gauges_by_host_portal_and_network() {
        let host = |name: &str, state: &str, reason: Option<&str>| {
            let mut host = object("Host", name, &json!({"dataCenter": "dc", "nodeName": format!("node-{name}")}));
            host["status"] = json!({"connections": [{"target": TARGET, "portal": "10.0.0.1:3260", "tpgt": 1,
                "state": state, "reason": reason, "since": "1970-01-01T00:00:00Z"}]});
            host
        };
        let mut objects = vec![object("DataCenter", "dc", &json!({"storage": storage("10.0.0.1")}))];
        objects.extend([host("a", "Connected", None), host("b", "Failed", Some("Timeout")), host("c", "Failed", None)]);
        objects.extend(["a", "b", "c"].map(|name| lease(&format!("node-{name}"), 40)));
        let mut index = cluster(objects);
        for name in ["a", "b", "c"] {
            decide(&mut index, &key(ObjectKind::Host, name), NOW);
        }
        let text = samples(&index);
        let of_host = "namespace=\"ns\",data_center=\"dc\",host=\"b\",node=\"node-b\"";
        let of_portal = format!("namespace=\"ns\",data_center=\"dc\",target=\"{TARGET}\",portal=\"10.0.0.1:3260\"");
        check(
            &text,
            &[
                &format!("multibond_host_paths_desired{{{of_host}}} 1"),
                &format!("multibond_host_paths{{{of_host},state=\"Failed\"}} 1"),
                &format!("multibond_host_paths{{{of_host},state=\"Connected\"}} 0"),
                &format!("multibond_portal_paths{{{of_portal},state=\"Connected\"}} 1"),
                &format!("multibond_portal_paths{{{of_portal},state=\"Failed\"}} 2"),
                "multibond_network_paths{namespace=\"ns\",data_center=\"dc\",network=\"\",state=\"Failed\"} 2",
            ],
        );
    }

    #[test]
    fn each_condition_is_one_series_with_its_status() {
        let mut bond = object("IscsiBond", "b", &json!({"dataCenter": "dc", "networks": []}));
        let condition = |kind: &str, status: &str| {
            json!({"type": kind, "status": status, "reason": "x", "message": "",
                "lastTransitionTime": "1970-01-01T00:00:00Z"})
        };
        let conditions: Vec<Value> = [("Ready", "False"), ("SomebodyElses", "True"), ("FullyConnected", "maybe")]
            .map(|(a, b)| condition(a, b))
            .into();
        bond["status"] = json!({"conditions": conditions});
        let mut index = cluster([object("DataCenter", "dc", &json!({}))]);
        index.apply(applied(bond), NOW);
        let text = samples(&index);
        let of_bond = "kind=\"IscsiBond\",namespace=\"ns\",name=\"b\"";
        check(&text, &[&format!("multibond_condition{{{of_bond},type=\"Ready\",status=\"False\"}} 1")]);
        assert_eq!(text.matches("multibond_condition{").count(), 1, "{text}");
    }

    #[test]
    fn the_portals_of_a_data_center_with_gauges_are_limited() {
        let portals: Vec<Value> = (0..32).map(|last| json!({"address": format!("10.0.1.{last}")})).collect();
        let targets: Vec<Value> =
            (0..40).map(|n| json!({"iqn": format!("iqn.2003-01.org.example:{n}"), "portals": portals})).collect();
        let storage = json!({"storage": [{"name": "array", "targets": targets}]});
        let mut index = cluster([
            object("DataCenter", "dc", &storage),
            object("Host", "a", &json!({"dataCenter": "dc", "nodeName": "a"})),
        ]);
        decide(&mut index, &key(ObjectKind::Host, "a"), NOW);
        let series = samples(&index).matches("multibond_portal_paths{").count();
        assert_eq!(series, 3 * MAX_PORTALS);
    }
}
