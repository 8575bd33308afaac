//! Each transition of a host is one Event, with the details that an administrator needs.

use super::{
    fixtures::{HOST_ON_BOTH, TWO_FABRICS, bond},
    site::{Site, phase, ready},
};

#[tokio::test]
async fn each_host_transition_and_each_bond_change_is_one_event() {
    let site = Site::new("events").await;
    let _agents = site.agents(&["w1"]).await;
    site.apply(&[TWO_FABRICS, HOST_ON_BOTH, &bond("san-a, san-b")].concat()).await;
    site.until("Up", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;
    let begun = site.until_event("Host", "w1", "Normal Up").await.len();

    site.faults("faults: [{portal: '10.0.2.10:3260', fault: Unreachable}]");
    site.until_phase("w1", "Degraded").await;
    site.until_event("Host", "w1", "Warning Degraded").await;
    site.until_event("IscsiBond", "storage", "Warning PathsFailed").await;
    site.faults("faults: [{fault: Unreachable}]");
    site.until_phase("w1", "NonOperational").await;
    site.until_event("IscsiBond", "storage", "Warning HostsNonOperational").await;
    site.faults("faults: [{portal: '10.0.2.10:3260', fault: Unreachable}]");
    site.until_phase("w1", "Degraded").await;
    site.until_event("IscsiBond", "storage", "Normal HostsOperational").await;
    site.faults("faults: []");
    site.until("Up", "Host", "w1", |host| phase(host) == "Up" && ready(host)).await;
    let of_bond = site.until_event("IscsiBond", "storage", "Normal PathsRecovered").await;

    let events = site.until_event("Host", "w1", "Normal Up: was Degraded").await.split_off(begun);
    let wanted = ["Warning Degraded", "Warning Lost", "Warning NonOperational", "Warning Degraded", "Normal Up"];
    assert_eq!(words(&events), wanted, "{events:#?}");
    for (event, portal) in [(&events[0], "10.0.2.10:3260"), (&events[2], "10.0.1.10:3260")] {
        for part in ["iqn.2003-01.org.example:array", portal, "san-b", "PortalUnreachable"] {
            assert!(event.contains(part), "{part} in {event}");
        }
    }
    let once =
        ["Warning PathsFailed", "Warning HostsNonOperational", "Normal HostsOperational", "Normal PathsRecovered"];
    assert_eq!(words(&of_bond), once, "{of_bond:#?}");
}

/// Type and reason of each Event.
fn words(events: &[String]) -> Vec<&str> {
    events.iter().filter_map(|event| event.split(':').next()).collect()
}
