//! The controller's metrics of its own work. Labels are closed sets. `object_metrics` has those of the objects.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::object_metrics::ObjectMetrics;
use crate::ops::{WhatLabel, registered};

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

/// In seconds. The first are for a decision without a write, the last for a write to an overloaded API server.
const DURATION_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The metrics of one controller.
#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    /// Reconciles, by kind.
    pub(crate) reconciles: Family<KindLabel, Counter>,
    /// The duration of a reconcile and its writes, by kind.
    pub(crate) durations: Family<KindLabel, Histogram>,
    /// Errors, by operation and reason.
    pub(crate) errors: Family<ReasonLabel, Counter>,
    /// Objects that wait to be reconciled.
    pub(crate) queue: Gauge,
    /// 1 while this replica leads and acts.
    pub(crate) leading: Gauge,
    /// Objects that cannot be decoded.
    pub(crate) undecodable: Gauge,
    /// Writes, by kind, action and outcome.
    pub(crate) writes: Family<WriteLabel, Counter>,
    /// Entries of the caches and queues, by what they are of.
    pub memory: Family<WhatLabel, Gauge>,
    /// The plans that are cached, in bytes.
    pub plan_bytes: Gauge,
    /// The gauges of objects, computed at each scrape.
    pub(crate) objects: ObjectMetrics,
}

impl ControllerMetrics {
    /// New metrics, added to a registry.
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
        let objects = ObjectMetrics::default();
        registry.register_collector(Box::new(objects.clone()));
        ControllerMetrics {
            durations,
            objects,
            reconciles: registered(registry, "reconciles", "Decisions made, by kind"),
            errors: registered(registry, "errors", "Failed requests to the API server, by operation and reason"),
            queue: registered(registry, "queue_length", "Objects that wait to be looked at"),
            leading: registered(registry, "leader", "1 while this replica acts"),
            undecodable: registered(registry, "undecodable_objects", "Objects that cannot be decoded"),
            memory: registered(registry, "memory_entries", "Entries of caches and queues, by what they are of"),
            plan_bytes: registered(registry, "plan_cache_bytes", "Memory of the plans that are cached"),
            writes: registered(registry, "writes", "Writes to the API server, by kind, action and outcome"),
        }
    }
}

impl ControllerMetrics {
    /// Records the duration of a reconcile of an object of this kind, with its writes.
    pub(super) fn observe_duration(&self, kind: &'static str, took: Duration) {
        self.durations.get_or_create(&KindLabel { kind }).observe(took.as_secs_f64());
    }
}
