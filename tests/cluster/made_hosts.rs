//! Made hosts: the controller creates them for Nodes and deletes them ten minutes after their Nodes.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::site::{Site, condition, phase, reason};

const GONE: &str = "multibond.dev/node-gone-since";

/// A data center that selects every Node with its label.
fn center(name: &str) -> String {
    format!(
        "
apiVersion: multibond.dev/v1alpha1
kind: DataCenter
metadata: {{name: {name}}}
spec:
  hosts: {{nodeSelector: {{matchLabels: {{site: '{{ns}}', center: {name}}}}}}}
---
"
    )
}

async fn label(site: &Site, node: &str, center: Option<&str>) {
    site.label_node(node, json!({"site": site.namespace, "center": center})).await;
}

fn gone_since(host: &Value) -> &Value {
    &host["metadata"]["annotations"][GONE]
}

/// Sets the annotation as if the Node had been gone for this many minutes.
async fn set_gone_since(site: &Site, host: &str, minutes: i64) {
    let since = Timestamp::now() - SignedDuration::from_mins(minutes);
    site.patch("Host", host, json!({"metadata": {"annotations": {GONE: since.to_string()}}})).await;
}

#[tokio::test]
async fn matching_nodes_get_made_hosts_and_users_hosts_stay_unchanged() {
    let site = Site::new("made").await;
    let _agents = site.agents(&["m1", "m2", "u1"]).await;
    let users = "
apiVersion: multibond.dev/v1alpha1
kind: Host
metadata: {name: my-own}
spec: {dataCenter: dc, nodeName: '{ns}-u1'}
";
    site.apply(users).await;
    for node in ["m1", "u1"] {
        label(&site, node, Some("dc")).await;
    }
    site.apply(&center("dc")).await;
    let (m1, m2, u1) = (site.node("m1"), site.node("m2"), site.node("u1"));
    let made = site.until_phase(&m1, "Up").await;
    let center = site.get("DataCenter", "dc").await;
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], center["metadata"]["uid"]);
    assert_eq!(made["metadata"]["labels"], json!({"multibond.dev/made-for": "dc"}));
    assert_eq!(made["spec"], json!({"dataCenter": "dc", "nodeName": m1, "maintenance": false}));
    let created = site.until_event("DataCenter", "dc", "Normal HostsCreated").await;
    assert!(created.len() == 1 && created[0].ends_with(&format!(": {m1}")), "{created:?}");

    label(&site, "m2", Some("dc")).await;
    site.until_phase(&m2, "Up").await;
    let own = site.until_phase("my-own", "Up").await;
    assert_eq!(own["metadata"]["ownerReferences"], Value::Null);
    assert_eq!(site.get("Host", &u1).await, Value::Null, "its Node has a Host already");

    // A user's Host also stays when its Node no longer matches.
    label(&site, "u1", None).await;
    label(&site, "m2", None).await;
    site.until("gone since", "Host", &m2, |host| gone_since(host).is_string()).await;
    assert_eq!(gone_since(&site.get("Host", "my-own").await), &Value::Null);
}

#[tokio::test]
async fn data_center_names_nodes_that_are_selected_twice() {
    let site = Site::new("made-not").await;
    let _agents = site.agents(&["m1", "m2"]).await;
    let (m1, m2) = (site.node("m1"), site.node("m2"));
    for node in ["m1", "m2"] {
        label(&site, node, Some("dc")).await;
    }
    site.apply(&center("dc")).await;
    let made = |center: &Value| condition(center, "HostsMade")["status"] == "True";
    let names = |center: &Value, node: &str| condition(center, "HostsMade")["message"].to_string().contains(node);
    for node in [&m1, &m2] {
        site.until_phase(node, "Up").await;
    }
    site.until("made", "DataCenter", "dc", made).await;
    site.apply(&center("other").replace("center: other", "center: dc")).await;
    let twice = |center: &Value| reason(center, "HostsMade") == "NodesSelectedTwice" && names(center, &m1);
    site.until("selected twice", "DataCenter", "other", twice).await;
    assert!(made(&site.get("DataCenter", "dc").await));

    // Without spec.hosts the condition is removed.
    site.patch("DataCenter", "other", json!({"spec": {"hosts": null}})).await;
    site.until("no condition", "DataCenter", "other", |center| condition(center, "HostsMade").is_null()).await;
}

#[tokio::test]
async fn made_host_is_deleted_ten_minutes_after_its_node() {
    let site = Site::new("made-gone").await;
    let _agents = site.agents(&["m1", "m2"]).await;
    for node in ["m1", "m2"] {
        label(&site, node, Some("dc")).await;
    }
    site.apply(&center("dc")).await;
    let (m1, m2) = (site.node("m1"), site.node("m2"));
    let before = site.until_phase(&m1, "Up").await;
    site.until_phase(&m2, "Up").await;

    label(&site, "m1", None).await;
    site.until("gone since", "Host", &m1, |host| gone_since(host).is_string()).await;
    set_gone_since(&site, &m1, 9).await;
    label(&site, "m1", Some("dc")).await;
    let back = site.until("back again", "Host", &m1, |host| gone_since(host).is_null()).await;
    assert_eq!(back["metadata"]["uid"], before["metadata"]["uid"]);

    site.delete_node("m2").await;
    site.until("gone since", "Host", &m2, |host| gone_since(host).is_string()).await;
    set_gone_since(&site, &m2, 11).await;
    site.until_gone("Host", &m2).await;
    // A Node that is created again gets a new Host.
    site.token_of_node(&m2).await;
    label(&site, "m2", Some("dc")).await;
    site.until("made again", "Host", &m2, |host| host["metadata"]["uid"].is_string()).await;
}

#[tokio::test]
async fn made_host_changes_data_center_ten_minutes_after_its_node() {
    let site = Site::new("made-two").await;
    let _agents = site.agents(&["m1"]).await;
    label(&site, "m1", Some("one")).await;
    site.apply(&[center("one"), center("two")].concat()).await;
    let m1 = site.node("m1");
    site.until("in the first", "Host", &m1, |host| host["spec"]["dataCenter"] == "one" && phase(host) == "Up").await;

    label(&site, "m1", Some("two")).await;
    let host = site.until("gone since", "Host", &m1, |host| gone_since(host).is_string()).await;
    assert_eq!(host["spec"]["dataCenter"], "one");
    set_gone_since(&site, &m1, 11).await;
    let made = |host: &Value| host["spec"]["dataCenter"] == "two" && phase(host) == "Up";
    let host = site.until("in the second", "Host", &m1, made).await;
    assert_eq!(host["metadata"]["labels"], json!({"multibond.dev/made-for": "two"}));

    // Deleting the first data center does not delete the second one's Host.
    site.delete("DataCenter", "one").await;
    site.until_gone("DataCenter", "one").await;
    assert_eq!(site.get("Host", &m1).await["metadata"]["deletionTimestamp"], Value::Null);
}

#[tokio::test]
async fn users_edits_of_a_made_host_stay_except_its_data_center() {
    let site = Site::new("made-edit").await;
    let _agents = site.agents(&["m1"]).await;
    label(&site, "m1", Some("dc")).await;
    site.apply(&center("dc")).await;
    let m1 = site.node("m1");
    site.until_phase(&m1, "Up").await;
    let interfaces = json!([{"name": "ens1", "networks": ["san-a"]}]);
    site.patch("Host", &m1, json!({"spec": {"interfaces": interfaces, "maintenance": true}})).await;
    site.until_phase(&m1, "Maintenance").await;
    site.patch("Host", &m1, json!({"spec": {"dataCenter": "elsewhere"}})).await;
    let back = |host: &Value| host["spec"]["dataCenter"] == "dc" && phase(host) == "Maintenance";
    let host = site.until("put back", "Host", &m1, back).await;
    assert_eq!((&host["spec"]["interfaces"], &host["spec"]["maintenance"]), (&interfaces, &json!(true)));

    // A deleted made Host is created again, because its Node still matches.
    site.delete("Host", &m1).await;
    let again = |host: &Value| host["metadata"]["uid"].is_string() && host["spec"]["maintenance"] == false;
    site.until("made again", "Host", &m1, again).await;
}
