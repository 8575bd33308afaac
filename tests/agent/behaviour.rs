//! What an agent does and reports: one behaviour per test.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use multibond::{
    agent::{
        initiator::simulated::{Fault, FaultKind, Faults, Reads},
        types::{
            IscsiPath,
            credentials::{Credentials, SecretState},
        },
    },
    api::{Connection, ConnectionState, reason::PathReason},
};
use serde_json::json;
use tokio::time::sleep;

use super::harness::{INTERFACES, TestNode, all, path, seconds};

#[tokio::test(start_paused = true)]
async fn without_a_plan_only_the_interfaces_are_reported() {
    let node = TestNode::new();
    node.add_host("worker", "2024-01-01T00:00:00Z");
    seconds(1).await;
    let status = node.status("worker");
    let interfaces = status.interfaces.unwrap();
    assert_eq!(interfaces.iter().map(|i| &*i.name).collect::<Vec<_>>(), INTERFACES);
    assert!(interfaces.iter().all(|i| i.up && i.addresses.len() == 1));
    assert_ne!(interfaces[0].addresses, interfaces[1].addresses);
    assert_eq!((status.agent.unwrap().observed_revision, status.connections), (None, vec![]));
    seconds(3600).await;
    assert_eq!(node.api.accepted_writes("worker"), 1);
}

#[tokio::test(start_paused = true)]
async fn a10_a11_a13_an_edit_costs_one_write_and_nothing_more_is_written() {
    let node = TestNode::new();
    node.add_host("worker", "2024-01-01T00:00:00Z");
    let (one, two, three) = (path(1, 1, Some(0)), path(1, 2, Some(1)), path(2, 2, Some(1)));
    let plans = [vec![], vec![one.clone()], vec![one.clone(), two.clone(), three.clone()], vec![two, three], vec![]];
    for (number, paths) in plans.iter().enumerate() {
        seconds(60).await;
        let before = node.api.accepted_writes("worker");
        let revision = format!("r{number}");
        node.plan("worker", &revision, &[], paths);
        sleep(Duration::from_millis(200)).await;
        assert_eq!(node.observed("worker").as_deref(), Some(revision.as_str()), "within the time of one login");
        let connections = node.status("worker").connections;
        assert_eq!(connections.iter().map(IscsiPath::from).collect::<Vec<_>>(), *paths);
        assert!(all(&connections, ConnectionState::Connected));
        seconds(3600).await;
        assert_eq!(node.api.accepted_writes("worker") - before, 1, "plan {number}");
    }
    assert_eq!(node.host.harm(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a11_an_edit_with_many_slow_paths_costs_two_writes() {
    let node = TestNode::new();
    node.simulation.set_faults(Faults { latency: Duration::from_millis(900), ..Faults::default() });
    node.add_host("worker", "2024-01-01T00:00:00Z");
    let paths: Vec<IscsiPath> = (0..32).map(|portal| path(1, portal, Some(0))).collect();
    seconds(60).await;
    let before = node.api.accepted_writes("worker");
    node.plan("worker", "r", &[], &paths);
    seconds(5).await;
    assert_eq!(node.observed("worker").as_deref(), Some("r"), "ten logins run at a time");
    assert!(node.api.accepted_writes("worker") - before <= 2);
}

#[tokio::test(start_paused = true)]
async fn a22_good_paths_are_reported_while_dead_ones_are_still_tried() {
    let node = TestNode::new();
    node.add_host("worker", "2024-01-01T00:00:00Z");
    let paths = [path(1, 1, Some(0)), path(1, 1, Some(1)), path(1, 2, Some(0)), path(1, 2, Some(1))];
    node.fault(FaultKind::Timeout, Some(&IscsiPath { interface: None, ..paths[2].clone() }));
    node.plan("worker", "r", &[], &paths);
    seconds(2).await;
    let ok = |state| (state, None);
    let (up, trying) = (ok(ConnectionState::Connected), ok(ConnectionState::Connecting));
    assert_eq!(node.states("worker"), [up, up, trying, trying]);
    assert_eq!(node.observed("worker"), None);
    seconds(5).await;
    let dead = (ConnectionState::Failed, Some(PathReason::Timeout));
    assert_eq!(node.states("worker"), [up, up, dead, dead]);
    assert_eq!(node.observed("worker").as_deref(), Some("r"));
    let writes = node.api.accepted_writes("worker");
    seconds(600).await;
    assert_eq!(node.api.accepted_writes("worker"), writes, "retries that fail as before write nothing");
    node.heal();
    seconds(40).await;
    assert_eq!(node.states("worker"), [up; 4]);
}

#[tokio::test(start_paused = true)]
async fn a18_a_pulled_cable_costs_one_write_and_one_when_it_is_back() {
    let node = TestNode::new();
    node.add_host("worker", "2024-01-01T00:00:00Z");
    let paths = [path(1, 1, Some(0)), path(1, 2, Some(0)), path(1, 3, Some(1))];
    node.plan("worker", "r", &[], &paths);
    seconds(60).await;
    let before = node.status("worker").connections;
    let writes = node.api.accepted_writes("worker");
    let fault = |interface: &str| Fault {
        host: Some("worker".into()),
        portal: None,
        target: None,
        interface: Some(interface.into()),
        network: None,
        kind: FaultKind::Dropped,
        after: Duration::ZERO,
    };
    node.simulation.set_faults(Faults { faults: vec![fault("ens1")], ..Faults::default() });
    seconds(2).await;
    assert_eq!(node.status("worker").connections, before, "most of what is lost comes back");
    sleep(Duration::from_millis(2100)).await;
    let lost = (ConnectionState::Failed, Some(PathReason::PortalUnreachable));
    assert_eq!(node.states("worker"), [lost, lost, (ConnectionState::Connected, None)]);
    seconds(600).await;
    assert_eq!(node.api.accepted_writes("worker") - writes, 1);
    node.heal();
    seconds(2).await;
    let ids = |connections: &[Connection]| connections.iter().map(|c| c.session_id).collect::<Vec<_>>();
    assert_eq!(ids(&node.status("worker").connections), ids(&before), "the initiator heals its sessions");
    assert_eq!(node.api.accepted_writes("worker") - writes, 2);
}

#[tokio::test(start_paused = true)]
async fn a20_a_killed_session_is_restored_and_foreign_ones_stay() {
    let node = TestNode::new();
    node.add_host("worker", "2024-01-01T00:00:00Z");
    let (ours, theirs) = (path(1, 1, Some(0)), path(1, 2, None));
    node.host.connect_foreign(theirs.clone(), "default");
    node.plan("worker", "r", &[], &[ours.clone(), theirs.clone()]);
    seconds(60).await;
    assert_eq!(node.status("worker").connections.len(), 2);
    let writes = node.api.accepted_writes("worker");
    node.host.kill(&ours);
    seconds(60).await;
    assert!(all(&node.status("worker").connections, ConnectionState::Connected));
    assert_eq!(node.api.accepted_writes("worker") - writes, 1, "the session has a new number");
    node.plan("worker", "none", &[], &[]);
    seconds(60).await;
    assert_eq!((node.observed("worker").as_deref(), node.status("worker").connections.len()), (Some("none"), 0));
    assert!(node.host.has_sessions(), "theirs");
    assert_eq!(node.host.harm(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a13_a_path_in_use_is_retained_until_the_use_ends() {
    let node = TestNode::new();
    node.add_host("worker", "2024-01-01T00:00:00Z");
    let (old, new) = (path(1, 1, Some(0)), path(1, 2, Some(1)));
    node.plan("worker", "old", &[], std::slice::from_ref(&old));
    seconds(10).await;
    node.fault(FaultKind::InUse, Some(&old));
    node.plan("worker", "new", &[], std::slice::from_ref(&new));
    seconds(1).await;
    let kept = (ConnectionState::Retained, Some(PathReason::InUse));
    assert_eq!(node.states("worker"), [kept, (ConnectionState::Connected, None)]);
    assert_eq!(node.observed("worker").as_deref(), Some("new"));
    node.heal();
    seconds(12).await;
    assert_eq!(node.states("worker"), [(ConnectionState::Connected, None)]);
}

#[tokio::test(start_paused = true)]
async fn a04b_a_held_target_keeps_its_sessions() {
    let node = TestNode::new();
    node.add_host("worker", "2024-01-01T00:00:00Z");
    let one = path(1, 1, Some(0));
    node.plan("worker", "r", &[], std::slice::from_ref(&one));
    seconds(10).await;
    node.plan("worker", "held", &[&one.target], &[]);
    seconds(10).await;
    assert_eq!(node.states("worker"), [(ConnectionState::Retained, None)]);
    assert_eq!(node.observed("worker").as_deref(), Some("held"));
    node.plan("worker", "r", &[], std::slice::from_ref(&one));
    seconds(10).await;
    assert_eq!(node.states("worker"), [(ConnectionState::Connected, None)]);
}

#[tokio::test(start_paused = true)]
async fn a26_without_a_host_the_agent_keeps_up_the_last_plan() {
    let node = TestNode::new();
    node.add_host("worker", "2024-01-01T00:00:00Z");
    let one = path(1, 1, Some(0));
    node.plan("worker", "r", &[], std::slice::from_ref(&one));
    seconds(10).await;
    node.api.hosts.lock().unwrap().clear();
    node.api.show();
    seconds(600).await;
    node.host.kill(&one);
    seconds(10).await;
    assert!(node.host.has_sessions());
    node.add_host("again", "2024-01-02T00:00:00Z");
    seconds(10).await;
    assert!(node.status("again").connections.is_empty(), "it has no plan yet");
    assert!(node.host.has_sessions());
    node.plan("again", "none", &[], &[]);
    seconds(10).await;
    assert_eq!((node.observed("again").as_deref(), node.host.has_sessions()), (Some("none"), false));
}

#[tokio::test(start_paused = true)]
async fn a26_a_report_is_written_after_an_outage_of_the_api_server() {
    let node = TestNode::new();
    node.add_host("worker", "2024-01-01T00:00:00Z");
    seconds(10).await;
    *node.api.failing.lock().unwrap() = 5;
    node.plan("worker", "r", &[], &[path(1, 1, Some(0))]);
    seconds(120).await;
    assert_eq!(node.observed("worker").as_deref(), Some("r"));
    assert_eq!(*node.api.failing.lock().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a28_the_older_host_is_served_and_the_other_acknowledged_at_once() {
    let node = TestNode::new();
    node.add_host("older", "2024-01-01T00:00:00Z");
    node.add_host("newer", "2024-01-02T00:00:00Z");
    let one = path(1, 1, Some(0));
    node.plan("older", "r", &[], std::slice::from_ref(&one));
    node.plan("newer", "none", &[], &[]);
    seconds(10).await;
    assert_eq!((node.observed("older").as_deref(), node.observed("newer").as_deref()), (Some("r"), Some("none")));
    assert_eq!(node.status("older").connections.len(), 1);
    assert_eq!((node.status("newer").connections.len(), node.status("newer").interfaces), (0, None));
    let writes = node.api.writes.lock().unwrap().len();
    seconds(600).await;
    assert_eq!(node.api.writes.lock().unwrap().len(), writes);
    // The older Host is deleted: its sessions stay until the newer Host has a plan.
    node.api.hosts.lock().unwrap().remove(0);
    node.api.merge("newer", &json!({}));
    seconds(10).await;
    assert_eq!(node.observed("newer").as_deref(), Some("none"), "carried out again");
    assert!(!node.host.has_sessions());
}

#[tokio::test(start_paused = true)]
async fn a23_a_new_secret_is_used_at_once_and_a_changed_one_path_by_path() {
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
    let node = TestNode::new();
    node.add_host("worker", "2024-01-01T00:00:00Z");
    let paths = [path(1, 1, Some(0)), path(1, 2, Some(1))];
    node.plan_with_secret("worker", "r", &[], &paths, Some("array"));
    seconds(5).await;
    let set = |state| node.api.secrets.lock().unwrap()["array"].send_replace(state);
    assert_eq!(node.states("worker"), [(ConnectionState::Connecting, None); 2]);
    set(SecretState::Unusable);
    seconds(1).await;
    assert_eq!(node.states("worker"), [(ConnectionState::Failed, Some(PathReason::SecretNotFound)); 2]);
    assert!(node.api.failed_secrets.lock().unwrap().contains("array"), "it is read more often");
    set(secret("hunter2"));
    seconds(2).await;
    assert_eq!(node.states("worker"), [(ConnectionState::Connected, None); 2]);
    let ids = |node: &TestNode| node.status("worker").connections.iter().map(|c| c.session_id).collect::<Vec<_>>();
    let before = ids(&node);
    node.host.use_lun(&paths[0].target, 0, true);
    set(secret("hunter3"));
    seconds(10).await;
    assert_eq!(node.states("worker"), [(ConnectionState::Connected, None); 2]);
    assert!(ids(&node).iter().all(|id| !before.contains(id)), "{before:?} {:?}", ids(&node));
    assert_eq!(node.host.harm(), Vec::<String>::new(), "its map had an active path at every moment");
    let everything = serde_json::to_string(&*node.api.hosts.lock().unwrap()).unwrap();
    assert!(!everything.contains("hunter") && !everything.contains("ann\""));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_cannot_read_its_host_for_a_minute_is_not_alive() {
    for reads in [Reads::Fail, Reads::Hang] {
        let node = TestNode::new();
        node.add_host("h", "2026-01-01T00:00:00Z");
        seconds(1).await;
        node.host.set_reads(reads);
        seconds(50).await;
        assert!(node.is_alive(), "{reads:?}: it may be for a moment");
        seconds(20).await;
        assert!(!node.is_alive(), "{reads:?}");
        node.host.set_reads(Reads::Work);
        seconds(6).await;
        assert!(node.is_alive(), "{reads:?}");
    }
}
