//! All kinds of portal addresses and target names.

use serde_json::json;

use crate::{
    by_hand::{ALPHA, sessions, until_sessions},
    damage::a25_damaged_records_and_a_stale_lock_fail_only_their_paths,
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
};

#[tokio::test]
async fn a24_a25_all_kinds_of_names_connect_and_damaged_records_are_reported() {
    let node = RealNode::new("names").await;
    a24_all_kinds_of_portal_and_target_names_connect_and_are_adopted(&node).await;
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    node.until_nothing_is_connected().await;
    node.stop_agent().await;
    a24_a_login_that_the_target_sends_on_to_a_refused_address_is_undone(&node).await;
    node.guest.run_ok(&format!("rm -f {}/ifaces/mb.*", node.guest.records())).await.unwrap();
    a25_damaged_records_and_a_stale_lock_fail_only_their_paths(&node).await;
}

async fn a24_all_kinds_of_portal_and_target_names_connect_and_are_adopted(node: &RealNode) {
    node.guest.run_ok("echo fd00:102::3 san.example.com >>/etc/hosts").await.unwrap();
    node.guest.run_ok("tgtadm --mode portal --op new --param portal=0.0.0.0:3261").await.unwrap();
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    for (network, subnets) in
        [("san-a", ["10.0.101.0/24", "fd00:101::/64"]), ("san-b", ["10.0.102.0/24", "fd00:102::/64"])]
    {
        node.site.patch("Network", network, json!({"spec": {"subnets": subnets}})).await;
    }
    let storage = json!([{"name": "array", "targets": [
        {"iqn": ALPHA, "portals": [
            {"address": "10.0.101.1"}, {"address": "10.0.101.1", "port": 3261}, {"address": "fd00:102::1"}]},
        {"iqn": "eui.02004567a425678d", "portals": [{"address": "10.0.101.2"}]},
        {"iqn": "naa.52004567ba64678d", "portals": [{"address": "fd00:102::2"}]},
        {"iqn": "iqn.2026-11.com.example:beta", "portals": [
            {"address": "san.example.com", "network": "san-b"},
            {"address": "nowhere.example.com", "network": "san-a"}]},
    ]}]);
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
    node.start_agent("").await;
    let unknown = node.until_path("nowhere.example.com:3260", "Failed", Some("NameNotResolved")).await;
    assert!(unknown["message"].as_str().unwrap().contains("nowhere.example.com"), "{unknown}");
    node.until_paths("6/7").await;

    node.guest.run_ok("echo 10.0.101.3 nowhere.example.com >>/etc/hosts").await.unwrap();
    node.until_paths("7/7").await;
    let connected = [
        "mb.san1 LOGGED_IN 10.0.101.1 iqn.2026-11.com.example:alpha",
        "mb.san1 LOGGED_IN 10.0.101.1 iqn.2026-11.com.example:alpha",
        "mb.san1 LOGGED_IN 10.0.101.2 eui.02004567a425678d",
        "mb.san1 LOGGED_IN 10.0.101.3 iqn.2026-11.com.example:beta",
        "mb.san2 LOGGED_IN fd00:102::1 iqn.2026-11.com.example:alpha",
        "mb.san2 LOGGED_IN fd00:102::2 naa.52004567ba64678d",
        "mb.san2 LOGGED_IN fd00:102::3 iqn.2026-11.com.example:beta",
    ];
    assert_eq!(sessions(&node.guest).await, connected);

    let held = node.guest.run_ok("ls /sys/class/iscsi_session").await.unwrap();
    node.kill_agent().await;
    // Another answer of DNS, and none, take no session away.
    node.guest.run_ok("sed -i 's/fd00:102::3 san/fd00:102::4 san/; /nowhere/d' /etc/hosts").await.unwrap();
    node.site.until_phase("w1", "Unknown").await;
    node.start_agent("").await;
    node.site.until_phase("w1", "Up").await;
    node.until_paths("7/7").await;
    assert_eq!(node.guest.run_ok("ls /sys/class/iscsi_session").await.unwrap(), held);

    // A session that is lost for good is made anew where its portal's name has moved to.
    node.guest.run_ok("ip -n array address del fd00:102::3/64 dev array2").await.unwrap();
    let moved = connected.map(|session| session.replace("fd00:102::3", "fd00:102::4"));
    until_sessions(&node.guest, &moved).await;
    node.until_paths("7/7").await;
    node.guest.run_ok("ip -n array address add fd00:102::3/64 dev array2 nodad").await.unwrap();
}

/// Answers each login at 10.0.101.2:3270 with "moved temporarily" (status 0x0101), to 10.0.101.4:3260.
const SENDS_LOGINS_ON: &str = r#"
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => "10.0.101.2:3270", Listen => 8, ReuseAddr => 1) or die $@;
while (my $client = $server->accept) {
    read($client, my $request, 48) == 48 or next;
    my $keys = "TargetAddress=10.0.101.4:3260,1\0";
    my ($isid, $tag) = unpack("x8 a6 x2 a4", $request);
    print $client pack("C x4 C3 a6 x2 a4 x4 N3 C2 x10", 0x23, 0, 0, length $keys, $isid, $tag, 0, 1, 1, 1, 1), $keys;
    $client->flush;
    1 while read($client, my $rest, 1);
}
"#;

/// Needs a host without sessions, in maintenance, before its agent starts; and leaves it so.
async fn a24_a_login_that_the_target_sends_on_to_a_refused_address_is_undone(node: &RealNode) {
    node.guest.write("/root/sends-on", SENDS_LOGINS_ON).await.unwrap();
    node.guest.spawn("sends-on", "exec ip netns exec array perl /root/sends-on").await.unwrap();
    let portal = json!({"address": "10.0.101.2", "port": 3270});
    let storage = json!([{"name": "array", "targets": [{"iqn": "eui.02004567a425678d", "portals": [portal]}]}]);
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": false}})).await;
    node.start_agent(r#"--allowed-portals '{"denied": ["10.0.101.4/32"]}'"#).await;
    let refused = node.until_path("10.0.101.2:3270", "Failed", Some("PortalUnreachable")).await;
    let message = "10.0.101.2:3270 has sent the login on to an address that is not dialled: 10.0.101.4 is";
    assert!(refused["message"].as_str().unwrap().starts_with(message), "{refused}");
    // Each further attempt makes a session for a moment.
    node.stop_agent().await;
    assert_eq!(sessions(&node.guest).await, [""; 0]);
    node.site.patch("Host", "w1", json!({"spec": {"maintenance": true}})).await;
    node.guest.run_ok("systemctl stop sends-on").await.unwrap();
}
