//! The run loop: applies the changes from the watches, reconciles one object after the other, and carries out the
//! outcomes: for many objects at a time, but with one request at a time for each object.
//!
//! `kube::runtime::Controller` is not used. It schedules reconciles of one primary object, while a plan depends on
//! objects of four kinds, a verdict also on leases, and one edit can change thousands of plans. In this loop namespaces take
//! turns and few hosts whose plans changed go before thousands whose plans did not. It debounces aggregates, applies the
//! answers to its own writes to the index, asks for the leadership before each write, and freezes what depends on objects
//! that cannot be decoded.

mod apply;
mod events;
mod execute;
pub(crate) mod health;
pub(crate) mod leadership;
pub(crate) mod metrics;
mod object_metrics;
mod queue;
mod slots;
pub(crate) mod watch;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::pending,
    time::Duration,
};

use kube::Client;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::{
    api::{ObjectKey, ObjectKind},
    controller::{
        index::{Index, PendingWork},
        reconcile::{Settings, partition_changed, reconcile},
        store::{Change, key::Key},
    },
    ops::{
        Clock, GaugePart, Platform,
        backoff::{Backoff, random_seed},
        errors::{ErrorReason, brief},
    },
};
pub(crate) use apply::Applier;
use execute::{Done, Executor};
use health::Health;
use leadership::Leadership;
use metrics::{ControllerMetrics, KindLabel};
use object_metrics::Snapshot;
use queue::{Item, Queue};
use slots::{Class, Slot, Slots};

/// The largest number of changes that are applied before the next reconcile.
const BATCH: usize = 512;
/// The time for which objects are reconciled before the next changes are applied.
const TURN: Duration = Duration::from_millis(20);
/// The interval at which leases are checked.
const TICK: Duration = Duration::from_secs(1);
/// The shortest time between two computations of the gauges of objects, which walk over all objects.
const SCRAPE_INTERVAL: Duration = Duration::from_millis(500);
/// The pauses before an object is reconciled again whose write has failed.
const RETRY: Backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(30) };
/// The time for requests in flight to end at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// The dependencies of the engine.
pub(crate) struct Context {
    pub client: Client,
    pub platform: Platform,
    /// The name of this replica.
    pub identity: String,
    pub settings: Settings,
    pub metrics: ControllerMetrics,
    pub health: Health,
    pub changes: mpsc::Receiver<Change>,
    /// Scrapes that wait for the gauges of objects.
    pub scrapes: mpsc::Receiver<oneshot::Sender<()>>,
    pub leadership: Leadership,
    pub shutdown: CancellationToken,
}

/// The state of the loop.
pub(crate) struct Engine {
    ctx: Context,
    clock: Clock,
    /// For the jitter of retries.
    seed: u64,
    index: Index,
    queue: Queue,
    tasks: JoinSet<Done>,
    in_flight: HashMap<Key, Slot>,
    slots: Slots,
    /// The last turn has ended before everything was reconciled for which a slot is free.
    is_unfinished: bool,
    /// Objects that became due while their requests are in flight. They are reconciled again when these have ended.
    parked: HashSet<Key>,
    /// Failures in a row.
    failures: HashMap<Key, u32>,
    /// Writes that the API server forbids, with its answer, by kind and action.
    forbidden: BTreeMap<(&'static str, &'static str), String>,
    /// Its entries in the gauge of memory.
    memory: GaugePart,
    /// The time of the last scrape for which the gauges of objects were computed.
    scraped_at: Option<Duration>,
    /// This replica leads, and its caches are filled.
    acting: bool,
}

impl Engine {
    /// An engine with an empty index.
    pub(crate) fn new(ctx: Context) -> Self {
        Engine {
            clock: ctx.platform.clock,
            seed: random_seed(),
            memory: GaugePart::new(&ctx.metrics.memory),
            ctx,
            index: Index::default(),
            queue: Queue::default(),
            tasks: JoinSet::new(),
            in_flight: HashMap::new(),
            slots: Slots::default(),
            is_unfinished: false,
            parked: HashSet::new(),
            failures: HashMap::new(),
            forbidden: BTreeMap::new(),
            scraped_at: None,
            acting: false,
        }
    }

    /// Runs until shutdown, and then waits for the requests in flight.
    pub(crate) async fn run(mut self) {
        let shutdown = self.ctx.shutdown.clone();
        let mut tick = tokio::time::interval(TICK);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let due = self.next_due();
            tokio::select! {
                received = self.ctx.changes.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    let now = self.clock.now();
                    for change in batch.drain(..) {
                        self.index.apply(change, now);
                    }
                }
                Some(done) = self.tasks.join_next() => self.finished(done),
                _ = tick.tick() => self.tick(),
                Some(reply) = self.ctx.scrapes.recv() => self.scraped(reply),
                () = sleep_until(due) => {}
                Ok(()) = self.ctx.leadership.changed() => {}
                () = shutdown.cancelled() => break,
            }
            self.on_leadership_change();
            if self.acting {
                self.enqueue();
                self.work();
            } else {
                // When it begins to act, everything is reconciled. Until then the keys of objects that come and go would add up.
                self.index.take_pending();
            }
        }
        self.drain().await;
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        self.index.tick(now);
        self.queue.forget_idle(now.monotonic);
        self.show_memory();
        let undecodable = self.index.undecodable();
        self.ctx.metrics.undecodable.set(i64::try_from(undecodable.len()).unwrap_or(i64::MAX));
        self.ctx.health.set_problems(undecodable, &self.forbidden);
    }

    /// Shows how much is remembered: of everything no more than there are objects.
    fn show_memory(&mut self) {
        let engine = [
            ("queue", self.queue.len()),
            ("later", self.queue.waiting()),
            ("debounced", self.queue.remembered()),
            ("requests", self.in_flight.len() + self.parked.len()),
            ("retries", self.failures.len()),
        ];
        for (what, entries) in engine.into_iter().chain(self.index.memory()) {
            self.memory.set(what, entries);
        }
        let metrics = &self.ctx.metrics;
        metrics.queue.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
        metrics.plan_bytes.set(i64::try_from(self.index.plan_bytes()).unwrap_or(i64::MAX));
    }

    /// Computes the gauges of objects for a scrape: only the leader has them. A scrape soon after another gets the same.
    fn scraped(&mut self, reply: oneshot::Sender<()>) {
        let now = self.clock.now().monotonic;
        if self.scraped_at.is_none_or(|at| now.saturating_sub(at) >= SCRAPE_INTERVAL) {
            self.scraped_at = Some(now);
            let snapshot = if self.acting { Snapshot::of(&self.index) } else { Snapshot::default() };
            self.ctx.metrics.objects.set(snapshot);
        }
        // The scraper may have gone.
        let _ = reply.send(());
    }

    /// Starts to act when this replica leads and every cache is filled; stops at once when it does not lead any more.
    fn on_leadership_change(&mut self) {
        let leading = self.ctx.leadership.is_leader();
        let act = leading && self.index.complete();
        let unfilled_has_changed = self.ctx.health.set_role(leading, self.index.unfilled());
        if act && !self.acting {
            self.index.resume(self.clock.now());
        } else if act && unfilled_has_changed {
            self.index.wake_all();
        }
        if !act && self.acting {
            self.tasks.abort_all();
            self.tasks = JoinSet::new();
            self.in_flight.clear();
            self.slots = Slots::default();
            self.parked.clear();
            self.queue = Queue::default();
            self.failures.clear();
            self.is_unfinished = false;
            self.index.pause();
        }
        self.acting = act;
        self.ctx.metrics.leading.set(i64::from(leading));
    }

    fn enqueue(&mut self) {
        let now = self.clock.now().monotonic;
        let PendingWork { now: keys, hosts, debounced } = self.index.take_pending();
        // The hosts are sorted by namespace.
        let mut later = Vec::new();
        for hosts in hosts.chunk_by(|a, b| a.namespace == b.namespace) {
            // While hosts wait in the queue, their order matters little, and a plan for each edit of a burst would be
            // expensive.
            let (changed, others) = if self.queue.hosts_wait(&hosts[0].namespace) {
                (Vec::new(), hosts.to_vec())
            } else {
                partition_changed(&self.index, hosts.to_vec())
            };
            // A few hosts get their plans before any aggregate is computed; thousands would delay the aggregates.
            if changed.len() <= Slots::COUNT {
                for key in changed {
                    self.queue.add_first(host_item(key));
                }
            } else {
                later.extend(changed);
            }
            later.extend(others);
        }
        for key in keys {
            let item = self.item(key);
            self.queue.add(item);
        }
        for key in later {
            self.queue.add(host_item(key));
        }
        for key in debounced {
            let item = self.item(key);
            self.queue.add_debounced(item, now);
        }
    }

    /// A key with the namespace whose turn it takes. The flood of a namespace may make writes to the Nodes of its Hosts.
    fn item(&self, key: Key) -> Item {
        let namespace = match &key {
            Key::Object(_, object) => object.namespace.clone(),
            Key::Node(name) => self.index.owner_of_node(name).map(|owner| owner.namespace.clone()).unwrap_or_default(),
        };
        Item { key, namespace }
    }

    /// Reconciles the objects that are due and for which a slot is free, for a short time.
    fn work(&mut self) {
        let began = self.clock.now().monotonic;
        self.is_unfinished = false;
        loop {
            let now = self.clock.now().monotonic;
            if now.saturating_sub(began) >= TURN {
                self.is_unfinished = true;
                break;
            }
            let Some(item) = self.queue.pop(now, &self.slots) else { break };
            if self.in_flight.contains_key(&item.key) {
                self.parked.insert(item.key);
            } else {
                self.reconcile(item);
                self.enqueue();
            }
        }
        self.ctx.metrics.queue.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
    }

    fn reconcile(&mut self, Item { key, namespace }: Item) {
        let (now, began, span) = (self.clock.now(), Instant::now(), span(&key));
        let outcome = span.in_scope(|| reconcile(&self.index, &key, &self.ctx.settings, now));
        self.index.remember(&key, outcome.memo, now);
        self.ctx.metrics.reconciles.get_or_create(&KindLabel { kind: key.kind() }).inc();
        if let Some(at) = outcome.recheck_at {
            let wait = Duration::try_from(at.duration_since(now.wall)).unwrap_or_default();
            let item = Item { key: key.clone(), namespace: namespace.clone() };
            self.queue.add_at(item, now.monotonic + wait + Duration::from_millis(1));
        }
        if outcome.steps.is_empty() {
            self.failures.remove(&key);
            return;
        }
        let slot = Slot { namespace, class: Class::of(&key) };
        self.slots.take(slot.clone());
        self.in_flight.insert(key.clone(), slot);
        let executor = Executor {
            applier: Applier {
                client: self.ctx.client.clone(),
                identity: self.ctx.identity.clone(),
                clock: self.clock,
                leadership: Some(self.ctx.leadership.clone()),
            },
            metrics: self.ctx.metrics.clone(),
            leadership: self.ctx.leadership.clone(),
        };
        let task = executor.execute(key, outcome.steps, began).instrument(span);
        self.ctx.platform.tasks.spawn_in(&mut self.tasks, task);
    }

    fn finished(&mut self, done: Result<Done, tokio::task::JoinError>) {
        // A task is aborted only when the leadership is lost, and does not panic.
        let Ok(Done { key, began, written, succeeded, create_errors, announced, failure }) = done else { return };
        let _span = span(&key).entered();
        self.ctx.metrics.observe_duration(key.kind(), began.elapsed());
        if let Some(slot) = self.in_flight.remove(&key) {
            self.slots.give_back(&slot);
        }
        for (object, at) in written {
            self.index.apply_written(object, at);
        }
        for storm in &announced {
            self.index.storms.announced(storm);
        }
        if let Key::Object(ObjectKind::DataCenter, dc_key) = &key {
            self.index.set_create_errors(dc_key, create_errors);
        }
        for action in succeeded {
            if self.forbidden.remove(&(key.kind(), action)).is_some() {
                tracing::info!(action, "writes of this kind are allowed again");
            }
        }
        let parked = self.parked.remove(&key);
        match failure {
            None => {
                self.failures.remove(&key);
                if parked {
                    let item = self.item(key);
                    self.queue.add(item);
                }
            }
            Some((action, error)) => self.failed(key, action, &error),
        }
    }

    fn failed(&mut self, key: Key, action: &'static str, error: &kube::Error) {
        let reason = ErrorReason::from(error);
        let failures = self.failures.entry(key.clone()).or_default();
        *failures += 1;
        // The object has changed or is gone: the watch is about to report it.
        let expected = matches!(reason, ErrorReason::Conflict | ErrorReason::NotFound);
        // A missing permission concerns every object of the kind, and is logged once.
        let known =
            reason == ErrorReason::Forbidden && self.forbidden.insert((key.kind(), action), brief(error)).is_some();
        if expected || known || *failures > 1 {
            tracing::debug!(action, failures = *failures, error = brief(error), "a write has failed; trying again");
        } else {
            tracing::warn!(action, error = brief(error), "a write has failed; trying again");
        }
        let pause = RETRY.pause(*failures, (&key, self.seed));
        let item = self.item(key);
        self.queue.add_at(item, self.clock.now().monotonic + pause);
    }

    fn next_due(&self) -> Option<Instant> {
        if !self.acting {
            return None;
        }
        if self.is_unfinished {
            return Some(Instant::now());
        }
        self.queue.next_due().map(|due| self.clock.instant(due))
    }

    /// Waits for the requests in flight: it is better to know whether a write was done.
    async fn drain(&mut self) {
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE, ended).await.is_err() {
            tracing::info!("requests were still in flight at shutdown");
        }
    }
}

/// A Host takes the turn of its namespace.
fn host_item(key: ObjectKey) -> Item {
    Item { namespace: key.namespace.clone(), key: Key::Object(ObjectKind::Host, key) }
}

/// The span of a reconcile: each log line in it, and in its requests, names the object.
fn span(key: &Key) -> Span {
    match key {
        Key::Object(kind, key) => {
            tracing::info_span!("reconcile", %kind, namespace = &*key.namespace, name = &*key.name)
        }
        Key::Node(name) => tracing::info_span!("reconcile", kind = "Node", name = name.as_str()),
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => pending().await,
    }
}
