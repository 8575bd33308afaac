//! The controller's metrics. Labels are closed sets, or names of objects; the gauge of an object is removed with the
//! object.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    api::{HostCounts, ObjectKey, Phase},
    controller::{index::Index, reconcile::aggregates},
    ops::registered,
};

/// Objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabel {
    /// `Host`, `Node` and so on.
    pub kind: &'static str,
}

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    /// `watch` or `write`.
    pub operation: &'static str,
    /// One of `ops::errors::ErrorReason`.
    pub reason: &'static str,
}

/// A write, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct WriteLabel {
    /// `Host`, `Node` and so on.
    pub kind: &'static str,
    /// The name of the action: `status`, `finalizers` and so on.
    pub action: &'static str,
    /// `ok`, or the reason of the failure.
    pub outcome: &'static str,
}

/// A bond.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BondLabel {
    pub namespace: String,
    pub data_center: String,
    pub bond: String,
}

/// Hosts of a data center in a phase.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PhaseLabel {
    pub namespace: String,
    pub data_center: String,
    pub phase: &'static str,
}

/// In seconds. The first are for a decision without a write, the last for a write to an overloaded API server.
const DURATION_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The metrics of one controller.
#[derive(Clone, Debug)]
pub(crate) struct ControllerMetrics {
    /// Reconciles, by kind.
    pub reconciles: Family<KindLabel, Counter>,
    /// The duration of a reconcile and its writes, by kind.
    pub durations: Family<KindLabel, Histogram>,
    /// Errors, by operation and reason.
    pub errors: Family<ReasonLabel, Counter>,
    /// Objects that wait to be reconciled.
    pub queue: Gauge,
    /// 1 while this replica leads and acts.
    pub leading: Gauge,
    /// Objects that cannot be decoded.
    pub undecodable: Gauge,
    /// Writes, by kind, action and outcome.
    pub writes: Family<WriteLabel, Counter>,
    /// Planned paths of each bond. Alerts compare the connected paths with them.
    pub desired_paths: Family<BondLabel, Gauge>,
    /// Connected paths of each bond.
    pub connected_paths: Family<BondLabel, Gauge>,
    /// Hosts of each data center by phase.
    pub hosts: Family<PhaseLabel, Gauge>,
}

impl ControllerMetrics {
    /// New metrics, added to a registry.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("multibond");
        let durations: Family<KindLabel, Histogram> = Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS));
        registry.register_with_unit(
            "reconcile",
            "From decision to last write, by kind",
            Unit::Seconds,
            durations.clone(),
        );
        ControllerMetrics {
            durations,
            reconciles: registered(registry, "reconciles", "Decisions made, by kind"),
            errors: registered(registry, "errors", "Failed requests to the API server, by operation and reason"),
            queue: registered(registry, "queue_length", "Objects that wait to be looked at"),
            leading: registered(registry, "leader", "1 while this replica acts"),
            undecodable: registered(registry, "undecodable_objects", "Objects that cannot be decoded"),
            writes: registered(registry, "writes", "Writes to the API server, by kind, action and outcome"),
            desired_paths: registered(registry, "bond_paths_desired", "Planned paths of each bond"),
            connected_paths: registered(registry, "bond_paths_connected", "Connected paths of each bond"),
            hosts: registered(registry, "hosts", "Hosts of each data center by phase"),
        }
    }
}

impl ControllerMetrics {
    /// Records the duration of a reconcile of an object of this kind, with its writes.
    pub(super) fn observe_duration(&self, kind: &'static str, took: Duration) {
        self.durations.get_or_create(&KindLabel { kind }).observe(took.as_secs_f64());
    }
}

/// Gauges of objects. A new set of values replaces the last one without a moment at which a scrape sees neither.
#[derive(Debug, Default)]
pub(crate) struct ObjectGauges {
    bonds: HashSet<BondLabel>,
    phases: HashSet<PhaseLabel>,
}

impl ObjectGauges {
    /// Sets the gauges of all data centers and bonds to the present aggregates, and removes those of objects that are gone.
    pub(crate) fn set(&mut self, metrics: &ControllerMetrics, index: &Index) {
        let (mut desired, mut connected, mut hosts) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (key, _) in index.data_centers.iter() {
            let Some(aggregates) = aggregates(index, key) else { continue };
            hosts.extend(phases(key, aggregates.phases));
            for (bond, counts) in &aggregates.bonds {
                let label = BondLabel {
                    namespace: key.namespace.to_string(),
                    data_center: key.name.to_string(),
                    bond: bond.to_string(),
                };
                desired.insert(label.clone(), counts.paths.desired);
                connected.insert(label, counts.paths.connected);
            }
        }
        replace(&metrics.desired_paths, &self.bonds, &desired);
        replace(&metrics.connected_paths, &self.bonds, &connected);
        replace(&metrics.hosts, &self.phases, &hosts);
        self.bonds = desired.into_keys().collect();
        self.phases = hosts.into_keys().collect();
    }

    /// Removes all gauges: only the leader has them.
    pub(crate) fn clear(&mut self, metrics: &ControllerMetrics) {
        metrics.desired_paths.clear();
        metrics.connected_paths.clear();
        metrics.hosts.clear();
        *self = ObjectGauges::default();
    }
}

fn phases(key: &ObjectKey, hosts: HostCounts) -> impl Iterator<Item = (PhaseLabel, u32)> {
    let counts = [
        (Phase::Unassigned, hosts.unassigned),
        (Phase::Connecting, hosts.connecting),
        (Phase::Up, hosts.up),
        (Phase::Degraded, hosts.degraded),
        (Phase::Lost, hosts.lost),
        (Phase::NonOperational, hosts.non_operational),
        (Phase::Maintenance, hosts.maintenance),
        (Phase::Unknown, hosts.unknown),
    ];
    counts
        .map(|(phase, count)| {
            let (namespace, data_center) = (key.namespace.to_string(), key.name.to_string());
            (PhaseLabel { namespace, data_center, phase: phase.as_str() }, count)
        })
        .into_iter()
}

/// Sets the gauges of a family, and removes those that had a value before and have none now.
fn replace<L: Clone + Eq + std::hash::Hash>(family: &Family<L, Gauge>, before: &HashSet<L>, values: &HashMap<L, u32>) {
    for (label, value) in values {
        family.get_or_create(label).set(i64::from(*value));
    }
    for label in before.iter().filter(|label| !values.contains_key(label)) {
        family.remove(label);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use serde_json::json;

    use super::*;
    use crate::controller::{
        fixtures::{NOW, cluster, object, read},
        store::{Change, watched::Event},
    };

    #[test]
    fn the_gauges_of_an_object_go_with_it() {
        let mut registry = Registry::default();
        let metrics = ControllerMetrics::new(&mut registry);
        let bond = object("IscsiBond", "b", &json!({"dataCenter": "dc", "networks": []}));
        let mut index = cluster([object("DataCenter", "dc", &json!({})), bond.clone()]);
        let mut gauges = ObjectGauges::default();
        let mut text = |index: &Index| {
            gauges.set(&metrics, index);
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let label = "multibond_bond_paths_desired{namespace=\"ns\",data_center=\"dc\",bond=\"b\"} 0";
        assert!(text(&index).contains(label));
        index.apply(Change::Bond(Event::Deleted(read(bond))), NOW);
        let after = text(&index);
        assert!(!after.contains("bond=") && after.contains("phase=\"Up\""), "{after}");
    }
}
