//! How a bond reports its networks, and what happens when a network does not exist.

use serde_json::{Value, json};

use super::{
    fixtures::{HOST_ON_BOTH, HOST_ON_NEITHER, TWO_FABRICS, bond},
    site::{Site, condition, paths, phase, ready, reason, sessions},
};

#[tokio::test]
async fn a04_bond_names_missing_networks_and_recovers_when_they_appear() {
    let site = Site::new("a04").await;
    let _agents = site.agents(&["w1"]).await;
    let foreign = "
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: elsewhere}
spec: {dataCenter: other}
---
";
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, foreign, &bond("san-a, elsewhere, missing")].concat()).await;
    let object = site
        .until("unresolved", "IscsiBond", "storage", |bond| reason(bond, "NetworksResolved") == "NetworkNotFound")
        .await;
    let message = condition(&object, "NetworksResolved")["message"].as_str().unwrap();
    assert!(message.contains("missing") && message.contains("elsewhere") && !message.contains("san-a"), "{message}");
    assert_eq!(condition(&object, "Ready")["status"], "False");
    // The host may have used its default network before the bond came; of a held target nothing is logged out.
    let works = |host: &Value| paths(host).contains(&"10.0.1.10:3260 ens1 Connected".to_owned());
    site.until("the rest works", "Host", "w1", works).await;

    site.apply(&bond("san-a, elsewhere")).await;
    site.until("of another data center", "IscsiBond", "storage", |bond| {
        reason(bond, "NetworksResolved") == "NetworkInOtherDataCenter"
    })
    .await;
    site.delete("Network", "elsewhere").await;
    site.until_gone("Network", "elsewhere").await;
    let here = "
apiVersion: multibond.dev/v1alpha1
kind: Network
metadata: {name: elsewhere}
spec: {dataCenter: dc}
";
    site.apply(here).await;
    site.until("healed", "IscsiBond", "storage", |bond| condition(bond, "NetworksResolved")["status"] == "True").await;
    site.until("as declared", "Host", "w1", |host| paths(host) == ["10.0.1.10:3260 ens1 Connected"]).await;
}

#[tokio::test]
async fn a04b_unknown_network_keeps_sessions_and_adds_no_default_path() {
    let site = Site::new("a04b").await;
    let _agents = site.agents(&["w1", "w3"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a")].concat()).await;
    let before = site.until("connected", "Host", "w1", |host| paths(host).len() == 1 && ready(host)).await;

    site.apply(&bond("san-typo")).await;
    site.until("Ready False", "IscsiBond", "storage", |bond| reason(bond, "Ready") == "NetworkNotFound").await;
    let target = json!(["iqn.2003-01.org.example:array"]);
    let held = site.until("held", "Host", "w1", |host| host["status"]["plan"]["hold"] == target).await;
    let held = match paths(&held).as_slice() {
        [path] if path.ends_with("Retained") => held,
        _ => site.until("kept", "Host", "w1", |host| paths(host) == ["10.0.1.10:3260 ens1 Retained"]).await,
    };
    assert_eq!(sessions(&held), sessions(&before), "what is connected stays");
    site.until_phase("w1", "Up").await;

    site.apply(HOST_ON_NEITHER).await;
    let fresh = site.until("waits", "Host", "w3", |host| reason(host, "Operational") == "TargetsHeld").await;
    assert_eq!((phase(&fresh), paths(&fresh).len()), ("Connecting", 0), "no new default path");

    site.apply(&bond("san-b")).await;
    site.until("on the other network", "Host", "w1", |host| paths(host) == ["10.0.2.10:3260 ens2 Connected"]).await;
}

#[tokio::test]
async fn a60_mistyped_name_keeps_what_is_connected_and_is_named() {
    let site = Site::new("a60").await;
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    let before = site.until("connected", "Host", "w1", |host| paths(host).len() == 2 && ready(host)).await;

    site.apply(&bond("san-a, sanb")).await;
    let object =
        site.until("not Ready", "IscsiBond", "storage", |bond| reason(bond, "Ready") == "NetworkNotFound").await;
    let message = condition(&object, "NetworksResolved")["message"].as_str().unwrap();
    assert!(message.contains("sanb (did you mean san-b?)"), "{message}");
    let kept = ["10.0.1.10:3260 ens1 Connected", "10.0.2.10:3260 ens2 Retained"];
    let host = site.until("kept", "Host", "w1", |host| paths(host) == kept && phase(host) == "Up").await;
    assert_eq!(sessions(&host), sessions(&before));
    let column = |host: &Value| host["status"]["summary"]["paths"].clone();
    site.until("what is kept is counted", "Host", "w1", |host| column(host) == "1/1 (1 kept)").await;

    let typo = json!({"spec": {"networks": ["san-a", "san-b"], "targets": ["iqn.2003-01.org.example:aray"]}});
    site.patch("IscsiBond", "storage", typo).await;
    let object =
        site.until("not Ready", "IscsiBond", "storage", |bond| reason(bond, "Ready") == "TargetNotFound").await;
    let message = condition(&object, "TargetsResolved")["message"].as_str().unwrap();
    assert!(message.contains("did you mean iqn.2003-01.org.example:array?"), "{message}");
    let kept = ["10.0.1.10:3260 ens1 Retained", "10.0.2.10:3260 ens2 Retained"];
    let host = site.until("kept", "Host", "w1", |host| paths(host) == kept && phase(host) == "Up").await;
    assert_eq!(sessions(&host), sessions(&before));
    site.until("what is kept is counted", "Host", "w1", |host| column(host) == "0/0 (2 kept)").await;

    site.patch("IscsiBond", "storage", json!({"spec": {"targets": []}})).await;
    let both = ["10.0.1.10:3260 ens1 Connected", "10.0.2.10:3260 ens2 Connected"];
    let host = site.until("corrected", "Host", "w1", |host| paths(host) == both && ready(host)).await;
    assert_eq!(sessions(&host), sessions(&before));
}

#[tokio::test]
async fn a04b_unreported_host_has_no_plan_and_never_forbids_default_network() {
    let site = Site::new("a04c").await;
    let unreported = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: w5}
spec: {dataCenter: dc, nodeName: '{ns}-w5'}
---
";
    site.apply(&[TWO_FABRICS, &bond("san-a"), unreported].concat()).await;
    let host = site.until("judged", "Host", "w5", |host| phase(host) == "Unknown").await;
    assert!(host["status"]["plan"].is_null(), "no plan before the interfaces are known: {host}");
    // A plan from before the bond is withdrawn too: no path is connected, and existing sessions stay.
    site.delete("IscsiBond", "storage").await;
    site.until("a default plan", "Host", "w5", |host| host["status"]["plan"]["paths"][1].is_object()).await;
    site.apply(&bond("san-a")).await;
    let held = json!(["iqn.2003-01.org.example:array"]);
    site.until("held", "Host", "w5", |host| {
        host["status"]["plan"]["paths"] == json!([]) && host["status"]["plan"]["hold"] == held
    })
    .await;

    site.patch("DataCenter", "dc", json!({"spec": {"defaultNetwork": "Never"}})).await;
    site.facts(
        "facts: [{node: '{ns}-w5', interfaces: [{name: mgmt, mtu: 1500, up: true, addresses: [192.168.7.21/24]}]}]",
    );
    let _agents = site.agents(&["w5"]).await;
    let host = site.until_phase("w5", "NonOperational").await;
    assert_eq!(reason(&host, "Operational"), "NoNetwork");
    site.patch("DataCenter", "dc", json!({"spec": {"defaultNetwork": "Use"}})).await;
    site.until("on its default network", "Host", "w5", |host| paths(host).len() == 2 && phase(host) == "Up").await;
}

#[tokio::test]
async fn a05_empty_bonds_storage_and_data_centers_become_ready() {
    let site = Site::new("a05").await;
    let _agents = site.agents(&["w1"]).await;
    let empty = "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {name: dc}
spec: {}
---
";
    site.apply(empty).await;
    site.until("Ready", "DataCenter", "dc", ready).await;
    site.apply(&[&bond(""), HOST_ON_BOTH].concat()).await;
    let host = site.until_phase("w1", "Up").await;
    assert_eq!(host["status"]["summary"]["paths"], "0/0");
    let bond = site.until("Ready", "IscsiBond", "storage", ready).await;
    assert_eq!(condition(&bond, "NetworksUsed")["status"], "True");
    let center = site.until("counted", "DataCenter", "dc", |dc| dc["status"]["summary"]["hosts"] == "1/1").await;
    assert_eq!(center["status"]["bonds"], 1);
}

#[tokio::test]
async fn bond_names_a_network_without_a_path() {
    let site = Site::new("unused").await;
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    site.until("used", "IscsiBond", "storage", |bond| {
        condition(bond, "NetworksUsed")["status"] == "True" && ready(bond)
    })
    .await;
    let only_a = json!([{"name": "array", "targets": [{"iqn": "iqn.2003-01.org.example:array", "portals": [{"address": "10.0.1.10"}]}]}]);
    site.patch("DataCenter", "dc", json!({"spec": {"storage": only_a}})).await;
    let bond =
        site.until("unused", "IscsiBond", "storage", |bond| reason(bond, "NetworksUsed") == "NetworkWithoutPath").await;
    let message = condition(&bond, "NetworksUsed")["message"].as_str().unwrap();
    assert!(message.contains("san-b") && !message.contains("san-a"), "{message}");
}

#[tokio::test]
async fn objects_wait_with_a_reason_until_their_data_center_exists() {
    let site = Site::new("order").await;
    let _agents = site.agents(&["w1"]).await;
    let (center, networks) = TWO_FABRICS.split_at(TWO_FABRICS.find("---").unwrap() + 4);
    site.apply(&[HOST_ON_BOTH, &bond("san-a, san-b"), networks].concat()).await;
    for (kind, name) in [("IscsiBond", "storage"), ("Network", "san-a"), ("Network", "san-b"), ("Host", "w1")] {
        let object = site.until("waits", kind, name, |object| reason(object, "Ready") == "DataCenterNotFound").await;
        assert_eq!(condition(&object, "Ready")["status"], "False");
    }
    let host = site.get("Host", "w1").await;
    assert_eq!((phase(&host), &host["status"]["plan"]), ("Unassigned", &json!(null)), "nothing to log out for");
    let bond = site.get("IscsiBond", "storage").await;
    assert_eq!(condition(&bond, "FullyConnected")["status"], "Unknown");

    site.apply(center).await;
    for (kind, name) in [("IscsiBond", "storage"), ("Network", "san-a"), ("Network", "san-b"), ("Host", "w1")] {
        site.until("Ready", kind, name, ready).await;
    }
    assert_eq!(paths(&site.get("Host", "w1").await).len(), 2);
}
