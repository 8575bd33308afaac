//! What a Host waits for its plan while an editor of another namespace does the worst.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use multibond::api::{DataCenter, Host, IscsiBond, Network};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    floor::Floor,
    scenario::{change_hosts, memory},
    site::{BenchSite, IN_FLIGHT, create},
    table::{megabytes, spread},
};

/// Longer than agents collect changes before they report them.
const QUIET: Duration = Duration::from_secs(7);
/// The bonds that one edit makes the controller write.
const BONDS: usize = 1500;
/// The networks of each bond; one of them is made and deleted.
const NETWORKS: usize = 64;
/// The pause between two edits.
const PAUSE: Duration = Duration::from_millis(500);

/// Measures the hosts of a site alone, and then during the attack.
pub async fn run(mut site: BenchSite) {
    site.observer.until_hosts("first connections", site.hosts, |_, host| host.is_done()).await;
    site.observer.until_quiet(QUIET).await;
    site.set_networks(crate::site::BOND, &["net-a", "net-b"]).await;
    site.observer.until_quiet(QUIET).await;
    let mut floor = Floor::new(&site).await;
    let alone = measure(&mut site, &mut floor).await;
    let before = memory(site.controller.id());
    eprintln!("{} hosts: alone {}", site.hosts, spread(&alone.plans));
    let attack = Attack::start(&site).await;
    let during = measure(&mut site, &mut floor).await;
    let edits = attack.stop().await;
    let after = memory(site.controller.id());
    println!("\n| | alone | while another namespace makes {edits} edits of {BONDS} bonds |\n|---|---|---|");
    println!("| one Host changed: its plan, median (maximum) | {} | {} |", spread(&alone.plans), spread(&during.plans));
    println!(
        "| the floor: two writes of a plain client, median (maximum) | {} | {} |",
        spread(&alone.floor),
        spread(&during.floor)
    );
    println!(
        "| controller memory: now (peak), MB | {} | {} |",
        megabytes(before.now, before.peak),
        megabytes(after.now, after.peak)
    );
}

/// How long single Hosts wait for their plans, and a plain client for its writes in the same time.
struct Waited {
    plans: Vec<Duration>,
    floor: Vec<Duration>,
}

async fn measure(site: &mut BenchSite, floor: &mut Floor) -> Waited {
    let (done, mut waited) = (CancellationToken::new(), Vec::new());
    let plans = async {
        let plans = change_hosts(site).await;
        done.cancel();
        plans
    };
    let writes = async {
        while !done.is_cancelled() {
            waited.push(floor.two_writes().await);
            tokio::time::sleep(PAUSE / 10).await;
        }
    };
    let (plans, ()) = tokio::join!(plans, writes);
    Waited { plans, floor: waited }
}

/// A data center in which every bond asks for every portal through every network, and edits without end.
struct Attack {
    stop: CancellationToken,
    edits: JoinHandle<usize>,
}

impl Attack {
    async fn start(site: &BenchSite) -> Self {
        let (client, namespace) = (site.client.clone(), site.cluster.namespace("attack").await.unwrap());
        declare(&client, &namespace).await;
        let stop = CancellationToken::new();
        let edits = tokio::spawn(edit(client, namespace, stop.clone()));
        // The first edit is under way.
        tokio::time::sleep(2 * PAUSE).await;
        Attack { stop, edits }
    }

    /// Ends it, and returns the number of edits.
    async fn stop(self) -> usize {
        self.stop.cancel();
        self.edits.await.unwrap()
    }
}

async fn declare(client: &Client, namespace: &str) {
    let target = |number: usize| {
        let portals: Vec<Value> =
            (1..=32).map(|portal| json!({"address": format!("10.{number}.0.{portal}")})).collect();
        json!({"iqn": format!("iqn.2003-01.org.example:t{number}"), "portals": portals})
    };
    let targets: Vec<Value> = (0..64).map(target).collect();
    create::<DataCenter>(client, namespace, "dc", json!({"storage": [{"name": "array", "targets": targets}]})).await;
    let networks: Vec<String> = (0..NETWORKS).map(|number| format!("n{number}")).collect();
    for network in &networks[1..] {
        create::<Network>(client, namespace, network, json!({"dataCenter": "dc", "subnets": ["0.0.0.0/0"]})).await;
    }
    let mut node = Node::default();
    node.metadata.name = Some("attacked".to_owned());
    Api::all(client.clone()).create(&PostParams::default(), &node).await.unwrap();
    let interface = |name: &str| json!({"name": name, "networks": networks});
    let interfaces = [interface("ens1"), interface("ens2")];
    let host = json!({"dataCenter": "dc", "nodeName": "attacked", "interfaces": interfaces});
    create::<Host>(client, namespace, "attacked", host).await;
    stream::iter(0..BONDS)
        .for_each_concurrent(IN_FLIGHT, async |number| {
            let spec = json!({"dataCenter": "dc", "networks": networks});
            create::<IscsiBond>(client, namespace, &format!("b{number}"), spec).await;
        })
        .await;
}

/// Each edit makes the controller plan the host again, or write the statuses of all bonds.
async fn edit(client: Client, namespace: String, stop: CancellationToken) -> usize {
    let networks: Api<Network> = Api::namespaced(client.clone(), &namespace);
    let data_centers: Api<DataCenter> = Api::namespaced(client.clone(), &namespace);
    let (mut edits, began) = (0, Instant::now());
    while !stop.is_cancelled() {
        if edits % 2 == 0 {
            create::<Network>(&client, &namespace, "n0", json!({"dataCenter": "another"})).await;
        } else {
            networks.delete("n0", &DeleteParams::default()).await.unwrap();
            while networks.get_opt("n0").await.unwrap().is_some() && !stop.is_cancelled() {
                tokio::time::sleep(PAUSE / 10).await;
            }
        }
        let seconds = json!({"spec": {"nonOperationalAfterSeconds": edits % 60}});
        data_centers.patch("dc", &PatchParams::default(), &Patch::Merge(seconds)).await.unwrap();
        edits += 1;
        tokio::time::sleep(PAUSE).await;
    }
    eprintln!("{edits} edits in {:.0?}", began.elapsed());
    edits
}
