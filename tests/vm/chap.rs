//! CHAP, one-way and mutual.

use std::collections::BTreeSet;

use multibond::agent::initiator::open_iscsi::records::settings::{Setting, Value as Text, changed};
use multibond_testbed::{Guest, eventually};
use serde_json::{Value, json};

use crate::{
    by_hand::{PATIENCE, device, session_numbers, sessions, until_paths},
    node::{ALPHA_ON_BOTH_FABRICS, RealNode},
    site::{SYSTEM, shared_controller},
    writer::Writer,
};

pub const ONE_WAY: &str = "iqn.2026-11.com.example:one-way";
const MUTUAL: &str = "iqn.2026-11.com.example:mutual";

/// Both targets on both fabrics, each with a Secret.
fn storage() -> Value {
    let target = |iqn: &str, portals: [&str; 2], secret: &str| {
        json!({"iqn": iqn, "portals": portals.map(|address| json!({"address": address})),
               "chap": {"secretRef": {"name": secret}}})
    };
    json!([{"name": "array", "targets": [
        target(ONE_WAY, ["10.0.101.1", "10.0.102.1"], "one-way"),
        target(MUTUAL, ["10.0.101.2", "10.0.102.2"], "mutual"),
    ]}])
}

/// Creates or changes the Secret of a target: the host's password, and the target's.
pub async fn write_secret(node: &RealNode, name: &str, password: &str, password_of_array: Option<&str>) {
    let mut data = json!({
        "node.session.auth.username": format!("host-{name}"),
        "node.session.auth.password": password,
    });
    if let Some(password) = password_of_array {
        data["node.session.auth.username_in"] = "array".into();
        data["node.session.auth.password_in"] = password.into();
    }
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/iscsi-chap",
        "metadata": {"name": name}, "stringData": data});
    node.site.apply(&secret.to_string()).await;
}

/// Lets agents read the Secrets of the site's namespace, as the administrator does.
pub async fn let_agents_read_secrets(node: &RealNode) {
    let role = "multibond-chap-reader";
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "multibond-agent", "namespace": SYSTEM}]});
    node.site.apply(&binding.to_string()).await;
}

/// Changes a password of a target, as the storage's administrator does; its sessions stay. `direction` is `--outgoing`
/// for the account of the array.
async fn change_password_of_array(guest: &Guest, target: &str, user: &str, password: &str, direction: &str) {
    let commands = format!(
        "set -e; tid=$(tgtadm --mode target --op show | sed -n 's/^Target \\(.*\\): {target}$/\\1/p')
         tgtadm --mode account --op delete --user {user}
         tgtadm --mode account --op new --user {user} --password {password}
         tgtadm --mode account --op bind --tid $tid --user {user} {direction}"
    );
    guest.run_ok(&commands).await.unwrap();
}

/// Logs the arguments of every iscsiadm that is found by `PATH` from now on.
async fn log_arguments(guest: &Guest) {
    let wrapper = "tool=$(command -v iscsiadm)
        printf '#!/bin/sh\\necho \"$*\" >>/root/arguments\\nexec %s \"$@\"\\n' $tool >/usr/local/sbin/iscsiadm
        chmod 755 /usr/local/sbin/iscsiadm";
    guest.run_ok(wrapper).await.unwrap();
}

/// Checks that the passwords are in open-iscsi's records, which only root can read, and never were arguments.
async fn check_where_passwords_are(guest: &Guest, passwords: &[&str]) {
    let arguments = guest.run_ok("cat /root/arguments").await.unwrap();
    assert!(arguments.contains("--op=new") && arguments.contains("--login"), "{arguments}");
    let records = guest.records();
    for password in passwords {
        assert!(!arguments.contains(password), "{password} was an argument");
        let modes = format!("find {records} -type f -exec grep -lF {password} '{{}}' + | xargs stat --format '%a %U'");
        let modes = guest.run_ok(&modes).await.unwrap();
        assert!(!modes.is_empty() && modes.lines().all(|mode| mode == "600 root"), "{password}: {modes}");
    }
}

/// The host's clock, in seconds.
async fn now(guest: &Guest) -> i64 {
    guest.run_ok("date +%s").await.unwrap().trim().parse().unwrap()
}

/// The smallest number of disks at any moment, from the kernel's events; `disks` is the number at the start.
fn fewest_disks(events: &str, mut disks: i32) -> i32 {
    let mut fewest = disks;
    for event in events.lines().filter(|event| event.contains("/block/sd")) {
        match event.split_whitespace().nth(1) {
            Some("add") => disks += 1,
            Some("remove") => disks -= 1,
            _ => {}
        }
        fewest = fewest.min(disks);
    }
    fewest
}

#[tokio::test]
async fn a23_chap_secrets_are_corrected_and_rotated_and_never_disclosed() {
    let node = RealNode::new("chap").await;
    node.guest.run_ok("systemctl set-environment RUST_LOG=multibond=trace").await.unwrap();
    log_arguments(&node.guest).await;
    let_agents_read_secrets(&node).await;
    write_secret(&node, "one-way", "wrong-secret-1", None).await;
    write_secret(&node, "mutual", "mutual-secret", Some("array-secret-1")).await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage()}})).await;
    node.start_agent("").await;
    for portal in ["10.0.101.1:3260", "10.0.102.1:3260"] {
        let refused = node.until_path(portal, "Failed", Some("AuthenticationFailed")).await;
        assert_eq!(refused["retryEvery"], "10m");
    }
    node.until_paths("2/4").await;
    until_paths(&node.guest, 2, 0).await;
    let device = device(&node.guest, 2).await;

    let corrected = now(&node.guest).await;
    write_secret(&node, "one-way", "one-way-secret", None).await;
    for portal in ["10.0.101.1:3260", "10.0.102.1:3260"] {
        let connected = node.until_path(portal, "Connected", None).await;
        let since: k8s_openapi::jiff::Timestamp = connected["since"].as_str().unwrap().parse().unwrap();
        let after = since.as_second() - corrected;
        assert!(after < 30, "connected after {after} s, and the shortest pause of a slow retry is 60 s");
    }

    let writer = Writer::start(&node.guest, &device).await;
    node.guest.spawn("disks", "exec stdbuf -oL udevadm monitor --kernel --subsystem-match=block").await.unwrap();
    eventually("the kernel's announcements are heard", PATIENCE, async || {
        let log = node.guest.log("disks").await.unwrap();
        if log.contains("KERNEL - ") { Ok(()) } else { Err(log) }
    })
    .await;
    change_password_of_array(&node.guest, MUTUAL, "host-mutual", "mutual-secret-2", "").await;
    change_password_of_array(&node.guest, MUTUAL, "array", "array-secret-2", "--outgoing").await;
    // The target cannot prove its identity with this. Only one path is tried; the other stays.
    write_secret(&node, "mutual", "mutual-secret-2", Some("wrong-secret-2")).await;
    let is_refused = |path: &&Value| path["target"] == MUTUAL && path["reason"] == "TargetNotFound";
    let host = node
        .site
        .until("one path refused", "Host", "w1", |host| {
            host["status"]["connections"].as_array().unwrap().iter().filter(is_refused).count() == 1
        })
        .await;
    let refused = host["status"]["connections"].as_array().unwrap().iter().find(is_refused).unwrap();
    assert!(refused["message"].as_str().unwrap().contains("password_in"), "{refused}");
    writer.until_passes(1).await;
    assert_eq!(sessions(&node.guest).await.iter().filter(|session| session.ends_with(MUTUAL)).count(), 1);

    write_secret(&node, "mutual", "mutual-secret-2", Some("array-secret-2")).await;
    eventually("both sessions have the new passwords", PATIENCE, async || {
        let passwords = "cd /sys/class/iscsi_session && grep -l host-mutual */username | while read -r file; do
            cat ${file%/*}/password ${file%/*}/password_in ${file%/*}/state; done | tr '\\n' ' '";
        let found = node.guest.run_ok(passwords).await.unwrap();
        let one = "mutual-secret-2 array-secret-2 LOGGED_IN ";
        if found == one.repeat(2) { Ok(()) } else { Err(found) }
    })
    .await;
    node.until_paths("4/4").await;
    writer.until_passes(1).await;
    writer.finish().await;
    let events = node.guest.log("disks").await.unwrap();
    assert_eq!(fewest_disks(&events, 2), 1, "{events}");

    let passwords = ["one-way-secret", "mutual-secret-2", "array-secret-2"];
    check_where_passwords_are(&node.guest, &passwords).await;
    let outputs = [
        node.site.get("Host", "w1").await.to_string(),
        node.site.get("DataCenter", "dc").await.to_string(),
        node.site.events("Host", "w1").await.join("\n"),
        shared_controller().await.log(),
        node.guest.run_ok("journalctl --no-pager --output=export").await.unwrap(),
    ];
    assert!(outputs[4].contains("AuthenticationFailed"), "the agent's log is in the journal");
    for secret in ["wrong-secret", "one-way-secret", "mutual-secret", "array-secret", "host-mutual", "host-one-way"] {
        assert!(outputs.iter().all(|text| !text.contains(secret)), "{secret} is disclosed");
    }
}

#[tokio::test]
async fn a23_new_passwords_reach_lost_sessions_and_only_what_is_kept_is_taken() {
    let node = RealNode::new("chap-lost").await;
    whatever_a_secret_may_hold_is_read_back_by_iscsiadm(&node.guest).await;
    let_agents_read_secrets(&node).await;
    a_password_with_a_blank_at_its_end_is_refused_before_a_login(&node).await;
    a_password_that_changes_while_both_sessions_are_lost_is_used(&node).await;
}

/// What the unit tests say of open-iscsi's format, with the real tool.
async fn whatever_a_secret_may_hold_is_read_back_by_iscsiadm(guest: &Guest) {
    const PASSWORD: &str = "node.session.auth.password";
    let tool = "iscsiadm -m node -T iqn.2026-11.com.example:kept -p 10.0.101.9:3260,1 -I hand.kept";
    guest.run_ok(&format!("iscsiadm -m iface -I hand.kept --op=new && {tool} --op=new")).await.unwrap();
    let file = &format!("{}/nodes/iqn.2026-11.com.example:kept/10.0.101.9,3260,1/hand.kept", guest.records());
    let made = guest.read(file).await.unwrap();
    let read_back = async |text: &str| {
        guest.write(file, text).await.unwrap();
        let shown = guest.run_ok(&format!("{tool} --op=show --show")).await.unwrap();
        let line = shown.lines().find_map(|line| line.strip_prefix(&format!("{PASSWORD} = ")));
        (line.unwrap_or_default().to_owned(), shown.lines().count())
    };
    let with = |value: &str| {
        let change = Setting { name: PASSWORD, value: Text::Plain(value.to_owned()) };
        changed(&made, &[change]).map(|text| String::from_utf8(text).unwrap())
    };
    let lines = read_back(&with("x").unwrap()).await.1;
    let long = "x".repeat(254);
    for value in
        ["a b", "#a", "a=b", "=", "\"a\"", "'a'", "\\n", "-v", "a\tb", "\u{a0}é\u{a0}", "%s", "x (null)", &long]
    {
        assert_eq!(read_back(&with(value).unwrap()).await, (value.to_owned(), lines));
    }
    for value in [" a", "a ", "a\t", "a\u{b}", "a\u{c}", "a\r", &"x".repeat(256)] {
        assert!(with(value).is_err(), "{value:?}");
        let as_it_is = with("@").unwrap().replace('@', value);
        assert_ne!(read_back(&as_it_is).await.0, value);
    }
    guest.run_ok(&format!("{tool} --op=delete; iscsiadm -m iface -I hand.kept --op=delete")).await.unwrap();
}

async fn a_password_with_a_blank_at_its_end_is_refused_before_a_login(node: &RealNode) {
    log_arguments(&node.guest).await;
    write_secret(node, "one-way", "one-way-secret ", None).await;
    node.site.apply(ALPHA_ON_BOTH_FABRICS).await;
    let storage = json!([{"name": "array", "targets": [storage()[0]["targets"][0]]}]);
    node.site.patch("DataCenter", "dc", json!({"spec": {"storage": storage}})).await;
    node.start_agent("").await;
    for portal in ["10.0.101.1:3260", "10.0.102.1:3260"] {
        let refused = node.until_path(portal, "Failed", Some("SecretNotFound")).await;
        assert!(!refused["message"].as_str().unwrap().contains("blank"), "the status says no more than of others");
    }
    let log = node.guest.log("agent").await.unwrap();
    assert!(log.contains("node.session.auth.password begins or ends with a blank"), "{log}");
    assert_eq!(sessions(&node.guest).await, Vec::<String>::new());
    write_secret(node, "one-way", "one-way-secret", None).await;
    node.until_paths("2/2").await;
}

async fn a_password_that_changes_while_both_sessions_are_lost_is_used(node: &RealNode) {
    let before = session_numbers(&node.guest).await;
    change_password_of_array(&node.guest, ONE_WAY, "host-one-way", "one-way-secret-2", "").await;
    for portal in ["10.0.101.1", "10.0.102.1"] {
        node.guest.drop_packets_to(portal).await.unwrap();
    }
    for portal in ["10.0.101.1:3260", "10.0.102.1:3260"] {
        node.until_path(portal, "Failed", Some("PortalUnreachable")).await;
    }
    node.guest.drop_nothing().await.unwrap();
    write_secret(node, "one-way", "one-way-secret-2", None).await;
    node.until_paths("2/2").await;
    let after: BTreeSet<_> = session_numbers(&node.guest).await;
    assert!(after.len() == 2 && after.is_disjoint(&before), "{before:?} {after:?}");
    check_where_passwords_are(&node.guest, &["one-way-secret-2"]).await;
}
