//! Deletions that begin while no controller runs: hosts still get the full time to disconnect.

use jiff::Timestamp;
use multibond_testbed::eventually;
use serde_json::Value;

use super::{
    connected, control_plane,
    site::{PATIENCE, controller, paths, phase},
};

#[tokio::test]
async fn deletion_timeout_starts_only_when_a_controller_runs_again() {
    let cluster = control_plane(|_| true).await;
    let timeout = ["--deletion-timeout", "10s"];
    let leader = controller(cluster, &timeout).await;
    let (site, _agents, _) = connected(cluster, "away").await;
    leader.kill();
    for (kind, name) in [("Host", "w1"), ("Network", "san-a"), ("DataCenter", "dc"), ("DataCenter", "neighbour")] {
        site.delete(kind, name).await;
    }
    let marked = site.get("DataCenter", "neighbour").await["metadata"]["deletionTimestamp"].clone();
    let marked: Timestamp = marked.as_str().unwrap().parse().unwrap();
    let over = || Timestamp::now().as_second() - marked.as_second();
    eventually("the time for a deletion is over", PATIENCE, async || if over() > 10 { Ok(()) } else { Err(over()) })
        .await;

    let _leader = controller(cluster, &timeout).await;
    for (kind, name) in [("Host", "w1"), ("Network", "san-a"), ("DataCenter", "dc"), ("IscsiBond", "storage")] {
        site.until_gone(kind, name).await;
        let events = site.events(kind, name).await;
        assert_eq!(events.iter().filter(|event| event.contains("TimedOut")).count(), 0, "{kind}: {events:?}");
    }
    assert_eq!(site.held_sessions("w1"), [""; 0]);
    let left = |host: &Value| phase(host) == "Unassigned" && paths(host).is_empty();
    site.until("left alone", "Host", "n1", left).await;
}
