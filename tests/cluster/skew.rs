//! Statuses as an older version left them: they are completed, and no host has something else to do.

use serde_json::{Value, json};

use super::{
    fixtures::{HOST_ON_BOTH, TWO_FABRICS, bond},
    site::{Site, condition, phase, ready, reason, sessions},
};

async fn patch_status(site: &Site, kind: &str, name: &str, status: Value) {
    let (resource, patch) = (format!("{kind}.multibond.dev"), json!({"status": status}).to_string());
    let arguments = ["patch", &resource, name, "--subresource=status", "--type=merge", "-p", &patch];
    site.kubectl(&arguments, "").await;
}

/// The conditions of an object that the version before has, too.
fn older_conditions(object: &Value) -> Value {
    let conditions = object["status"]["conditions"].as_array().unwrap().iter();
    conditions.filter(|condition| condition["type"] != "TargetsResolved").cloned().collect()
}

#[tokio::test]
async fn a69_older_statuses_are_completed_without_a_new_plan_or_login() {
    let site = Site::new("a69").await;
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    let before = site.until("Up", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;
    let storage = site.until("Ready", "IscsiBond", "storage", ready).await;

    let conditions = older_conditions(&storage);
    let older = json!({"summary": {"networks": null}, "hosts": {"lost": null}, "conditions": conditions});
    patch_status(&site, "IscsiBond", "storage", older).await;
    patch_status(&site, "Network", "san-a", json!({"summary": null})).await;

    let completed = |bond: &Value| bond["status"]["summary"]["networks"] == "san-a,san-b" && ready(bond);
    let after = site.until("completed", "IscsiBond", "storage", completed).await;
    assert_eq!(condition(&after, "TargetsResolved")["status"], "True");
    site.until("completed", "Network", "san-a", |network| network["status"]["summary"]["bonds"] == "storage").await;
    let host = site.get("Host", "w1").await;
    assert_eq!(host["status"]["plan"], before["status"]["plan"]);
    assert_eq!(sessions(&host), sessions(&before));
}

/// A controller of the version before writes a Lost host as it knows it, and keeps what it does not know.
#[tokio::test]
async fn a69_a_rollback_while_a_host_is_lost_loses_neither_the_time_nor_the_verdict() {
    let site = Site::new("a69-lost").await;
    let _agents = site.agents(&["w1"]).await;
    let yaml = [TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat();
    site.apply(&yaml.replace("nonOperationalAfterSeconds: 2", "nonOperationalAfterSeconds: 3600")).await;
    site.until("Up", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;
    site.faults("faults: [{fault: Unreachable}]");
    let lost = site.until("Lost", "Host", "w1", |host| reason(host, "Operational") == "StorageLost").await;
    assert_eq!(phase(&lost), "Connecting", "a word that the version before can read");

    let mut conditions = lost["status"]["conditions"].clone();
    for condition in conditions.as_array_mut().unwrap().iter_mut().filter(|one| one["reason"] == "StorageLost") {
        condition["reason"] = json!("Progressing");
    }
    patch_status(&site, "Host", "w1", json!({"conditions": conditions, "summary": {"reason": null}})).await;
    let again = site.until("Lost", "Host", "w1", |host| reason(host, "Operational") == "StorageLost").await;
    assert_eq!(again["status"]["targets"], lost["status"]["targets"], "the delay runs from the first loss");
    assert_eq!(again["status"]["plan"], lost["status"]["plan"]);
    site.faults("faults: []");
    site.until("back", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;
}
