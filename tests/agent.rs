//! The agent's loop on a simulated host, with an API server that is a table, in time that passes when nothing else can.
#![allow(clippy::unwrap_used, reason = "these are tests, and so are their helpers")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use multibond::{
    agent::{
        Agent,
        cluster::{Cluster, ClusterError},
        credentials::Credentials,
        hosts::Seen,
        metrics::AgentMetrics,
        path::Path,
        simulated::{Fault, FaultKind, Faults, SimulatedHost, Simulation},
        situation::SecretState,
    },
    api::{Connection, ConnectionState, Host, HostStatus, reason::PathReason},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// Hosts in a table; what is written is seen a moment later.
struct Table {
    hosts: Mutex<Vec<Host>>,
    version: Mutex<u64>,
    seen: watch::Sender<Seen>,
    /// The agent's writes, by the name of the Host, and whether they were accepted.
    writes: Mutex<Vec<(String, bool)>>,
    /// How many of the next writes fail.
    failing: Mutex<u32>,
    secrets: Mutex<BTreeMap<String, watch::Sender<SecretState>>>,
}

impl Table {
    fn new() -> Arc<Self> {
        Arc::new(Table {
            hosts: Mutex::default(),
            version: Mutex::default(),
            seen: watch::Sender::new(None),
            writes: Mutex::default(),
            failing: Mutex::default(),
            secrets: Mutex::default(),
        })
    }

    fn merge(&self, name: &str, patch: &Value) -> Option<Host> {
        let mut hosts = self.hosts.lock().unwrap();
        let host = hosts.iter_mut().find(|host| host.metadata.name.as_deref() == Some(name))?;
        let mut version = self.version.lock().unwrap();
        *version += 1;
        let mut object = serde_json::to_value(&*host).unwrap();
        merge(&mut object, patch);
        *host = serde_json::from_value(object).unwrap();
        host.metadata.resource_version = Some(version.to_string());
        let written = host.clone();
        self.seen.send_replace(Some(hosts.iter().cloned().map(Arc::new).collect()));
        Some(written)
    }

    fn accepted_writes(&self, name: &str) -> usize {
        self.writes.lock().unwrap().iter().filter(|write| **write == (name.to_owned(), true)).count()
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

struct Client(Arc<Table>);

impl Cluster for Client {
    async fn write_status(&self, _namespace: &str, name: &str, patch: &Value) -> Result<Host, ClusterError> {
        sleep(Duration::from_millis(5)).await;
        let fails = {
            let mut failing = self.0.failing.lock().unwrap();
            let fails = *failing > 0;
            *failing = failing.saturating_sub(1);
            fails
        };
        self.0.writes.lock().unwrap().push((name.to_owned(), !fails));
        if fails {
            return Err(ClusterError::Failed("the server is away".into()));
        }
        self.0.merge(name, patch).ok_or(ClusterError::NotFound)
    }

    fn secret(&self, _namespace: &str, name: &Arc<str>) -> watch::Receiver<SecretState> {
        let mut secrets = self.0.secrets.lock().unwrap();
        secrets.entry(name.to_string()).or_insert_with(|| watch::Sender::new(SecretState::Unread)).subscribe()
    }
}

/// One node, its Host and its agent.
struct Site {
    table: Arc<Table>,
    simulation: Arc<Simulation>,
    host: Arc<SimulatedHost>,
    agent: Option<(CancellationToken, JoinHandle<()>)>,
}

const INTERFACES: [&str; 2] = ["ens1", "ens2"];

impl Site {
    fn new() -> Self {
        let simulation = Simulation::new(None);
        let host = simulation.host(&"node-1".into()).unwrap();
        let mut site = Site { table: Table::new(), simulation, host, agent: None };
        site.start();
        site
    }

    fn start(&mut self) {
        let stop = CancellationToken::new();
        let client = Arc::new(Client(self.table.clone()));
        let agent =
            Agent::new("node-1", self.host.clone(), client, self.table.seen.subscribe(), AgentMetrics::default());
        self.agent = Some((stop.clone(), tokio::spawn(agent.run(stop))));
    }

    /// As by SIGKILL: nothing is finished.
    fn kill(&mut self) {
        if let Some((_, task)) = self.agent.take() {
            task.abort();
        }
    }

    fn add_host(&self, name: &str, created: &str) {
        let interfaces: Vec<_> = INTERFACES.iter().map(|name| json!({"name": name, "networks": []})).collect();
        let host = json!({
            "apiVersion": "multibond.dev/v1alpha1", "kind": "Host",
            "metadata": {"name": name, "namespace": "frankfurt", "uid": name, "creationTimestamp": created},
            "spec": {"dataCenter": "frankfurt", "nodeName": "node-1", "interfaces": interfaces},
        });
        self.table.hosts.lock().unwrap().push(serde_json::from_value(host).unwrap());
        self.table.merge(name, &json!({}));
    }

    fn plan(&self, name: &str, revision: &str, hold: &[&str], paths: &[Path]) {
        self.plan_with_secret(name, revision, hold, paths, None);
    }

    fn plan_with_secret(&self, name: &str, revision: &str, hold: &[&str], paths: &[Path], secret: Option<&str>) {
        let paths: Vec<_> = paths
            .iter()
            .map(|Path { target, portal, tpgt, interface }| {
                json!({"target": target, "portal": portal, "tpgt": tpgt, "interface": interface, "network": interface,
                       "storage": "array", "bonds": ["storage"], "chapSecret": secret})
            })
            .collect();
        let plan = json!({"revision": revision, "hold": hold, "session": {}, "paths": paths});
        // A patch merges objects: the old plan has to go first.
        self.table.merge(name, &json!({"status": {"plan": null}})).unwrap();
        self.table.merge(name, &json!({"status": {"plan": plan}})).unwrap();
    }

    fn status(&self, name: &str) -> HostStatus {
        let hosts = self.table.hosts.lock().unwrap();
        let host = hosts.iter().find(|host| host.metadata.name.as_deref() == Some(name)).unwrap();
        host.status.clone().unwrap_or_default()
    }

    fn observed(&self, name: &str) -> Option<String> {
        self.status(name).agent?.observed_revision
    }

    fn states(&self, name: &str) -> Vec<(ConnectionState, Option<PathReason>)> {
        self.status(name).connections.iter().map(|c| (c.state, c.reason)).collect()
    }

    fn fault(&self, kind: FaultKind, path: Option<&Path>) {
        let fault = Fault {
            host: None,
            portal: path.map(|path| path.portal.to_string()),
            target: path.map(|path| path.target.to_string()),
            interface: path.and_then(|path| path.interface.as_deref()).map(str::to_owned),
            network: None,
            kind,
            after: Duration::ZERO,
        };
        self.simulation.set_faults(Faults { faults: vec![fault], ..Faults::default() });
    }

    fn heal(&self) {
        self.simulation.set_faults(Faults::default());
    }
}

fn path(target: u8, portal: u8, interface: Option<usize>) -> Path {
    Path {
        target: format!("iqn.2003-01.org.example:{target}").into(),
        portal: format!("10.0.{portal}.10:3260").into(),
        tpgt: 1,
        interface: interface.map(|index| INTERFACES[index].into()),
    }
}

fn all(connections: &[Connection], state: ConnectionState) -> bool {
    connections.iter().all(|connection| connection.state == state)
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_without_a_plan_reports_its_interfaces_and_does_nothing() {
    let site = Site::new();
    site.add_host("worker", "2024-01-01T00:00:00Z");
    seconds(1).await;
    let status = site.status("worker");
    let interfaces = status.interfaces.unwrap();
    assert_eq!(interfaces.iter().map(|i| &*i.name).collect::<Vec<_>>(), INTERFACES);
    assert!(interfaces.iter().all(|i| i.up && i.addresses.len() == 1));
    assert_ne!(interfaces[0].addresses, interfaces[1].addresses);
    assert_eq!((status.agent.unwrap().observed_revision, status.connections), (None, vec![]));
    seconds(3600).await;
    assert_eq!(site.table.accepted_writes("worker"), 1);
}

#[tokio::test(start_paused = true)]
async fn a10_a11_a13_an_edit_costs_one_write_and_nothing_more_is_written() {
    let site = Site::new();
    site.add_host("worker", "2024-01-01T00:00:00Z");
    let (one, two, three) = (path(1, 1, Some(0)), path(1, 2, Some(1)), path(2, 2, Some(1)));
    let plans = [vec![], vec![one.clone()], vec![one.clone(), two.clone(), three.clone()], vec![two, three], vec![]];
    for (number, paths) in plans.iter().enumerate() {
        seconds(60).await;
        let before = site.table.accepted_writes("worker");
        let revision = format!("r{number}");
        site.plan("worker", &revision, &[], paths);
        sleep(Duration::from_millis(200)).await;
        assert_eq!(site.observed("worker"), Some(revision), "within the time of one login");
        let connections = site.status("worker").connections;
        assert_eq!(connections.iter().map(Path::from).collect::<Vec<_>>(), *paths);
        assert!(all(&connections, ConnectionState::Connected));
        seconds(3600).await;
        assert_eq!(site.table.accepted_writes("worker") - before, 1, "plan {number}");
    }
    assert_eq!(site.host.harm(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a11_an_edit_with_many_slow_paths_costs_two_writes() {
    let site = Site::new();
    site.simulation.set_faults(Faults { latency: Duration::from_millis(900), ..Faults::default() });
    site.add_host("worker", "2024-01-01T00:00:00Z");
    let paths: Vec<Path> = (0..32).map(|portal| path(1, portal, Some(0))).collect();
    seconds(60).await;
    let before = site.table.accepted_writes("worker");
    site.plan("worker", "r", &[], &paths);
    seconds(5).await;
    assert_eq!(site.observed("worker").as_deref(), Some("r"), "ten at once");
    assert!(site.table.accepted_writes("worker") - before <= 2);
}

#[tokio::test(start_paused = true)]
async fn a22_good_paths_are_up_and_reported_while_dead_ones_are_still_tried() {
    let site = Site::new();
    site.add_host("worker", "2024-01-01T00:00:00Z");
    let paths = [path(1, 1, Some(0)), path(1, 1, Some(1)), path(1, 2, Some(0)), path(1, 2, Some(1))];
    site.fault(FaultKind::Timeout, Some(&Path { interface: None, ..paths[2].clone() }));
    site.plan("worker", "r", &[], &paths);
    seconds(2).await;
    let ok = |state| (state, None);
    let (up, trying) = (ok(ConnectionState::Connected), ok(ConnectionState::Connecting));
    assert_eq!(site.states("worker"), [up, up, trying, trying]);
    assert_eq!(site.observed("worker"), None);
    seconds(5).await;
    let dead = (ConnectionState::Failed, Some(PathReason::Timeout));
    assert_eq!(site.states("worker"), [up, up, dead, dead]);
    assert_eq!(site.observed("worker").as_deref(), Some("r"));
    let writes = site.table.accepted_writes("worker");
    seconds(600).await;
    assert_eq!(site.table.accepted_writes("worker"), writes, "retries that fail as before write nothing");
    site.heal();
    seconds(40).await;
    assert_eq!(site.states("worker"), [up; 4]);
}

#[tokio::test(start_paused = true)]
async fn a18_a_cable_that_is_pulled_is_one_write_and_one_when_it_is_back() {
    let site = Site::new();
    site.add_host("worker", "2024-01-01T00:00:00Z");
    let paths = [path(1, 1, Some(0)), path(1, 2, Some(0)), path(1, 3, Some(1))];
    site.plan("worker", "r", &[], &paths);
    seconds(60).await;
    let before = site.status("worker").connections;
    let writes = site.table.accepted_writes("worker");
    let fault = |interface: &str| Fault {
        host: Some("worker".into()),
        portal: None,
        target: None,
        interface: Some(interface.into()),
        network: None,
        kind: FaultKind::Dropped,
        after: Duration::ZERO,
    };
    site.simulation.set_faults(Faults { faults: vec![fault("ens1")], ..Faults::default() });
    seconds(2).await;
    assert_eq!(site.status("worker").connections, before, "most of what is lost comes back");
    sleep(Duration::from_millis(2100)).await;
    let lost = (ConnectionState::Failed, Some(PathReason::PortalUnreachable));
    assert_eq!(site.states("worker"), [lost, lost, (ConnectionState::Connected, None)]);
    seconds(600).await;
    assert_eq!(site.table.accepted_writes("worker") - writes, 1);
    site.heal();
    seconds(2).await;
    let ids = |connections: &[Connection]| connections.iter().map(|c| c.session_id).collect::<Vec<_>>();
    assert_eq!(ids(&site.status("worker").connections), ids(&before), "the initiator heals its sessions");
    assert_eq!(site.table.accepted_writes("worker") - writes, 2);
}

#[tokio::test(start_paused = true)]
async fn a20_a_killed_session_is_restored_and_foreign_ones_are_left_alone() {
    let site = Site::new();
    site.add_host("worker", "2024-01-01T00:00:00Z");
    let (ours, theirs) = (path(1, 1, Some(0)), path(1, 2, None));
    site.host.connect_foreign(theirs.clone(), "default");
    site.plan("worker", "r", &[], &[ours.clone(), theirs.clone()]);
    seconds(60).await;
    assert_eq!(site.status("worker").connections.len(), 2);
    let writes = site.table.accepted_writes("worker");
    site.host.kill(&ours);
    seconds(60).await;
    assert!(all(&site.status("worker").connections, ConnectionState::Connected));
    assert_eq!(site.table.accepted_writes("worker") - writes, 1, "its number is another");
    site.plan("worker", "none", &[], &[]);
    seconds(60).await;
    assert_eq!((site.observed("worker").as_deref(), site.status("worker").connections.len()), (Some("none"), 0));
    assert!(site.host.has_sessions(), "theirs");
    assert_eq!(site.host.harm(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a13_a_path_in_use_is_retained_and_goes_when_the_use_ends() {
    let site = Site::new();
    site.add_host("worker", "2024-01-01T00:00:00Z");
    let (old, new) = (path(1, 1, Some(0)), path(1, 2, Some(1)));
    site.plan("worker", "old", &[], std::slice::from_ref(&old));
    seconds(10).await;
    site.fault(FaultKind::InUse, Some(&old));
    site.plan("worker", "new", &[], std::slice::from_ref(&new));
    seconds(1).await;
    let kept = (ConnectionState::Retained, Some(PathReason::InUse));
    assert_eq!(site.states("worker"), [kept, (ConnectionState::Connected, None)]);
    assert_eq!(site.observed("worker").as_deref(), Some("new"));
    site.heal();
    seconds(12).await;
    assert_eq!(site.states("worker"), [(ConnectionState::Connected, None)]);
}

#[tokio::test(start_paused = true)]
async fn a04b_a_held_target_keeps_what_it_has() {
    let site = Site::new();
    site.add_host("worker", "2024-01-01T00:00:00Z");
    let one = path(1, 1, Some(0));
    site.plan("worker", "r", &[], std::slice::from_ref(&one));
    seconds(10).await;
    site.plan("worker", "held", &[&one.target], &[]);
    seconds(10).await;
    assert_eq!(site.states("worker"), [(ConnectionState::Retained, None)]);
    assert_eq!(site.observed("worker").as_deref(), Some("held"));
    site.plan("worker", "r", &[], std::slice::from_ref(&one));
    seconds(10).await;
    assert_eq!(site.states("worker"), [(ConnectionState::Connected, None)]);
}

#[tokio::test(start_paused = true)]
async fn a26_without_its_host_the_agent_changes_nothing_and_heals_what_it_has() {
    let site = Site::new();
    site.add_host("worker", "2024-01-01T00:00:00Z");
    let one = path(1, 1, Some(0));
    site.plan("worker", "r", &[], std::slice::from_ref(&one));
    seconds(10).await;
    site.table.hosts.lock().unwrap().clear();
    site.table.seen.send_replace(Some(Arc::default()));
    seconds(600).await;
    site.host.kill(&one);
    seconds(10).await;
    assert!(site.host.has_sessions());
    site.add_host("again", "2024-01-02T00:00:00Z");
    seconds(10).await;
    assert!(site.status("again").connections.is_empty(), "it has no plan yet");
    assert!(site.host.has_sessions());
    site.plan("again", "none", &[], &[]);
    seconds(10).await;
    assert_eq!((site.observed("again").as_deref(), site.host.has_sessions()), (Some("none"), false));
}

#[tokio::test(start_paused = true)]
async fn a26_a_report_survives_an_api_server_that_is_away() {
    let site = Site::new();
    site.add_host("worker", "2024-01-01T00:00:00Z");
    seconds(10).await;
    *site.table.failing.lock().unwrap() = 5;
    site.plan("worker", "r", &[], &[path(1, 1, Some(0))]);
    seconds(120).await;
    assert_eq!(site.observed("worker").as_deref(), Some("r"));
    assert_eq!(*site.table.failing.lock().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a28_of_two_hosts_the_older_is_served_and_the_other_acknowledged_at_once() {
    let site = Site::new();
    site.add_host("older", "2024-01-01T00:00:00Z");
    site.add_host("newer", "2024-01-02T00:00:00Z");
    let one = path(1, 1, Some(0));
    site.plan("older", "r", &[], std::slice::from_ref(&one));
    site.plan("newer", "none", &[], &[]);
    seconds(10).await;
    assert_eq!((site.observed("older").as_deref(), site.observed("newer").as_deref()), (Some("r"), Some("none")));
    assert_eq!(site.status("older").connections.len(), 1);
    assert_eq!((site.status("newer").connections.len(), site.status("newer").interfaces), (0, None));
    let writes = site.table.writes.lock().unwrap().len();
    seconds(600).await;
    assert_eq!(site.table.writes.lock().unwrap().len(), writes);
    // The older goes: what it wanted stays until the newer has a plan of its own.
    site.table.hosts.lock().unwrap().remove(0);
    site.table.merge("newer", &json!({}));
    seconds(10).await;
    assert_eq!(site.observed("newer").as_deref(), Some("none"), "carried out anew");
    assert!(!site.host.has_sessions());
}

#[tokio::test(start_paused = true)]
async fn a23_a_secret_that_appears_is_used_at_once_and_a_rotated_one_path_by_path() {
    let secret = |password: &str| {
        let encoded = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
        let pairs = [("node.session.auth.username", "ann"), ("node.session.auth.password", password)];
        let secret = Secret {
            type_: Some("kubernetes.io/iscsi-chap".into()),
            data: Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), encoded(value))).collect()),
            ..Secret::default()
        };
        SecretState::Read(Credentials::from_secret(&secret).unwrap())
    };
    let site = Site::new();
    site.add_host("worker", "2024-01-01T00:00:00Z");
    let paths = [path(1, 1, Some(0)), path(1, 2, Some(1))];
    site.plan_with_secret("worker", "r", &[], &paths, Some("array"));
    seconds(5).await;
    let set = |state| site.table.secrets.lock().unwrap()["array"].send_replace(state);
    assert_eq!(site.states("worker"), [(ConnectionState::Connecting, None); 2]);
    set(SecretState::Unusable("there is none".into()));
    seconds(1).await;
    assert_eq!(site.states("worker"), [(ConnectionState::Failed, Some(PathReason::SecretNotFound)); 2]);
    set(secret("hunter2"));
    seconds(2).await;
    assert_eq!(site.states("worker"), [(ConnectionState::Connected, None); 2]);
    let ids = |site: &Site| site.status("worker").connections.iter().map(|c| c.session_id).collect::<Vec<_>>();
    let before = ids(&site);
    site.host.use_disk(&paths[0].target, true);
    set(secret("hunter3"));
    seconds(10).await;
    assert_eq!(site.states("worker"), [(ConnectionState::Connected, None); 2]);
    assert!(ids(&site).iter().all(|id| !before.contains(id)), "{before:?} {:?}", ids(&site));
    assert_eq!(site.host.harm(), Vec::<String>::new(), "its map had an active path at every moment");
    let everything = serde_json::to_string(&*site.table.hosts.lock().unwrap()).unwrap();
    assert!(!everything.contains("hunter") && !everything.contains("ann\""));
}

/// Something that happens to a host.
#[derive(Clone, Debug)]
enum Event {
    Plan { paths: Vec<Path>, hold: Option<u8> },
    Faults(Vec<(FaultKind, Option<Path>)>),
    KillSession(Path),
    UseDisk(u8, bool),
    RestartAgent,
    FailWrites(u32),
    Wait(u64),
}

fn any_path() -> impl Strategy<Value = Path> {
    (1..3_u8, 1..3_u8, proptest::option::of(0..INTERFACES.len())).prop_map(|(t, p, i)| path(t, p, i))
}

fn any_plan() -> impl Strategy<Value = Vec<Path>> {
    proptest::collection::btree_set(any_path(), 0..7).prop_map(|paths| paths.into_iter().collect())
}

fn any_fault() -> impl Strategy<Value = (FaultKind, Option<Path>)> {
    let kind = prop::sample::select(vec![
        FaultKind::Unreachable,
        FaultKind::Timeout,
        FaultKind::AuthenticationFailed,
        FaultKind::TargetNotFound,
        FaultKind::Dropped,
        FaultKind::InUse,
        FaultKind::InterfaceNotFound,
    ]);
    (kind, proptest::option::of(any_path()))
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any_plan(), proptest::option::weighted(0.2, 1..3_u8)).prop_map(|(paths, hold)| Event::Plan { paths, hold }),
        3 => proptest::collection::vec(any_fault(), 0..3).prop_map(Event::Faults),
        2 => any_path().prop_map(Event::KillSession),
        2 => (1..3_u8, any::<bool>()).prop_map(|(target, used)| Event::UseDisk(target, used)),
        1 => Just(Event::RestartAgent),
        1 => (1..4_u32).prop_map(Event::FailWrites),
        6 => prop::sample::select(vec![1, 20, 60, 300, 1000, 3100, 12_000]).prop_map(Event::Wait),
    ]
}

impl Site {
    async fn happen(&mut self, event: &Event, number: usize) {
        match event {
            Event::Plan { paths, hold } => {
                let hold: Vec<String> = hold.iter().map(|target| path(*target, 1, None).target.to_string()).collect();
                let hold: Vec<&str> = hold.iter().map(String::as_str).collect();
                let paths: Vec<Path> = paths.iter().filter(|path| !hold.contains(&&*path.target)).cloned().collect();
                self.plan("worker", &format!("r{number}"), &hold, &paths);
            }
            Event::Faults(faults) => {
                let fault = |(kind, path): &(FaultKind, Option<Path>)| Fault {
                    host: None,
                    portal: path.as_ref().map(|path| path.portal.to_string()),
                    target: path.as_ref().map(|path| path.target.to_string()),
                    interface: path.as_ref().and_then(|path| path.interface.as_deref()).map(str::to_owned),
                    network: None,
                    kind: *kind,
                    after: Duration::ZERO,
                };
                self.simulation.set_faults(Faults { faults: faults.iter().map(fault).collect(), ..Faults::default() });
            }
            Event::KillSession(path) => self.host.kill(path),
            Event::UseDisk(target, used) => self.host.use_disk(&path(*target, 1, None).target, *used),
            Event::RestartAgent => {
                self.kill();
                self.start();
            }
            Event::FailWrites(count) => *self.table.failing.lock().unwrap() = *count,
            Event::Wait(milliseconds) => sleep(Duration::from_millis(*milliseconds)).await,
        }
    }
}

/// Whatever happens, in whatever order: once it is over, exactly the planned sessions exist, everything is reported and
/// acknowledged, nothing was harmed on the way, and nothing more is written.
async fn converges(events: &[Event], last: &[Path], foreign: &Path) -> Result<(), TestCaseError> {
    let mut site = Site::new();
    site.host.connect_foreign(foreign.clone(), "default");
    site.add_host("worker", "2024-01-01T00:00:00Z");
    for (number, event) in events.iter().enumerate() {
        site.happen(event, number).await;
        prop_assert_eq!(site.host.harm(), Vec::<String>::new());
    }
    site.plan("worker", "last", &[], last);
    sleep(Duration::from_millis(30)).await;
    site.heal();
    site.host.use_disk(&path(1, 1, None).target, false);
    site.host.use_disk(&path(2, 1, None).target, false);
    // The longest pause between two attempts is ten minutes.
    seconds(660).await;

    prop_assert_eq!(site.host.harm(), Vec::<String>::new());
    let status = site.status("worker");
    prop_assert_eq!(status.agent.as_ref().and_then(|agent| agent.observed_revision.as_deref()), Some("last"));
    let wanted: BTreeSet<Path> = last.iter().cloned().collect();
    let reported: BTreeSet<Path> = status.connections.iter().map(Path::from).collect();
    prop_assert_eq!(&reported, &wanted);
    prop_assert!(all(&status.connections, ConnectionState::Connected), "{:?}", status.connections);
    let (own, others) = site.host.paths();
    prop_assert!(own.is_subset(&wanted), "{:?}", own);
    prop_assert!(wanted.iter().all(|path| own.contains(path) || path == foreign), "{:?}", own);
    prop_assert_eq!(others, BTreeSet::from([foreign.clone()]));

    let (writes, from) = (site.table.writes.lock().unwrap().len(), Instant::now());
    seconds(3600).await;
    prop_assert_eq!(site.table.writes.lock().unwrap().len(), writes, "idle since {:?}", from);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_plans_faults_and_restarts_ends_with_the_planned_sessions_and_harms_none(
        events in proptest::collection::vec(any_event(), 0..25),
        last in any_plan(),
        foreign in any_path(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(converges(&events, &last, &foreign))?;
    }
}
