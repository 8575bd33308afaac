//! An object that cannot be decoded freezes its data center and removes no session.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use multibond_testbed::{ControlPlane, eventually};
use serde_json::{Value, json};

use super::{
    A, B, connected, control_plane, count_in_log,
    site::{PATIENCE, Site, condition, controller, paths, phase, ready, reason, sessions, until_ready_says},
};

/// For each kind: an object, its field, and a value that a later version of the API might have.
const CASES: [(&str, &str, &str, &str); 4] = [
    ("Network", "san-a", "mtu", "Jumbo"),
    ("IscsiBond", "storage", "pairing", "ByMoon"),
    ("Host", "w1", "maintenance", "Soon"),
    ("DataCenter", "dc", "defaultNetwork", "Sometimes"),
];

/// Makes the API server accept any value in the fields of [`CASES`].
async fn relax_schema(cluster: &ControlPlane) {
    let crds: Api<CustomResourceDefinition> = Api::all(cluster.client().await.unwrap());
    for (kind, _, field, _) in CASES {
        let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{field}");
        let anything =
            json!([{"op": "replace", "path": path, "value": {"x-kubernetes-preserve-unknown-fields": true}}]);
        let steps: Patch<Value> = Patch::Json(serde_json::from_value(anything).unwrap());
        let name = format!("{}s.multibond.dev", kind.to_lowercase());
        crds.patch(&name, &PatchParams::default(), &steps).await.unwrap();
    }
}

/// Writes the undecodable value. Retries, because the API server needs a moment to use the new schema.
async fn make_undecodable(site: &Site, (kind, name, field, value): (&str, &str, &str, &str)) {
    let api = site.api(kind).await;
    let patch = Patch::Merge(json!({"spec": {field: value}}));
    eventually(&format!("{kind} {name} with {field}: {value}"), PATIENCE, async || {
        api.patch(name, &PatchParams::default(), &patch).await
    })
    .await;
}

fn frozen(by: (&str, &str)) -> impl Fn(&Value) -> bool {
    let words = format!("{} {} cannot be read", by.0, by.1);
    move |center| {
        let ready = condition(center, "Ready");
        ready["status"] == "False"
            && ready["reason"] == "Frozen"
            && ready["message"].as_str().is_some_and(|message| message.starts_with(&words))
    }
}

/// An edit that would remove the second fabric's path if the data center were not frozen.
async fn drop_second_fabric(site: &Site, case: &str) {
    let storage = json!([{"name": "array", "targets":
        [{"iqn": "iqn.2003-01.org.example:array", "portals": [{"address": "10.0.1.10"}]}]}]);
    match case {
        "IscsiBond" => site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await,
        _ => site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a"]}})).await,
    }
}

/// Waits until the neighbour has followed two edits. By then the controller has also seen all earlier edits.
async fn neighbour_goes_on(site: &Site) {
    for (maintenance, phase) in [(true, "Maintenance"), (false, "Up")] {
        site.patch("Host", "n1", json!({"spec": {"maintenance": maintenance}})).await;
        site.until_phase("n1", phase).await;
    }
}

#[tokio::test]
async fn a30_undecodable_object_freezes_its_data_center_until_it_is_fixed() {
    let cluster = control_plane(|_| true).await;
    relax_schema(cluster).await;
    let mut leader = controller(cluster, &["--deletion-timeout", "8s"]).await;
    for case in CASES {
        let (kind, name, field, _) = case;
        let (site, _agents, before) = connected(cluster, &format!("a30-{}", kind.to_lowercase())).await;
        make_undecodable(&site, case).await;
        site.until("frozen", "DataCenter", "dc", frozen((kind, name))).await;
        drop_second_fabric(&site, kind).await;
        neighbour_goes_on(&site).await;
        let as_before = async |why: &str| {
            let host = site.get("Host", "w1").await;
            assert_eq!((paths(&host), sessions(&host)), (paths(&before), sessions(&before)), "{kind}: {why}");
            assert_eq!(host["status"]["plan"], before["status"]["plan"], "{kind}: {why}");
        };
        as_before("frozen").await;
        assert_eq!(reason(&site.get("DataCenter", "neighbour").await, "Ready"), "Ready", "{kind}");
        let object = format!("{kind} {}/{name} cannot be read", site.namespace);
        until_ready_says(&leader, "200", &object).await;
        let line = format!("object={}/{name} error", site.namespace);
        assert_eq!(count_in_log(&leader, &line), 1, "{kind}: {}", leader.log_tail());

        leader.kill();
        leader = controller(cluster, &["--deletion-timeout", "8s"]).await;
        until_ready_says(&leader, "200", &object).await;
        neighbour_goes_on(&site).await;
        as_before("after a restart").await;
        site.until("still frozen", "DataCenter", "dc", frozen((kind, name))).await;

        site.patch(kind, name, json!({"spec": {field: null}})).await;
        site.until("mended", "DataCenter", "dc", ready).await;
        let after = site.until("follows again", "Host", "w1", |host| paths(host) == [A] && ready(host)).await;
        assert_eq!(sessions(&after), [sessions(&before)[0]], "{kind}");
        site.kubectl(&["delete", "datacenter,host", "--all", "--timeout=60s"], "").await;
    }
}

#[tokio::test]
async fn a30_undecodable_object_can_be_deleted_and_blocks_no_deletion() {
    let cluster = control_plane(|_| true).await;
    relax_schema(cluster).await;
    let leader = controller(cluster, &["--deletion-timeout", "8s"]).await;
    let (site, _agents, before) = connected(cluster, "a30-deletion").await;
    make_undecodable(&site, CASES[0]).await;
    site.until("frozen", "DataCenter", "dc", frozen(("Network", "san-a"))).await;
    site.delete("Network", "san-a").await;
    site.until_gone("Network", "san-a").await;
    site.until("thawed", "DataCenter", "dc", ready).await;
    let routed = ["10.0.1.10:3260 ens2 Connected", B];
    let after = site.until("on the other fabric", "Host", "w1", |host| paths(host) == routed && ready(host)).await;
    assert_eq!(sessions(&after)[1], sessions(&before)[1]);

    // A new controller has never read the decodable versions of these objects.
    for case in &CASES[1..] {
        make_undecodable(&site, *case).await;
        site.until("frozen", "DataCenter", "dc", |center| reason(center, "Ready") == "Frozen").await;
    }
    leader.kill();
    let leader = controller(cluster, &["--deletion-timeout", "8s"]).await;
    until_ready_says(&leader, "200", "Host").await;
    site.delete("DataCenter", "dc").await;
    site.until_gone("DataCenter", "dc").await;
    site.until_gone("IscsiBond", "storage").await;
    site.until_gone("Network", "san-b").await;
    site.delete("Host", "w1").await;
    site.until_gone("Host", "w1").await;
    assert_eq!(phase(&site.get("Host", "n1").await), "Up");
}

/// Makes the API server accept any status of Hosts, as a newer version's schema might.
async fn relax_status_of_hosts(cluster: &ControlPlane) {
    let crds: Api<CustomResourceDefinition> = Api::all(cluster.client().await.unwrap());
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
    // Field selectors need the phase.
    let anything = json!({"type": "object", "properties": {"phase": {"type": "string"}},
        "x-kubernetes-preserve-unknown-fields": true});
    let steps = json!([{"op": "replace", "path": path, "value": anything}]);
    let steps: Patch<Value> = Patch::Json(serde_json::from_value(steps).unwrap());
    crds.patch("hosts.multibond.dev", &PatchParams::default(), &steps).await.unwrap();
}

/// Writes a status, as somebody who may.
async fn write_status(site: &Site, host: &str, status: Value) {
    let api = site.api("Host").await;
    let patch = Patch::Merge(json!({"status": status}));
    eventually(&format!("{host} with {patch:?}"), PATIENCE, async || {
        let written =
            api.patch_status(host, &PatchParams::default(), &patch).await.map_err(|error| error.to_string())?;
        let kept = serde_json::to_value(&written.data["status"]).unwrap();
        let fields = status.as_object().unwrap();
        if fields.iter().all(|(name, value)| kept[name] == *value) { Ok(()) } else { Err(kept.to_string()) }
    })
    .await;
}

/// A session number that the kernel cannot have.
fn unreadable_connections() -> Value {
    json!([{"target": "iqn.2003-01.org.example:array", "portal": "10.0.1.10:3260", "tpgt": 1, "interface": "ens1",
        "state": "Connected", "sessionID": 5_000_000_000_u64, "since": "2026-01-01T00:00:00Z"}])
}

/// A second host of the neighbour.
const SECOND: &str = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: n2}
spec: {dataCenter: neighbour, nodeName: '{ns}-n2', interfaces: [{name: ens1, networks: []}]}
";

#[tokio::test]
async fn a30_host_with_an_unreadable_status_freezes_nobody_and_keeps_its_plan() {
    let cluster = control_plane(|_| true).await;
    let leader = controller(cluster, &[]).await;
    let (site, agents, _) = connected(cluster, "a30-status").await;
    agents.kill();
    let agents = site.agents(&["n2"]).await;
    site.apply(SECOND).await;
    let second = site.until("connected", "Host", "n2", |host| phase(host) == "Up" && ready(host)).await;
    let held = site.held("n1");
    relax_status_of_hosts(cluster).await;

    // While its agent is away, nobody mends it.
    agents.kill();
    site.until_phase("n1", "Unknown").await;
    write_status(&site, "n1", json!({"connections": unreadable_connections(), "interfaces": 7})).await;
    let words = "status.connections cannot be read: invalid value: integer `5000000000`";
    let says =
        |host: &Value| condition(host, "AgentReady")["message"].as_str().is_some_and(|text| text.starts_with(words));
    let host =
        site.until("says so", "Host", "n1", |host| says(host) && reason(host, "Ready") == "StatusUnreadable").await;
    assert_eq!((phase(&host), &host["status"]["connections"]), ("Unknown", &unreadable_connections()));
    until_ready_says(&leader, "200", &format!("Host {}/n1: status.connections cannot be read", site.namespace)).await;

    // The other host of the data center is planned as ever; this one keeps its plan.
    let portals = json!([{"address": "10.0.9.10"}, {"address": "10.0.9.11"}]);
    let storage = json!([{"name": "array", "targets": [{"iqn": "iqn.2003-01.org.example:other", "portals": portals}]}]);
    site.patch("DataCenter", "neighbour", json!({"spec": {"storage": storage}})).await;
    let plan = |host: &Value| host["status"]["plan"].clone();
    site.until("planned", "Host", "n2", |now| plan(now) != plan(&second)).await;
    let center = site.get("DataCenter", "neighbour").await;
    assert_eq!(reason(&center, "Ready"), "Ready");
    assert_eq!(plan(&site.get("Host", "n1").await), plan(&host));
    assert_eq!(site.held("n1"), held);

    // Its agent writes its own fields again.
    let _agents = site.simulate();
    let host = site.until("mended", "Host", "n1", |host| phase(host) == "Up" && ready(host)).await;
    assert_eq!(paths(&host).len(), 2);
}
