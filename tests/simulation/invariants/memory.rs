//! Invariant 8: nobody remembers more than there is. What each process remembers it shows in its own metrics.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
    time::Duration,
};

use multibond::{agent::metrics::AgentMetrics, controller::ControllerMetrics, ops::WhatLabel};
use prometheus_client::metrics::{family::Family, gauge::Gauge};

use crate::{
    clock,
    users::{DEVICES, PORTALS, TARGETS},
};

/// What is gone may be remembered for so long: until the longest pause between two attempts is over.
const PASSES: Duration = Duration::from_secs(60);
/// How many requests the controller sends at a time; each may have its object wait for its end.
const REQUESTS: i64 = 2 * 32;
/// The causes of which the changes of many hosts are remembered for a minute.
const STORMS: i64 = 100;
/// The plans that are cached for one data center, in bytes. These data centers are small.
const PLAN_BYTES: i64 = 256 << 10;
/// The paths that a host can have: those over its devices, and the default ones.
#[allow(clippy::cast_possible_wrap, reason = "there are a few of each")]
pub const PATHS: i64 = (TARGETS.len() * PORTALS.len() * (DEVICES.len() + 1)) as i64;
/// How many maps an agent has of paths, and of sessions.
const MAPS_OF_PATHS: i64 = 8;
const MAPS_OF_SESSIONS: i64 = 6;

/// What the processes that run remember, by their names.
#[derive(Default)]
pub struct Memory(BTreeMap<String, Remembered>);

/// Gauges by name. Each holds itself, so that a look costs nothing.
struct Gauges(BTreeMap<&'static str, Gauge>);

/// What one process remembers.
enum Remembered {
    Controller(Controller),
    Agent(Gauges),
}

/// What a replica remembers.
struct Controller {
    gauges: Gauges,
    plan_bytes: Gauge,
    /// How many objects there were, when it changed.
    known: VecDeque<(Duration, i64)>,
}

impl Gauges {
    fn of(family: &Family<WhatLabel, Gauge>, names: &[&'static str]) -> Self {
        let gauge = |what: &&'static str| (*what, family.get_or_create(&WhatLabel { what }).clone());
        Gauges(names.iter().map(gauge).collect())
    }

    fn get(&self, what: &str) -> i64 {
        self.0[what].get()
    }

    /// The first that has more entries than it may.
    fn beyond(&self, bounds: &[(&str, i64)]) -> Result<(), String> {
        let beyond = bounds.iter().find(|(what, most)| self.get(what) > *most);
        beyond.map_or(Ok(()), |(what, most)| Err(format!("{} {what}, and at most {most} are possible", self.get(what))))
    }
}

const OF_CONTROLLER: [&str; 17] = [
    "queue",
    "later",
    "debounced",
    "requests",
    "retries",
    "objects",
    "nodes",
    "namespaces",
    "leases",
    "answers",
    "data_centers",
    "host_states",
    "initiators",
    "agents",
    "storms",
    "refused_hosts",
    "deletions",
];
const OF_AGENT: [&str; 5] = ["hosts", "secrets", "paths", "sessions", "jobs"];

impl Controller {
    fn check(&mut self) -> Result<(), String> {
        let of = |what| self.gauges.get(what);
        let (objects, nodes) = (of("objects"), of("nodes"));
        // A Host names a Node, and a lease too, which may not exist.
        let known = 2 * objects + nodes + of("leases");
        let now = clock::elapsed();
        if self.known.back().is_none_or(|(_, last)| *last != known) {
            self.known.push_back((now, known));
        }
        // What was true until then is over.
        while self.known.get(1).is_some_and(|(until, _)| now > *until + PASSES) {
            self.known.pop_front();
        }
        let known = self.known.iter().map(|(_, known)| *known).max().unwrap_or_default();
        let plans = PLAN_BYTES * of("data_centers");
        if self.plan_bytes.get() > plans {
            return Err(format!("{} bytes of plans, and at most {plans} are expected", self.plan_bytes.get()));
        }
        self.gauges.beyond(&[
            ("queue", known),
            ("later", known),
            ("debounced", known),
            ("retries", known),
            ("requests", REQUESTS),
            ("answers", objects + nodes),
            ("data_centers", objects),
            ("host_states", objects),
            ("initiators", objects),
            ("agents", of("leases")),
            ("storms", STORMS),
            ("refused_hosts", objects),
            ("deletions", objects),
        ])
    }
}

impl Memory {
    /// A replica of the controller starts.
    pub fn controller_starts(&mut self, name: String, metrics: &ControllerMetrics) {
        let gauges = Gauges::of(&metrics.memory, &OF_CONTROLLER);
        let plan_bytes = metrics.plan_bytes.clone();
        self.0.insert(name, Remembered::Controller(Controller { gauges, plan_bytes, known: VecDeque::new() }));
    }

    /// An agent starts.
    pub fn agent_starts(&mut self, name: String, metrics: &AgentMetrics) {
        self.0.insert(name, Remembered::Agent(Gauges::of(&metrics.memory, &OF_AGENT)));
    }

    /// A process is killed.
    pub fn ends(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub fn check(&mut self) -> Result<(), String> {
        for (name, remembered) in &mut self.0 {
            let beyond = match remembered {
                Remembered::Controller(controller) => controller.check(),
                Remembered::Agent(gauges) => gauges.beyond(&[
                    ("paths", MAPS_OF_PATHS * PATHS),
                    ("sessions", MAPS_OF_SESSIONS * PATHS),
                    ("jobs", 2 * PATHS),
                ]),
            };
            beyond.map_err(|beyond| format!("8: {name} remembers {beyond}"))?;
        }
        Ok(())
    }

    /// What is wrong when everything is settled: a process remembers what is gone, or does not know what there is. `there`
    /// has how much a process of this name must remember.
    pub fn settled(&self, there: impl Fn(&str) -> Vec<(&'static str, RangeInclusive<i64>)>) -> Vec<String> {
        let mut flaws = Vec::new();
        for (name, remembered) in &self.0 {
            let (Remembered::Controller(Controller { gauges, .. }) | Remembered::Agent(gauges)) = remembered;
            for (what, expected) in there(name) {
                let found = gauges.get(what);
                if !expected.contains(&found) {
                    flaws.push(format!("{name} remembers {found} {what}, expected {expected:?}"));
                }
            }
        }
        flaws
    }
}
