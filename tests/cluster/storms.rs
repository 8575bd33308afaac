//! Many hosts lose their storage at once, or for a moment: what is written about it has a bound.

use std::time::Duration;

use multibond_testbed::Write;

use super::{
    fixtures::{TWO_FABRICS, bond, hosts_on_both},
    site::{Site, phase, ready, reason, storage_operational},
};

/// More than the Nodes that may begin to show a loss in one second.
const HOSTS: usize = 24;
const PER_SECOND: usize = 20;

/// The controller's successful writes to objects of this kind whose names begin with the site's namespace, or that are in it.
fn writes(site: &Site, resource: &str) -> Vec<Write> {
    let of_site = |write: &Write| {
        write.user.ends_with(":multibond-controller")
            && write.resource == resource
            && write.code < 300
            && (write.namespace == site.namespace || write.name.starts_with(&site.namespace))
    };
    site.cluster.writes().unwrap().into_iter().filter(of_site).collect()
}

#[tokio::test]
async fn a68_a_storm_of_losses_writes_each_host_once_and_nodes_in_turn() {
    let site = Site::new("a68").await;
    let names: Vec<String> = (0..HOSTS).map(|number| format!("w{number}")).collect();
    let _agents = site.agents(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut yaml = [TWO_FABRICS, &bond("san-a, san-b")].concat();
    yaml = yaml.replace("nonOperationalAfterSeconds: 2", "nonOperationalAfterSeconds: 3600");
    yaml += &hosts_on_both(&names);
    site.apply(&yaml).await;
    for name in &names {
        site.until("Up", "Host", name, |host| phase(host) == "Up" && ready(host)).await;
        site.until_node("fine", name, |node| storage_operational(node).is_some_and(|(status, _)| status == "True"))
            .await;
    }

    // A short outage: each Host is written for the loss and for the recovery, no Node is written.
    let (hosts, nodes) = (writes(&site, "hosts").len(), writes(&site, "nodes").len());
    site.faults("faults: [{fault: Unreachable}]");
    for name in &names {
        site.until("Lost", "Host", name, |host| reason(host, "Operational") == "StorageLost").await;
    }
    site.faults("faults: []");
    for name in &names {
        site.until("back", "Host", name, |host| phase(host) == "Up" && ready(host)).await;
    }
    assert_eq!(writes(&site, "nodes").len(), nodes, "most losses are short, and no Node shows them");
    let written = writes(&site, "hosts").len() - hosts;
    // Both paths may be lost, and come back, in two reports of the agent.
    assert!(written <= 4 * HOSTS, "{written} writes to {HOSTS} hosts");

    // A long one: Nodes show it in turn, each once.
    site.faults("faults: [{fault: Unreachable}]");
    for name in &names {
        let lost = ("Unknown".to_owned(), "StorageLost".to_owned());
        site.until_node("lost", name, |node| storage_operational(node) == Some(lost.clone())).await;
    }
    let mut shown: Vec<_> = writes(&site, "nodes").split_off(nodes).into_iter().map(|write| write.at).collect();
    shown.sort();
    assert_eq!(shown.len(), HOSTS, "each Node is written once");
    let pause = shown[PER_SECOND].duration_since(shown[0]);
    // A second, less what the first request may have waited.
    assert!(pause.unsigned_abs() >= Duration::from_millis(500), "{pause:?} between the first and the next twenty");
}
