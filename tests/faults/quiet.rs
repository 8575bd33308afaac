//! Which writes happen, and that no unnecessary ones do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Resource;
use multibond::planner::Objects;
use multibond_testbed::{ControlPlane, Write, eventually};
use serde_json::json;

use super::{
    alone,
    fixtures::{TWO_FABRICS, bond, hosts_on_both},
    replica::Replica,
    settled::{objects, until_settled},
    site::{PATIENCE, SYSTEM, Site, phase},
    two_hosts,
};

const IDLE: Duration = Duration::from_secs(60);
/// Two writes that follow from one change are never further apart than this.
const CALM: SignedDuration = SignedDuration::from_secs(4);

const HOST_IN_MAINTENANCE: &str = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w3}
spec: {dataCenter: dc, nodeName: '{ns}-w3', maintenance: true}
";

/// A second data center with a host, and another host of the first data center, on one network.
const BYSTANDERS: &str = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w3}
spec: {dataCenter: dc, nodeName: '{ns}-w3', interfaces: [{name: ens1, networks: [san-a]}]}
---
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: other}
spec: {storage: [{name: array, targets: [{iqn: 'iqn.2003-01.org.example:other', portals: [{address: 10.0.3.10}]}]}]}
---
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w4}
spec: {dataCenter: other, nodeName: '{ns}-w4'}
";

/// Enough that counts of paths, hosts and portals change many times during one edit.
const MANY: usize = 100;

/// The writes of the controller and the agents since then, without leases and `SelfSubjectReviews`.
fn our_writes(cluster: &ControlPlane, since: Timestamp) -> Vec<Write> {
    let account = format!("system:serviceaccount:{SYSTEM}:");
    let state = |write: &Write| !["leases", "selfsubjectreviews"].contains(&write.resource.as_str());
    let writes = cluster.writes().unwrap().into_iter();
    writes.filter(|write| write.at >= since && write.user.starts_with(&account) && state(write)).collect()
}

async fn until_no_writes(cluster: &ControlPlane) {
    eventually("no more writes", PATIENCE, async || match our_writes(cluster, Timestamp::MIN).pop() {
        Some(last) if Timestamp::now().duration_since(last.at) < CALM => Err(format!("{last:?}")),
        _ => Ok(()),
    })
    .await;
}

/// The versions of all objects of a site.
async fn versions(site: &Site) -> BTreeMap<String, Option<String>> {
    let Objects { data_centers, networks, bonds, hosts, .. } = objects(site).await.unwrap();
    let all = data_centers.iter().map(Resource::meta).chain(networks.iter().map(Resource::meta));
    let all = all.chain(bonds.iter().map(Resource::meta)).chain(hosts.iter().map(Resource::meta));
    all.map(|meta| (meta.uid.clone().unwrap(), meta.resource_version.clone())).collect()
}

/// How often each host's status was written, by the controller and by agents.
fn status_writes(writes: &[Write]) -> BTreeMap<String, (usize, usize)> {
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    for write in writes.iter().filter(|write| write.resource == "hosts") {
        let (controller, agents) = counts.entry(write.name.clone()).or_default();
        *(if write.user.ends_with("controller") { controller } else { agents }) += 1;
    }
    counts
}

#[tokio::test]
async fn a21_second_apply_and_an_idle_minute_write_only_leases() {
    let (cluster, _turn) = alone().await;
    let site = Site::on(cluster, "idle").await;
    let controller = Replica::start(cluster, "controller").await;
    site.faults(
        "faults: [{host: w2, portal: '10.0.2.10:3260', fault: Unreachable}, {host: w1, interface: ens2, fault: Timeout}]",
    );
    let _agents = site.agents(&["w1", "w2", "w3"]).await;
    let manifests = [&two_hosts(), HOST_IN_MAINTENANCE].concat();
    site.apply(&manifests).await;
    for (host, wanted) in [("w1", "Degraded"), ("w2", "Degraded"), ("w3", "Maintenance")] {
        site.until_phase(host, wanted).await;
    }
    until_no_writes(cluster).await;

    let (begun, before) = (Timestamp::now(), versions(&site).await);
    site.apply(&manifests).await;
    // The test measures an idle minute, so it sleeps.
    tokio::time::sleep(IDLE).await;
    assert_eq!(our_writes(cluster, begun), []);
    assert_eq!(versions(&site).await, before);
    let log = controller.process.log();
    assert!(!log.contains("WARN"), "a watch must last without news: {log}");
}

#[tokio::test]
async fn bond_edit_writes_each_changed_host_twice_and_no_other_host() {
    let (cluster, _turn) = alone().await;
    let site = Site::on(cluster, "cost").await;
    let _controller = Replica::start(cluster, "controller").await;
    let _agents = site.agents(&["w1", "w2", "w3", "w4"]).await;
    site.apply(&[&two_hosts(), BYSTANDERS].concat()).await;
    site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a"]}})).await;
    until_settled(&site).await;
    until_no_writes(cluster).await;

    let edits = [
        ("a network more", json!({"networks": ["san-a", "san-b"]}), &["w1", "w2"][..]),
        ("a network less", json!({"networks": ["san-b"]}), &["w1", "w2", "w3"]),
        ("another description", json!({"description": "both fabrics"}), &[]),
    ];
    for (edit, spec, changed) in edits {
        let begun = Timestamp::now();
        site.patch("IscsiBond", "storage", json!({"spec": spec})).await;
        until_settled(&site).await;
        until_no_writes(cluster).await;
        let writes = our_writes(cluster, begun);
        let counts = status_writes(&writes);
        println!("{edit}: {counts:?}, {} writes in all", writes.len());
        assert_eq!(counts.keys().collect::<Vec<_>>(), changed, "{edit}: {writes:#?}");
        for (host, (controller, agent)) in counts {
            assert!(controller <= 2 && agent <= 2, "{edit}: {host}: {writes:#?}");
        }
        assert!(!writes.iter().any(|write| write.resource == "nodes" || write.code >= 400), "{edit}: {writes:#?}");
    }
    assert_eq!(phase(&site.get("Host", "w4").await), "Up");
}

/// What is counted, said and shown about many hosts costs no writes of its own for each of them. No lease ends, however slow this
/// machine is: a host whose agent seems silent would be written once more.
#[tokio::test]
async fn an_edit_of_a_hundred_hosts_writes_each_twice_and_no_event() {
    let (cluster, _turn) = alone().await;
    let site = Site::on(cluster, "many").await.with_patient_leases();
    let controller = Replica::prepare(cluster, "controller").await.start_with_lease(["1m", "50s"]);
    let names: Vec<String> = (0..MANY).map(|number| format!("w{number}")).collect();
    let _agents = site.agents(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut yaml = [TWO_FABRICS, &bond("san-a, san-b")].concat();
    yaml += &hosts_on_both(&names);
    site.apply(&yaml).await;
    until_settled(&site).await;
    until_no_writes(cluster).await;

    for networks in [&["san-a"][..], &["san-a", "san-b"]] {
        let begun = Timestamp::now();
        site.patch("IscsiBond", "storage", json!({"spec": {"networks": networks}})).await;
        until_settled(&site).await;
        until_no_writes(cluster).await;
        let writes = our_writes(cluster, begun);
        let counts = status_writes(&writes);
        assert_eq!(counts.len(), MANY, "{networks:?}");
        assert!(
            counts.values().all(|(controller, agents)| *controller <= 2 && *agents <= 2),
            "{networks:?}: {counts:?}"
        );
        // How often the others are written depends on how long the edit takes; that they are few does not.
        let others =
            writes.iter().filter(|write| write.resource != "hosts").map(|write| (&*write.resource, &*write.name));
        let others: BTreeSet<_> = others.collect();
        let known = [("datacenters", "dc"), ("iscsibonds", "storage"), ("networks", "san-a"), ("networks", "san-b")];
        assert!(others.is_subset(&known.into()), "{networks:?}: {others:?}");
        assert!(writes.iter().all(|write| write.code < 400), "{networks:?}: {writes:#?}");
    }
    // It gives its lease back, so that the next test need not wait for the end of it.
    controller.process.term(PATIENCE).await.unwrap();
}
