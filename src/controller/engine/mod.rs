//! The loop that drives the decisions: takes in what the watches bring, decides for one object after the other, and
//! carries the decisions out, many objects at a time, one request at a time for each.

pub(crate) mod leadership;
pub(crate) mod queue;
pub(crate) mod watch;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::Client;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{ObjectKey, Phase},
    controller::{
        engine::leadership::Authority,
        index::{Dirty, World},
        reconcile::{
            Settings,
            action::{Action, Outcome},
            data_center, host, iscsi_bond, network, node,
        },
        store::{Change, Written, key::Key},
    },
    ops::{
        BondLabel, Clock, ControllerMetrics, KindLabel, Now, PhaseLabel, ReasonLabel, WriteLabel,
        errors::{ErrorReason, brief},
    },
    planner::Kind,
};
use queue::Queue;

/// Requests in flight at most: 4 to 16 reach what an API server can do, more only wait there.
const IN_FLIGHT: usize = 32;
/// Changes taken in before the next look at the queue.
const BATCH: usize = 512;
/// How often time is let pass: agents fall silent.
const TICK: Duration = Duration::from_secs(1);
/// The first pause after a failed write, doubled with each further one...
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// ...up to this.
const LAST_RETRY: Duration = Duration::from_secs(30);
/// How long what is in flight may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// What the engine tells of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report(Arc<Mutex<ReportLines>>);

/// What the engine tells of itself, for people and for readiness.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReportLines {
    /// Whether this replica leads.
    pub leading: bool,
    /// Lists that have not been read.
    pub unfilled: Vec<&'static str>,
    /// Objects that cannot be decoded.
    pub undecodable: Vec<String>,
    /// Kinds of writes that are forbidden.
    pub forbidden: Vec<String>,
}

impl Report {
    pub(crate) fn read(&self) -> ReportLines {
        self.lines().clone()
    }

    fn lines(&self) -> MutexGuard<'_, ReportLines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that the engine needs from outside.
pub(crate) struct Surroundings {
    pub client: Client,
    pub identity: String,
    pub settings: Settings,
    pub metrics: ControllerMetrics,
    pub report: Report,
    pub changes: mpsc::Receiver<Change>,
    pub authority: Authority,
    pub shutdown: CancellationToken,
}

/// How the requests for one object ended.
struct Done {
    key: Key,
    began: Instant,
    written: Vec<Written>,
    succeeded: Vec<&'static str>,
    /// Hosts that were to be made and were refused, with what the API server said.
    refused: BTreeMap<ObjectKey, String>,
    failure: Option<(&'static str, kube::Error)>,
}

/// The loop's state.
pub(crate) struct Engine {
    outside: Surroundings,
    clock: Clock,
    world: World,
    queue: Queue,
    tasks: JoinSet<Done>,
    in_flight: HashSet<Key>,
    /// Looked at again as soon as their requests have ended.
    parked: HashSet<Key>,
    failures: HashMap<Key, u32>,
    /// What the API server said of writes that it forbids, by kind and action.
    forbidden: BTreeMap<(&'static str, &'static str), String>,
    acting: bool,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub(crate) fn new(outside: Surroundings) -> Self {
        Engine {
            outside,
            clock: Clock::start(),
            world: World::default(),
            queue: Queue::default(),
            tasks: JoinSet::new(),
            in_flight: HashSet::new(),
            parked: HashSet::new(),
            failures: HashMap::new(),
            forbidden: BTreeMap::new(),
            acting: false,
        }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    /// Runs until shutdown, and then lets what is in flight end.
    pub(crate) async fn run(mut self) {
        let shutdown = self.outside.shutdown.clone();
        let mut tick = tokio::time::interval(TICK);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let due = self.next_due();
            tokio::select! {
                received = self.outside.changes.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    let now = self.now();
                    for change in batch.drain(..) {
                        self.world.apply(change, now);
                    }
                }
                Some(done) = self.tasks.join_next() => self.finished(done),
                _ = tick.tick() => {
                    let now = self.now();
                    self.world.tick(now);
                    self.queue.forget_rested(now.monotonic);
                    self.measure();
                }
                () = sleep_until(due) => {}
                Ok(()) = self.outside.authority.changed() => {}
                () = shutdown.cancelled() => break,
            }
            self.take_or_leave_office();
            self.enqueue();
            if self.acting {
                self.work();
            }
        }
        self.drain().await;
    }

    /// Begins to act when this replica leads and every cache is filled; stops at once when it does not lead any more.
    fn take_or_leave_office(&mut self) {
        let leading = self.outside.authority.holds();
        let unfilled = self.world.unfilled();
        let act = leading && self.world.complete();
        let unfilled_has_changed;
        {
            let mut lines = self.outside.report.lines();
            lines.leading = leading;
            unfilled_has_changed = lines.unfilled != unfilled;
            lines.unfilled = unfilled;
        }
        if act && !self.acting {
            let now = self.now();
            self.world.begin_to_act(now);
        } else if act && unfilled_has_changed {
            self.world.everything();
        }
        if !act && self.acting {
            self.tasks.abort_all();
            self.tasks = JoinSet::new();
            self.in_flight.clear();
            self.parked.clear();
            self.world.cease_to_act();
        }
        self.acting = act;
        self.outside.metrics.leading.set(i64::from(leading));
    }

    fn enqueue(&mut self) {
        let now = self.clock.now().monotonic;
        let Dirty { now: keys, hosts, sums } = self.world.take_dirty();
        let host = |host| Key::Object(Kind::Host, host);
        // Behind hosts that wait already, the order matters little, and in a burst of edits each would be planned for.
        let (concerned, others) = if self.acting && !self.queue.hosts_wait() {
            host::concerned(&self.world, hosts)
        } else {
            (Vec::new(), hosts)
        };
        // A few have their plans before anything is summed up; thousands would hold that up.
        let (first, concerned) =
            if concerned.len() <= IN_FLIGHT { (concerned, Vec::new()) } else { (Vec::new(), concerned) };
        for key in first {
            self.queue.add_first(host(key));
        }
        for key in keys {
            self.queue.add(key);
        }
        for key in concerned.into_iter().chain(others) {
            self.queue.add(host(key));
        }
        for key in sums {
            self.queue.add_sum(key, now);
        }
    }

    /// Decides for what is due, as long as there is room for its requests.
    fn work(&mut self) {
        let now = self.now();
        while self.in_flight.len() < IN_FLIGHT {
            let Some(key) = self.queue.pop(now.monotonic) else { break };
            if self.in_flight.contains(&key) {
                self.parked.insert(key);
                continue;
            }
            let began = Instant::now();
            let Outcome { actions, recheck_at } = self.decide(&key, now);
            self.outside.metrics.reconciles.get_or_create(&KindLabel { kind: key.kind() }).inc();
            if let Some(at) = recheck_at {
                let wait = Duration::try_from(at.duration_since(now.wall)).unwrap_or_default();
                self.queue.add_at(key.clone(), now.monotonic + wait + Duration::from_millis(1));
            }
            if actions.is_empty() {
                self.failures.remove(&key);
            } else {
                self.in_flight.insert(key.clone());
                self.carry_out(key, actions, began);
            }
            self.enqueue();
        }
        self.outside.metrics.queue.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
    }

    fn decide(&mut self, key: &Key, now: Now) -> Outcome {
        let settings = &self.outside.settings;
        match key {
            Key::Object(Kind::Host, host) => {
                let (outcome, state) = host::reconcile(&self.world, host, settings, now);
                if let Some(state) = state {
                    self.world.decided(host.clone(), state);
                }
                outcome
            }
            Key::Object(Kind::Network, network) => network::reconcile(&self.world, network, settings, now),
            Key::Object(Kind::IscsiBond, bond) => iscsi_bond::reconcile(&self.world, bond, now),
            Key::Object(Kind::DataCenter, center) => {
                let outcome = data_center::reconcile(&self.world, center, settings, now);
                self.world.look_for_fault(center);
                outcome
            }
            Key::Node(name) => node::reconcile(&self.world, name, now),
        }
    }

    fn carry_out(&mut self, key: Key, actions: Vec<Action>, began: Instant) {
        let client = self.outside.client.clone();
        let identity = self.outside.identity.clone();
        let metrics = self.outside.metrics.clone();
        let authority = self.outside.authority.clone();
        self.tasks.spawn(async move {
            let mut done = Done {
                began,
                written: Vec::new(),
                succeeded: Vec::new(),
                refused: BTreeMap::new(),
                failure: None,
                key,
            };
            let mut unowned = HashSet::new();
            let mut undropped = false;
            for action in actions {
                if !authority.holds() {
                    break;
                }
                // A child that did not get its owner is not deleted before it has one.
                if matches!(&action, Action::Delete { key, .. } if unowned.contains(key)) {
                    continue;
                }
                // The status of a network keeps that its name was dropped, once and for all: only when it was.
                if undropped && matches!(action, Action::WriteStatus { .. }) {
                    continue;
                }
                let drops = matches!(action, Action::DropNetwork { .. });
                let child = action.adopted().cloned();
                let made = action.made().cloned();
                // What is told of a write is told when it has succeeded.
                if done.failure.is_some() && matches!(action, Action::Announce { .. }) {
                    continue;
                }
                let name = action.name();
                let ended = action.carry_out(&client, &identity).await;
                let outcome = ended.as_ref().map_or_else(|error| ErrorReason::from(error).as_str(), |_| "ok");
                metrics.writes.get_or_create(&WriteLabel { kind: done.key.kind(), action: name, outcome }).inc();
                match ended {
                    Ok(written) => {
                        done.written.extend(written);
                        done.succeeded.push(name);
                    }
                    Err(error) => {
                        metrics.errors.get_or_create(&ReasonLabel { operation: "write", reason: outcome }).inc();
                        unowned.extend(child);
                        undropped |= drops;
                        if matches!(ErrorReason::from(&error), ErrorReason::Invalid | ErrorReason::Forbidden) {
                            done.refused.extend(made.map(|host| (host, brief(&error))));
                        }
                        // The others do not depend on it: what one object refuses must not keep the rest from theirs.
                        done.failure.get_or_insert((name, error));
                    }
                }
            }
            done
        });
    }

    fn finished(&mut self, done: Result<Done, tokio::task::JoinError>) {
        // A task that was aborted has lost its office; nothing in it panics.
        let Ok(Done { key, began, written, succeeded, refused, failure }) = done else { return };
        self.outside
            .metrics
            .durations
            .get_or_create(&KindLabel { kind: key.kind() })
            .observe(began.elapsed().as_secs_f64());
        self.in_flight.remove(&key);
        for object in written {
            self.world.wrote(object);
        }
        if let Key::Object(Kind::DataCenter, center) = &key {
            self.world.refused(center, refused);
        }
        for action in succeeded {
            if self.forbidden.remove(&(key.kind(), action)).is_some() {
                tracing::info!(kind = key.kind(), action, "writes of this kind are allowed again");
            }
        }
        let parked = self.parked.remove(&key);
        match failure {
            None => {
                self.failures.remove(&key);
                if parked {
                    self.queue.add(key);
                }
            }
            Some((action, error)) => self.failed(key, action, &error),
        }
    }

    fn failed(&mut self, key: Key, action: &'static str, error: &kube::Error) {
        let reason = ErrorReason::from(error);
        let failures = self.failures.entry(key.clone()).or_default();
        *failures += 1;
        // A conflict, or an object that is gone: the watch is about to say so.
        let expected = matches!(reason, ErrorReason::Conflict | ErrorReason::NotFound);
        // A missing permission concerns every object of the kind: it is said once.
        let known =
            reason == ErrorReason::Forbidden && self.forbidden.insert((key.kind(), action), brief(error)).is_some();
        if expected || known || *failures > 1 {
            tracing::debug!(object = %key, failures = *failures, error = brief(error), "a write has failed; it is retried");
        } else {
            tracing::warn!(object = %key, error = brief(error), "a write has failed; it is retried");
        }
        let pause = FIRST_RETRY.saturating_mul(1 << (*failures - 1).min(10)).min(LAST_RETRY);
        self.queue.add_at(key, self.clock.now().monotonic + jittered(pause));
    }

    fn next_due(&self) -> Option<Instant> {
        let due = self.queue.next_due().filter(|_| self.acting && self.in_flight.len() < IN_FLIGHT)?;
        Some(self.clock.instant(due))
    }

    /// Lets what is in flight end: a write that has begun is better known than guessed.
    async fn drain(&mut self) {
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            tracing::info!("requests were still under way at shutdown");
        }
    }

    /// Gauges over all objects, once a second.
    fn measure(&mut self) {
        let metrics = &self.outside.metrics;
        let world = &self.world;
        let undecodable = world.undecodable();
        metrics.undecodable.set(i64::try_from(undecodable.len()).unwrap_or(i64::MAX));
        {
            let mut lines = self.outside.report.lines();
            lines.undecodable = undecodable;
            let forbidden =
                self.forbidden.iter().map(|((kind, action), error)| format!("writing {kind} ({action}): {error}"));
            lines.forbidden = forbidden.collect();
        }
        metrics.desired_paths.clear();
        metrics.connected_paths.clear();
        metrics.hosts.clear();
        if !self.acting {
            return;
        }
        for (key, _) in world.data_centers.iter() {
            let Some(sums) = world.sums(key) else { continue };
            let hosts = sums.phases;
            for phase in Phase::ALL {
                let count = match phase {
                    Phase::Up => hosts.up,
                    Phase::Degraded => hosts.degraded,
                    Phase::NonOperational => hosts.non_operational,
                    Phase::Maintenance => hosts.maintenance,
                    Phase::Unknown => hosts.unknown,
                    Phase::Connecting | Phase::Unassigned => continue,
                };
                let label = PhaseLabel {
                    namespace: key.namespace.to_string(),
                    data_center: key.name.to_string(),
                    phase: phase.as_str(),
                };
                metrics.hosts.get_or_create(&label).set(i64::from(count));
            }
            for (bond, sums) in &sums.bonds {
                let label = BondLabel {
                    namespace: key.namespace.to_string(),
                    data_center: key.name.to_string(),
                    bond: bond.to_string(),
                };
                metrics.desired_paths.get_or_create(&label).set(i64::from(sums.paths.desired));
                metrics.connected_paths.get_or_create(&label).set(i64::from(sums.paths.connected));
            }
        }
    }
}

/// Half of it to all of it, so that what failed together does not come back together.
fn jittered(pause: Duration) -> Duration {
    let part = f64::from(Timestamp::now().subsec_nanosecond() % 1000) / 1000.0;
    pause.mul_f64(0.5 + part / 2.0)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => pending().await,
    }
}
