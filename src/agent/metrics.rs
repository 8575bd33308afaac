//! What an agent counts, and whether it can do its work. A fleet of simulated agents shares one of these.

use std::collections::BTreeMap;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    api::{Connection, ConnectionState, reason::PathReason},
    ops::{Readiness, registered},
};

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `ok`, or the reason.
    pub outcome: &'static str,
}

impl OutcomeLabel {
    /// Of something that may fail for the reasons of paths.
    #[must_use]
    pub fn of(failure: Option<PathReason>) -> Self {
        OutcomeLabel { outcome: failure.map_or("ok", PathReason::as_str) }
    }
}

/// Where a path stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    /// One of the states of connections.
    pub state: &'static str,
}

/// What an agent counts.
#[derive(Clone, Debug, Default)]
pub struct AgentMetrics {
    /// Paths, by where they stand.
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
    /// New metrics, made known to a registry.
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

    /// An agent can do its work when it sees the Hosts. Sessions are kept also when it does not.
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

/// An outcome of something that only the API server can refuse.
#[must_use]
pub fn accepted<T, E>(result: &Result<T, E>) -> OutcomeLabel {
    OutcomeLabel { outcome: if result.is_ok() { "ok" } else { "failed" } }
}

/// One agent's share of the paths, which goes with it.
#[derive(Debug)]
pub struct PathShare {
    paths: Family<StateLabel, Gauge>,
    counted: BTreeMap<&'static str, i64>,
}

impl PathShare {
    /// Nothing yet.
    #[must_use]
    pub fn of(metrics: &AgentMetrics) -> Self {
        PathShare { paths: metrics.paths.clone(), counted: BTreeMap::new() }
    }

    /// From now on these paths.
    pub fn set(&mut self, connections: &[Connection]) {
        let mut counts: BTreeMap<&'static str, i64> = self.counted.keys().map(|state| (*state, 0)).collect();
        for connection in connections {
            *counts.entry(word(connection.state)).or_default() += 1;
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

impl Drop for PathShare {
    fn drop(&mut self) {
        self.set(&[]);
    }
}

fn word(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::Connecting => "Connecting",
        ConnectionState::Connected => "Connected",
        ConnectionState::Failed => "Failed",
        ConnectionState::Disconnecting => "Disconnecting",
        ConnectionState::Retained => "Retained",
    }
}

/// One watch's share of the working and the failing, which goes with it.
#[derive(Debug)]
pub struct WatchShare {
    metrics: AgentMetrics,
    works: Option<bool>,
}

impl WatchShare {
    /// Neither yet.
    #[must_use]
    pub fn of(metrics: AgentMetrics) -> Self {
        WatchShare { metrics, works: None }
    }

    /// From now on it works, or fails.
    pub fn set(&mut self, works: bool) {
        if self.works != Some(works) {
            self.leave();
            self.works = Some(works);
            self.gauge(works).inc();
        }
    }

    fn leave(&mut self) {
        if let Some(works) = self.works.take() {
            self.gauge(works).dec();
        }
    }

    fn gauge(&self, works: bool) -> &Gauge {
        if works { &self.metrics.watching } else { &self.metrics.failing }
    }
}

impl Drop for WatchShare {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_follows_the_watches() {
        let metrics = AgentMetrics::default();
        assert!(!metrics.readiness().ready);
        let mut watch = WatchShare::of(metrics.clone());
        watch.set(true);
        watch.set(true);
        assert!(metrics.readiness().ready);
        let mut other = WatchShare::of(metrics.clone());
        other.set(false);
        assert_eq!(metrics.readiness().lines, ["cannot watch Hosts (1 failing); sessions are kept as they are"]);
        drop(other);
        assert!(metrics.readiness().ready);
        drop(watch);
        assert!(!metrics.readiness().ready);
    }
}
