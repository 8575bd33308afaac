//! etcd is restored from a backup: versions are smaller than before, and controller and agents run on.

use serde_json::{Value, json};

use super::{
    A, B, connected, control_plane,
    site::{controller, paths, ready, sessions},
};

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a26_edits_after_a_restore_of_etcd_are_followed_without_any_restart() {
    let cluster = control_plane(|_| true).await;
    let leader = controller(cluster, &[]).await;
    let (site, agents, _) = connected(cluster, "a26-restore").await;
    cluster.save().unwrap();

    // What the backup does not know: many versions, and a plan that the agent has carried out.
    for number in 0..200 {
        site.patch("DataCenter", "dc", json!({"spec": {"description": number.to_string()}})).await;
    }
    site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a"]}})).await;
    let before = site.until("one path", "Host", "w1", |host| paths(host) == [A] && ready(host)).await;

    cluster.restore().await.unwrap();
    let host = site.until("as in the backup", "Host", "w1", |host| paths(host) == [A, B] && ready(host)).await;
    assert_eq!(sessions(&host)[0], sessions(&before)[0], "the session that stays planned is not touched");
    site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-b"]}})).await;
    let host = site.until("the edit is followed", "Host", "w1", |host| paths(host) == [B] && ready(host)).await;
    assert!(version(&host) < version(&before), "the restored versions are smaller, else this tests nothing");
    for (maintenance, phase) in [(true, "Maintenance"), (false, "Up")] {
        site.patch("Host", "n1", json!({"spec": {"maintenance": maintenance}})).await;
        site.until_phase("n1", phase).await;
    }
    assert!(leader.alive() && agents.alive());
}
