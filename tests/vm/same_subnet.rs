//! Two interfaces in one subnet.

use serde_json::Value;

use crate::{
    node::RealNode,
    site::{condition, reason},
};

/// Needs a host with sessions on san1 and san2, before its agent starts.
pub async fn a35_two_interfaces_in_one_subnet_are_warned_of_with_working_advice(node: &RealNode) {
    node.guest
        .run_ok(
            "set -e
             for interface in san1 san3; do
               sysctl -q net.ipv4.conf.$interface.{rp_filter=1,arp_ignore=0,arp_announce=0}
             done
             sysctl -q net.ipv4.conf.all.rp_filter=0
             ip address add 10.0.101.103/24 dev san3
             ip link set san3 up",
        )
        .await
        .unwrap();
    node.start_agent("").await;
    // san1 comes first: its sessions exist already.
    let warned = |host: &Value| {
        let message = condition(host, "HostPrepared")["message"].as_str().unwrap_or_default();
        reason(host, "HostPrepared") == "ReversePathFilter" && message.contains("san3.arp_announce")
    };
    let host = node.site.until("a warning of both interfaces", "Host", "w1", warned).await;
    let message = condition(&host, "HostPrepared")["message"].as_str().unwrap();
    let advice: Vec<&str> = message.split("set ").skip(1).collect();
    assert_eq!(advice.len(), 6, "{message}");
    for part in &advice {
        // NAME to VALUE
        let words: Vec<&str> = part.split_whitespace().collect();
        node.guest.run_ok(&format!("sysctl -q {}={}", words[0], words[2])).await.unwrap();
    }
    node.until_paths("3/3").await;
    // The kernel sends no event for a changed setting, but one for a changed link.
    node.guest.run_ok("ip link set mgmt alias looked-at").await.unwrap();
    node.site.until("no warning", "Host", "w1", |host| reason(host, "HostPrepared") == "Prepared").await;
}
