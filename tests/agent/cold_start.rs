//! A boot while the API server does not answer: the agent connects by the last plan that it has kept.

use std::{collections::BTreeSet, fs, path::PathBuf};

use multibond::agent::{cluster::hosts::Contact, initiator::simulated::FaultKind, types::IscsiPath};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::harness::{TestNode, path, seconds};

/// A node whose Host has a plan of these paths, all of which were tried.
async fn planned(paths: &[IscsiPath]) -> (TempDir, TestNode) {
    let directory = tempfile::tempdir().unwrap();
    let node = TestNode::with_last_plan(Some(directory.path().join("multibond/last-plan.json")));
    node.add_host("worker", "2024-01-01T00:00:00Z");
    node.plan("worker", "r1", &[], paths);
    seconds(60).await;
    (directory, node)
}

fn file(node: &TestNode) -> PathBuf {
    node.last_plan.clone().unwrap()
}

fn own(node: &TestNode) -> BTreeSet<IscsiPath> {
    node.host.paths().0
}

fn set(paths: &[&IscsiPath]) -> BTreeSet<IscsiPath> {
    paths.iter().map(|path| (*path).clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a67_after_a_boot_the_last_plan_is_connected_and_then_the_plan_of_now() {
    let (one, two, other) = (path(1, 1, Some(0)), path(1, 2, Some(1)), path(2, 1, Some(0)));
    let (_directory, mut node) = planned(&[one.clone(), two.clone()]).await;
    let writes = node.api.writes.lock().unwrap().len();
    node.power_cycle();
    seconds(60).await;
    assert_eq!(own(&node), set(&[]), "it is not known yet that nobody answers");
    node.contact.send_replace(Contact::Silent);
    seconds(60).await;
    assert_eq!(own(&node), set(&[&one, &two]));
    node.host.kill(&one);
    seconds(60).await;
    assert_eq!(own(&node), set(&[&one, &two]), "it heals what the last plan has");
    assert_eq!(node.api.writes.lock().unwrap().len(), writes, "there is nobody to report to");

    node.contact.send_replace(Contact::Answers);
    node.plan("worker", "r2", &[], &[one.clone(), other.clone()]);
    seconds(60).await;
    assert_eq!(own(&node), set(&[&one, &other]));
    assert_eq!(node.observed("worker").as_deref(), Some("r2"));
    assert_eq!(node.host.harm(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a67_the_last_plan_logs_nothing_out() {
    let (planned_path, unplanned) = (path(1, 1, Some(0)), path(2, 1, Some(0)));
    let (_directory, mut node) = planned(std::slice::from_ref(&planned_path)).await;
    node.kill_agent();
    node.api.seen.send_replace(None);
    node.host.connect_foreign(unplanned.clone(), "mb.ens1");
    node.contact.send_replace(Contact::Silent);
    node.start_agent();
    seconds(600).await;
    assert_eq!(own(&node), set(&[&planned_path, &unplanned]));
    node.contact.send_replace(Contact::Answers);
    node.api.show();
    seconds(60).await;
    assert_eq!(own(&node), set(&[&planned_path]), "the plan of now does");
}

#[tokio::test(start_paused = true)]
async fn a67_only_targets_that_were_connected_are_connected_after_a_boot() {
    let (good, dead) = (path(1, 1, Some(0)), path(2, 2, Some(1)));
    let directory = tempfile::tempdir().unwrap();
    let mut node = TestNode::with_last_plan(Some(directory.path().join("last-plan.json")));
    node.add_host("worker", "2024-01-01T00:00:00Z");
    node.fault(FaultKind::Unreachable, Some(&dead));
    node.plan("worker", "r1", &[], &[good.clone(), dead.clone()]);
    seconds(60).await;
    node.power_cycle();
    node.heal();
    node.contact.send_replace(Contact::Silent);
    seconds(600).await;
    assert_eq!(own(&node), set(&[&good]));
}

#[rstest]
#[case(Contact::Answers)]
#[case(Contact::NoHosts)]
#[tokio::test(start_paused = true)]
async fn a67_any_answer_of_the_api_server_ends_the_last_plan(#[case] answer: Contact) {
    let one = path(1, 1, Some(0));
    let (_directory, mut node) = planned(std::slice::from_ref(&one)).await;
    node.power_cycle();
    node.contact.send_replace(answer);
    seconds(600).await;
    assert_eq!(own(&node), set(&[]));
    assert_eq!(file(&node).exists(), answer == Contact::Answers, "without Hosts there is no plan to keep");
    node.contact.send_replace(Contact::Silent);
    seconds(60).await;
    let connected = if answer == Contact::Answers { set(&[&one]) } else { set(&[]) };
    assert_eq!(own(&node), connected);
    node.contact.send_replace(answer);
    seconds(60).await;
    node.host.kill(&one);
    seconds(600).await;
    assert_eq!(own(&node), set(&[]));
}

#[tokio::test(start_paused = true)]
async fn a67_the_file_goes_with_the_plan_and_with_the_host() {
    let one = path(1, 1, Some(0));
    let (_directory, node) = planned(std::slice::from_ref(&one)).await;
    let content: Value = serde_json::from_slice(&fs::read(file(&node)).unwrap()).unwrap();
    assert_eq!((&content["host"]["uid"], &content["node"]), (&json!("worker"), &json!("node-1")));
    node.plan("worker", "r2", &[], &[]);
    seconds(60).await;
    assert!(!file(&node).exists(), "the plan is empty");
    node.plan("worker", "r3", &[], std::slice::from_ref(&one));
    seconds(60).await;
    assert!(file(&node).exists());
    node.api.hosts.lock().unwrap().clear();
    node.api.show();
    seconds(60).await;
    assert!(!file(&node).exists(), "the Host is gone");
    assert_eq!(own(&node), set(&[&one]), "its session stays");
}

#[tokio::test(start_paused = true)]
async fn a67_a_plan_that_cannot_be_decoded_leaves_the_file() {
    let one = path(1, 1, Some(0));
    let (_directory, node) = planned(std::slice::from_ref(&one)).await;
    node.api.merge("worker", &json!({"status": {"plan": null}})).unwrap();
    seconds(600).await;
    assert!(file(&node).exists(), "an absent plan is one that could not be decoded");
    node.add_host("other", "2025-01-01T00:00:00Z");
    node.api.hosts.lock().unwrap().retain(|host| host.metadata.name.as_deref() == Some("other"));
    node.api.show();
    seconds(60).await;
    assert!(!file(&node).exists(), "it is another Host");
}

#[tokio::test(start_paused = true)]
async fn a67_a_file_that_somebody_else_could_have_written_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let one = path(1, 1, Some(0));
    let (_directory, mut node) = planned(std::slice::from_ref(&one)).await;
    fs::set_permissions(file(&node), fs::Permissions::from_mode(0o666)).unwrap();
    node.power_cycle();
    node.contact.send_replace(Contact::Silent);
    seconds(600).await;
    assert_eq!(own(&node), set(&[]));
    node.contact.send_replace(Contact::Answers);
    node.api.show();
    seconds(60).await;
    assert_eq!(own(&node), set(&[&one]));
    assert_eq!(fs::metadata(file(&node)).unwrap().permissions().mode() & 0o777, 0o600, "it is written anew");
}

#[tokio::test(start_paused = true)]
async fn a67_the_file_is_written_when_its_plan_changes_and_not_otherwise() {
    let (one, two) = (path(1, 1, Some(0)), path(1, 2, Some(1)));
    let (_directory, node) = planned(&[one.clone(), two.clone()]).await;
    let written = || fs::metadata(file(&node)).unwrap().modified().unwrap();
    let first = written();
    node.fault(FaultKind::Dropped, Some(&one));
    seconds(600).await;
    node.heal();
    seconds(600).await;
    assert_eq!(written(), first);
    node.plan("worker", "r2", &[], &[two]);
    seconds(60).await;
    assert!(written() > first);
}
