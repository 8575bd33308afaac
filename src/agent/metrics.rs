//! The agent's metrics and its readiness. A fleet of simulated agents shares one set.

use std::collections::BTreeMap;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    api::{Connection, reason::PathReason},
    ops::{Readiness, registered},
};

/// The label `outcome`: how a login, a logout or a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `ok`, or the reason of the failure.
    pub outcome: &'static str,
}

impl OutcomeLabel {
    /// The outcome of a login or logout, which fails with the reason of a path.
    #[must_use]
    pub fn of_path(failure: Option<PathReason>) -> Self {
        OutcomeLabel { outcome: failure.map_or("ok", PathReason::as_str) }
    }

    /// The outcome of a request to the API server: `ok` or `failed`.
    #[must_use]
    pub fn of_request(is_ok: bool) -> Self {
        OutcomeLabel { outcome: if is_ok { "ok" } else { "failed" } }
    }
}

/// The label `state`: the state of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    /// One of the states of connections.
    pub state: &'static str,
}

/// The metrics of an agent.
#[derive(Clone, Debug, Default)]
pub struct AgentMetrics {
    /// Paths, by state.
    pub paths: Family<StateLabel, Gauge>,
    /// Logins that have ended.
    pub logins: Family<OutcomeLabel, Counter>,
    /// Logouts that have ended.
    pub logouts: Family<OutcomeLabel, Counter>,
    /// Status writes, `ok` or `failed`.
    pub writes: Family<OutcomeLabel, Counter>,
    /// Lease renewals, `ok` or `failed`.
    pub renewals: Family<OutcomeLabel, Counter>,
    /// Watches of Hosts that work.
    pub watching: Gauge,
    /// Watches of Hosts that fail.
    pub failing: Gauge,
}

impl AgentMetrics {
    /// New metrics, added to a registry.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("multibond_agent");
        AgentMetrics {
            paths: registered(registry, "paths", "Paths, by state"),
            logins: registered(registry, "logins", "Logins that have ended, by outcome"),
            logouts: registered(registry, "logouts", "Logouts that have ended, by outcome"),
            writes: registered(registry, "status_writes", "Writes of Host statuses, by outcome"),
            renewals: registered(registry, "lease_renewals", "Renewals of leases, by outcome"),
            watching: registered(registry, "watches_working", "Watches of Hosts that work"),
            failing: registered(registry, "watches_failing", "Watches of Hosts that fail"),
        }
    }

    /// An agent is ready while it can watch the Hosts. While it cannot, it still keeps its sessions.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let (watching, failing) = (self.watching.get(), self.failing.get());
        let line = match (watching, failing) {
            (0, 0) => "waiting for the first list of Hosts".to_owned(),
            (_, 0) => "watching Hosts".to_owned(),
            (_, failing) => format!("cannot watch Hosts ({failing} failing); sessions are kept as they are"),
        };
        Readiness { ready: watching > 0 && failing == 0, lines: vec![line] }
    }
}

/// One agent's part of the gauge of paths. It is subtracted again when the agent ends.
#[derive(Debug)]
pub struct PathGauge {
    paths: Family<StateLabel, Gauge>,
    counted: BTreeMap<&'static str, i64>,
}

impl PathGauge {
    /// Counts no paths yet.
    #[must_use]
    pub fn new(metrics: &AgentMetrics) -> Self {
        PathGauge { paths: metrics.paths.clone(), counted: BTreeMap::new() }
    }

    /// Counts these paths from now on.
    pub fn set(&mut self, connections: &[Connection]) {
        let mut counts: BTreeMap<&'static str, i64> = self.counted.keys().map(|state| (*state, 0)).collect();
        for connection in connections {
            *counts.entry(connection.state.as_str()).or_default() += 1;
        }
        for (state, count) in &counts {
            let before = self.counted.get(state).copied().unwrap_or_default();
            if *count != before {
                self.paths.get_or_create(&StateLabel { state }).inc_by(count - before);
            }
        }
        counts.retain(|_, count| *count != 0);
        self.counted = counts;
    }
}

impl Drop for PathGauge {
    fn drop(&mut self) {
        self.set(&[]);
    }
}

/// One watch in the gauges of working and failing watches. It is subtracted again when the watch ends.
#[derive(Debug)]
pub struct WatchGauge {
    metrics: AgentMetrics,
    works: Option<bool>,
}

impl WatchGauge {
    /// The watch counts as neither working nor failing yet.
    #[must_use]
    pub fn new(metrics: AgentMetrics) -> Self {
        WatchGauge { metrics, works: None }
    }

    /// The watch works, or fails, from now on.
    pub fn set(&mut self, works: bool) {
        if self.works != Some(works) {
            self.subtract();
            self.works = Some(works);
            self.gauge(works).inc();
        }
    }

    fn subtract(&mut self) {
        if let Some(works) = self.works.take() {
            self.gauge(works).dec();
        }
    }

    fn gauge(&self, works: bool) -> &Gauge {
        if works { &self.metrics.watching } else { &self.metrics.failing }
    }
}

impl Drop for WatchGauge {
    fn drop(&mut self) {
        self.subtract();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_follows_the_watches() {
        let metrics = AgentMetrics::default();
        assert!(!metrics.readiness().ready);
        let mut watch = WatchGauge::new(metrics.clone());
        watch.set(true);
        watch.set(true);
        assert!(metrics.readiness().ready);
        let mut other = WatchGauge::new(metrics.clone());
        other.set(false);
        assert_eq!(metrics.readiness().lines, ["cannot watch Hosts (1 failing); sessions are kept as they are"]);
        drop(other);
        assert!(metrics.readiness().ready);
        drop(watch);
        assert!(!metrics.readiness().ready);
    }
}
