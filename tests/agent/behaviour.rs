//! What an agent does and reports, one thing at a time.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use multibond::{
    agent::{
        credentials::{Credentials, SecretState},
        initiator::simulated::{Fault, FaultKind, Faults},
        path::IscsiPath,
    },
    api::{Connection, ConnectionState, reason::PathReason},
};
use serde_json::json;
use tokio::time::sleep;

use super::site::{INTERFACES, Site, all, path, seconds};
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
        assert_eq!(connections.iter().map(IscsiPath::from).collect::<Vec<_>>(), *paths);
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
    let paths: Vec<IscsiPath> = (0..32).map(|portal| path(1, portal, Some(0))).collect();
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
    site.fault(FaultKind::Timeout, Some(&IscsiPath { interface: None, ..paths[2].clone() }));
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
