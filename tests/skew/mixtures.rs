//! A69: every mixture of the first version and this one, upgrade and rollback, in every state of a host.

use std::{collections::BTreeMap, env, fs, path::Path};

use multibond_testbed::site::{condition, our_taint, paths, phase, ready, reason};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, Mixture},
    data_centers::{DATA_CENTERS, NODES, declare, is_in_state},
    site::Site,
    version::Version,
};

/// The sessions of all hosts, with their numbers: a session that was made again has another one.
fn sessions(site: &Site) -> BTreeMap<&'static str, Value> {
    NODES.iter().filter(|name| **name != "edited").map(|name| (*name, site.held(name))).collect()
}

/// What a host has lost since when.
fn lost_since(host: &Value) -> Value {
    host["status"]["targets"][0]["lostAt"].clone()
}

/// Records the objects with the statuses that they have, for `tests/planner/older.rs`.
async fn record(site: &Site) {
    let all = site
        .kubectl(
            &[
                "get",
                "datacenters.multibond.dev,networks.multibond.dev,iscsibonds.multibond.dev,hosts.multibond.dev",
                "-o",
                "json",
            ],
            "",
        )
        .await;
    let mut all: Value = serde_json::from_str(&all.replace(&site.namespace, "site")).unwrap();
    for object in all["items"].as_array_mut().unwrap() {
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.retain(|key, _| ["name", "namespace", "generation", "creationTimestamp"].contains(&key.as_str()));
    }
    let lines: Vec<String> = all["items"].as_array().unwrap().iter().map(Value::to_string).collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/planner/first-version.json");
    fs::write(file, format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
}

/// Every object is followed: nothing is Frozen, and an edit reaches the host and comes back.
async fn until_an_edit_is_followed(site: &Site, round: usize) {
    for name in DATA_CENTERS {
        site.patch("DataCenter", name, json!({"spec": {"description": format!("round {round}")}})).await;
    }
    for name in DATA_CENTERS {
        let follows = |center: &Value| {
            reason(center, "Ready") != "Frozen"
                && center["status"]["observedGeneration"] == center["metadata"]["generation"]
        };
        site.until("followed", "DataCenter", name, follows).await;
    }
    for networks in [vec!["edited-a"], vec!["edited-a", "edited-b"]] {
        site.patch("IscsiBond", "edited", json!({"spec": {"networks": networks}})).await;
        site.until("followed", "IscsiBond", "edited", ready).await;
        let connected = |host: &Value| {
            phase(host) == "Up"
                && ready(host)
                && paths(host).len() == networks.len()
                && paths(host).iter().all(|path| path.ends_with("Connected"))
        };
        site.until("connected by the plan", "Host", "edited", connected).await;
    }
}

/// Every host shows its state, and so does its Node.
async fn until_all_are_in_their_states(site: &Site) {
    for name in NODES {
        site.until("in its state", "Host", name, |host| is_in_state(name, host)).await;
    }
    site.until_node("tainted", "down", |node| our_taint(node).is_some()).await;
}

/// Whether a target of a host is held.
fn holds(host: &Value) -> bool {
    host["status"]["plan"]["hold"].as_array().is_some_and(|targets| !targets.is_empty())
}

/// A half-mistyped bond under a controller of this version: no agent logs anything out.
async fn until_a_typo_is_held(site: &Site) {
    let before = site.held("edited");
    site.patch("IscsiBond", "edited", json!({"spec": {"networks": ["edited-a", "editedb"]}})).await;
    let named = |bond: &Value| condition(bond, "NetworksResolved")["status"] == "False";
    site.until("the typo is named", "IscsiBond", "edited", named).await;
    let followed = |host: &Value| {
        let (plan, agent) = (&host["status"]["plan"], &host["status"]["agent"]);
        holds(host) && plan["revision"] == agent["observedRevision"]
    };
    let held = site.until("held", "Host", "edited", followed).await;
    assert_eq!(phase(&held), "Up");
    site.patch("IscsiBond", "edited", json!({"spec": {"networks": ["edited-a", "edited-b"]}})).await;
    site.until("not held", "Host", "edited", |host| !holds(host) && ready(host)).await;
    assert_eq!(site.held("edited"), before);
}

/// What an agent of this version reports and the first version does not know; its successor replaces it.
async fn report_a_finding(site: &Site) {
    let finding = json!({"reason": "ForeignSession", "message": "a session of others"});
    let status = json!({"status": {"agent": {"findings": [finding]}}}).to_string();
    let arguments = ["patch", "hosts.multibond.dev", "up", "--subresource=status", "--type=merge", "-p", &status];
    site.kubectl(&arguments, "").await;
}

#[tokio::test]
async fn a69_no_mixture_of_versions_loses_a_session_or_a_verdict() {
    let (first, current) = (Version::first(), Version::current());
    let mut cluster = Cluster::install(Mixture::all(first), &NODES).await;
    declare(&cluster.site).await;
    until_all_are_in_their_states(&cluster.site).await;
    let before = sessions(&cluster.site);
    let since = lost_since(&cluster.site.get("Host", "lost").await);
    let events = cluster.site.events("Host", "up").await;
    if env::var_os("BLESS").is_some() {
        record(&cluster.site).await;
    }
    assert!(since.is_string(), "{since}");

    for (round, (chart, controller, agents)) in [
        (first, first, first),
        // The upgrade: CRDs and policies come first, then pods, in any order.
        (current, first, first),
        (current, first, current),
        (current, current, first),
        (current, current, current),
        // The rollback: CRDs and policies go back first.
        (first, current, current),
        (first, current, first),
        (first, first, current),
        (first, first, first),
        (current, current, current),
    ]
    .into_iter()
    .enumerate()
    {
        let mixture = Mixture { chart, controller, agents };
        println!("{}", mixture.describe());
        cluster.become_mixture(mixture).await;
        let site = &cluster.site;
        if chart.name == current.name {
            report_a_finding(site).await;
        }
        until_an_edit_is_followed(site, round).await;
        until_all_are_in_their_states(site).await;
        if controller.name == current.name {
            until_a_typo_is_held(site).await;
        }
        assert_eq!(sessions(site), before, "{}", mixture.describe());
        assert_eq!(lost_since(&site.get("Host", "lost").await), since, "{}", mixture.describe());
    }

    let site = &cluster.site;
    site.faults("faults: []");
    for name in ["lost", "degraded", "down"] {
        site.until("back", "Host", name, |host| phase(host) == "Up" && ready(host)).await;
    }
    assert_eq!(sessions(site)["lost"], before["lost"], "a session that was away is the same one");
    assert_eq!(site.events("Host", "up").await, events, "a host that was Up all the time has no news");
}
