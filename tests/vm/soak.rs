//! Random faults, several at once, under continuous I/O and beside a busy neighbour. The end state must be the planned
//! one, all data correct, and nothing of the neighbour's touched.

use std::{
    env,
    time::{Duration, Instant},
};

use multibond_testbed::{Chance, Nic};
use serde_json::json;

use crate::{
    busy_neighbour::BusyNeighbour,
    by_hand::{ALPHA, maps_of, until_paths, until_sessions},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
    site::reason,
    writer::Writer,
};

/// How long faults are injected, in seconds.
const LENGTH: &str = "MULTIBOND_SOAK_SECONDS";
/// The default.
const SHORT: Duration = Duration::from_secs(90);

/// The portals of the planned paths, two in each fabric.
const PORTALS: [&str; 4] = ["10.0.101.1", "10.0.101.2", "10.0.102.1", "10.0.102.2"];

/// A fault or a change that lasts for a while.
#[derive(Clone, Copy, Debug)]
enum Fault {
    HostCable,
    StorageCable,
    Portal,
    IscsidRestart,
    IscsidDown,
    AgentKilled,
    ApiServerAway,
    OtherNetworks,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::HostCable,
        Self::StorageCable,
        Self::Portal,
        Self::IscsidRestart,
        Self::IscsidDown,
        Self::AgentKilled,
        Self::ApiServerAway,
        Self::OtherNetworks,
    ];

    async fn begin(self, node: &RealNode, chance: &mut Chance) {
        match self {
            Self::HostCable => node.guest.set_link(chance.one_of(&[Nic::San1, Nic::San2]), false).await.unwrap(),
            Self::StorageCable => node.guest.set_link(chance.one_of(&[Nic::Array1, Nic::Array2]), false).await.unwrap(),
            Self::Portal => node.guest.drop_packets_to(chance.one_of(&PORTALS)).await.unwrap(),
            // Unless it is stopped already.
            Self::IscsidRestart => {
                node.guest.run_ok("! systemctl --quiet is-active iscsid || systemctl restart iscsid").await.unwrap();
            }
            Self::IscsidDown => node.stop_iscsid().await,
            Self::AgentKilled => node.kill_agent().await,
            Self::ApiServerAway => node.cut_off_api_server().await,
            Self::OtherNetworks => plan(node, chance.one_of(&[&["san-a"][..], &["san-b"], &[]])).await,
        }
    }

    async fn end(self, node: &RealNode) {
        match self {
            Self::HostCable => plug_in(node, [Nic::San1, Nic::San2]).await,
            Self::StorageCable => plug_in(node, [Nic::Array1, Nic::Array2]).await,
            Self::Portal => node.guest.drop_nothing().await.unwrap(),
            Self::IscsidRestart => {}
            Self::IscsidDown => node.start_iscsid().await,
            Self::AgentKilled => node.start_agent("").await,
            Self::ApiServerAway => node.reach_api_server().await,
            Self::OtherNetworks => plan(node, &["san-a", "san-b"]).await,
        }
    }
}

async fn plug_in(node: &RealNode, nics: [Nic; 2]) {
    for nic in nics {
        node.guest.set_link(nic, true).await.unwrap();
    }
}

async fn plan(node: &RealNode, networks: &[&str]) {
    node.site.patch("IscsiBond", "storage", json!({"spec": {"networks": networks}})).await;
}

/// Lets up to three things fail at once, again and again, with a moment between in which all faults are over.
async fn let_fail(node: &RealNode, writer: &Writer<'_>, chance: &mut Chance, goes_on: impl Fn() -> bool) {
    let begun = Instant::now();
    while goes_on() {
        let mut faults = chance.some_of(&Fault::ALL, 3);
        println!("{:>4} s: {faults:?}", begun.elapsed().as_secs());
        for fault in &faults {
            fault.begin(node, chance).await;
            chance.pause(Duration::from_secs(3)).await;
        }
        chance.pause(Duration::from_secs(12)).await;
        chance.shuffle(&mut faults);
        for fault in &faults {
            fault.end(node).await;
            chance.pause(Duration::from_secs(3)).await;
        }
        writer.until_passes(1).await;
    }
}

#[tokio::test]
#[ignore = "takes minutes by chance: `make soak` runs it"]
async fn a26_random_faults_beside_a_neighbour_cost_no_byte_and_nothing_of_its_own() {
    let length = env::var(LENGTH).map_or(SHORT, |seconds| Duration::from_secs(seconds.parse().unwrap()));
    let node = RealNode::new("soak").await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    let portals = PORTALS.map(|address| json!({"address": address}));
    let storage = json!([{"name": "array", "targets": [{"iqn": ALPHA, "portals": portals}]}]);
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
    node.start_agent("").await;
    node.until_paths("4/4").await;
    until_paths(&node.guest, 8, 0).await;
    let writer = Writer::start(&node.guest, &maps_of(&node.guest, ALPHA).await[0]).await;

    let (mut chance, begun) = (Chance::new(), Instant::now());
    let neighbour = BusyNeighbour::new(&node.guest, chance.fork()).await;
    let goes_on = || begun.elapsed() < length;
    tokio::join!(neighbour.stay_while(goes_on), let_fail(&node, &writer, &mut chance, goes_on));

    let planned = ["san1", "san1", "san2", "san2"]
        .iter()
        .zip(PORTALS)
        .map(|(interface, address)| format!("mb.{interface} LOGGED_IN {address} {ALPHA}"));
    until_sessions(&node.guest, &planned.collect::<Vec<_>>()).await;
    node.until_paths("4/4").await;
    let host = node.site.until_phase("w1", "Up").await;
    until_paths(&node.guest, 8, 0).await;
    node.until_records(&PORTALS.map(|address| format!("{address}:3260,1 {ALPHA}"))).await;
    let (seconds, last) = (begun.elapsed().as_secs(), writer.last_pass().await);
    println!("{seconds:>4} s: as planned, HostPrepared: {}; the writer's last: {last}", reason(&host, "HostPrepared"));
    writer.finish().await;
}
