//! Day two: an engine reverts changes by hand and prunes what left the repository; controller and engine do not fight.

use jiff::{SignedDuration, Timestamp};
use multibond_testbed::{Process, Write, eventually};
use serde_json::{Value, json};

use crate::engine::Repository;
use crate::fixtures::{A, B, DATA_CENTER_IN_FILES};
use crate::new_site;
use crate::site::{PATIENCE, Site, paths, ready, reason, sessions};

/// The longest time between two writes that one change causes.
const CALM: SignedDuration = SignedDuration::from_secs(4);
const KINDS: [(&str, &str); 5] =
    [("DataCenter", "dc"), ("Network", "san-a"), ("Network", "san-b"), ("Host", "w1"), ("IscsiBond", "storage")];

/// A healthy data center, applied from a repository.
async fn healthy(site: &Site) -> (Repository<'_>, Process) {
    let agents = site.agents(&["w1"]).await;
    let repository = Repository::new(site).await;
    repository.publish(&DATA_CENTER_IN_FILES).await;
    repository.kustomization("storage", "storage", json!({})).await;
    repository.until_ready("storage").await;
    assert_eq!(paths(&site.get("Host", "w1").await), [A, B], "it is ready before its paths are");
    (repository, agents)
}

/// All writes to the site's objects, by any user.
fn writes(site: &Site) -> Vec<Write> {
    let ours = |write: &Write| {
        write.namespace == site.namespace
            && ["datacenters", "networks", "hosts", "iscsibonds"].contains(&write.resource.as_str())
    };
    site.cluster.writes().unwrap().into_iter().filter(ours).collect()
}

async fn until_no_writes(site: &Site) {
    eventually("no more writes", PATIENCE, async || match writes(site).pop() {
        Some(last) if Timestamp::now().duration_since(last.at) < CALM => Err(format!("{last:?}")),
        _ => Ok(()),
    })
    .await;
}

async fn until_connected(site: &Site, what: &str) -> Value {
    site.until(what, "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await
}

#[tokio::test]
#[ignore = "its engine takes minutes to build: `make gitops` runs it"]
async fn a32_network_deleted_by_hand_is_restored_with_its_paths() {
    let site = new_site("a32-heal").await;
    let (repository, _agents) = healthy(&site).await;
    let before = until_connected(&site, "connected").await;
    let uid = site.get("Network", "san-b").await["metadata"]["uid"].clone();

    site.kubectl(&["delete", "network.multibond.dev", "san-b", "--timeout=60s"], "").await;
    let back = |network: &Value| ready(network) && network["metadata"]["uid"] != uid;
    let second = site.until("back", "Network", "san-b", back).await["metadata"]["uid"].clone();
    let after = until_connected(&site, "connected again").await;
    assert_eq!(sessions(&after)[0], sessions(&before)[0], "the other network's session is the same");

    // This deletion is slow, and the engine continues to apply during it.
    let finalizers = json!(["multibond.dev/disconnect", "example.com/hold"]);
    site.patch("Network", "san-b", json!({"metadata": {"finalizers": finalizers}})).await;
    site.delete("Network", "san-b").await;
    let not_found = |bond: &Value| {
        reason(bond, "Ready") == "NetworkNotFound" && bond["spec"]["networks"] == json!(["san-a", "san-b"])
    };
    site.until("reports that the network is being deleted", "IscsiBond", "storage", not_found).await;
    let held = |network: &Value| network["metadata"]["finalizers"] == json!(["example.com/hold"]);
    site.until("held by the foreign finalizer alone", "Network", "san-b", held).await;
    site.patch("Network", "san-b", json!({"metadata": {"finalizers": null}})).await;
    let back = |network: &Value| ready(network) && network["metadata"]["uid"] != second;
    site.until("back once more", "Network", "san-b", back).await;
    until_connected(&site, "connected once more").await;
    repository.reconcile("storage").await;
    assert_eq!(site.get("IscsiBond", "storage").await["spec"]["networks"], json!(["san-a", "san-b"]));
    let controllers = |write: &Write| write.user.ends_with(":multibond-controller") && write.code == 200;
    let specs = |write: &Write| write.resource == "iscsibonds" && write.subresource.is_empty();
    let dropped = writes(&site).into_iter().filter(|write| controllers(write) && specs(write)).count();
    assert_eq!(dropped, 2, "the name is taken out of the bond once for each deletion");
}

#[tokio::test]
#[ignore = "its engine takes minutes to build: `make gitops` runs it"]
async fn a32_a_field_that_is_edited_by_hand_is_put_back() {
    let site = new_site("a32-edit").await;
    let (_repository, _agents) = healthy(&site).await;
    let before = until_connected(&site, "connected").await;
    for networks in [r#"["san-a"]"#, r#"["san-a", "san-b", "san-c"]"#] {
        let generation = site.get("IscsiBond", "storage").await["metadata"]["generation"].as_u64().unwrap();
        let edit = format!(r#"{{"spec": {{"networks": {networks}}}}}"#);
        site.kubectl(&["patch", "iscsibond", "storage", "--type=merge", "-p", &edit], "").await;
        let put_back = |bond: &Value| {
            bond["metadata"]["generation"].as_u64().unwrap() >= generation + 2
                && bond["spec"]["networks"] == json!(["san-a", "san-b"])
                && ready(bond)
        };
        site.until("put back", "IscsiBond", "storage", put_back).await;
    }
    let after = until_connected(&site, "connected again").await;
    assert_eq!(sessions(&after)[0], sessions(&before)[0], "the path that stayed has the same session");
}

#[tokio::test]
#[ignore = "its engine takes minutes to build: `make gitops` runs it"]
async fn a32_maintenance_set_by_hand_stays_unless_the_repository_sets_it() {
    let site = new_site("a32-maintenance").await;
    let (repository, _agents) = healthy(&site).await;
    // As in examples/gitops/flux/data-centers.yaml.
    let merge = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Host", "metadata":
        {"name": "any", "annotations": {"kustomize.toolkit.fluxcd.io/ssa": "Merge"}}});
    let patches = json!({"patches": [{"target": {"kind": "Host"}, "patch": merge.to_string()}]});
    repository.kustomization("storage", "storage", patches).await;
    repository.until_ready("storage").await;
    for (maintenance, phase) in [("true", "Maintenance"), ("false", "Up")] {
        let edit = format!(r#"{{"spec": {{"maintenance": {maintenance}}}}}"#);
        site.kubectl(&["patch", "host.multibond.dev", "w1", "--type=merge", "-p", &edit], "").await;
        site.until_phase("w1", phase).await;
        repository.reconcile("storage").await;
        site.until_phase("w1", phase).await;
    }
}

#[tokio::test]
#[ignore = "its engine takes minutes to build: `make gitops` runs it"]
async fn a32_objects_removed_from_the_repository_are_deleted_with_paths() {
    let site = new_site("a32-prune").await;
    let (repository, _agents) = healthy(&site).await;
    let before = until_connected(&site, "connected").await;

    // A network, and its name in the bond.
    let files = DATA_CENTER_IN_FILES.map(|(path, object)| (path, object.replace("[san-a, san-b]}\n", "[san-a]}\n")));
    let publish = async |gone: &[&str]| {
        let left: Vec<_> = files.iter().filter(|(path, _)| !gone.contains(path)).collect();
        let left: Vec<_> = left.iter().map(|(path, object)| (*path, object.as_str())).collect();
        repository.publish(&left).await;
        repository.until_ready("storage").await;
    };
    publish(&["storage/san-b.yaml"]).await;
    site.until_gone("Network", "san-b").await;
    let routed = "10.0.2.10:3260 ens1 Connected";
    let moved = |host: &Value| paths(host) == [A, routed] && ready(host);
    let after = site.until("on the first network alone", "Host", "w1", moved).await;
    assert_eq!(sessions(&after)[0], sessions(&before)[0], "no other path is touched");

    // The bond.
    publish(&["storage/san-b.yaml", "storage/bond.yaml"]).await;
    site.until_gone("IscsiBond", "storage").await;
    let default = ["10.0.1.10:3260 - Connected", "10.0.2.10:3260 - Connected"];
    site.until("on the default network", "Host", "w1", |host| paths(host) == default && ready(host)).await;

    // All of it: the engine deletes in an order of its own.
    repository.delete("storage").await;
    for (kind, name) in KINDS {
        site.until_gone(kind, name).await;
    }
    assert_eq!(site.held_sessions("w1"), [""; 0]);
}

#[tokio::test]
#[ignore = "its engine takes minutes to build: `make gitops` runs it"]
async fn a32_second_applier_has_no_conflict_and_idle_objects_stay_unwritten() {
    let site = new_site("a32-two").await;
    let (repository, _agents) = healthy(&site).await;

    // The same objects, and a field of its own.
    let more = "[{name: ens9, networks: []}, {name: ens1";
    let theirs = DATA_CENTER_IN_FILES.map(|(_, object)| object.replace("[{name: ens1", more)).join("---");
    site.kubectl(&["apply", "--server-side", "--field-manager=storage-team", "-f", "-"], &theirs).await;
    repository.reconcile("storage").await;
    until_connected(&site, "connected").await;
    let interfaces = site.get("Host", "w1").await["spec"]["interfaces"].clone();
    assert!(interfaces.as_array().unwrap().iter().any(|interface| interface["name"] == "ens9"), "{interfaces}");

    until_no_writes(&site).await;
    let before = writes(&site).len();
    for _ in 0..3 {
        repository.reconcile("storage").await;
    }
    // Engines compare this, also Argo CD's server-side diff: there must be nothing to apply.
    let same = ["diff", "--server-side", "--field-manager=storage-team", "-f", "-"];
    site.kubectl(&same, &theirs).await;
    assert_eq!(writes(&site)[before..], []);
}
