//! Two hosts on one target.

use multibond_testbed::Nic;
use serde_json::json;

use crate::{
    by_hand::{ALPHA, sessions},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
    site::phase,
};

#[tokio::test]
async fn a11_a_bond_edit_moves_both_hosts_of_a_target() {
    let [one, other] = RealNode::pair("pair").await;
    one.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    let host = "{apiVersion: multibond.dev/v1alpha1, kind: Host, metadata: {name: w2}, \
                spec: {dataCenter: dc, nodeName: '{ns}-w2'}}";
    one.site.apply(host).await;
    one.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a"]}})).await;
    tokio::join!(one.start_agent(""), other.start_agent(""));
    tokio::join!(one.until_paths("1/1"), other.until_paths("1/1"));

    one.site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a", "san-b"]}})).await;
    tokio::join!(one.until_paths("2/2"), other.until_paths("2/2"));
    let bound = ["mb.san1 LOGGED_IN 10.0.101.1", "mb.san2 LOGGED_IN 10.0.102.1"].map(|path| format!("{path} {ALPHA}"));
    assert_eq!((sessions(&one.guest).await, sessions(&other.guest).await), (bound.to_vec(), bound.to_vec()));
    let nexuses = one.guest.run_ok("tgtadm --mode target --op show | grep -o 'Initiator: [^ ]*' | sort").await.unwrap();
    let expected = [&one, &one, &other, &other].map(|node| format!("Initiator: {}\n", node.initiator_name()));
    assert_eq!(nexuses, expected.concat());

    let before = one.site.get("Host", one.name).await["status"]["connections"].clone();
    other.guest.set_link(Nic::San2, false).await.unwrap();
    one.site.until_phase(other.name, "Degraded").await;
    other.guest.set_link(Nic::San1, false).await.unwrap();
    one.site.until_phase(other.name, "NonOperational").await;
    let untouched = one.site.get("Host", one.name).await;
    assert_eq!((phase(&untouched), &untouched["status"]["connections"]), ("Up", &before));
    for nic in [Nic::San1, Nic::San2] {
        other.guest.set_link(nic, true).await.unwrap();
    }
    one.site.until_phase(other.name, "Up").await;
}
