//! A host that boots while the API server does not answer, with the agent as the service of docs/hosts.md.

use multibond_testbed::site::SYSTEM;
use serde_json::json;

use crate::{
    by_hand::{ALPHA, session_numbers, until_paths, until_sessions},
    chap::{ONE_WAY, let_agents_read_secrets, write_secret},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
};

/// The file with the last plan.
const FILE: &str = "/var/lib/multibond/last-plan.json";

/// Answers everything that the host sends to the API server as a router does that knows no way, from before the agent
/// starts at a boot; see [`RealNode::reach_api_server`].
const CUT_OFF_AT_BOOT: &str = "[Unit]
After=fabrics.service
[Service]
ExecStartPre=nft add rule inet faults output ip daddr 10.0.2.2 reject with icmpx host-unreachable
";

/// The unit that administrators install.
fn unit() -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/hosts.md")).unwrap();
    page.split_once("```ini\n").unwrap().1.split_once("```").unwrap().0.to_owned()
}

async fn install(node: &RealNode) {
    let environment = format!(
        "MULTIBOND_NODE_NAME={}\nMULTIBOND_NAMESPACE={SYSTEM}\nMULTIBOND_KUBECONFIG=/root/kubeconfig\n\
         MULTIBOND_LAST_PLAN={FILE}\nMULTIBOND_LEASE_DURATION=4s\nMULTIBOND_LEASE_RENEW_INTERVAL=1s\n",
        node.site.node(node.name)
    );
    node.guest.run_ok("mkdir -p /etc/multibond /etc/systemd/system/multibond-node.service.d").await.unwrap();
    node.guest.write("/etc/multibond/node.env", &environment).await.unwrap();
    node.guest.write("/etc/systemd/system/multibond-node.service", &unit()).await.unwrap();
    node.guest.run_ok("systemctl daemon-reload && systemctl enable --now multibond-node").await.unwrap();
}

/// A target on both fabrics, and one with CHAP.
async fn connect(node: &RealNode) -> [String; 3] {
    let_agents_read_secrets(node).await;
    write_secret(node, "one-way", "one-way-secret", None).await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    let storage = json!([{"name": "array", "targets": [
        {"iqn": ALPHA, "portals": [{"address": "10.0.101.1"}, {"address": "10.0.102.1"}]},
        {"iqn": ONE_WAY, "portals": [{"address": "10.0.101.2"}], "chap": {"secretRef": {"name": "one-way"}}},
    ]}]);
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
    node.until_paths("3/3").await;
    [
        format!("mb.san1 LOGGED_IN 10.0.101.1 {ALPHA}"),
        format!("mb.san1 LOGGED_IN 10.0.101.2 {ONE_WAY}"),
        format!("mb.san2 LOGGED_IN 10.0.102.1 {ALPHA}"),
    ]
}

#[tokio::test]
async fn a67_after_a_power_cut_the_host_connects_without_the_api_server() {
    let mut node = RealNode::new("cold-start").await;
    install(&node).await;
    let planned = connect(&node).await;
    the_file_is_roots_alone_and_has_no_secret(&node).await;
    the_service_ends_before_those_that_log_out(&node).await;

    let drop_in = "/etc/systemd/system/multibond-node.service.d/cut-off.conf";
    node.guest.write(drop_in, CUT_OFF_AT_BOOT).await.unwrap();
    node.guest.run_ok("sync").await.unwrap();
    node.guest.power_off();
    node.site.until_phase("w1", "Unknown").await;
    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a"]}})).await;
    node.guest.power_on().await.unwrap();
    until_sessions(&node.guest, &planned).await;
    until_paths(&node.guest, 5, 0).await;
    node.site.until_phase("w1", "Unknown").await;

    node.reach_api_server().await;
    node.site.until_phase("w1", "Up").await;
    until_sessions(&node.guest, &planned[..2]).await;
    let log = node.guest.log("multibond-node").await.unwrap();
    let (cold, warm) = log.split_once("the API server answers").unwrap();
    assert!(cold.contains("connecting by the last plan") && !cold.contains("logging out"), "{cold}");
    assert_eq!(warm.matches("logging out").count(), 1, "{warm}");
    the_file_goes_with_the_plan(&node).await;
    a67_a_session_of_the_initramfs_counts_and_is_never_touched(&node).await;
}

async fn the_file_is_roots_alone_and_has_no_secret(node: &RealNode) {
    assert_eq!(node.guest.run_ok(&format!("stat --format '%a %U' {FILE}")).await.unwrap(), "600 root\n");
    let file = String::from_utf8(node.guest.read(FILE).await.unwrap()).unwrap();
    assert!(file.contains(ONE_WAY) && !file.contains("one-way-secret") && !file.contains("host-one-way"), "{file}");
}

async fn the_service_ends_before_those_that_log_out(node: &RealNode) {
    let later = "systemctl show --value --property=Before open-iscsi.service iscsid.service multipathd.service";
    let later = node.guest.run_ok(later).await.unwrap();
    assert_eq!(later.matches("multibond-node.service").count(), 3, "{later}");
}

async fn the_file_goes_with_the_plan(node: &RealNode) {
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    until_sessions(&node.guest, &[]).await;
    node.guest.run_ok(&format!("timeout 60 sh -c 'while test -e {FILE}; do sleep 0.2; done'")).await.unwrap();
}

/// As the initramfs makes the session of a root disk: by `iscsistart`, without iscsid and without a record.
async fn a67_a_session_of_the_initramfs_counts_and_is_never_touched(node: &RealNode) {
    node.stop_iscsid().await;
    let name = node.initiator_name();
    let start =
        format!("timeout 60 iscsistart --initiatorname={name} --targetname={ALPHA} --tgpt=1 --address=10.0.101.1");
    node.guest.run_ok(&start).await.unwrap();
    node.start_iscsid().await;
    let of_initramfs = session_numbers(&node.guest).await;
    assert_eq!(of_initramfs.len(), 1);

    // Without a bond, a path is bound to no interface, as this session.
    node.site.delete("IscsiBond", "storage").await;
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": false}})).await;
    node.until_paths("3/3").await;
    let connected = session_numbers(&node.guest).await;
    assert!(connected.len() == 3 && connected.is_superset(&of_initramfs), "{of_initramfs:?} and then {connected:?}");

    node.site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    node.until_nothing_is_connected().await;
    assert_eq!(session_numbers(&node.guest).await, of_initramfs, "it is not the agent's");
}
