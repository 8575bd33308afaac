//! Each kind as a user sees it: applied, read back, applied again.

use serde_json::{Value, json};

use super::{
    fixtures::{HOST_ON_BOTH, TWO_FABRICS, bond},
    site::{Site, condition, phase, ready},
};

const KINDS: [(&str, &str); 5] =
    [("DataCenter", "dc"), ("Network", "san-a"), ("Network", "san-b"), ("Host", "w1"), ("IscsiBond", "storage")];

#[tokio::test]
async fn a01_applied_objects_read_back_equal_and_apply_is_idempotent() {
    let site = Site::new("a01").await;
    let _agents = site.agents(&["w1"]).await;
    let manifests = [TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat();
    site.apply(&manifests).await;
    for (kind, name) in KINDS {
        site.until("Ready", kind, name, ready).await;
    }
    let mut before = Vec::new();
    for (kind, name) in KINDS {
        before.push(site.get(kind, name).await);
    }
    let host = &before[3]["spec"];
    let interfaces = json!([{"name": "ens1", "networks": ["san-a"]}, {"name": "ens2", "networks": ["san-b"]}]);
    assert_eq!(
        *host,
        json!({"dataCenter": "dc", "nodeName": site.node("w1"), "maintenance": false, "interfaces": interfaces})
    );
    assert_eq!(before[4]["spec"], json!({"dataCenter": "dc", "networks": ["san-a", "san-b"], "pairing": "Auto"}));

    site.apply(&manifests).await;
    site.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &manifests).await;
    let server_side: Vec<Value> = {
        let mut objects = Vec::new();
        for (kind, name) in KINDS {
            objects.push(site.get(kind, name).await);
        }
        objects
    };
    site.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &manifests).await;
    for (((kind, name), before), server_side) in KINDS.into_iter().zip(before).zip(server_side) {
        let after = site.get(kind, name).await;
        assert_eq!(after["spec"], before["spec"], "{kind} {name}");
        assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"], "{kind} {name}");
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        assert_eq!(version(&after), version(&server_side), "{kind} {name}");
    }
}

#[tokio::test]
async fn a03_bonds_in_two_namespaces_can_have_the_same_name() {
    let (one, other) = (Site::new("a03").await, Site::new("a03").await);
    for site in [&one, &other] {
        site.apply(&[TWO_FABRICS, &bond("san-a")].concat()).await;
    }
    for site in [&one, &other] {
        let bond = site.until("Ready", "IscsiBond", "storage", ready).await;
        assert_eq!(bond["status"]["networks"][0]["name"], "san-a");
    }
}

#[tokio::test]
async fn a10b_new_objects_have_ready_unknown_until_reconciled() {
    let site = Site::new("a10b").await;
    for document in
        [TWO_FABRICS, HOST_ON_BOTH, &bond("san-a")].concat().split("---").filter(|text| text.contains("kind"))
    {
        let born = site.kubectl(&["create", "-o", "json", "-f", "-"], document).await;
        let born: Value = serde_json::from_str(&born).unwrap();
        let ready = condition(&born, "Ready");
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("Unknown"), &json!("Pending")), "{born}");
        assert_eq!(phase(&born), "");
    }
}

#[tokio::test]
async fn a01_print_columns_show_readiness_and_reason() {
    let site = Site::new("a01c").await;
    let _agents = site.agents(&["w1"]).await;
    // The bond first: without it the host would have sessions over its default network, which are kept then.
    site.apply(&[TWO_FABRICS, &bond("san-a, missing")].concat()).await;
    site.until("judged", "IscsiBond", "storage", |bond| condition(bond, "Ready")["reason"] == "NetworkNotFound").await;
    site.apply(HOST_ON_BOTH).await;
    site.until_phase("w1", "Up").await;
    site.until("counted", "DataCenter", "dc", |dc| dc["status"]["summary"]["hosts"] == "1/1").await;
    site.until("unresolved", "IscsiBond", "storage", |bond| bond["status"]["summary"]["paths"] == "1/1").await;
    site.until("counted", "Network", "san-a", |network| {
        network["status"]["hosts"] == 1 && network["status"]["summary"]["bonds"] == "storage"
    })
    .await;
    let table = site.kubectl(&["get", "multibond"], "").await;
    let row = |name: &str| {
        let row = table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{table}"));
        row.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let two_networks = bond("san-a, san-b");
    let [dc, w1, bond, net] =
        ["datacenter", "host", "iscsibond", "network"].map(|kind| format!("{kind}.multibond.dev/"));
    assert_eq!(row(&(dc + "dc"))[1..6], ["1", "2", "1", "1/1", "True"]);
    // A host or network that is as it should be has no reason: the age follows.
    assert_eq!(row(&(w1 + "w1"))[1..6], ["dc", &site.node("w1"), "Up", "1/1", "1/1"]);
    assert_eq!(row(&(bond + "storage"))[2..7], ["san-a,missing", "1/1", "1/1", "False", "NetworkNotFound"]);
    assert_eq!(row(&(net + "san-a"))[1..5], ["dc", "1", "storage", "True"]);
    for line in table.lines().filter(|line| line.starts_with("host.") || line.contains("/san-a ")) {
        let columns = if line.starts_with("host.") { 7 } else { 6 };
        assert_eq!(line.split_whitespace().count(), columns, "no reason: {line}");
    }

    site.apply(&two_networks).await;
    site.until("both", "Host", "w1", |host| host["status"]["summary"]["paths"] == "2/2").await;
    site.faults("faults: [{portal: '10.0.2.10:3260', fault: Unreachable}]");
    let named = |host: &Value| phase(host) == "Degraded" && host["status"]["summary"]["reason"] == "PortalUnreachable";
    site.until("the reason of the failed path", "Host", "w1", named).await;
    let table =
        site.kubectl(&["get", "mbhost", "--field-selector", "status.phase=Degraded,spec.dataCenter=dc"], "").await;
    let columns: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(columns[3..7], ["Degraded", "1/2", "1/1", "PortalUnreachable"], "{table}");
    let others =
        site.kubectl(&["get", "mbhost,ib,mbnet", "--field-selector", "spec.dataCenter=other", "-o", "name"], "").await;
    assert_eq!(others, "");
}
