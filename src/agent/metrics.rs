//! The agent's metrics and its readiness. A fleet of simulated agents shares one set.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use crate::{
    api::{Connection, ConnectionState, InterfaceName, Iqn, Portal, reason::PathReason},
    ops::{self, Readiness, WhatLabel, registered},
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

/// In seconds. The first are for sessions that the initiator gets back, the last for what people repair.
const REPAIR_BUCKETS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0];

/// The metrics of an agent.
#[derive(Clone, Debug)]
pub struct AgentMetrics {
    /// Paths, by state.
    pub paths: Family<StateLabel, Gauge>,
    /// Sessions of planned paths that were lost.
    pub losses: Counter,
    /// Lost sessions that came back.
    pub recoveries: Counter,
    /// From the loss of a session until it came back.
    pub repairs: Histogram,
    /// For how long paths have been Retained.
    pub retained: RetainedAges,
    /// Logins that have ended.
    pub logins: Family<OutcomeLabel, Counter>,
    /// Logouts that have ended.
    pub logouts: Family<OutcomeLabel, Counter>,
    /// What others have changed of Multibond's: `session`, `disk` or `record`.
    pub interferences: Family<WhatLabel, Counter>,
    /// Status writes, `ok` or `failed`.
    pub writes: Family<OutcomeLabel, Counter>,
    /// Lease renewals, `ok` or `failed`.
    pub renewals: Family<OutcomeLabel, Counter>,
    /// Watches of Hosts that work.
    pub watching: Gauge,
    /// Watches of Hosts that fail.
    pub failing: Gauge,
    /// Entries of what is remembered: `hosts`, `secrets`, `paths`, `sessions` and `jobs`.
    pub memory: Family<WhatLabel, Gauge>,
}

impl AgentMetrics {
    /// New metrics, added to a registry.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("multibond_agent");
        let repairs = Histogram::new(REPAIR_BUCKETS);
        let help = "From the loss of a session until it came back";
        registry.register_with_unit("session_repair", help, Unit::Seconds, repairs.clone());
        let retained = RetainedAges::default();
        registry.register_collector(Box::new(retained.clone()));
        AgentMetrics {
            repairs,
            retained,
            losses: registered(registry, "session_losses", "Sessions of planned paths that were lost"),
            recoveries: registered(registry, "session_recoveries", "Lost sessions that came back"),
            paths: registered(registry, "paths", "Paths, by state"),
            logins: registered(registry, "logins", "Logins that have ended, by outcome"),
            logouts: registered(registry, "logouts", "Logouts that have ended, by outcome"),
            interferences: registered(registry, "interferences", "Changes that others have made, by what they changed"),
            writes: registered(registry, "status_writes", "Writes of Host statuses, by outcome"),
            renewals: registered(registry, "lease_renewals", "Renewals of leases, by outcome"),
            watching: registered(registry, "watches_working", "Watches of Hosts that work"),
            failing: registered(registry, "watches_failing", "Watches of Hosts that fail"),
            memory: registered(registry, "memory_entries", "Entries of what the agents remember, by what they are of"),
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

impl Default for AgentMetrics {
    fn default() -> Self {
        AgentMetrics::new(&mut Registry::default())
    }
}

/// Since when each agent has had Retained paths. The age of the oldest is computed at each scrape.
#[derive(Clone, Debug, Default)]
pub struct RetainedAges(Arc<Mutex<BTreeMap<u64, Timestamp>>>);

impl RetainedAges {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, agent: u64, oldest: Option<Timestamp>) {
        let mut all = self.lock();
        match oldest {
            Some(since) => drop(all.insert(agent, since)),
            None => drop(all.remove(&agent)),
        }
    }

    /// The age of the oldest Retained path in seconds; 0 if there is none.
    fn oldest(&self, now: Timestamp) -> i64 {
        let since = self.lock().values().min().copied();
        since.map_or(0, |since| now.duration_since(since).as_secs().max(0))
    }
}

impl Collector for RetainedAges {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "For how long the oldest Retained path has been kept; 0 if there is none.";
        let gauge = encoder.encode_descriptor("oldest_retained_path_seconds", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.oldest(ops::time_of_day())).encode(gauge)
    }
}

/// What tells a path from others: target, portal, portal group tag, and the device.
type OwnedPathKey = (Iqn, Portal, u16, Option<InterfaceName>);

/// One agent's part of the gauges of paths, and its counts of lost sessions. The gauges are subtracted again when the agent
/// ends.
#[derive(Debug)]
pub struct PathGauge {
    metrics: AgentMetrics,
    agent: u64,
    counted: BTreeMap<&'static str, i64>,
    /// Paths with a session; the time of its loss if it is lost.
    sessions: HashMap<OwnedPathKey, Option<Duration>>,
}

impl PathGauge {
    /// Counts no paths yet.
    #[must_use]
    pub fn new(metrics: &AgentMetrics) -> Self {
        static AGENTS: AtomicU64 = AtomicU64::new(0);
        PathGauge {
            metrics: metrics.clone(),
            agent: AGENTS.fetch_add(1, Ordering::Relaxed),
            counted: BTreeMap::new(),
            sessions: HashMap::new(),
        }
    }

    /// Counts these paths from now on.
    pub fn set(&mut self, connections: &[Connection], now: Duration) {
        self.count_states(connections);
        self.count_losses(connections, now);
        let retained = connections.iter().filter(|connection| connection.state == ConnectionState::Retained);
        self.metrics.retained.set(self.agent, retained.map(|connection| connection.since.0).min());
    }

    /// A session is lost when a path that was connected fails; the path is still planned. It has come back when the same
    /// path is connected again.
    fn count_losses(&mut self, connections: &[Connection], now: Duration) {
        let mut sessions = HashMap::with_capacity(connections.len());
        for connection in connections {
            let Connection { target, portal, tpgt, interface, .. } = connection;
            let key = (target.clone(), portal.clone(), *tpgt, interface.clone());
            let before = self.sessions.get(&key).copied();
            match (connection.state, before) {
                (ConnectionState::Connected, before) => {
                    if let Some(Some(lost_at)) = before {
                        self.metrics.recoveries.inc();
                        self.metrics.repairs.observe(now.saturating_sub(lost_at).as_secs_f64());
                    }
                    sessions.insert(key, None);
                }
                (ConnectionState::Failed, Some(None)) => {
                    self.metrics.losses.inc();
                    sessions.insert(key, Some(now));
                }
                (ConnectionState::Failed, Some(Some(lost_at))) => drop(sessions.insert(key, Some(lost_at))),
                _ => {}
            }
        }
        self.sessions = sessions;
    }

    fn count_states(&mut self, connections: &[Connection]) {
        let mut counts: BTreeMap<&'static str, i64> = self.counted.keys().map(|state| (*state, 0)).collect();
        for connection in connections {
            *counts.entry(connection.state.as_str()).or_default() += 1;
        }
        for (state, count) in &counts {
            let before = self.counted.get(state).copied().unwrap_or_default();
            if *count != before {
                self.metrics.paths.get_or_create(&StateLabel { state }).inc_by(count - before);
            }
        }
        counts.retain(|_, count| *count != 0);
        self.counted = counts;
    }
}

impl Drop for PathGauge {
    fn drop(&mut self) {
        self.set(&[], Duration::ZERO);
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
    use prometheus_client::encoding::text::encode;
    use serde_json::json;

    use super::*;

    fn path(state: &str) -> [Connection; 1] {
        let path = json!({"target": "iqn.2003-01.org.example:a", "portal": "10.0.1.10:3260", "tpgt": 1, "state": state,
            "since": "2026-01-01T00:00:00Z"});
        [serde_json::from_value(path).unwrap()]
    }

    #[test]
    fn lost_sessions_are_counted_and_the_time_until_they_are_back() {
        let mut registry = Registry::default();
        let metrics = AgentMetrics::new(&mut registry);
        let mut gauge = PathGauge::new(&metrics);
        let mut at = |second, state| gauge.set(&path(state), Duration::from_secs(second));
        at(0, "Connecting");
        at(1, "Failed");
        at(2, "Connected");
        assert_eq!((metrics.losses.get(), metrics.recoveries.get()), (0, 0), "the first login was late");
        for start in [10, 100] {
            at(start, "Failed");
            at(start + 1, "Failed");
            at(start + 30, "Connected");
        }
        assert_eq!((metrics.losses.get(), metrics.recoveries.get()), (2, 2));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let repairs = "multibond_agent_session_repair_seconds";
        assert!(text.contains(&format!("{repairs}_sum 60.0\n{repairs}_count 2\n")), "{text}");
        at(200, "Disconnecting");
        at(201, "Retained");
        assert_eq!(metrics.losses.get(), 2, "it is not planned any more");
    }

    #[test]
    fn the_age_of_the_oldest_retained_path_is_that_of_the_scrape() {
        let mut registry = Registry::default();
        let metrics = AgentMetrics::new(&mut registry);
        let mut gauge = PathGauge::new(&metrics);
        gauge.set(&path("Retained"), Duration::ZERO);
        let later = "2026-01-01T00:01:30Z".parse().unwrap();
        assert_eq!(metrics.retained.oldest(later), 90);
        drop(gauge);
        assert_eq!(metrics.retained.oldest(later), 0);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("\nmultibond_agent_oldest_retained_path_seconds 0\n"), "{text}");
    }

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
