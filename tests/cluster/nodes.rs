//! The condition and the taint on the Node of a host. Taints of others are not changed.

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use kube::Api;
use multibond_testbed::eventually;
use serde_json::json;

use super::{
    fixtures::hosts_on_both,
    site::{PATIENCE, SYSTEM, Site, condition, our_taint, paths, phase, ready, storage_operational, taints},
};

/// Longer than the pause between two evictions.
const EVICTION_PAUSE: std::time::Duration = std::time::Duration::from_secs(12);

const CENTER: &str = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: dc}
spec:
  nonOperationalAfterSeconds: 0
  nonOperationalTaint: EFFECT
  storage:
  - name: array
    targets:
    - {iqn: 'iqn.2003-01.org.example:array', portals: [{address: 10.0.1.10, network: san-a}, {address: 10.0.2.10, network: san-b}]}
---
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-a}
spec: {dataCenter: dc}
---
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-b}
spec: {dataCenter: dc}
---
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: storage}
spec: {dataCenter: dc, networks: [san-a]}
";

/// A data center with this taint effect, and hosts on its first network, all Up.
async fn site(name: &str, effect: &str, hosts: &[&str]) -> (Site, multibond_testbed::Process) {
    site_with(name, effect, hosts, "faults: []").await
}

async fn site_with(name: &str, effect: &str, hosts: &[&str], faults: &str) -> (Site, multibond_testbed::Process) {
    let site = Site::new(name).await;
    site.faults(faults);
    let agents = site.agents(hosts).await;
    let mut yaml = CENTER.replace("EFFECT", effect);
    yaml += &hosts_on_both(hosts);
    site.apply(&yaml).await;
    for host in hosts {
        site.until("Up", "Host", host, |host| phase(host) == "Up" && ready(host)).await;
    }
    (site, agents)
}

/// Makes the first network unreachable for these hosts, and for no others.
fn cut_off(site: &Site, hosts: &[&str]) {
    let faults: Vec<_> =
        hosts.iter().map(|host| format!("{{host: {host}, portal: '10.0.1.10:3260', fault: Unreachable}}")).collect();
    site.faults(&format!("faults: [{}]", faults.join(", ")));
}

fn says(status: &str, reason: &str) -> impl Fn(&Node) -> bool {
    move |node| storage_operational(node) == Some((status.to_owned(), reason.to_owned()))
}

fn tainted(effect: &str) -> impl Fn(&Node) -> bool {
    move |node| our_taint(node).is_some_and(|taint| taint.effect == effect)
}

fn untainted(node: &Node) -> bool {
    our_taint(node).is_none()
}

#[tokio::test]
async fn a30b_node_condition_and_taint_follow_whether_storage_is_reachable() {
    let (site, _agents) = site("a30b", "NoSchedule", &["w1", "w2"]).await;
    site.until_node("fine", "w1", says("True", "TargetsReachable")).await;
    cut_off(&site, &["w1"]);
    site.until_node("tainted", "w1", tainted("NoSchedule")).await;
    site.until_node("reported", "w1", says("False", "StorageUnreachable")).await;
    let other = site.until_node("fine", "w2", says("True", "TargetsReachable")).await;
    assert!(untainted(&other));

    cut_off(&site, &[]);
    site.until_node("untainted", "w1", |node| untainted(node) && says("True", "TargetsReachable")(node)).await;
}

#[tokio::test]
async fn a30b_condition_and_taint_are_removed_with_their_host_and_setting() {
    let (site, _agents) = site("a30b-gone", "NoSchedule", &["w1", "w2", "w3", "w4"]).await;
    let hosts = ["w1", "w2", "w3", "w4"];
    cut_off(&site, &hosts);
    for host in hosts {
        site.until_node("tainted", host, tainted("NoSchedule")).await;
    }
    let bare = |node: &Node| untainted(node) && storage_operational(node).is_none();
    site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    site.until_node("bare in maintenance", "w1", bare).await;
    site.patch("Host", "w2", json!({"spec": {"dataCenter": "elsewhere"}})).await;
    site.until_node("bare when moved", "w2", bare).await;
    site.delete("Host", "w3").await;
    site.until_node("bare when its Host is deleted", "w3", bare).await;

    let taint = |effect: &str| json!({"spec": {"nonOperationalTaint": effect}});
    site.patch("DataCenter", "dc", taint("NoExecute")).await;
    // Only w4 is left. A single unreachable host is never held back.
    site.until_node("the other effect", "w4", tainted("NoExecute")).await;
    site.patch("DataCenter", "dc", taint("None")).await;
    site.until_node("untainted", "w4", untainted).await;
    site.until_node("still reported", "w4", says("False", "StorageUnreachable")).await;
    site.delete("DataCenter", "dc").await;
    site.until_node("bare without its data center", "w4", bare).await;
}

#[tokio::test]
async fn a30b_no_host_is_evicted_while_half_of_the_hosts_miss_the_target() {
    let (site, _agents) = site("a30b-guard", "NoExecute", &["w1", "w2", "w3"]).await;
    cut_off(&site, &["w1"]);
    site.until_node("tainted", "w1", tainted("NoExecute")).await;
    cut_off(&site, &["w1", "w2"]);
    site.until_node("withdrawn", "w1", |node| untainted(node) && says("False", "StorageUnreachable")(node)).await;
    let node = site.until_node("not operational", "w2", says("False", "StorageUnreachable")).await;
    assert!(untainted(&node), "held back");
    cut_off(&site, &["w2"]);
    site.until_node("one host again, so it is the host", "w2", tainted("NoExecute")).await;
    site.until_node("fine", "w1", |node| untainted(node) && says("True", "TargetsReachable")(node)).await;
}

/// Two targets, each refused to another half of the hosts: every host misses one, and no target is missed by most.
#[tokio::test]
async fn a30b_no_host_is_evicted_while_each_half_of_the_hosts_misses_another_target() {
    let hosts = ["w1", "w2", "w3", "w4"];
    let (site, _agents) = site("a30b-halves", "NoExecute", &hosts).await;
    let target = |name: &str, third: u8| {
        let portal = json!({"address": format!("10.0.1.{third}"), "network": "san-a"});
        json!({"iqn": format!("iqn.2003-01.org.example:{name}"), "portals": [portal]})
    };
    let storage = json!([{"name": "array", "targets": [target("one", 11), target("two", 12)]}]);
    site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
    for host in hosts {
        site.until("both targets", "Host", host, |host| paths(host).len() == 2 && ready(host)).await;
    }
    let refused = |host: &str, address: &str| format!("{{host: {host}, portal: '{address}:3260', fault: Unreachable}}");
    let cut: Vec<_> = hosts.iter().zip(["10.0.1.11", "10.0.1.11", "10.0.1.12", "10.0.1.12"]).collect();
    let cut: Vec<_> = cut.into_iter().map(|(host, address)| refused(host, address)).collect();
    site.faults(&format!("faults: [{}]", cut.join(", ")));
    for host in hosts {
        site.until_phase(host, "NonOperational").await;
    }
    site.until("held back", "DataCenter", "dc", |center| {
        condition(center, "EvictionsHeld")["message"].as_str().is_some_and(|text| text.starts_with("4 of 4 hosts"))
    })
    .await;
    for host in hosts {
        site.until_node("withdrawn", host, |node| untainted(node) && says("False", "StorageUnreachable")(node)).await;
    }
    // An eviction that was due would follow within its pause. Nothing else shows that none is due.
    tokio::time::sleep(EVICTION_PAUSE).await;
    for host in hosts {
        assert!(untainted(&site.until_node("there", host, |_| true).await), "{host}");
    }
    site.faults(&format!("faults: [{}]", cut[0]));
    site.until_node("one host alone, so it is the host", "w1", tainted("NoExecute")).await;
    site.until("let go", "DataCenter", "dc", |center| condition(center, "EvictionsHeld").is_null()).await;
}

#[tokio::test]
async fn a30b_evictions_are_ten_seconds_apart() {
    let (site, _agents) = site("a30b-pace", "NoExecute", &["w1", "w2", "w3", "w4", "w5"]).await;
    cut_off(&site, &["w1", "w2"]);
    let mut times = Vec::new();
    for host in ["w1", "w2"] {
        let node = site.until_node("tainted", host, tainted("NoExecute")).await;
        times.push(our_taint(&node).and_then(|taint| taint.time_added.clone()).unwrap().0.as_second());
    }
    assert!(times[0].abs_diff(times[1]) >= 10, "{times:?}");
    assert!(PATIENCE.as_secs() > 20, "two tests evict at a time");
}

#[tokio::test]
async fn a30b_silent_agent_leaves_condition_and_taint_unchanged() {
    let (site, agents) = site("a30b-unknown", "NoSchedule", &["w1", "w2"]).await;
    cut_off(&site, &["w1"]);
    site.until_node("reported", "w1", says("False", "StorageUnreachable")).await;
    let before = site.until_node("tainted", "w1", tainted("NoSchedule")).await;
    agents.kill();
    for host in ["w1", "w2"] {
        site.until_phase(host, "Unknown").await;
    }
    let after = site.until_node("as before", "w1", says("False", "StorageUnreachable")).await;
    assert_eq!(taints(&after).collect::<Vec<_>>(), taints(&before).collect::<Vec<_>>());
    let other = site.until_node("as before", "w2", says("True", "TargetsReachable")).await;
    assert!(untainted(&other));
}

#[tokio::test]
async fn a30b_host_with_a_working_retained_session_is_not_tainted() {
    let faults = "faults: [{interface: ens2, fault: Unreachable}]";
    let (site, _agents) = site_with("a30b-retained", "NoSchedule", &["w1", "w2"], faults).await;
    site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-b"]}})).await;
    let kept = ["10.0.1.10:3260 ens1 Retained", "10.0.2.10:3260 ens2 Failed"];
    let host = site.until("kept", "Host", "w1", |host| phase(host) == "NonOperational" && paths(host) == kept).await;
    let node = site.until_node("reported", "w1", says("False", "StorageUnreachable")).await;
    assert!(untainted(&node), "its pods' I/O works");
    assert_eq!(condition(&host, "Operational")["status"], "False");
}

#[tokio::test]
async fn a30b_foreign_taints_survive_concurrent_changes_of_our_taint() {
    let (site, _agents) = site("a30b-others", "NoSchedule", &["w1", "w2"]).await;
    let keys: Vec<String> = (0..20).map(|number| format!("example.com/taint-{number:02}")).collect();
    let others = async {
        for key in &keys {
            site.taint_node("w1", key).await;
        }
    };
    let ours = async {
        for _ in 0..3 {
            cut_off(&site, &["w1"]);
            site.until_node("tainted", "w1", tainted("NoSchedule")).await;
            cut_off(&site, &[]);
            site.until_node("untainted", "w1", untainted).await;
        }
    };
    tokio::join!(others, ours);
    let node = site.until_node("fine", "w1", says("True", "TargetsReachable")).await;
    assert!(untainted(&node));
    // The API server adds a taint of its own to a new Node.
    let examples = taints(&node).filter(|taint| taint.key.starts_with("example.com/"));
    assert_eq!(examples.map(|taint| taint.key.clone()).collect::<Vec<_>>(), keys);
}

#[tokio::test]
async fn agent_lease_is_deleted_after_both_node_and_host() {
    let (site, agents) = site("lease", "None", &["w1", "w2"]).await;
    let leases: Api<Lease> = Api::namespaced(site.client.clone(), SYSTEM);
    agents.kill();
    site.delete_node("w1").await;
    for host in ["w1", "w2"] {
        site.until_phase(host, "Unknown").await;
        assert!(leases.get_opt(&format!("agent-{}", site.node(host))).await.unwrap().is_some(), "{host} has its Host");
        site.delete("Host", host).await;
        site.until_gone("Host", host).await;
    }
    eventually("the lease of w1 is gone", PATIENCE, async || {
        let lease = leases.get_opt(&format!("agent-{}", site.node("w1"))).await.map_err(|error| error.to_string())?;
        lease.map_or(Ok(()), |lease| Err(format!("{lease:?}")))
    })
    .await;
    let other = leases.get_opt(&format!("agent-{}", site.node("w2"))).await.unwrap();
    assert!(other.is_some(), "the Node of w2 is there, and its agent may come back");
}
