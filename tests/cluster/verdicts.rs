//! The verdict on a host: the same failure has the same verdict, whatever led to it.

use serde_json::{Value, json};

use super::{
    fixtures::{HOST_ON_BOTH, TWO_FABRICS, bond},
    site::{Site, condition, paths, phase, ready, reason},
};

const DEAD: &str = "faults: [{fault: Unreachable}]";
const ONE_DEAD: &str = "faults: [{portal: '10.0.2.10:3260', fault: Unreachable}]";
const TARGET: &str = "iqn.2003-01.org.example:array";

/// Checks that the verdict names the unreachable target, its paths and the reasons.
fn names_what_is_unreachable(host: &Value) {
    assert_eq!(reason(host, "Operational"), "StorageUnreachable");
    assert_eq!(condition(host, "Operational")["status"], "False");
    let message = condition(host, "Operational")["message"].as_str().unwrap();
    for part in [TARGET, "10.0.1.10:3260", "10.0.2.10:3260", "ens1", "san-b", "PortalUnreachable"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    assert_eq!(condition(host, "Ready")["status"], "False");
}

#[tokio::test]
async fn a17_one_dead_portal_degrades_the_host_and_keeps_its_bond_ready() {
    let site = Site::new("a17").await;
    site.faults(ONE_DEAD);
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    let host = site.until("Degraded and Ready", "Host", "w1", |host| phase(host) == "Degraded" && ready(host)).await;
    assert_eq!(condition(&host, "Operational")["status"], "True");
    assert_eq!(condition(&host, "FullyConnected")["status"], "False");
    let failed = &host["status"]["connections"][1];
    assert_eq!((&failed["state"], &failed["reason"]), (&json!("Failed"), &json!("PortalUnreachable")));
    assert!(failed["retryEvery"].is_string(), "{failed}");
    let bond = site.until("Ready", "IscsiBond", "storage", ready).await;
    assert_eq!(condition(&bond, "FullyConnected")["status"], "False");
    assert_eq!(bond["status"]["summary"], json!({"hosts": "0/1", "networks": "san-a,san-b", "paths": "1/2"}));

    site.faults("faults: []");
    site.until("healed", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;
}

#[tokio::test]
async fn a18_a19_host_without_storage_at_activation_is_non_operational() {
    let site = Site::new("a18").await;
    site.faults(DEAD);
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    // Before the bond has arrived, the host fails through its default network.
    let through_its_networks =
        |host: &Value| phase(host) == "NonOperational" && host["status"]["plan"]["paths"][0]["network"].is_string();
    names_what_is_unreachable(&site.until("NonOperational", "Host", "w1", through_its_networks).await);
    let bond =
        site.until("not Ready", "IscsiBond", "storage", |bond| reason(bond, "Ready") == "HostsNonOperational").await;
    assert_eq!(bond["status"]["hosts"]["nonOperational"], 1);

    site.faults("faults: []");
    site.until("recovered", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;
    site.until("Ready again", "IscsiBond", "storage", ready).await;

    site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    site.until("in maintenance", "Host", "w1", |host| phase(host) == "Maintenance" && ready(host)).await;
    site.faults(DEAD);
    site.patch("Host", "w1", json!({"spec": {"maintenance": false}})).await;
    names_what_is_unreachable(&site.until_phase("w1", "NonOperational").await);
}

#[tokio::test]
async fn a19_a61_host_that_loses_all_paths_is_lost_and_then_non_operational() {
    let site = Site::new("a19").await;
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    site.until("Up", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;
    site.patch("DataCenter", "dc", json!({"spec": {"nonOperationalAfterSeconds": 3600}})).await;
    site.faults(DEAD);
    let lost = site.until("Lost", "Host", "w1", |host| reason(host, "Operational") == "StorageLost").await;
    assert_eq!((phase(&lost), condition(&lost, "Operational")["status"].as_str()), ("Connecting", Some("Unknown")));
    site.until("counted", "DataCenter", "dc", |center| center["status"]["hosts"]["lost"] == 1).await;
    site.until("counted", "IscsiBond", "storage", |bond| bond["status"]["hosts"]["lost"] == 1 && ready(bond)).await;
    site.patch("DataCenter", "dc", json!({"spec": {"nonOperationalAfterSeconds": 1}})).await;
    let host = site.until_phase("w1", "NonOperational").await;
    names_what_is_unreachable(&host);
    assert!(host["status"]["targets"][0]["lostAt"].is_string());
}

#[tokio::test]
async fn a19_bond_edit_to_a_dead_network_keeps_the_old_session() {
    let site = Site::new("a19e").await;
    site.faults("faults: [{interface: ens2, fault: Unreachable}]");
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a")].concat()).await;
    site.until("Up", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;
    site.apply(&bond("san-b")).await;
    // The old session stays, so no I/O is lost.
    let kept = ["10.0.1.10:3260 ens1 Retained", "10.0.2.10:3260 ens2 Failed"];
    site.until("kept", "Host", "w1", |host| phase(host) == "NonOperational" && paths(host) == kept).await;
    site.faults("faults: []");
    let connected = ["10.0.2.10:3260 ens2 Connected"];
    site.until("over on the new network", "Host", "w1", |host| paths(host) == connected && phase(host) == "Up").await;
}

#[tokio::test]
async fn mtu_mismatch_is_a_warning_and_the_host_stays_up() {
    let site = Site::new("mtu").await;
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    let prepared = |host: &Value| phase(host) == "Up" && condition(host, "HostPrepared")["status"] == "True";
    site.until("Up and prepared", "Host", "w1", prepared).await;
    site.patch("Network", "san-b", json!({"spec": {"mtu": 9100}})).await;
    let host = site.until("warned", "Host", "w1", |host| reason(host, "HostPrepared") == "MTUMismatch").await;
    let message = condition(&host, "HostPrepared")["message"].as_str().unwrap();
    assert!(message.contains("ens2") && message.contains("san-b") && message.contains("9100"), "{message}");
    assert_eq!(phase(&host), "Up");
}
