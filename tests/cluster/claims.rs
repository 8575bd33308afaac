//! Which Host owns a node; Hosts that move between data centers, and Hosts that are deleted.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::DeleteParams};
use multibond_testbed::eventually;
use serde_json::{Value, json};

use super::{
    fixtures::{HOST_ON_BOTH, TWO_FABRICS, bond},
    site::{PATIENCE, SYSTEM, Site, paths, phase, ready, reason, sessions},
};

const A: &str = "10.0.1.10:3260 ens1 Connected";
const B: &str = "10.0.2.10:3260 ens2 Connected";
const BOTH: &str = "[{name: ens1, networks: [san-a]}, {name: ens2, networks: [san-b]}]";

async fn connected(name: &str) -> (Site, multibond_testbed::Process, Value) {
    connected_with(name, "faults: []").await
}

async fn connected_with(name: &str, faults: &str) -> (Site, multibond_testbed::Process, Value) {
    let site = Site::new(name).await;
    site.faults(faults);
    let agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    let host = site.until("connected", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;
    (site, agents, host)
}

fn host(name: &str, node: &str) -> String {
    format!(
        "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {{name: {name}}}
spec: {{dataCenter: dc, nodeName: '{node}', interfaces: {BOTH}}}
"
    )
}

fn claimed(by: String) -> impl Fn(&Value) -> bool {
    move |host| {
        let ready = super::site::condition(host, "Ready");
        phase(host) == "Unassigned" && ready["reason"] == "NodeClaimed" && ready["message"].to_string().contains(&by)
    }
}

/// Creation times are whole seconds. After this wait, a new object has a later creation time.
async fn second_is_over(object: &Value) {
    let created: Timestamp = object["metadata"]["creationTimestamp"].as_str().unwrap().parse().unwrap();
    let next = created.as_second() + 1;
    let now = || Timestamp::now().as_second();
    eventually("the next second", PATIENCE, async || if now() >= next { Ok(()) } else { Err(now()) }).await;
}

#[tokio::test]
async fn a28_older_host_owns_the_node_and_the_younger_takes_over_its_sessions() {
    let (site, _agents, older) = connected("a28").await;
    let (winner, node) = (format!("{}/w1", site.namespace), site.node("w1"));
    // Its name sorts first, so that only the age can decide.
    second_is_over(&older).await;
    site.apply(&host("a-younger", &node)).await;
    let younger = site.until("claimed", "Host", "a-younger", claimed(winner)).await;
    assert_eq!(younger["status"]["plan"], Value::Null, "it gets no plan while another Host owns the node");
    let same = site.get("Host", "w1").await;
    assert_eq!((paths(&same), sessions(&same)), (paths(&older), sessions(&older)));

    site.delete("Host", "w1").await;
    site.until_gone("Host", "w1").await;
    let taken = site.until("taken over", "Host", "a-younger", |host| paths(host) == [A, B] && ready(host)).await;
    assert_eq!(sessions(&taken), sessions(&older), "no session that both want was lost");
}

#[tokio::test]
async fn a28_node_ownership_passes_between_hosts_of_two_namespaces() {
    let (first, _agents, before) = connected("a28-first").await;
    let second = Site::new("a28-second").await;
    let node = first.node("w1");
    second.apply(&[TWO_FABRICS, &bond("san-a"), &host("w1", &node)].concat()).await;
    second.until("claimed", "Host", "w1", claimed(format!("{}/w1", first.namespace))).await;

    first.delete("Host", "w1").await;
    first.until_gone("Host", "w1").await;
    let after = second.until("taken over", "Host", "w1", |host| paths(host) == [A] && ready(host)).await;
    assert_eq!(sessions(&after), [sessions(&before)[0]], "what both want is the same session");
    assert_eq!(first.held_sessions("w1"), ["10.0.1.10:3260"], "what only the first wanted is gone");

    // The Host is created again. It is now the younger one and waits.
    second_is_over(&after).await;
    first.apply(&host("w1", &node)).await;
    first.until("claimed", "Host", "w1", claimed(format!("{}/w1", second.namespace))).await;
    second.delete("DataCenter", "dc").await;
    second.until_gone("DataCenter", "dc").await;
    second.until("Unassigned", "Host", "w1", |host| phase(host) == "Unassigned" && paths(host).is_empty()).await;
    second.delete("Host", "w1").await;
    first.until("connected again", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;
}

#[tokio::test]
async fn a28_deleting_a_host_without_its_node_does_not_affect_the_owner() {
    let (site, agents, before) = connected("a28-loser").await;
    site.apply(&host("younger", &site.node("w1"))).await;
    site.until("claimed", "Host", "younger", |host| reason(host, "Ready") == "NodeClaimed").await;
    // No acknowledgement is needed.
    agents.pause().unwrap();
    site.delete("Host", "younger").await;
    site.until_gone("Host", "younger").await;
    agents.resume().unwrap();
    let after = site.until("as before", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;
    assert_eq!(sessions(&after), sessions(&before));
}

#[tokio::test]
async fn a28_deleting_both_hosts_of_a_node_logs_its_sessions_out() {
    let (site, _agents, _) = connected("a28-both").await;
    site.apply(&host("younger", &site.node("w1"))).await;
    site.until("claimed", "Host", "younger", |host| reason(host, "Ready") == "NodeClaimed").await;
    tokio::join!(site.delete("Host", "w1"), site.delete("Host", "younger"));
    tokio::join!(site.until_gone("Host", "w1"), site.until_gone("Host", "younger"));
    assert_eq!(site.held_sessions("w1"), [""; 0]);
}

#[tokio::test]
async fn a28_host_moves_between_data_centers_and_keeps_common_sessions() {
    let (site, _agents, before) = connected("a28-move").await;
    let other = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: other}
spec:
  storage:
  - name: array
    targets:
    - {iqn: 'iqn.2003-01.org.example:array', portals: [{address: 10.0.1.10}]}
    - {iqn: 'iqn.2003-01.org.example:new', portals: [{address: 10.0.9.10}]}
---
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: san-c}
spec: {dataCenter: other}
---
apiVersion: multibond.dev/v1alpha1
kind: IscsiBond
metadata: {name: others}
spec: {dataCenter: other, networks: [san-c]}
";
    site.apply(other).await;
    let moved = json!({"spec": {"dataCenter": "other", "interfaces": [{"name": "ens1", "networks": ["san-c"]}]}});
    site.patch("Host", "w1", moved).await;
    let paths_there = [A, "10.0.9.10:3260 ens1 Connected"];
    let after = site.until("moved", "Host", "w1", |host| paths(host) == paths_there && ready(host)).await;
    assert_eq!(after["status"]["dataCenter"], "other");
    assert_eq!(sessions(&after)[0], sessions(&before)[0], "what both data centers want is the same session");
    let total = |wanted: u64| move |center: &Value| center["status"]["hosts"]["total"] == wanted;
    site.until("left", "DataCenter", "dc", total(0)).await;
    site.until("joined", "DataCenter", "other", total(1)).await;
    site.until("counted", "IscsiBond", "others", |bond| bond["status"]["summary"]["hosts"] == "1/1").await;

    site.patch("Host", "w1", json!({"spec": {"dataCenter": "nowhere"}})).await;
    let nowhere = |host: &Value| phase(host) == "Unassigned" && reason(host, "Ready") == "DataCenterNotFound";
    site.until("nowhere", "Host", "w1", |host| nowhere(host) && paths(host).is_empty()).await;
}

#[tokio::test]
async fn a28_deleted_host_is_logged_out_first_and_can_be_created_again() {
    let (site, _agents, before) = connected("a28-delete").await;
    site.delete("Host", "w1").await;
    // Deleting twice is harmless.
    let _ = site.api("Host").await.delete("w1", &DeleteParams::default()).await;
    site.until_gone("Host", "w1").await;
    assert_eq!(site.held_sessions("w1"), [""; 0]);
    site.until("not counted", "DataCenter", "dc", |center| center["status"]["hosts"]["total"] == 0).await;

    site.apply(HOST_ON_BOTH).await;
    let after = site.until("connected", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
}

#[tokio::test]
async fn a28_deleted_host_leaves_sessions_in_use_and_reports_them() {
    let in_use = "faults: [{interface: ens2, fault: InUse}]";
    let (site, _agents, _) = connected_with("a28-inuse", in_use).await;
    site.delete("Host", "w1").await;
    site.until_gone("Host", "w1").await;
    assert_eq!(site.held_sessions("w1"), ["10.0.2.10:3260"]);
    let events = site.until_event("Host", "w1", "Warning SessionsLeft").await;
    let last = events.last().unwrap();
    for part in ["left on node a28-inuse-", "array 10.0.2.10:3260 through ens2, session ", "a simulated process"] {
        assert!(last.contains(part), "{part} in {last}");
    }
    assert!(!last.contains("10.0.1.10"), "what was logged out is not left: {last}");
    assert!(!events.iter().any(|event| event.contains("TimedOut")), "{events:#?}");

    site.faults("faults: []");
    eventually("nothing uses the device, and its session goes", PATIENCE, async || {
        let held = site.held_sessions("w1");
        if held.is_empty() { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a28_new_host_adopts_sessions_left_in_use_after_an_agent_restart() {
    let (site, agents, _) = connected_with("a28-left", "faults: [{interface: ens2, fault: InUse}]").await;
    site.delete("Host", "w1").await;
    site.until_gone("Host", "w1").await;
    agents.kill();
    site.faults("faults: []");
    let _agents = site.simulate();
    until_lease_is_renewed(&site, "w1").await;
    let left = site.held("w1");
    assert_eq!(site.held_sessions("w1"), ["10.0.2.10:3260"]);

    site.apply(HOST_ON_BOTH).await;
    site.until("connected", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;
    assert_eq!(site.held("w1")[0], left[0], "it is not logged out and made anew");
}

/// Waits until the agent of a node, just started, has renewed its lease for two seconds.
async fn until_lease_is_renewed(site: &Site, node: &str) {
    let leases: Api<Lease> = Api::namespaced(site.client.clone(), SYSTEM);
    let (name, begun) = (format!("agent-{}", site.node(node)), Timestamp::now());
    eventually("the agent renews its lease", PATIENCE, async || {
        let renewed = leases.get(&name).await.unwrap().spec.and_then(|spec| spec.renew_time);
        if renewed.as_ref().is_some_and(|at| at.0.duration_since(begun).as_secs() >= 2) {
            Ok(())
        } else {
            Err(format!("{renewed:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a28_host_without_a_live_agent_is_deleted_without_waiting() {
    let (site, agents, _) = connected("a28-dead").await;
    site.apply(&host("never", "no-such-node")).await;
    site.until_phase("never", "Unknown").await;
    agents.kill();
    tokio::join!(site.delete("Host", "w1"), site.delete("Host", "never"));
    tokio::join!(site.until_gone("Host", "w1"), site.until_gone("Host", "never"));
    let events = site.until_event("Host", "w1", "Warning SessionsLeft").await;
    assert!(events.last().unwrap().contains("because its agent is silent"), "{events:#?}");
    let timed_out = |events: &[String]| events.iter().filter(|event| event.contains("TimedOut")).count();
    assert_eq!(timed_out(&events), 0, "its lease has run out, which is waiting enough");
    let events = site.events("Host", "never").await;
    assert_eq!(timed_out(&events), 0);
    assert!(!events.iter().any(|event| event.contains("SessionsLeft")), "nothing was ever connected: {events:#?}");
}

#[tokio::test]
async fn a27_silent_agent_makes_its_host_unknown_and_blocks_no_deletion() {
    let (site, agents, before) = connected("a27").await;
    agents.pause().unwrap();
    let unknown = site.until_phase("w1", "Unknown").await;
    assert_eq!(reason(&unknown, "Operational"), "AgentSilent");
    assert_eq!(super::site::condition(&unknown, "Operational")["status"], "Unknown");
    assert_eq!(unknown["status"]["plan"], before["status"]["plan"], "not knowing takes nothing away");
    let names_it = |bond: &Value| {
        let fully = super::site::condition(bond, "FullyConnected");
        fully["reason"] == "AgentSilent" && fully["message"].to_string().contains("the first on w1")
    };
    site.until("names the host", "IscsiBond", "storage", names_it).await;
    agents.resume().unwrap();
    let back = site.until("back", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;
    assert_eq!(sessions(&back), sessions(&before));

    agents.pause().unwrap();
    site.until_phase("w1", "Unknown").await;
    site.delete("Network", "san-a").await;
    site.until_gone("Network", "san-a").await;
    site.delete("IscsiBond", "storage").await;
    site.until_gone("IscsiBond", "storage").await;
    site.delete("Host", "w1").await;
    site.until_gone("Host", "w1").await;
    site.delete("DataCenter", "dc").await;
    site.until_gone("DataCenter", "dc").await;
    for (kind, name) in [("Network", "san-a"), ("Host", "w1"), ("DataCenter", "dc")] {
        let events = site.events(kind, name).await;
        assert_eq!(events.iter().filter(|event| event.contains("TimedOut")).count(), 0, "{kind}: {events:?}");
    }
}
