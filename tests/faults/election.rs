//! Leader election: exactly one replica acts, also after crashes, pauses and network failures.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use multibond_testbed::{ControlPlane, eventually};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{
    alone,
    line::{Line, State},
    replica::{LEASE, Replica, acts, api_server, leader, turns},
    site::{PATIENCE, Site},
};

/// Allowance for a busy machine.
const BUSY: Duration = Duration::from_secs(4);
const NETWORKS: usize = 10;

/// Networks whose descriptions change all the time: the leader writes a status for each change.
struct Work {
    site: Site,
    changing: JoinHandle<()>,
}

impl Work {
    async fn begin(cluster: &'static ControlPlane) -> Self {
        let site = Site::on(cluster, "election").await;
        for number in 0..NETWORKS {
            let network = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Network",
                "metadata": {"name": format!("net-{number}")}, "spec": {"dataCenter": "dc"}});
            site.apply(&network.to_string()).await;
        }
        let api = site.api("Network").await;
        let changing = tokio::spawn(async move {
            for count in 0_usize.. {
                let name = format!("net-{}", count % NETWORKS);
                let patch = kube::api::Patch::Merge(json!({"spec": {"description": format!("change {count}")}}));
                api.patch(&name, &kube::api::PatchParams::default(), &patch).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Work { site, changing }
    }

    /// Stops the changes, and waits until the last of them are observed.
    async fn end(self) {
        self.changing.abort();
        for number in 0..NETWORKS {
            let observed = |network: &serde_json::Value| {
                network["status"]["observedGeneration"] == network["metadata"]["generation"]
            };
            self.site.until("observed", "Network", &format!("net-{number}"), observed).await;
        }
    }
}

/// Waits until a replica has written since that time. Returns how long that took.
async fn until_writes(cluster: &ControlPlane, replica: &Replica, since: Timestamp) -> Duration {
    let begun = Instant::now();
    eventually(&format!("{} writes", replica.name), PATIENCE, async || {
        if acts(cluster, &[replica], since).is_empty() { Err("nothing yet") } else { Ok(()) }
    })
    .await;
    begun.elapsed()
}

#[tokio::test]
async fn a26_killed_leader_is_replaced_after_its_lease_or_at_once_on_sigterm() {
    let (cluster, _turn) = alone().await;
    let begun = Timestamp::now();
    let work = Work::begin(cluster).await;
    let (one, two) = (Replica::start(cluster, "one").await, Replica::start(cluster, "two").await);
    let (killed, next) = leader(cluster, [&one, &two]).await;
    until_writes(cluster, killed, begun).await;

    killed.process.kill();
    let after_kill = until_writes(cluster, next, begun).await;
    println!("takeover after SIGKILL: {after_kill:?}, with a lease of {LEASE:?}");
    assert!(after_kill < LEASE + BUSY, "{after_kill:?}");

    let last = Replica::start(cluster, "last").await;
    last.until_role("standby").await;
    let terminated = Instant::now();
    let status = next.process.term(PATIENCE).await.unwrap();
    until_writes(cluster, &last, begun).await;
    let after_term = terminated.elapsed();
    println!("takeover after SIGTERM: {after_term:?}");
    assert!(status.success() && after_term < LEASE, "{status}, {after_term:?}");
    work.end().await;
    let order = turns(&acts(cluster, &[&one, &two, &last], begun));
    assert_eq!(order, [killed.name, next.name, "last"]);
}

#[tokio::test]
async fn a26_leader_paused_longer_than_its_lease_writes_nothing_more() {
    let (cluster, _turn) = alone().await;
    let begun = Timestamp::now();
    let work = Work::begin(cluster).await;
    let replicas = [&Replica::start(cluster, "one").await, &Replica::start(cluster, "two").await];
    let mut leaders = Vec::new();
    for _ in 0..4 {
        let (paused, next) = leader(cluster, replicas).await;
        until_writes(cluster, paused, Timestamp::now()).await;
        leaders.push(paused.name);
        paused.process.pause().unwrap();
        until_writes(cluster, next, Timestamp::now()).await;
        paused.process.resume().unwrap();
        paused.until_role("standby").await;
    }
    let (last, _) = leader(cluster, replicas).await;
    leaders.push(last.name);
    work.end().await;
    // A single write of a replaced leader would be a separate turn.
    assert_eq!(turns(&acts(cluster, &replicas, begun)), leaders);
}

#[tokio::test]
async fn a26_disconnected_leader_steps_down_before_another_acts() {
    let (cluster, _turn) = alone().await;
    let begun = Timestamp::now();
    let work = Work::begin(cluster).await;
    let line = Line::to(api_server(cluster)).await;
    let cut_off = Replica::prepare(cluster, "cut-off").await.over(cluster, &line).start();
    cut_off.until_role("leader").await;
    let other = Replica::start(cluster, "other").await;
    other.until_role("standby").await;
    let mut leaders = vec!["cut-off"];
    for state in [State::Refused, State::Silent] {
        until_writes(cluster, &cut_off, Timestamp::now()).await;
        let cut_at = Timestamp::now();
        line.set(state);
        let stepped_down = cut_off.until_role("standby").await;
        let taken_over = stepped_down + until_writes(cluster, &other, cut_at).await;
        println!("{state:?}: stepped down after {stepped_down:?}, replaced after {taken_over:?}");
        assert!(stepped_down < LEASE && taken_over < LEASE + BUSY, "{state:?}: {stepped_down:?}, {taken_over:?}");
        assert!(cut_off.process.alive(), "it must not exit");

        line.set(State::Works);
        other.process.pause().unwrap();
        until_writes(cluster, &cut_off, Timestamp::now()).await;
        other.process.resume().unwrap();
        other.until_role("standby").await;
        leaders.extend(["other", "cut-off"]);
    }
    work.end().await;
    assert_eq!(turns(&acts(cluster, &[&cut_off, &other], begun)), leaders);
}
