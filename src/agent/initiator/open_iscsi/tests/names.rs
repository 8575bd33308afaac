//! Portals with a DNS name. `getent` is a script that prints a file.

use super::*;
use crate::api::{Portal, portal_policy::PortalPolicy};

const RECORDS: &str = "etc/iscsi/nodes/iqn.2003-01.org.example:a";

impl TestHost {
    fn with_names() -> Self {
        let host = TestHost::new();
        let script = format!("#!/bin/sh\ncat {}/addresses.$2 2>/dev/null || exit 2\n", host.root.path().display());
        fs::write(host.file("bin/getent"), script).unwrap();
        fs::set_permissions(host.file("bin/getent"), Permissions::from_mode(0o755)).unwrap();
        host
    }

    /// What `san.example.com` stands for from now on.
    fn resolve(&self, addresses: &[&str]) {
        let lines: Vec<String> =
            addresses.iter().map(|address| format!("{address} STREAM\n{address} DGRAM\n")).collect();
        fs::write(self.file("addresses.san.example.com"), lines.concat()).unwrap();
    }

    /// The portals of the sessions, and what the kernel shows for each.
    async fn portals(&self) -> Vec<(String, String)> {
        let kernel = self.initiator.reader.sessions().await.unwrap();
        let kernel = kernel.iter().map(|entry| entry.path.portal.host().to_owned());
        self.sessions().await.iter().map(|session| session.path.portal.to_string()).zip(kernel).collect()
    }
}

fn san() -> IscsiPath {
    IscsiPath { portal: Portal::new("san.example.com", 3260), ..path("a", "1", "ens1") }
}

fn pair(portal: &str, address: &str) -> Vec<(String, String)> {
    vec![(portal.to_owned(), address.to_owned())]
}

#[tokio::test]
async fn a_name_is_dialled_and_recorded_by_address_and_reported_by_name() {
    let mut host = TestHost::with_names();
    host.resolve(&["10.0.2.10", "10.0.1.10"]);
    host.initiator.login(&login(san())).await.unwrap();
    assert_eq!(host.calls(), ["iface new", "node new", "node login"]);
    let by_name = pair("san.example.com:3260", "10.0.1.10");
    assert_eq!(host.portals().await, by_name);
    assert!(host.file(&format!("{RECORDS}/10.0.1.10,3260,1/mb.ens1")).exists());

    host.resolve(&["10.0.3.10"]);
    host.initiator.login(&login(san())).await.unwrap();
    host.restart();
    host.initiator.login(&login(san())).await.unwrap();
    assert_eq!(host.portals().await, by_name, "another answer of DNS takes no session away");
    assert_eq!(host.calls(), [""; 0], "nor does it make one");

    let session = host.sessions().await.remove(0);
    host.initiator.logout(&session).await.unwrap();
    assert!(!host.file(&format!("{RECORDS}/10.0.1.10,3260,1/mb.ens1")).exists());
    host.initiator.login(&login(san())).await.unwrap();
    assert_eq!(host.portals().await, pair("san.example.com:3260", "10.0.3.10"), "it counts for the next login");
}

#[tokio::test]
async fn a67_stored_credentials_are_found_by_the_address_and_by_the_name_of_a_portal() {
    let host = TestHost::with_names();
    host.resolve(&["10.0.1.10"]);
    let by_address = path("a", "2", "ens1");
    let stored = async |path: &IscsiPath| host.initiator.stored_credentials(path).await;
    for (path, password) in [(san(), "hunter2"), (by_address, "hunter3")] {
        assert_eq!(stored(&path).await, None);
        let login = with_chap(login(path.clone()), password);
        host.initiator.login(&login).await.unwrap();
        assert_eq!(stored(&path).await, login.credentials);
        let elsewhere = IscsiPath { interface: Some("ens2".into()), ..path };
        assert_eq!(stored(&elsewhere).await, None);
    }
}

#[tokio::test]
async fn a_name_of_refused_addresses_only_is_not_dialled() {
    let host = TestHost::with_names();
    let policy: PortalPolicy = r#"{"allowed": ["10.0.1.0/24"]}"#.parse().unwrap();
    let login = Login { portals: policy.rules("frankfurt"), ..login(san()) };
    for (addresses, why) in [
        (&["127.0.0.1"][..], "127.0.0.1 is a loopback address"),
        (&["10.0.9.9"], "10.0.9.9 is in none of the subnets"),
        (&[], "the host cannot resolve the portal's name san.example.com"),
    ] {
        host.resolve(addresses);
        let error = host.initiator.login(&login).await.unwrap_err();
        assert_eq!((error.reason, host.calls()), (PathReason::NameNotResolved, Vec::new()));
        assert!(error.message.contains(why), "{error}");
    }
    host.resolve(&["10.0.9.9", "10.0.1.10"]);
    host.initiator.login(&login).await.unwrap();
    assert_eq!(host.portals().await, pair("san.example.com:3260", "10.0.1.10"));
}

#[tokio::test]
async fn a_session_that_the_target_sends_on_to_a_refused_address_is_logged_out() {
    let host = TestHost::with_names();
    host.resolve(&["10.0.1.10"]);
    for path in [path("a", "1", "ens1"), san()] {
        fs::write(host.file("sent-on-to"), "127.0.0.1\n").unwrap();
        let error = host.initiator.login(&login(path.clone())).await.unwrap_err();
        let message = "10.0.1.10:3260 has sent the login on to an address that is not dialled: 127.0.0.1 is a loopback \
                       address, where no storage can be; it was logged out again";
        assert_eq!((error.reason, &*error.message), (PathReason::PortalUnreachable, message));
        assert_eq!(host.sessions().await, []);
        fs::write(host.file("new-tag"), "0\n").unwrap();
        let error = host.initiator.login(&login(path.clone())).await.unwrap_err();
        assert_eq!((&*error.message, host.sessions().await), (message, vec![]), "also with another tag");
        fs::remove_file(host.file("new-tag")).unwrap();
        fs::write(host.file("sent-on-to"), "10.0.1.11\n").unwrap();
        host.initiator.login(&login(path)).await.unwrap();
        let session = host.sessions().await.remove(0);
        host.initiator.logout(&session).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_that_may_be_undone_never_counts_while_its_login_lasts() {
    let host = TestHost::with_names();
    let login = login(path("a", "1", "ens1"));
    host.initiator.login(&login).await.unwrap();
    let other_tag = Login { only_tpgt: Some(2), ..login.clone() };
    let names = &host.initiator.names;
    names.login_begins(&login.path, &other_tag);
    assert!(!host.sessions().await[0].is_live(), "its portal group is not the wanted one");
    names.login_begins(&login.path, &login);
    assert!(host.sessions().await[0].is_live(), "it is as wanted");
    fs::write(host.file("sys/class/iscsi_session/session1/iscsi_host/host1/netdev"), "ens2\n").unwrap();
    host.initiator.claim(BTreeSet::from([path("a", "1", "ens2")]), BTreeMap::new());
    assert!(!host.sessions().await[0].is_live(), "it is on another interface");
    names.login_ends(&login.path);
    assert!(host.sessions().await[0].is_live(), "an older session is kept");
}

#[tokio::test]
async fn a_session_that_is_sent_on_after_its_login_never_counts() {
    let host = TestHost::with_names();
    let policy: PortalPolicy = r#"{"allowed": ["10.0.1.0/24"]}"#.parse().unwrap();
    host.initiator.judge_by(policy.rules("frankfurt"));
    host.resolve(&["10.0.1.10"]);
    let connected_to = |address: &str| {
        fs::write(host.file("sys/class/iscsi_connection/connection1:0/address"), format!("{address}\n")).unwrap();
    };
    for path in [path("a", "1", "ens1"), san()] {
        host.initiator.login(&login(path.clone())).await.unwrap();
        connected_to("10.0.1.11");
        assert!(host.sessions().await[0].is_live(), "an address that may be dialled");
        for (address, why) in [("127.0.0.1", "127.0.0.1 is a loopback address"), ("10.0.9.9", "10.0.9.9 is in none")] {
            connected_to(address);
            let session = host.sessions().await.remove(0);
            let refused = session.refused.as_ref().map(|cause| &*cause.message).unwrap_or_default();
            assert!(!session.is_live() && refused.contains(why) && session.path == path, "{session:?}");
        }
        connected_to("10.0.1.10");
        host.initiator.judge_by(r#"{"allowed": ["10.0.7.0/24"]}"#.parse::<PortalPolicy>().unwrap().rules("frankfurt"));
        let session = host.sessions().await.remove(0);
        assert!(session.is_live(), "new rules end no session that is where it was planned");
        host.initiator.judge_by(policy.rules("frankfurt"));
        host.initiator.logout(&session).await.unwrap();
        fs::remove_dir_all(host.file("sys/class/iscsi_connection/connection1:0")).unwrap();
    }
}

#[tokio::test]
async fn a_record_that_a_discovery_has_rewritten_costs_no_session_and_no_name() {
    let mut host = TestHost::with_names();
    host.resolve(&["10.0.1.10"]);
    host.initiator.login(&login(san())).await.unwrap();
    let by_name = pair("san.example.com:3260", "10.0.1.10");
    let record = host.file(&format!("{RECORDS}/10.0.1.10,3260,1/mb.ens1"));
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains("node.discovery_address = san.example.com\n"), "{text}");
    let theirs = text
        .replace("node.discovery_address = san.example.com", "node.discovery_address = 10.0.1.10")
        .replace("node.discovery_type = static", "node.discovery_type = send_targets");
    fs::write(&record, theirs).unwrap();
    host.restart();
    let reported = BTreeMap::from([(san(), Some(1))]);
    host.initiator.claim(BTreeSet::from([san()]), reported);
    assert_eq!(host.portals().await, by_name, "the last report tells it");
    assert_eq!(host.sessions().await[0].record_is_kept, Some(false));
    host.initiator.tidy(&BTreeSet::from([san()])).await.unwrap();
    assert_eq!(host.sessions().await[0].record_is_kept, Some(true));
    host.restart();
    assert_eq!(host.portals().await, by_name, "the record tells it again");
}

#[tokio::test]
async fn a_session_that_was_made_by_name_counts_and_stays() {
    let mut host = TestHost::with_names();
    host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap();
    // As a version made it that gave the name to open-iscsi.
    fs::write(host.file("sys/class/iscsi_connection/connection1:0/persistent_address"), "san.example.com\n").unwrap();
    host.restart();
    host.calls();
    host.initiator.login(&login(san())).await.unwrap();
    assert_eq!(host.portals().await, pair("san.example.com:3260", "san.example.com"));
    assert_eq!(host.calls(), [""; 0]);
}

#[tokio::test]
async fn a_portal_that_is_written_otherwise_keeps_its_session() {
    let mut host = TestHost::with_names();
    host.resolve(&["10.0.1.10"]);
    let by_address = path("a", "1", "ens1");
    host.initiator.login(&login(by_address.clone())).await.unwrap();
    host.calls();
    for (path, portal) in [(san(), "san.example.com:3260"), (by_address, "10.0.1.10:3260")] {
        host.initiator.login(&login(path)).await.unwrap();
        assert_eq!(host.portals().await, pair(portal, "10.0.1.10"));
        host.restart();
        assert_eq!(host.portals().await, pair(portal, "10.0.1.10"), "also after a restart");
    }
    assert_eq!(host.calls(), [""; 0]);
}

#[tokio::test]
async fn a_planned_address_has_the_session_there_and_the_name_another_or_none() {
    let mut host = TestHost::with_names();
    host.resolve(&["10.0.1.10"]);
    let by_address = path("a", "1", "ens1");
    let named = Login { siblings: BTreeSet::from([by_address.clone()]), ..login(san()) };
    let of_address = Login { siblings: BTreeSet::from([san()]), ..login(by_address) };
    // Whichever was planned first.
    host.initiator.login(&login(san())).await.unwrap();
    host.initiator.login(&of_address).await.unwrap();
    let shared = pair("10.0.1.10:3260", "10.0.1.10");
    assert_eq!(host.portals().await, shared);
    host.restart();
    assert_eq!(host.portals().await, shared, "its record says so");
    let error = host.initiator.login(&named).await.unwrap_err();
    assert_eq!(error.reason, PathReason::NameNotResolved);
    let cure = "at 10.0.1.10 the target has another portal of the DataCenter; remove one of them there";
    assert!(error.message.contains(cure), "{error}");
    host.resolve(&["10.0.1.10", "10.0.2.10"]);
    host.initiator.login(&named).await.unwrap();
    assert_eq!(host.portals().await, [shared, pair("san.example.com:3260", "10.0.2.10")].concat());
    host.initiator.login(&of_address).await.unwrap();
    assert_eq!(host.sessions().await.len(), 2, "and so it stays");
}

#[tokio::test]
async fn names_with_the_same_addresses_are_logged_in_at_one_each() {
    let host = TestHost::with_names();
    host.resolve(&["10.0.1.10", "10.0.2.10"]);
    let lines = "10.0.1.10 STREAM\n10.0.2.10 STREAM\n";
    fs::write(host.file("addresses.other.example.com"), lines).unwrap();
    let other = IscsiPath { portal: Portal::new("other.example.com", 3260), ..san() };
    let one = Login { siblings: BTreeSet::from([other.clone()]), ..login(san()) };
    let two = Login { siblings: BTreeSet::from([san()]), ..login(other) };
    let (one, two) = tokio::join!(host.initiator.login(&one), host.initiator.login(&two));
    one.unwrap();
    two.unwrap();
    let addresses: BTreeSet<_> = host.portals().await.into_iter().map(|(_, address)| address).collect();
    assert_eq!(addresses.len(), 2);
}

#[tokio::test]
async fn a_failed_login_tries_the_next_address_of_the_name() {
    let host = TestHost::with_names();
    host.resolve(&["10.0.1.10", "10.0.2.10"]);
    host.fail("login", &[8]);
    assert!(host.initiator.login(&login(san())).await.is_err());
    host.initiator.login(&login(san())).await.unwrap();
    assert_eq!(host.portals().await, pair("san.example.com:3260", "10.0.2.10"));
    host.initiator.tidy(&BTreeSet::from([san()])).await.unwrap();
    assert!(!host.file(&format!("{RECORDS}/10.0.1.10,3260,1/mb.ens1")).exists(), "the record of the first is tidied");
    assert!(host.file(&format!("{RECORDS}/10.0.2.10,3260,1/mb.ens1")).exists());
}

#[tokio::test]
async fn a_name_has_moved_once_it_lacks_the_address_of_the_session() {
    let host = TestHost::with_names();
    host.resolve(&["10.0.1.10"]);
    host.initiator.login(&login(san())).await.unwrap();
    let session = host.sessions().await.remove(0);
    let moved = async |addresses: &[&str]| {
        host.resolve(addresses);
        host.initiator.has_moved(&session).await.unwrap_or_default()
    };
    assert!(!moved(&["10.0.2.10", "10.0.1.10"]).await);
    assert!(!moved(&[]).await, "a resolver that does not answer moves nothing");
    assert!(moved(&["10.0.2.10"]).await);
}
