//! Health, readiness, metrics, and how the controller exits.

use std::{collections::BTreeMap, time::Duration};

use super::{
    fixtures::{HOST_ON_BOTH, TWO_FABRICS, bond},
    site::{self, PATIENCE, Site, address, get, phase, ready},
};
use multibond_testbed::eventually;

/// Samples of metrics, by name and labels.
async fn metrics(address: &str) -> BTreeMap<String, f64> {
    let (_, body) = get(address, "/metrics").await.unwrap();
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[tokio::test]
async fn metrics_count_paths_per_bond_and_hosts_per_phase() {
    let site = Site::new("metrics").await;
    site.faults("faults: [{portal: '10.0.2.10:3260', fault: Unreachable}]");
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    site.until("Degraded", "Host", "w1", |host| phase(host) == "Degraded" && ready(host)).await;

    let leader = address(site::shared_controller().await).await;
    let of_bond = format!("namespace=\"{}\",data_center=\"dc\",bond=\"storage\"", site.namespace);
    let degraded = format!("multibond_hosts{{namespace=\"{}\",data_center=\"dc\",phase=\"Degraded\"}}", site.namespace);
    let expected = [
        (format!("multibond_bond_paths_desired{{{of_bond}}}"), 2.0),
        (format!("multibond_bond_paths_connected{{{of_bond}}}"), 1.0),
        (degraded, 1.0),
    ];
    eventually("the gauges follow", PATIENCE, async || {
        let samples = metrics(&leader).await;
        let wrong = expected.iter().find(|(name, value)| samples.get(name) != Some(value));
        wrong.map_or(Ok(()), |(name, _)| Err(format!("{name} is {:?}", samples.get(name))))
    })
    .await;
    let samples = metrics(&leader).await;
    assert_eq!(samples.get("multibond_leader"), Some(&1.0));
    assert!(samples["multibond_writes_total{kind=\"Host\",action=\"status\",outcome=\"ok\"}"] >= 1.0);
    assert!(samples["multibond_reconciles_total{kind=\"IscsiBond\"}"] >= 1.0);
    assert!(samples.contains_key("multibond_queue_length"));
    assert!(samples["process_resident_memory_bytes"] > 1e6);
    let of_portal =
        format!("namespace=\"{}\",data_center=\"dc\",target=\"iqn.2003-01.org.example:array\"", site.namespace);
    let host = format!("kind=\"Host\",namespace=\"{}\",name=\"w1\"", site.namespace);
    for (name, value) in [
        (format!("multibond_portal_paths{{{of_portal},portal=\"10.0.2.10:3260\",state=\"Failed\"}}"), 1.0),
        (format!("multibond_portal_paths{{{of_portal},portal=\"10.0.1.10:3260\",state=\"Connected\"}}"), 1.0),
        (format!("multibond_condition{{{host},type=\"FullyConnected\",status=\"False\"}}"), 1.0),
        (format!("multibond_condition{{{host},type=\"Ready\",status=\"True\"}}"), 1.0),
    ] {
        assert_eq!(samples.get(&name), Some(&value), "{name}");
    }

    site.delete("IscsiBond", "storage").await;
    eventually("the gauges of the bond are gone", PATIENCE, async || {
        let samples = metrics(&leader).await;
        if samples.keys().any(|name| name.contains(&of_bond)) { Err("still there") } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn standby_is_ready_and_exits_cleanly_on_sigterm() {
    let cluster = site::shared().await;
    site::shared_controller().await;
    let standby = site::controller(cluster, &["--identity", "standby"]).await;
    let address = address(&standby).await;
    let (status, body) = eventually("ready", PATIENCE, async || {
        let (status, body) = get(&address, "/readyz").await?;
        if status.contains("200") { Ok((status, body)) } else { Err(body) }
    })
    .await;
    assert!(status.contains("200") && body.starts_with("standby"), "{status} {body}");
    assert!(get(&address, "/livez").await.unwrap().0.contains("200"));
    assert_eq!(metrics(&address).await.get("multibond_leader"), Some(&0.0));
    let ended = standby.term(Duration::from_secs(10)).await.unwrap();
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn occupied_listen_address_is_an_error_with_advice() {
    let cluster = site::shared().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let controller = site::controller(cluster, &["--listen", &address]).await;
    let ended = controller.exited(Duration::from_secs(20)).await.unwrap();
    assert_eq!(ended.code(), Some(1));
    assert!(controller.log().contains("choose another port"), "{}", controller.log());
}
