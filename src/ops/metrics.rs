//! What the controller counts. Labels are of closed sets, or names of objects that are removed with the objects.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry, Unit},
};

/// A new metric, made known to a registry.
pub fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// A kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// `Host`, `Node` and so on.
    pub kind: &'static str,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// Of what: a watch, or a write.
    pub operation: &'static str,
    /// One of `ops::errors`.
    pub reason: &'static str,
}

/// A write, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabel {
    /// `Host`, `Node` and so on.
    pub kind: &'static str,
    /// What was written: `status`, `finalizers` and so on.
    pub action: &'static str,
    /// `ok`, or why not.
    pub outcome: &'static str,
}

/// A bond.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BondLabel {
    /// Its namespace.
    pub namespace: String,
    /// Its data center.
    pub data_center: String,
    /// Its name.
    pub bond: String,
}

/// Hosts of a data center in a phase.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PhaseLabel {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub data_center: String,
    /// One of the phases.
    pub phase: &'static str,
}

/// In seconds: from a decision without a write to an API server that is nearly stuck.
const DURATION_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What the controller counts.
#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    /// Decisions made, by kind.
    pub reconciles: Family<KindLabel, Counter>,
    /// How long a decision and its writes took, by kind.
    pub durations: Family<KindLabel, Histogram>,
    /// Errors, by operation and reason.
    pub errors: Family<ReasonLabel, Counter>,
    /// Objects that wait to be looked at.
    pub queue: Gauge,
    /// Whether this replica acts.
    pub leading: Gauge,
    /// Objects that cannot be decoded.
    pub undecodable: Gauge,
    /// Writes, by kind, action and outcome.
    pub writes: Family<WriteLabel, Counter>,
    /// Planned paths of each bond: an alert on connected paths alone would vanish with the last of them.
    pub desired_paths: Family<BondLabel, Gauge>,
    /// Connected paths of each bond.
    pub connected_paths: Family<BondLabel, Gauge>,
    /// Hosts of each data center by phase.
    pub hosts: Family<PhaseLabel, Gauge>,
}

impl ControllerMetrics {
    /// New metrics, made known to a registry.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
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
