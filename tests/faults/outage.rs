//! The API server stops or pauses, and returns: no session is lost, and nothing is done twice.

use std::time::{Duration, Instant};

use multibond_testbed::eventually;
use serde_json::{Value, json};

use super::{
    alone,
    replica::Replica,
    settled::{held, until_settled},
    site::{PATIENCE, Site, condition, paths},
    two_hosts,
};

/// Longer than the leases of the leader and of the agents.
const OUTAGE: Duration = Duration::from_secs(10);

/// Waits until the outage has lasted for its full time.
async fn until_outage_is_over(since: Instant) {
    tokio::time::sleep_until((since + OUTAGE).into()).await;
}

fn operational_since(host: &Value) -> String {
    condition(host, "Operational")["lastTransitionTime"].to_string()
}

#[tokio::test]
async fn a26_sessions_stay_and_agents_reconnect_without_the_api_server() {
    let (cluster, _turn) = alone().await;
    let site = Site::on(cluster, "outage").await;
    let controller = Replica::start(cluster, "controller").await;
    // The last path of w2 has never been connected before the outage.
    site.faults("faults: [{host: w2, portal: '10.0.2.10:3260', fault: Unreachable}]");
    let agents = site.agents(&["w1", "w2"]).await;
    site.apply(&two_hosts()).await;
    site.until_phase("w1", "Up").await;
    let degraded = site.until_phase("w2", "Degraded").await;
    let before = (held(&site, "w1"), held(&site, "w2"));
    let operational = operational_since(&degraded);
    let up_since = operational_since(&site.get("Host", "w1").await);

    let away = Instant::now();
    cluster.stop_api_server();
    site.faults("faults: []");
    let healed = eventually("the agent heals what it can", PATIENCE, async || {
        let now = held(&site, "w2");
        if now.len() == before.1.len() + 1 { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert_eq!(healed[..before.1.len()], before.1, "what was connected is still the same session");
    controller.until_role("standby").await;
    // A new agent has no plan yet, so it changes nothing.
    agents.kill();
    let agents = site.simulate();
    until_outage_is_over(away).await;
    assert_eq!((held(&site, "w1"), held(&site, "w2")), (before.0.clone(), healed.clone()));
    assert!(controller.process.alive() && agents.alive());
    cluster.start_api_server().await.unwrap();

    site.until_phase("w2", "Up").await;
    let host = site.until("its paths are connected", "Host", "w1", |host| paths(host).len() == 2).await;
    controller.until_ready().await;
    assert_eq!((held(&site, "w1"), held(&site, "w2")), (before.0, healed));
    for process in [&controller.process, &agents] {
        assert!(!process.log().contains("ERROR"), "a retried request is not logged as an error:\n{}", process.log());
    }
    // No agent counts as silent because of the outage.
    assert_eq!(operational_since(&host), up_since);
    assert_eq!(operational_since(&site.get("Host", "w2").await), operational);
}

#[tokio::test]
async fn a26_edits_and_a_restart_around_an_outage_converge() {
    let (cluster, _turn) = alone().await;
    let site = Site::on(cluster, "edits").await;
    let first = Replica::start(cluster, "first").await;
    let second = Replica::prepare(cluster, "second").await;
    let _agents = site.agents(&["w1", "w2"]).await;
    site.apply(&two_hosts()).await;
    site.until_phase("w1", "Up").await;
    site.until_phase("w2", "Up").await;

    site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-a"]}})).await;
    let away = Instant::now();
    cluster.stop_api_server();
    first.process.kill();
    let second = second.start();
    until_outage_is_over(away).await;
    assert!(second.process.alive(), "it must wait for the API server");
    cluster.start_api_server().await.unwrap();
    site.patch("Host", "w2", json!({"spec": {"maintenance": true}})).await;
    let portals = json!([{"address": "10.0.1.10"}, {"address": "10.0.1.11"}, {"address": "10.0.2.10"}]);
    let storage = json!([{"name": "array", "targets": [{"iqn": "iqn.2003-01.org.example:array", "portals": portals}]}]);
    site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;

    until_settled(&site).await;
    let connected = ["10.0.1.10:3260 ens1 Connected", "10.0.1.11:3260 ens1 Connected"];
    assert_eq!(paths(&site.get("Host", "w1").await), connected);
    assert!(paths(&site.get("Host", "w2").await).is_empty());
    second.until_ready().await;
}

#[tokio::test]
async fn a26_paused_api_server_is_handled_like_a_stopped_one() {
    let (cluster, _turn) = alone().await;
    let site = Site::on(cluster, "still").await;
    let controller = Replica::start(cluster, "controller").await;
    let _agents = site.agents(&["w1", "w2"]).await;
    site.apply(&two_hosts()).await;
    let before = operational_since(&site.until_phase("w1", "Up").await);
    let sessions = held(&site, "w1");

    let away = Instant::now();
    cluster.pause_api_server().unwrap();
    controller.until_role("standby").await;
    until_outage_is_over(away).await;
    cluster.resume_api_server().unwrap();
    controller.until_role("leader").await;
    site.patch("IscsiBond", "storage", json!({"spec": {"networks": ["san-b"]}})).await;
    until_settled(&site).await;
    let host = site.get("Host", "w1").await;
    assert_eq!(paths(&host), ["10.0.2.10:3260 ens2 Connected"]);
    assert_eq!(operational_since(&host), before);
    // The first logins run in parallel: either may be the first session.
    let kept: Vec<_> = sessions.into_iter().filter(|session| session.portal == "10.0.2.10:3260").collect();
    assert_eq!(held(&site, "w1"), kept);
}

#[tokio::test]
async fn a26_agents_killed_during_an_edit_lose_no_session() {
    let (cluster, _turn) = alone().await;
    let site = Site::on(cluster, "agents").await;
    let _controller = Replica::start(cluster, "controller").await;
    let mut agents = site.agents(&["w1", "w2"]).await;
    site.apply(&two_hosts()).await;
    until_settled(&site).await;
    let through_a = || ["w1", "w2"].map(|node| held(&site, node).into_iter().find(|it| it.portal == "10.0.1.10:3260"));
    let first = through_a();

    for step in 0..10_u64 {
        let networks = if step % 2 == 0 { json!(["san-a"]) } else { json!(["san-a", "san-b"]) };
        site.patch("IscsiBond", "storage", json!({"spec": {"networks": networks}})).await;
        tokio::time::sleep(Duration::from_millis(step * 30)).await;
        agents.kill();
        agents = site.simulate();
        until_settled(&site).await;
        assert_eq!(through_a(), first, "killed after {} ms", step * 30);
    }
}
