//! Deleting a data center deletes its bonds, networks and made Hosts; users' Hosts stay.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use multibond_testbed::eventually;
use rstest::rstest;
use serde_json::{Value, json};

use super::{
    fixtures::{HOST_ON_BOTH, TWO_FABRICS, bond},
    site::{PATIENCE, Site, paths, phase, ready, reason, sessions},
};

const A: &str = "10.0.1.10:3260 ens1 Connected";
const B: &str = "10.0.2.10:3260 ens2 Connected";

/// Another data center in the same namespace, with a host of its own.
const NEIGHBOUR: &str = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: neighbour}
spec:
  storage:
  - {name: array, targets: [{iqn: 'iqn.2003-01.org.example:other', portals: [{address: 10.0.9.10}]}]}
---
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-n}
spec: {dataCenter: neighbour, subnets: [10.0.9.0/24]}
---
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: neighbours}
spec: {dataCenter: neighbour, networks: [san-n]}
---
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: n1}
spec: {dataCenter: neighbour, nodeName: '{ns}-n1', interfaces: [{name: ens1, networks: [san-n]}]}
---
";

/// A data center with a user's Host and a made Host, both connected.
async fn connected(name: &str) -> (Site, multibond_testbed::Process) {
    connected_with(name, "faults: []").await
}

async fn connected_with(name: &str, faults: &str) -> (Site, multibond_testbed::Process) {
    let site = Site::new(name).await;
    site.faults(faults);
    let agents = site.agents(&["w1", "made", "n1"]).await;
    site.label_node("made", json!({"site": site.namespace})).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, NEIGHBOUR, &bond("san-a, san-b")].concat()).await;
    let making = json!({"nodeSelector": {"matchLabels": {"site": site.namespace}}});
    site.patch("DataCenter", "dc", json!({"spec": {"hosts": making}})).await;
    site.until("connected", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;
    site.until_phase(&site.node("made"), "Up").await;
    site.until("connected", "Host", "n1", |host| phase(host) == "Up" && ready(host)).await;
    (site, agents)
}

async fn all_gone(site: &Site) {
    for (kind, name) in [("IscsiBond", "storage"), ("Network", "san-a"), ("Network", "san-b"), ("DataCenter", "dc")] {
        site.until_gone(kind, name).await;
    }
    site.until_gone("Host", &site.node("made")).await;
}

/// The one Event says what was deleted with the data center.
async fn nothing_has_timed_out(site: &Site) {
    let events = site.events("DataCenter", "dc").await;
    let about: Vec<_> = events.iter().filter_map(|event| event.split(':').next()).collect();
    let made = about.iter().filter(|about| **about != "Normal HostsCreated");
    assert_eq!(made.collect::<Vec<_>>(), [&"Normal MembersDeleted"], "{events:#?}");
}

fn unassigned(host: &Value) -> bool {
    phase(host) == "Unassigned" && reason(host, "Ready") == "DataCenterNotFound" && paths(host).is_empty()
}

#[rstest]
#[case::the_usual_way("background")]
#[case::in_the_foreground("foreground")]
#[case::as_an_orphan("orphan")]
#[tokio::test]
async fn a15_data_center_deletion_removes_its_objects_and_keeps_users_hosts(#[case] cascade: &str) {
    let (site, _agents) = connected(&format!("a15-{cascade}")).await;
    let neighbour = site.get("Host", "n1").await;
    for (kind, name) in [("Network", "san-a"), ("IscsiBond", "storage"), ("Host", "w1")] {
        assert_eq!(site.get(kind, name).await["metadata"]["ownerReferences"], Value::Null, "{kind}: not before");
    }

    let cascade = format!("--cascade={cascade}");
    site.kubectl(&["delete", "datacenter", "dc", &cascade, "--timeout=60s"], "").await;
    all_gone(&site).await;
    let host = site.until("left alone", "Host", "w1", unassigned).await;
    assert_eq!(host["metadata"]["ownerReferences"], Value::Null, "a user's Host has no owner");
    assert_eq!((site.held_sessions("w1"), site.held_sessions("made")), (vec![], vec![]));
    nothing_has_timed_out(&site).await;

    for (kind, name) in [("Network", "san-n"), ("IscsiBond", "neighbours"), ("DataCenter", "neighbour")] {
        assert_eq!(site.get(kind, name).await["metadata"]["deletionTimestamp"], Value::Null, "{kind} {name}");
    }
    let after = site.get("Host", "n1").await;
    assert_eq!(after["metadata"]["resourceVersion"], neighbour["metadata"]["resourceVersion"], "it is not touched");
}

#[tokio::test]
async fn a15_namespace_deletion_removes_all_objects_and_logs_out() {
    let (site, _agents) = connected("a15-namespace").await;
    site.kubectl(&["delete", "namespace", &site.namespace, "--wait=false"], "").await;
    let namespaces: Api<Namespace> = Api::all(site.client.clone());
    eventually("the namespace is gone", PATIENCE, async || {
        match namespaces.get_opt(&site.namespace).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(namespace) => Err(format!("{:?}", namespace.status.and_then(|status| status.conditions))),
        }
    })
    .await;
    for node in ["w1", "made", "n1"] {
        assert_eq!(site.held_sessions(node), [""; 0], "{node}");
    }
}

#[tokio::test]
async fn a15_sessions_in_use_are_retained_without_blocking_the_deletion() {
    let in_use = "faults: [{host: w1, interface: ens2, fault: InUse}]";
    let (site, _agents) = connected_with("a15-inuse", in_use).await;
    site.delete("DataCenter", "dc").await;
    all_gone(&site).await;
    let retained = ["10.0.2.10:3260 ens2 Retained"];
    let host =
        site.until("retained", "Host", "w1", |host| phase(host) == "Unassigned" && paths(host) == retained).await;
    assert_eq!(host["status"]["connections"][0]["reason"], "InUse");
    nothing_has_timed_out(&site).await;
    site.faults("faults: []");
    site.until("logged out when the use ends", "Host", "w1", |host| paths(host).is_empty()).await;
}

#[tokio::test]
async fn a15_deletion_owns_children_and_removes_those_applied_meanwhile() {
    let (site, agents) = connected("a15-late").await;
    let owned = |owner: Value| move |object: &Value| object["metadata"]["ownerReferences"][0]["uid"] == owner;
    let center = site.get("DataCenter", "dc").await;
    // The hosts do not acknowledge, so the deletion takes a while.
    agents.pause().unwrap();
    site.delete("DataCenter", "dc").await;
    let network = site.until("owned", "Network", "san-a", owned(center["metadata"]["uid"].clone())).await;
    assert_eq!(network["metadata"]["ownerReferences"][0]["blockOwnerDeletion"], true);
    let late = "
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: late-network}
spec: {dataCenter: dc}
---
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: late-bond}
spec: {dataCenter: dc, networks: [late-network]}
";
    site.apply(late).await;
    // The agents' leases expire, and the deletion does not wait for silent hosts.
    all_gone(&site).await;
    site.until_gone("Network", "late-network").await;
    site.until_gone("IscsiBond", "late-bond").await;
    nothing_has_timed_out(&site).await;

    agents.resume().unwrap();
    site.until("left alone", "Host", "w1", unassigned).await;
}

#[tokio::test]
async fn a15_dead_agents_do_not_block_the_deletion() {
    let (site, agents) = connected("a15-dead").await;
    agents.kill();
    site.delete("DataCenter", "dc").await;
    all_gone(&site).await;
    nothing_has_timed_out(&site).await;
    assert_eq!(site.held_sessions("w1"), ["10.0.1.10:3260", "10.0.2.10:3260"], "no agent ran that could log out");

    let _agents = site.simulate();
    site.until("logged out by the next agent", "Host", "w1", unassigned).await;
    assert_eq!(site.held_sessions("w1"), [""; 0]);
}

#[tokio::test]
async fn a15_recreated_data_center_connects_its_hosts_again() {
    let (site, _agents) = connected("a15-again").await;
    let before = site.get("Host", "w1").await;
    site.kubectl(&["delete", "datacenter", "dc", "--timeout=60s"], "").await;
    site.apply(&[TWO_FABRICS, &bond("san-a, san-b")].concat()).await;
    let again = |host: &Value| paths(host) == [A, B] && ready(host) && sessions(host) != sessions(&before);
    site.until("connected again", "Host", "w1", again).await;
    let bond = site.until("Ready", "IscsiBond", "storage", ready).await;
    assert_eq!(bond["metadata"]["ownerReferences"], Value::Null);
}
