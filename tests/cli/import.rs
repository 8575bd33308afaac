//! `multibond import ovirt`, on responses in the form of the engine's REST API.

use assert_cmd::Command;
use rstest::rstest;
use tempfile::TempDir;

use super::{data, run};

/// `multibond` where the answers of the engine are, in the directory `ovirt`.
fn multibond(arguments: &[&str]) -> Command {
    let mut command = super::multibond(arguments);
    command.current_dir(data(""));
    command
}

#[test]
fn each_data_center_becomes_a_namespace_with_manifests() {
    let (code, manifests, _) = run(&mut multibond(&["import", "ovirt", "-f", "ovirt"]));
    assert_eq!(code, 2, "there are remarks");
    insta::assert_snapshot!(manifests);
}

#[test]
fn settings_without_a_counterpart_are_reported_by_name() {
    let (_, _, remarks) = run(&mut multibond(&["import", "ovirt", "-f", "ovirt"]));
    insta::assert_snapshot!(remarks);
}

#[test]
fn the_manifests_are_valid() {
    let (_, manifests, _) = run(&mut multibond(&["import", "ovirt", "-f", "ovirt"]));
    let (code, plan, findings) = run(multibond(&["plan", "-f", "-"]).write_stdin(manifests));
    // Its agent has reported nothing yet; the others need no interfaces, or are in maintenance.
    assert_eq!((code, findings.as_str()), (2, ""), "{plan}");
    assert!(plan.contains("\n1 problem:\n  Host frankfurt-hall-2/worker-1.example.com: InterfacesUnknown\n"), "{plan}");
    assert!(plan.contains("worker-1.example.com") && plan.contains("office/desk"), "{plan}");
}

#[test]
fn one_data_center_can_be_chosen_and_written_into_a_directory() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("new");
    let arguments = ["import", "ovirt", "-f", "ovirt", "--data-center", "office", "--out-dir", out.to_str().unwrap()];
    let (code, printed, remarks) = run(&mut multibond(&arguments));
    assert_eq!((code, printed.as_str()), (2, ""));
    assert!(remarks.lines().all(|line| line.starts_with("data center office: ")), "{remarks}");
    let files: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["office.yaml"]);
}

#[test]
fn an_answer_that_is_given_twice_counts_once() {
    let once = run(&mut multibond(&["import", "ovirt", "-f", "ovirt"]));
    assert_eq!(run(&mut multibond(&["import", "ovirt", "-f", "ovirt", "-f", "ovirt"])), once);
}

const CENTER: &str = r#"{"data_center": [{"id": "d", "name": "dc"}]}
    {"cluster": [{"id": "c", "data_center": {"id": "d"}}]}
    {"storage_connection": [
      {"id": "p1", "type": "iscsi", "target": "iqn.2003-01.org.example:x", "address": "[fd00::1]", "port": 3260},
      {"id": "p2", "type": "iscsi", "target": "iqn.2003-01.org.example:x", "address": "fd00::2", "port": "3260"}]}
    {"network": [{"id": "a", "name": "a", "data_center": {"id": "d"}}, {"id": "b", "name": "b", "data_center": {"id": "d"}}]}"#;

/// Standard output and standard error for responses that are added to a small data center.
fn with(more: &str) -> (String, String) {
    let (_, manifests, remarks) =
        run(multibond(&["import", "ovirt", "-f", "-"]).write_stdin(format!("{CENTER}\n{more}")));
    (manifests, remarks)
}

const HOST_AND_BOND: &str = r#"{"host": [{"id": "h", "name": "h", "cluster": {"id": "c"}, "nics": {"host_nic": [
      {"id": "1", "name": "ens1", "network": {"id": "a"}, "ip": {"address": "10.0.0.1", "netmask": "255.255.255.0"}},
      {"id": "2", "name": "ens2", "network": {"id": "b"}, "ip": {"address": "10.0.0.2", "netmask": "255.255.255.0"}}]}}]}
    {"iscsi_bond": [{"id": "i", "name": "bond", "data_center": {"id": "d"}, "networks": {"network": [{"id": "a"}, {"id": "b"}]},
      "storage_connections": {"storage_connection": [{"id": "p1"}]}}]}"#;

#[test]
fn networks_with_a_shared_subnet_name_their_devices() {
    let (manifests, remarks) = with(HOST_AND_BOND);
    assert!(!manifests.contains("subnets"), "{manifests}");
    assert!(manifests.contains("- name: ens1\n    networks:\n    - a\n  - name: ens2\n"), "{manifests}");
    assert!(remarks.contains("network a: its subnet 10.0.0.0/24 belongs to another network too"), "{remarks}");
}

#[test]
fn a_bond_with_some_portals_of_a_target_gets_a_remark() {
    let (manifests, remarks) = with(HOST_AND_BOND);
    assert!(remarks.contains("iSCSI bond bond: it has 1 of the 2 portals of iqn.2003-01.org.example:x"), "{remarks}");
    assert!(!manifests.contains("targets: []") && manifests.contains("address: fd00::1"), "{manifests}");
}

#[rstest]
#[case("not json", "expected an answer of the engine's API in JSON")]
#[case("{\"id\": \"1\", \"name\": \"one\"}", "expected a list, which is an object with one of the fields data_center")]
#[case("{\"network\": [{\"id\": \"1\"}]}", "missing field `name`")]
#[case("{\"network\": [{\"id\": \"1\", \"name\": \"a\", \"mtu\": \"many\"}]}", "\"many\": invalid digit")]
#[case("{}", "add the answer of /api/datacenters")]
fn unreadable_input_names_what_was_expected(#[case] text: &str, #[case] expected: &str) {
    let (code, printed, error) = run(multibond(&["import", "ovirt", "-f", "-"]).write_stdin(text));
    assert_eq!((code, printed.as_str()), (1, ""));
    assert!(error.contains(expected), "{error}");
}

#[test]
fn an_unknown_data_center_is_answered_with_the_known_ones() {
    let (code, _, error) = run(&mut multibond(&["import", "ovirt", "-f", "ovirt", "--data-center", "frankfurt"]));
    assert_eq!(code, 1);
    assert!(error.contains("there is no data center \"frankfurt\"; the input has Frankfurt Hall 2, office"), "{error}");
}
