//! A deleted network is removed together with its paths only, and its deletion never hangs.

use serde_json::{Value, json};

use super::{
    fixtures::{HOST_ON_BOTH, TWO_FABRICS, bond},
    site::{Site, paths, phase, ready, reason, sessions},
};

const A: &str = "10.0.1.10:3260 ens1 Connected";
const B: &str = "10.0.2.10:3260 ens2 Connected";
const DEFAULT: [&str; 2] = ["10.0.1.10:3260 - Connected", "10.0.2.10:3260 - Connected"];

/// Without its network the first portal counts as routed, and pairs with the bond's remaining network.
const ROUTED: &str = "10.0.1.10:3260 ens2 Connected";

/// A second bond over the first network.
const SECOND_BOND: &str = "
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: second}
spec: {dataCenter: dc, networks: [san-a]}
---
";

/// Another data center whose bond names a network of the first.
const OTHER_DATA_CENTER: &str = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: other}
spec: {}
---
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: others}
spec: {dataCenter: other, networks: [san-a]}
---
";

async fn connected(name: &str) -> (Site, multibond_testbed::Process, Value) {
    let site = Site::new(name).await;
    let agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    let host = site.until("connected", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;
    (site, agents, host)
}

#[tokio::test]
async fn a14_deleted_network_leaves_its_bonds_and_keeps_other_networks_paths() {
    let (site, _agents, before) = connected("a14").await;
    site.apply(&[SECOND_BOND, OTHER_DATA_CENTER].concat()).await;
    site.until("named by both bonds", "Network", "san-a", |network| {
        network["status"]["bonds"] == json!(["second", "storage"])
    })
    .await;

    site.delete("Network", "san-a").await;
    site.until_gone("Network", "san-a").await;
    assert_eq!(site.get("IscsiBond", "storage").await["spec"]["networks"], json!(["san-b"]));
    assert_eq!(site.get("IscsiBond", "second").await["spec"]["networks"], json!([]));
    for bond in ["storage", "second"] {
        let events = site.until_event("IscsiBond", bond, "Normal NetworkDropped: Network san-a is being deleted").await;
        let dropped = events.iter().filter(|event| event.contains("NetworkDropped")).count();
        assert_eq!(dropped, 1, "{events:#?}");
    }
    assert_eq!(site.get("IscsiBond", "others").await["spec"]["networks"], json!(["san-a"]), "not of this data center");
    let after = site.until("on the other fabric", "Host", "w1", |host| paths(host) == [ROUTED, B] && ready(host)).await;
    assert_eq!(sessions(&after)[1], sessions(&before)[1], "the other network's session is the same");
    assert_eq!(site.held_sessions("w1").len(), 2, "the deleted network's session is gone");
}

#[tokio::test]
async fn a14_network_name_applied_again_after_deletion_is_not_removed_again() {
    let (site, agents, _) = connected("a14-fight").await;
    // The host does not acknowledge, so the network's deletion takes a while.
    agents.pause().unwrap();
    site.delete("Network", "san-a").await;
    site.until("dropped", "IscsiBond", "storage", |bond| bond["spec"]["networks"] == json!(["san-b"])).await;
    site.apply(&bond("san-a, san-b")).await;
    site.until_gone("Network", "san-a").await;
    agents.resume().unwrap();
    site.apply(&bond("san-a, san-b")).await;

    let not_found =
        |bond: &Value| reason(bond, "Ready") == "NetworkNotFound" && bond["status"]["paths"]["connected"] == 2;
    let storage = site.until("network not found", "IscsiBond", "storage", not_found).await;
    assert_eq!(storage["spec"]["networks"], json!(["san-a", "san-b"]), "what the pipeline wants");
    let spec_writes = site.controller_writes("iscsibonds", "storage").into_iter().filter(String::is_empty).count();
    assert_eq!(spec_writes, 1, "dropped once");
    // The name is unknown now and holds the target. Whether the old session was logged out before depends on the moment.
    let connected = |host: &Value| [ROUTED, B].iter().all(|path| paths(host).iter().any(|found| found == path));
    site.until("on the other fabric", "Host", "w1", |host| connected(host) && phase(host) == "Up").await;
    site.apply(&bond("san-b")).await;
    site.until("nothing is left", "Host", "w1", |host| paths(host) == [ROUTED, B] && phase(host) == "Up").await;
}

#[tokio::test]
async fn a14_two_networks_deleted_at_once_both_leave_their_bond() {
    let (site, _agents, _) = connected("a14-two").await;
    tokio::join!(site.delete("Network", "san-a"), site.delete("Network", "san-b"));
    tokio::join!(site.until_gone("Network", "san-a"), site.until_gone("Network", "san-b"));
    assert_eq!(site.get("IscsiBond", "storage").await["spec"]["networks"], json!([]));
    site.until("on its default network", "Host", "w1", |host| paths(host) == DEFAULT && ready(host)).await;
}

#[tokio::test]
async fn a14_network_and_bond_can_be_deleted_at_the_same_time() {
    let (site, _agents, _) = connected("a14-bond").await;
    tokio::join!(site.delete("Network", "san-a"), site.delete("IscsiBond", "storage"));
    tokio::join!(site.until_gone("Network", "san-a"), site.until_gone("IscsiBond", "storage"));
    site.until("on its default network", "Host", "w1", |host| paths(host) == DEFAULT && ready(host)).await;
}

#[tokio::test]
async fn a14_network_deletion_does_not_wait_for_a_host_without_an_agent() {
    let site = Site::new("a14-alone").await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    site.until("finalizer", "Network", "san-a", |network| network["metadata"]["finalizers"].is_array()).await;
    site.until_phase("w1", "Unknown").await;
    site.delete("Network", "san-a").await;
    site.until_gone("Network", "san-a").await;
    assert_eq!(site.events("Network", "san-a").await, [""; 0], "nothing has timed out");
    site.until("dropped", "IscsiBond", "storage", |bond| bond["spec"]["networks"] == json!(["san-b"])).await;
}

#[tokio::test]
async fn a14_unacknowledged_network_deletion_times_out_with_a_warning() {
    let (site, _agents, _) = connected("a14-slow").await;
    // The first login on the default network does not finish before the test ends.
    site.patch("DataCenter", "dc", json!({"spec": {"session": {"loginTimeoutSeconds": 60}}})).await;
    site.until("planned", "Host", "w1", |host| host["status"]["plan"]["session"]["loginTimeoutSeconds"] == 60).await;
    site.faults("{latency: 10m, faults: [{portal: '10.0.2.10:3260', fault: Unreachable}]}");
    site.until_phase("w1", "Degraded").await;
    tokio::join!(site.delete("Network", "san-a"), site.delete("Network", "san-b"));
    tokio::join!(site.until_gone("Network", "san-a"), site.until_gone("Network", "san-b"));
    for network in ["san-a", "san-b"] {
        let events = site.until_event("Network", network, "Warning DeletionTimedOut").await;
        assert_eq!(events.len(), 1);
        assert!(events[0].contains(&format!("host {}/w1", site.namespace)), "{}", events[0]);
    }
    assert_ne!(site.held_sessions("w1"), [""; 0], "make before break");
}

#[tokio::test]
async fn a14_network_kept_by_a_foreign_finalizer_counts_as_deleted() {
    let (site, _agents, _) = connected("a14-held").await;
    let finalizers = |names: Value| json!({"metadata": {"finalizers": names}});
    site.patch("Network", "san-a", finalizers(json!(["multibond.dev/disconnect", "example.com/backup"]))).await;
    site.delete("Network", "san-a").await;
    let only_foreign = |network: &Value| network["metadata"]["finalizers"] == json!(["example.com/backup"]);
    site.until("our finalizer is removed", "Network", "san-a", only_foreign).await;
    site.until("on the other fabric", "Host", "w1", |host| paths(host) == [ROUTED, B] && ready(host)).await;
    assert_eq!(site.get("IscsiBond", "storage").await["spec"]["networks"], json!(["san-b"]));

    // The data center's deletion does not wait for it either.
    site.delete("DataCenter", "dc").await;
    site.until_gone("DataCenter", "dc").await;
    let timed_out = |events: Vec<String>| events.into_iter().any(|event| event.starts_with("Warning"));
    assert!(!timed_out(site.events("DataCenter", "dc").await));
    site.patch("Network", "san-a", finalizers(json!([]))).await;
    site.until_gone("Network", "san-a").await;
}
