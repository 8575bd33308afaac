//! What one namespace does costs no other: their edits are planned meanwhile. Shown by the order of writes, which the
//! versions of the objects tell, because a time depends on the machine.

use futures::{StreamExt as _, stream};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ListParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    fixtures::{HOST_ON_BOTH, TWO_FABRICS, bond},
    site::{PATIENCE, Site, phase, ready, reason},
};
use multibond_testbed::eventually;

const BONDS: usize = 400;

/// A bond of the data center `dc` with a network that does not exist.
fn bond_on_x(number: usize) -> DynamicObject {
    serde_json::from_value(json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "IscsiBond",
        "metadata": {"name": format!("b{number}")}, "spec": {"dataCenter": "dc", "networks": ["x"]}}))
    .unwrap()
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

async fn all(api: &Api<DynamicObject>) -> Vec<Value> {
    let list = api.list(&ListParams::default()).await.unwrap();
    list.items.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect()
}

/// Waits until every bond has this reason for its network.
async fn until_all_say(api: &Api<DynamicObject>, wanted: &str) -> Vec<Value> {
    eventually(&format!("{BONDS} bonds say {wanted}"), PATIENCE, async || {
        let bonds = all(api).await;
        let say = bonds.iter().filter(|bond| reason(bond, "NetworksResolved") == wanted).count();
        if say == BONDS { Ok(bonds) } else { Err(format!("{say} do")) }
    })
    .await
}

#[tokio::test]
async fn a_host_is_planned_while_all_bonds_of_another_namespace_are_written() {
    let victim = Site::new("victim").await;
    let _agents = victim.agents(&["w1"]).await;
    victim.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    victim.until("Up", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;

    let flood = Site::new("flood").await;
    flood.apply(TWO_FABRICS).await;
    let bonds = flood.api("IscsiBond").await;
    let create = |number| {
        let bonds = bonds.clone();
        async move { bonds.create(&PostParams::default(), &bond_on_x(number)).await.unwrap() }
    };
    stream::iter(0..BONDS).map(create).buffer_unordered(16).map(|created| created.name_any()).collect::<Vec<_>>().await;
    until_all_say(&bonds, "NetworkNotFound").await;

    // One request makes the controller write the status of every bond.
    flood
        .apply("{apiVersion: multibond.dev/v1alpha1, kind: Network, metadata: {name: x}, spec: {dataCenter: another}}")
        .await;
    victim.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    let asked = version(&victim.get("Host", "w1").await);
    let host = victim.until("in maintenance", "Host", "w1", |host| phase(host) == "Maintenance").await;
    let answered = version(&host);
    let written = until_all_say(&bonds, "NetworkInOtherDataCenter").await;
    let after = written.iter().filter(|bond| version(bond) > answered).count();
    let between = written.iter().filter(|bond| (asked..answered).contains(&version(bond))).count();
    println!("bonds: {between} written before the host, {after} after it");
    assert!(after > BONDS / 4, "{after} of {BONDS} bonds were written after the host: it has waited for the others");
}
