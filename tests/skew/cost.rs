//! What one edit of many hosts costs in writes, by either version.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use multibond_testbed::{
    eventually,
    site::{PATIENCE, SYSTEM, phase, ready},
};
use serde_json::json;

use super::{
    cluster::{Cluster, Mixture},
    site::{
        Site,
        fixtures::{TWO_FABRICS, bond, hosts_on_both},
    },
    version::Version,
};

const HOSTS: usize = 100;
/// Two writes that follow from one change are never further apart than this.
const CALM: SignedDuration = SignedDuration::from_secs(6);

/// The successful writes since then, by the kind of writer and the resource; leases are left out.
fn writes(site: &Site, since: Timestamp) -> BTreeMap<String, usize> {
    let account = format!("system:serviceaccount:{SYSTEM}:multibond-");
    let mut counts = BTreeMap::new();
    for write in site.cluster.writes().unwrap() {
        let Some(who) = write.user.strip_prefix(&account) else { continue };
        if write.at >= since && write.resource.as_str() != "leases" {
            *counts.entry(format!("{who} {}", write.resource)).or_default() += 1;
        }
    }
    counts
}

async fn until_calm(site: &Site) {
    eventually("no more writes", PATIENCE, async || {
        let late = writes(site, Timestamp::now() - CALM);
        if late.values().sum::<usize>() == 0 { Ok(()) } else { Err(format!("{late:?}")) }
    })
    .await;
}

/// A network is removed from the bond of many hosts, and added again: the writes of both edits.
async fn edits(version: &'static Version) -> BTreeMap<String, usize> {
    let names: Vec<String> = (0..HOSTS).map(|number| format!("w{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cluster = Cluster::install(Mixture::all(version), &names).await;
    let site = &cluster.site;
    let mut yaml = [TWO_FABRICS, &bond("san-a, san-b")].concat();
    yaml += &hosts_on_both(&names);
    site.apply(&yaml).await;
    for name in &names {
        site.until("Up", "Host", name, |host| phase(host) == "Up" && ready(host)).await;
    }
    until_calm(site).await;
    let since = Timestamp::now();
    for networks in [&["san-a"][..], &["san-a", "san-b"]] {
        site.patch("IscsiBond", "storage", json!({"spec": {"networks": networks}})).await;
        site.until("followed", "IscsiBond", "storage", ready).await;
        until_calm(site).await;
    }
    let written = writes(site, since);
    println!("{} version, two edits of {HOSTS} hosts: {written:?}", version.name);
    written
}

#[tokio::test]
async fn one_edit_of_many_hosts_costs_no_more_writes_than_before() {
    let (before, now) = (edits(Version::first()).await, edits(Version::current()).await);
    for (what, count) in &now {
        let allowed = before.get(what).copied().unwrap_or_default();
        // Statuses of bonds and data centers are batched by time, so a slow machine has some more.
        let chance = if what.ends_with("hosts") { HOSTS / 10 } else { 20 };
        assert!(*count <= allowed + chance, "{what}: {count}, {allowed} before");
    }
}
