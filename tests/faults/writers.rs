//! Concurrent writers of the same objects: no write is lost.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use multibond::api::NODE_TAINT;
use multibond_testbed::eventually;
use serde_json::{Value, json};

use super::{
    alone,
    replica::Replica,
    settled::until_settled,
    site::{PATIENCE, Site},
    two_hosts,
};

const CUT: &str = "faults: [{host: w1, fault: Unreachable}]";
const WRITES: usize = 40;

/// Cuts and restores w1's paths while `other` runs, so that its agent and the controller keep writing.
async fn while_flapping<T>(site: &Site, other: impl Future<Output = T>) -> T {
    let flap = async {
        for faults in [CUT, "faults: []"].into_iter().cycle() {
            site.faults(faults);
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    };
    let done = tokio::select! {
        done = other => done,
        () = flap => unreachable!("it goes on for ever"),
    };
    site.faults("faults: []");
    done
}

/// The top-level status fields that a field manager owns.
fn status_fields<'a>(object: &'a Value, manager: &str) -> BTreeSet<&'a str> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
    let of_status = entries.filter(|entry| entry["manager"] == manager && entry["subresource"] == "status");
    of_status.flat_map(|entry| entry["fieldsV1"]["f:status"].as_object().unwrap().keys().map(String::as_str)).collect()
}

#[tokio::test]
async fn concurrent_writes_of_users_agents_and_controller_are_all_kept() {
    let (cluster, _turn) = alone().await;
    let site = Site::on(cluster, "writers").await;
    let _controller = Replica::start(cluster, "controller").await;
    let _agents = site.agents(&["w1", "w2"]).await;
    site.apply(&two_hosts()).await;
    site.until_phase("w1", "Up").await;

    let user = async |label: &str| {
        for count in 1..=WRITES {
            site.patch("Host", "w1", json!({"metadata": {"labels": {label: count.to_string()}}})).await;
        }
    };
    let moves = async {
        for count in 1..=WRITES {
            let device = format!("ens{}", 1 + count % 2);
            let interfaces = json!([{"name": device, "networks": ["san-a", "san-b"]}]);
            site.patch("Host", "w1", json!({"spec": {"interfaces": interfaces}})).await;
        }
    };
    let users = join_all(["ann", "bob", "eve"].map(user));
    while_flapping(&site, async { tokio::join!(users, moves) }).await;
    until_settled(&site).await;

    let host = site.get("Host", "w1").await;
    let last = WRITES.to_string();
    assert_eq!(host["metadata"]["labels"], json!({"ann": last, "bob": last, "eve": last}));
    assert_eq!(host["spec"]["interfaces"], json!([{"name": "ens1", "networks": ["san-a", "san-b"]}]));
    let controllers = status_fields(&host, "multibond-controller");
    let agents = status_fields(&host, "multibond-agent");
    assert!(controllers.contains("f:plan") && agents.contains("f:connections"), "{controllers:?} {agents:?}");
    assert!(controllers.is_disjoint(&agents), "{controllers:?} {agents:?}");
    let managers = host["metadata"]["managedFields"].as_array().unwrap().iter();
    let of_status = managers.filter(|entry| entry["subresource"] == "status").count();
    assert_eq!(of_status, 2, "{host:#}");
}

#[tokio::test]
async fn a30b_foreign_taints_added_while_our_taint_changes_are_kept() {
    let (cluster, _turn) = alone().await;
    let site = Site::on(cluster, "taints").await;
    let _controller = Replica::start(cluster, "controller").await;
    let _agents = site.agents(&["w1", "w2"]).await;
    site.apply(&two_hosts()).await;
    let spec = json!({"nonOperationalAfterSeconds": 0, "nonOperationalTaint": "NoSchedule"});
    site.patch("DataCenter", "dc", json!({"spec": spec})).await;
    site.until_phase("w1", "Up").await;
    let nodes: Api<Node> = Api::all(site.client.clone());
    let (node, parameters) = (site.node("w1"), PatchParams::default());
    let taint = |number: usize| json!({"key": format!("example.com/{number}"), "effect": "PreferNoSchedule"});
    nodes.patch(&node, &parameters, &Patch::Merge(json!({"spec": {"taints": [taint(0)]}}))).await.unwrap();

    let others = async {
        for number in 1..=WRITES {
            let step = json!([{"op": "add", "path": "/spec/taints/-", "value": taint(number)}]);
            let step = Patch::<Node>::Json(serde_json::from_value(step).unwrap());
            nodes.patch(&node, &parameters, &step).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    while_flapping(&site, others).await;
    let keys = async || -> BTreeSet<String> {
        let taints: Vec<Taint> = nodes.get(&node).await.unwrap().spec.unwrap().taints.unwrap_or_default();
        taints.into_iter().map(|taint| taint.key).collect()
    };
    let theirs: BTreeSet<String> = (0..=WRITES).map(|number| format!("example.com/{number}")).collect();
    eventually("all taints of others, and not ours", PATIENCE, async || {
        let found = keys().await;
        if found == theirs { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    site.faults(CUT);
    eventually("ours beside them", PATIENCE, async || {
        let mut found = keys().await;
        if found.remove(NODE_TAINT) && found == theirs { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a14_deleted_network_leaves_a_bond_that_is_being_edited() {
    let (cluster, _turn) = alone().await;
    let site = Site::on(cluster, "drop").await;
    let _controller = Replica::start(cluster, "controller").await;
    let _agents = site.agents(&["w1", "w2"]).await;
    site.apply(&two_hosts()).await;
    site.until_phase("w1", "Up").await;

    let bonds = site.api("IscsiBond").await;
    let adds = async {
        for number in 1..=WRITES {
            let step = json!([{"op": "add", "path": "/spec/networks/0", "value": format!("net-{number}")}]);
            let step = Patch::<Value>::Json(serde_json::from_value(step).unwrap());
            bonds.patch("storage", &PatchParams::default(), &step).await.unwrap();
        }
    };
    tokio::join!(adds, site.delete("Network", "san-a"));
    site.until_gone("Network", "san-a").await;
    let bond = site.get("IscsiBond", "storage").await;
    let networks: BTreeSet<&str> =
        bond["spec"]["networks"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let added: Vec<String> = (1..=WRITES).map(|number| format!("net-{number}")).collect();
    assert_eq!(networks, added.iter().map(String::as_str).chain(["san-b"]).collect());
}
