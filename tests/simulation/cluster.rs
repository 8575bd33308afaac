//! The simulated cluster: the model API server, the hosts, the log of events, and the invariants that watch both.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use http::Method;
use multibond::agent::{
    initiator::simulated::{SimulatedHost, Simulation},
    types::IscsiPath,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{
    actor::Actor,
    api::{ApiServer, Request, Response, WatchId},
    chance::Chance,
    clock,
    invariants::{Invariants, Memory, Sent},
};

/// The namespace of everything but the leases.
pub const NAMESPACE: &str = "fra";
/// The namespace of the leases.
pub const SYSTEM: &str = "multibond-system";

/// What all actors share.
pub struct Cluster {
    pub simulation: Arc<Simulation>,
    /// The hosts, by node.
    pub hosts: BTreeMap<String, Arc<SimulatedHost>>,
    /// Whether requests fail by chance.
    pub faulty: AtomicBool,
    /// Whenever an object may have changed.
    pub changed: Notify,
    /// An invariant is broken.
    pub broken: Notify,
    inner: Mutex<Inner>,
}

struct Inner {
    api: ApiServer,
    chance: Chance,
    log: String,
    steps: u64,
    invariants: Invariants,
    violation: Option<String>,
}

impl Cluster {
    /// A cluster with these nodes, and no objects but their Nodes and two namespaces.
    pub fn new(nodes: &[String], chance: &mut Chance) -> Arc<Self> {
        let simulation = Simulation::new(None);
        let hosts = nodes.iter().map(|node| (node.clone(), simulation.host(&node.as_str().into()).unwrap())).collect();
        let mut uids = chance.fork();
        let inner = Inner {
            api: ApiServer::new(move || uids.next()),
            chance: chance.fork(),
            log: String::new(),
            steps: 0,
            invariants: Invariants::default(),
            violation: None,
        };
        let cluster = Arc::new(Cluster {
            simulation,
            hosts,
            faulty: AtomicBool::new(false),
            changed: Notify::new(),
            broken: Notify::new(),
            inner: Mutex::new(inner),
        });
        for namespace in [NAMESPACE, SYSTEM] {
            cluster.user(Method::POST, "/api/v1/namespaces", &json!({"metadata": {"name": namespace}}));
        }
        for node in nodes {
            cluster.user(Method::POST, "/api/v1/nodes", &json!({"metadata": {"name": node}}));
        }
        cluster
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws by chance.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Chance) -> T) -> T {
        draw(&mut self.inner().chance)
    }

    pub fn is_faulty(&self) -> bool {
        self.faulty.load(Ordering::Relaxed)
    }

    /// Reads the API server.
    pub fn read<T>(&self, read: impl FnOnce(&ApiServer) -> T) -> T {
        read(&self.inner().api)
    }

    /// Changes the API server behind its back.
    pub fn change(&self, change: impl FnOnce(&mut ApiServer)) {
        change(&mut self.inner().api);
        self.changed.notify_waiters();
    }

    /// A request of a person, which is answered at once. Returns the status code and the object.
    pub fn user(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let patch = method == Method::PATCH;
        let mut request = http::Request::builder().method(method).uri(path);
        if patch {
            request = request.header(http::header::CONTENT_TYPE, "application/merge-patch+json");
        }
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = request.body(body).unwrap();
        let Response::Object { code, body } = self.inner().api.handle(clock::wall(), &request) else {
            panic!("a person does not watch: {path}")
        };
        self.step(format_args!("a user: {} {path} {} -> {code}", request.method(), shown(request.body())));
        self.changed.notify_waiters();
        (code, body)
    }

    /// A request of an actor begins.
    pub fn begins(&self, actor: &Actor, request: &Request) -> Sent {
        let sent = Sent::new(&actor.name, request);
        let mut inner = self.inner();
        let broken = inner.invariants.request_begins(&sent);
        drop(inner);
        self.violated(broken);
        sent
    }

    /// The API server answers a request of an actor.
    pub fn answer(&self, sent: &Sent, request: &Request) -> Response {
        let mut inner = self.inner();
        let response = inner.api.handle(clock::wall(), request);
        let Inner { api, invariants, .. } = &mut *inner;
        let broken = invariants.answered(sent, &response, api);
        drop(inner);
        match &response {
            Response::Object { code, body } => {
                let version = body["metadata"]["resourceVersion"].as_str().unwrap_or_default();
                let body = if *code < 300 { String::new() } else { format!(" {}", body["message"]) };
                self.step(format_args!("{sent} -> {code} v{version}{body}"));
            }
            Response::Watch { .. } => self.step(format_args!("{sent} -> watch")),
        }
        self.violated(broken);
        self.changed.notify_waiters();
        response
    }

    /// The next event of a watch, if there is one.
    pub fn next_event(&self, id: WatchId) -> Option<Value> {
        self.inner().api.next_event(id)
    }

    pub fn bookmark(&self, id: WatchId) -> Option<Value> {
        self.inner().api.bookmark(id)
    }

    pub fn unwatch(&self, id: WatchId) {
        self.inner().api.unwatch(id);
    }

    /// An actor gets the answer to a request, or an event.
    pub fn delivered(&self, actor: &Actor, sent: &Sent, object: &Value) {
        self.inner().invariants.delivered(&actor.name, sent, object);
    }

    /// An event of a watch reaches an actor.
    pub fn event(&self, actor: &Actor, sent: &Sent, event: &Value) {
        self.inner().invariants.event(&actor.name, sent, event);
        let (kind, metadata) = (&event["type"], &event["object"]["metadata"]);
        let (name, version) = (&metadata["name"], &metadata["resourceVersion"]);
        let (kind, name) = (kind.as_str().unwrap_or_default(), name.as_str().unwrap_or_default());
        self.step(format_args!(
            "{} sees {kind} {} {name} v{}",
            actor.name,
            sent.plural,
            version.as_str().unwrap_or("?")
        ));
    }

    /// Something has happened: it is written down, and every invariant of the hosts is checked.
    pub fn step(&self, what: std::fmt::Arguments<'_>) {
        let mut inner = self.inner();
        inner.steps += 1;
        writeln!(inner.log, "{:>10.3} {what}", clock::elapsed().as_secs_f64()).unwrap();
        let broken = inner.invariants.hosts(&self.hosts);
        drop(inner);
        self.violated(broken);
    }

    /// An invariant is broken, if there is one here. The first one counts.
    pub fn violated(&self, broken: Result<(), String>) {
        let Err(violation) = broken else { return };
        let mut inner = self.inner();
        if inner.violation.is_none() {
            writeln!(inner.log, "{:>10.3} BROKEN: {violation}", clock::elapsed().as_secs_f64()).unwrap();
            inner.violation = Some(violation);
            self.broken.notify_one();
        }
    }

    /// Changes what is known of the memory of each process.
    pub fn memory<T>(&self, of: impl FnOnce(&mut Memory) -> T) -> T {
        of(&mut self.inner().invariants.memory)
    }

    /// The fabric has changed.
    pub fn fabric_changed(&self) {
        let mut inner = self.inner();
        inner.invariants.fabric_changed();
    }

    /// A neighbour on a node logs in or out.
    pub fn neighbour(&self, node: &str, change: impl FnOnce(&mut BTreeSet<IscsiPath>) -> bool) {
        self.inner().invariants.neighbour(node, change);
    }

    pub fn violation(&self) -> Option<String> {
        self.inner().violation.clone()
    }

    pub fn steps(&self) -> u64 {
        self.inner().steps
    }

    /// How many writes there were but renewals of leases.
    pub fn writes(&self) -> u64 {
        self.inner().invariants.writes
    }

    /// How often each actor has read or watched something but leases.
    pub fn reads(&self) -> BTreeMap<String, u64> {
        self.inner().invariants.reads.clone()
    }

    pub fn log(&self) -> String {
        self.inner().log.clone()
    }

    /// Does what the control plane does in the background: one step of the garbage collector, by chance.
    pub fn collect_garbage(&self) {
        let steps = self.read(ApiServer::garbage);
        if steps.is_empty() {
            return;
        }
        let step = &steps[self.draw(|chance| chance.index(steps.len()))];
        self.change(|api| api.collect(clock::wall(), step));
        self.step(format_args!("the control plane: {step:?}"));
    }
}

/// The beginning of a body.
fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(200).collect()
}
