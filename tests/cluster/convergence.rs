//! Hosts converge to the declared paths after every kind of change.

use serde_json::json;

use super::{
    fixtures::{HOST_ON_A, HOST_ON_BOTH, HOST_ON_NEITHER, TWO_FABRICS, bond},
    site::{Site, paths, phase, ready, sessions},
};

const A: &str = "10.0.1.10:3260 ens1 Connected";
const B: &str = "10.0.2.10:3260 ens2 Connected";

#[tokio::test]
async fn a10_new_or_reactivated_host_connects_all_planned_paths() {
    let site = Site::new("a10").await;
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    let host = site.until_phase("w1", "Up").await;
    assert_eq!(paths(&host), [A, B]);
    let bond = site.until("Ready", "IscsiBond", "storage", ready).await;
    assert_eq!(bond["status"]["summary"], json!({"hosts": "1/1", "networks": "san-a,san-b", "paths": "2/2"}));

    site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    let host =
        site.until("Ready in maintenance", "Host", "w1", |host| phase(host) == "Maintenance" && ready(host)).await;
    assert_eq!(paths(&host), [""; 0]);
    site.patch("Host", "w1", json!({"spec": {"maintenance": false}})).await;
    let host = site.until("all paths back", "Host", "w1", |host| phase(host) == "Up" && paths(host) == [A, B]).await;

    // The plan returns to an earlier one. The host is Ready only after it carried that plan out again.
    let before = host["status"]["plan"]["sequence"].as_i64().unwrap();
    site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    let host =
        site.until("Ready in maintenance", "Host", "w1", |host| phase(host) == "Maintenance" && ready(host)).await;
    assert_eq!(host["status"]["plan"]["sequence"], before + 1);
    assert_eq!(host["status"]["agent"]["observedSequence"], before + 1);
    assert_eq!(paths(&host), [""; 0]);
}

#[tokio::test]
async fn a11_network_added_to_a_bond_adds_paths_and_changes_nothing_else() {
    let site = Site::new("a11").await;
    let _agents = site.agents(&["w1", "w2"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, HOST_ON_A, &bond("san-a")].concat()).await;
    let before = site.until("on the first fabric", "Host", "w1", |host| paths(host) == [A] && ready(host)).await;
    let other = site.until("on the first fabric", "Host", "w2", |host| paths(host) == [A] && ready(host)).await;

    site.apply(&bond("san-a, san-b")).await;
    let after = site.until("on both fabrics", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;
    assert_eq!(sessions(&after)[0], sessions(&before)[0], "the existing session is untouched");
    let bond = site
        .until("Ready", "IscsiBond", "storage", |bond| ready(bond) && bond["status"]["paths"]["desired"] == 3)
        .await;
    assert_eq!(
        bond["status"]["networks"],
        json!([{"name": "san-a", "hosts": 2, "paths": 2}, {"name": "san-b", "hosts": 1, "paths": 1}])
    );
    let untouched = site.get("Host", "w2").await;
    assert_eq!(
        untouched["metadata"]["resourceVersion"], other["metadata"]["resourceVersion"],
        "nothing is written for others"
    );
}

#[tokio::test]
async fn a12_host_gets_paths_when_its_spec_or_address_attaches_a_network() {
    let site = Site::new("a12").await;
    site.facts("facts: [{node: '{ns}-w4', interfaces: [{name: ens1, mtu: 1500, up: true, addresses: [10.0.1.21/24]}, {name: ens2, mtu: 1500, up: true, addresses: []}]}]");
    let _agents = site.agents(&["w2", "w4"]).await;
    let by_address = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w4}
spec: {dataCenter: dc, nodeName: '{ns}-w4'}
";
    site.apply(&[TWO_FABRICS, HOST_ON_A, &bond("san-a, san-b"), by_address].concat()).await;
    for host in ["w2", "w4"] {
        site.until("on the first fabric", "Host", host, |host| paths(host) == [A] && ready(host)).await;
    }

    let both = json!([{"name": "ens1", "networks": ["san-a"]}, {"name": "ens2", "networks": ["san-b"]}]);
    site.patch("Host", "w2", json!({"spec": {"interfaces": both}})).await;
    site.facts("facts: [{node: '{ns}-w4', interfaces: [{name: ens1, mtu: 1500, up: true, addresses: [10.0.1.21/24]}, {name: ens2, mtu: 1500, up: true, addresses: [10.0.2.21/24]}]}]");
    for host in ["w2", "w4"] {
        site.until("on both fabrics", "Host", host, |host| paths(host) == [A, B] && ready(host)).await;
    }
}

#[tokio::test]
async fn a12_lost_device_fails_paths_without_default_path_until_maintenance() {
    let site = Site::new("a12b").await;
    let with = |interfaces: &str| site.facts(&format!("facts: [{{node: '{{ns}}-w4', interfaces: [{interfaces}]}}]"));
    let ens1 = "{name: ens1, mtu: 1500, up: true, addresses: [10.0.1.21/24]}";
    let mgmt = "{name: mgmt, mtu: 1500, up: true, addresses: [192.168.7.21/24]}";
    with(&format!("{ens1}, {mgmt}"));
    let _agents = site.agents(&["w4"]).await;
    let by_address = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w4}
spec: {dataCenter: dc, nodeName: '{ns}-w4'}
---
";
    site.apply(&[TWO_FABRICS, by_address, &bond("san-a")].concat()).await;
    site.until("connected", "Host", "w4", |host| paths(host) == [A] && ready(host)).await;

    with(mgmt);
    let lost = site.until_phase("w4", "NonOperational").await;
    assert_eq!(paths(&lost), ["10.0.1.10:3260 ens1 Failed"]);
    assert_eq!(lost["status"]["connections"][0]["reason"], "InterfaceNotFound");

    site.patch("Host", "w4", json!({"spec": {"maintenance": true}})).await;
    site.until_phase("w4", "Maintenance").await;
    site.patch("Host", "w4", json!({"spec": {"maintenance": false}})).await;
    let default = ["10.0.1.10:3260 - Connected", "10.0.2.10:3260 - Connected"];
    site.until("on its default network", "Host", "w4", |host| paths(host) == default).await;
}

#[tokio::test]
async fn a13_each_removal_logs_out_exactly_the_surplus_sessions() {
    let site = Site::new("a13").await;
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    let storages = |portals: &[&str], more: bool| {
        let portals: Vec<_> = portals.iter().map(|address| json!({"address": address})).collect();
        let array = json!({"name": "array", "targets": [{"iqn": "iqn.2003-01.org.example:array", "portals": portals}]});
        let other = json!({"name": "other", "targets": [
            {"iqn": "iqn.2003-01.org.example:other-1", "portals": [{"address": "10.0.1.20"}]},
            {"iqn": "iqn.2003-01.org.example:other-2", "portals": [{"address": "10.0.1.20"}]}]});
        json!({"spec": {"storage": if more { vec![array, other] } else { vec![array] }}})
    };
    let other = "10.0.1.20:3260 ens1 Connected";
    site.patch("DataCenter", "dc", storages(&["10.0.1.10", "10.0.1.11", "10.0.2.10"], true)).await;
    let all = [A, "10.0.1.11:3260 ens1 Connected", B, other, other];
    let before = site.until("everything", "Host", "w1", |host| paths(host) == all && ready(host)).await;

    site.patch("DataCenter", "dc", storages(&["10.0.1.10", "10.0.2.10"], true)).await;
    site.until("without the portal", "Host", "w1", |host| paths(host) == [A, B, other, other]).await;
    let one = json!({"spec": {"storage": [
        {"name": "array", "targets": [{"iqn": "iqn.2003-01.org.example:array", "portals": [{"address": "10.0.1.10"}, {"address": "10.0.2.10"}]}]},
        {"name": "other", "targets": [{"iqn": "iqn.2003-01.org.example:other-2", "portals": [{"address": "10.0.1.20"}]}]}]}});
    site.patch("DataCenter", "dc", one).await;
    site.until("without the target", "Host", "w1", |host| paths(host) == [A, B, other]).await;
    site.patch("DataCenter", "dc", storages(&["10.0.1.10", "10.0.2.10"], false)).await;
    let after = site.until("without the storage", "Host", "w1", |host| paths(host) == [A, B]).await;
    assert_eq!(sessions(&after), [sessions(&before)[0], sessions(&before)[2]], "the others are untouched");

    site.apply(&bond("san-a")).await;
    let after = site.until("without the network", "Host", "w1", |host| paths(host) == [A]).await;
    assert_eq!(sessions(&after), [sessions(&before)[0]]);
    site.delete("IscsiBond", "storage").await;
    let default = ["10.0.1.10:3260 - Connected", "10.0.2.10:3260 - Connected"];
    site.until("without the bond", "Host", "w1", |host| paths(host) == default && ready(host)).await;
}

#[tokio::test]
async fn a07_host_without_bond_networks_uses_the_default_and_is_counted() {
    let site = Site::new("a07").await;
    let _agents = site.agents(&["w1", "w2", "w3"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, HOST_ON_A, HOST_ON_NEITHER, &bond("san-a, san-b")].concat()).await;
    site.until("both", "Host", "w1", |host| paths(host) == [A, B]).await;
    site.until("only the one it carries", "Host", "w2", |host| paths(host) == [A]).await;
    let default = ["10.0.1.10:3260 - Connected", "10.0.2.10:3260 - Connected"];
    site.until("its default network", "Host", "w3", |host| paths(host) == default).await;
    let bond = site
        .until("Ready", "IscsiBond", "storage", |bond| ready(bond) && bond["status"]["summary"]["hosts"] == "3/3")
        .await;
    assert_eq!(
        bond["status"]["hosts"],
        json!({"total": 3, "connected": 3, "degraded": 0, "lost": 0, "nonOperational": 0, "default": 1,
            "unknown": 0})
    );
    assert_eq!(bond["status"]["paths"], json!({"desired": 3, "connected": 3}));
}

#[tokio::test]
async fn a13_session_in_use_is_retained_until_its_device_is_free() {
    let site = Site::new("a13r").await;
    site.faults("faults: [{interface: ens2, fault: InUse}]");
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    site.until("connected", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;

    site.apply(&bond("san-a")).await;
    let retained = "10.0.2.10:3260 ens2 Retained";
    let host = site.until("retained", "Host", "w1", |host| paths(host) == [A, retained] && ready(host)).await;
    assert_eq!(host["status"]["connections"][1]["reason"], "InUse");
    assert_eq!(host["status"]["paths"], json!({"desired": 1, "connected": 1}));
    site.faults("faults: []");
    site.until("gone", "Host", "w1", |host| paths(host) == [A]).await;
}
