//! Tests of the initiator with a fake `iscsiadm`: a script (`tests/iscsiadm.sh`) that logs its calls, keeps records and
//! sessions as files, and fails on request. The real one is tested in virtual machines.

mod names;

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use futures::future::join_all;
use tempfile::TempDir;

use super::*;
use crate::{
    agent::{
        fixtures::path,
        host::{
            host_root::HostRoot,
            listener::fake::listen,
            processes::fake::{process, set_users},
        },
        types::credentials::{Account, Credentials, Password},
    },
    api::{SessionSettings, reason::PathReason},
};

/// A fake host in a directory.
struct TestHost {
    root: TempDir,
    initiator: OpenIscsi,
}

impl TestHost {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for directory in ["bin", "proc", "etc/iscsi", "sys/class/iscsi_session", "sys/class/iscsi_connection"] {
            fs::create_dir_all(path(directory)).unwrap();
        }
        let script = include_str!("tests/iscsiadm.sh").replace("@ROOT@", root.path().to_str().unwrap());
        fs::write(path("bin/iscsiadm"), script).unwrap();
        fs::set_permissions(path("bin/iscsiadm"), Permissions::from_mode(0o755)).unwrap();
        let initiator = TestHost::start(root.path());
        TestHost { root, initiator }
    }

    /// An initiator that has just been started.
    fn start(root: &Path) -> OpenIscsi {
        let mount_points = MountPoints { sys: root.join("sys"), proc: root.join("proc"), dev: root.join("dev") };
        let (_, changes) = watch::channel(());
        OpenIscsi::with_tools(HostTools::in_directory(root), mount_points, changes)
    }

    fn restart(&mut self) {
        self.initiator = TestHost::start(self.root.path());
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Makes the next commands that contain this word end with these exit codes.
    fn fail(&self, word: &str, codes: &[i32]) {
        let codes: Vec<_> = codes.iter().map(ToString::to_string).collect();
        fs::write(self.file(&format!("codes.{word}")), codes.join("\n") + "\n").unwrap();
    }

    /// The calls of the tool since the last time, in short.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.file("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.file("calls"));
        let word = |call: &str| {
            let mode = call.split(' ').nth(1).unwrap_or_default().to_owned();
            let what = ["new", "delete", "login", "logout"];
            let what =
                what.iter().find(|what| call.contains(&format!("--op={what}")) || call.contains(&format!("--{what}")));
            format!("{mode} {}", what.unwrap_or(&"?"))
        };
        calls.lines().map(word).collect()
    }

    /// The portals of the agent's node records, with their portal group tags.
    fn records(&self) -> Vec<String> {
        let database = records::database::Database::new(HostRoot::open(self.root.path()).unwrap());
        database.nodes().iter().map(NodeRecord::portal).collect()
    }

    async fn sessions(&self) -> Vec<Session> {
        self.initiator.inventory(&BTreeSet::new()).await.unwrap().sessions
    }
}

fn login(path: IscsiPath) -> Login {
    let (settings, portals, siblings) = Default::default();
    let (network, credentials, only_tpgt) = (None, None, None);
    let (seed, subnets) = Default::default();
    Login { path, network, settings, credentials, portals, siblings, expected_tpgt: 1, only_tpgt, seed, subnets }
}

fn with_chap(login: Login, password: &str) -> Login {
    let outgoing = Account { name: Password::from("ann".to_owned()), password: Password::from(password.to_owned()) };
    Login { credentials: Some(Credentials { outgoing, incoming: None }), ..login }
}

#[tokio::test]
async fn a_first_login_takes_three_calls_and_a_later_one_takes_one() {
    let host = TestHost::new();
    let login = login(path("a", "1", "ens1"));
    host.initiator.login(&login).await.unwrap();
    assert_eq!(host.calls(), ["iface new", "node new", "node login"]);
    host.initiator.login(&login).await.unwrap();
    assert_eq!(host.calls(), [""; 0], "there is a session");
    fs::remove_dir_all(host.file("sys/class/iscsi_session/session1")).unwrap();
    host.initiator.login(&login).await.unwrap();
    assert_eq!(host.calls(), ["node login"]);
    fs::remove_dir_all(host.file("sys/class/iscsi_session/session2")).unwrap();
    host.initiator.login(&with_chap(login, "hunter2")).await.unwrap();
    assert_eq!(host.calls(), ["node login"], "the password is in the record, and no argument");
    let record = "etc/iscsi/nodes/iqn.2003-01.org.example:a/10.0.1.10,3260,1/mb.ens1";
    assert!(fs::read_to_string(host.file(record)).unwrap().contains("node.session.auth.password = hunter2\n"));
}

#[tokio::test]
async fn a23_no_argument_of_a_tool_has_a_secret_in_it() {
    let host = TestHost::new();
    let path = path("a", "1", "ens1");
    host.initiator.login(&with_chap(login(path.clone()), "hunter2")).await.unwrap();
    let session = host.sessions().await.remove(0);
    host.initiator.logout(&session).await.unwrap();
    host.initiator.login(&with_chap(login(path), "hunter3")).await.unwrap();
    let arguments = fs::read_to_string(host.file("calls")).unwrap();
    assert!(!arguments.contains("hunter") && !arguments.contains("ann"), "{arguments}");
}

#[tokio::test]
async fn a23_the_stored_credentials_of_a_session_are_read_with_it() {
    let host = TestHost::new();
    let login = with_chap(login(path("a", "1", "ens1")), "hunter2");
    host.initiator.login(&login).await.unwrap();
    assert_eq!(host.sessions().await[0].stored_credentials, None, "the session shows no CHAP");
    for (name, text) in [("username", "ann"), ("password", "another")] {
        fs::write(host.file(&format!("sys/class/iscsi_session/session1/{name}")), text).unwrap();
    }
    let stored = login.credentials.map(|credentials| credentials.fingerprint());
    assert_eq!(host.sessions().await[0].stored_credentials, stored);
}

#[tokio::test]
async fn a25_a_record_is_not_changed_while_another_holds_the_lock() {
    let host = TestHost::new();
    let first = login(path("a", "1", "ens1"));
    host.initiator.login(&first).await.unwrap();
    fs::remove_dir_all(host.file("sys/class/iscsi_session/session1")).unwrap();
    assert!(!host.file("run/lock/iscsi/lock.write").exists(), "the agent's own is gone");
    fs::create_dir_all(host.file("run/lock/iscsi")).unwrap();
    fs::write(host.file("run/lock/iscsi/lock.write"), "").unwrap();
    let error = host.initiator.login(&with_chap(first, "hunter2")).await.unwrap_err();
    assert_eq!(error.reason, PathReason::DatabaseLocked);
    let record = "etc/iscsi/nodes/iqn.2003-01.org.example:a/10.0.1.10,3260,1/mb.ens1";
    assert!(!fs::read_to_string(host.file(record)).unwrap().contains("hunter2"));
    assert!(host.file("run/lock/iscsi/lock.write").exists(), "it is another's");
}

#[tokio::test]
async fn a23_a_refused_login_says_why_without_secrets() {
    let host = TestHost::new();
    host.fail("login", &[24]);
    fs::write(host.file("complaint"), "iscsiadm: refused ann with hunter2").unwrap();
    let login = with_chap(login(path("a", "1", "ens1")), "hunter2");
    let error = host.initiator.login(&login).await.unwrap_err();
    assert_eq!(error.reason, PathReason::AuthenticationFailed);
    assert!(error.message.contains("refused [redacted] with [redacted]"), "{error}");
}

#[tokio::test]
async fn a23_target_not_found_may_mean_that_mutual_chap_failed() {
    let host = TestHost::new();
    let one_way = with_chap(login(path("a", "1", "ens1")), "hunter2");
    let mut mutual = one_way.clone();
    if let Some(credentials) = &mut mutual.credentials {
        credentials.incoming = Some(credentials.outgoing.clone());
    }
    for (login, doubts) in [(one_way, false), (mutual, true)] {
        host.fail("login", &[19]);
        let error = host.initiator.login(&login).await.unwrap_err();
        assert_eq!(
            (error.reason, error.message.contains("password_in")),
            (PathReason::TargetNotFound, doubts),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a25_a_record_that_the_tool_cannot_use_is_recreated_once() {
    let host = TestHost::new();
    let login = login(path("a", "1", "ens1"));
    for code in [21, 7, 6] {
        host.fail("login", &[code]);
        host.initiator.login(&login).await.unwrap();
        assert!(host.calls().ends_with(&["node new".into(), "node login".into()]), "{code}");
        fs::remove_dir_all(host.file("sys/class/iscsi_session")).unwrap();
    }
    host.fail("login", &[7, 7, 7]);
    assert_eq!(host.initiator.login(&login).await.unwrap_err().reason, PathReason::InvalidRecord);
    assert_eq!(host.calls().iter().filter(|call| *call == "node login").count(), 2);
}

#[tokio::test]
async fn a25_an_unreadable_record_of_the_agent_is_replaced() {
    let host = TestHost::new();
    let login = login(path("a", "1", "ens1"));
    let record = host.file("etc/iscsi/nodes/iqn.2003-01.org.example:a/10.0.1.10,3260,1/mb.ens1");
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    fs::write(&record, [0xff, 0x00, 0x3d]).unwrap();
    // As iscsiadm 2.1.8 does: it finds no record where it can read none.
    host.fail("delete", &[21]);
    host.initiator.login(&login).await.unwrap();
    assert!(fs::read_to_string(record).unwrap().contains("node.startup = manual"));
}

#[tokio::test(start_paused = true)]
async fn a25_a_stale_lock_fails_the_login_before_a_tool_is_started() {
    let host = TestHost::new();
    fs::create_dir_all(host.file("run/lock/iscsi")).unwrap();
    fs::write(host.file("run/lock/iscsi/lock.write"), "").unwrap();
    let error = host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap_err();
    assert_eq!((error.reason, host.calls()), (PathReason::DatabaseLocked, Vec::new()));
    assert!(error.message.contains("/run/lock/iscsi/lock.write"), "{error}");
}

#[tokio::test]
async fn no_tool_is_started_over_a_lock_directory_of_another_user() {
    let host = TestHost::new();
    let directory = host.file("run/lock/iscsi");
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
    let error = host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap_err();
    assert_eq!((error.reason, host.calls()), (PathReason::DatabaseLocked, Vec::new()));
    assert!(error.message.contains("only root can write to its directory /run/lock/iscsi"), "{error}");
}

#[tokio::test]
async fn a_command_is_tried_again_if_the_tool_asks_for_that() {
    let host = TestHost::new();
    host.fail("login", &[29, 31]);
    host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap();
    assert_eq!(host.calls().iter().filter(|call| *call == "node login").count(), 3);
}

#[tokio::test]
async fn a_login_succeeds_only_if_the_kernel_has_the_session() {
    let host = TestHost::new();
    fs::write(host.file("no-session"), "").unwrap();
    let error = host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap_err();
    assert_eq!(error.reason, PathReason::Internal, "{error}");
    host.fail("login", &[15]);
    let error = host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap_err();
    assert_eq!(error.reason, PathReason::Internal, "{error}");
}

#[tokio::test]
async fn a_session_on_the_wrong_device_is_logged_out_again() {
    let host = TestHost::new();
    fs::write(host.file("astray"), "ens9").unwrap();
    let error = host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap_err();
    assert_eq!(error.reason, PathReason::WrongInterface);
    assert_eq!(error.message, "the session came up bound to ens9 instead of ens1; it was logged out again");
    assert_eq!(host.sessions().await, []);
}

#[tokio::test]
async fn a_record_that_the_tool_reads_and_does_not_delete_is_removed_as_a_file() {
    let host = TestHost::new();
    host.initiator.login(&with_chap(login(path("a", "1", "ens1")), "hunter2")).await.unwrap();
    fs::remove_dir_all(host.file("sys/class/iscsi_session/session1")).unwrap();
    // The interface record goes first, and takes no node records along.
    host.fail("delete", &[7, 7]);
    host.initiator.tidy(&BTreeSet::new()).await.unwrap();
    assert_eq!(host.records(), [""; 0], "the password is gone");
    assert!(!host.file(INTERFACE).exists());
}

#[tokio::test]
async fn a64_a_record_gets_the_answered_tag_with_the_login() {
    let host = TestHost::new();
    let first = with_chap(login(path("a", "1", "ens1")), "hunter2");
    fs::write(host.file("new-tag"), "1046").unwrap();
    host.initiator.login(&first).await.unwrap();
    assert_eq!((host.sessions().await[0].tpgt, host.records()), (1046, vec!["10.0.1.10:3260,1046".to_owned()]));
    let file = host.file("etc/iscsi/nodes/iqn.2003-01.org.example:a");
    assert!(!file.join("10.0.1.10,3260,1").exists(), "it leaves nothing behind");
    let record = fs::read_to_string(file.join("10.0.1.10,3260,1046/mb.ens1")).unwrap();
    assert!(record.contains("node.tpgt = 1046\n") && record.contains("replacement_timeout = 15\n"), "{record}");
    for (name, text) in [("username", "ann"), ("password", "another")] {
        fs::write(host.file(&format!("sys/class/iscsi_session/session1/{name}")), text).unwrap();
    }
    let stored = first.credentials.as_ref().map(Credentials::fingerprint);
    assert_eq!(host.sessions().await[0].stored_credentials, stored, "found by the path");

    fs::remove_dir_all(host.file("sys/class/iscsi_session/session1")).unwrap();
    host.initiator.login(&Login { expected_tpgt: 1046, ..first }).await.unwrap();
    assert_eq!(host.records(), ["10.0.1.10:3260,1046"], "it has only one");
    assert_eq!(host.calls().last().unwrap(), "node login", "and is not made again");
    host.initiator.logout(&host.sessions().await[0]).await.unwrap();
    assert_eq!(host.records(), [""; 0]);
}

#[tokio::test]
async fn a64_a_new_session_of_another_group_than_the_planned_is_logged_out() {
    let host = TestHost::new();
    fs::write(host.file("new-tag"), "1046").unwrap();
    let login = Login { expected_tpgt: 2, only_tpgt: Some(2), ..login(path("a", "1", "ens1")) };
    let error = host.initiator.login(&login).await.unwrap_err();
    assert_eq!(error.reason, PathReason::TargetNotFound);
    assert!(error.message.contains("portal group 1046") && error.message.contains("says 2"), "{error}");
    assert_eq!(host.sessions().await, []);
    fs::write(host.file("new-tag"), "2").unwrap();
    host.initiator.login(&login).await.unwrap();
}

#[tokio::test]
async fn a64_a_session_that_could_not_be_undone_counts_for_nothing_until_it_goes() {
    let host = TestHost::new();
    let wanted = path("a", "1", "ens1");
    for (file, text, reason) in
        [("new-tag", "1046", PathReason::TargetNotFound), ("astray", "ens9", PathReason::WrongInterface)]
    {
        fs::write(host.file(file), text).unwrap();
        host.fail("logout", &[9]);
        let login = Login { only_tpgt: Some(1), ..login(wanted.clone()) };
        let error = host.initiator.login(&login).await.unwrap_err();
        assert!(error.reason == reason && error.message.contains("logging it out again has failed"), "{error}");
        let session = host.sessions().await.remove(0);
        let refused = session.refused.as_ref().map(|cause| cause.reason);
        assert_eq!((session.is_own(), session.is_live(), refused), (true, false, Some(reason)));
        let interface = if file == "astray" { "ens9" } else { "ens1" };
        assert_eq!(session.path, IscsiPath { interface: Some(interface.into()), ..wanted.clone() });
        host.initiator.logout(&session).await.unwrap();
        fs::remove_file(host.file(file)).unwrap();
        host.initiator.login(&login).await.unwrap();
        let session = host.sessions().await.remove(0);
        assert!(session.is_live(), "as wanted: {session:?}");
        host.initiator.logout(&session).await.unwrap();
    }
}

#[tokio::test]
async fn a64_of_several_records_of_a_session_that_with_its_tag_stays() {
    let host = TestHost::new();
    fs::write(host.file("new-tag"), "1046").unwrap();
    host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap();
    let nodes = host.file("etc/iscsi/nodes/iqn.2003-01.org.example:a");
    // As a version left it that did not move the record.
    for tag in ["1", "2000"] {
        fs::create_dir_all(nodes.join(format!("10.0.1.10,3260,{tag}"))).unwrap();
        let copy = nodes.join(format!("10.0.1.10,3260,{tag}/mb.ens1"));
        fs::copy(nodes.join("10.0.1.10,3260,1046/mb.ens1"), copy).unwrap();
    }
    host.calls();
    host.initiator.tidy(&BTreeSet::from([path("a", "1", "ens1")])).await.unwrap();
    assert_eq!((host.records(), host.calls()), (vec!["10.0.1.10:3260,1046".to_owned()], Vec::new()));
    assert_eq!(fs::read_dir(nodes).unwrap().count(), 1, "with their directories");
}

#[tokio::test]
async fn a_logout_succeeds_only_if_the_session_is_gone() {
    let host = TestHost::new();
    host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap();
    let session = host.sessions().await.remove(0);
    host.fail("logout", &[21]);
    fs::write(host.file("complaint"), "iscsiadm: initiator reported error (20 - could not connect to iscsid)").unwrap();
    let error = host.initiator.logout(&session).await.unwrap_err();
    assert_eq!(error.reason, PathReason::InitiatorDown, "as iscsiadm 2.1.8 ends without its daemon");
    fs::remove_file(host.file("complaint")).unwrap();
    host.initiator.logout(&session).await.unwrap();
    assert!(!host.file("etc/iscsi/nodes/iqn.2003-01.org.example:a/10.0.1.10,3260,1/mb.ens1").exists());
    host.calls();
    assert_eq!(host.initiator.logout(&session).await, Ok(()), "it is gone already");
    assert_eq!(host.calls(), [""; 0]);
}

#[tokio::test]
async fn another_user_who_listens_in_place_of_iscsid_is_told_nothing() {
    let host = TestHost::new();
    let proc = host.file("proc");
    process(&proc, "300", "iscsid", "host");
    set_users(&proc, "300", 65534, "0000000000000000");
    listen(&proc, "300", "@ISCSIADM_ABSTRACT_NAMESPACE");
    let error = host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap_err();
    assert_eq!(error.reason, PathReason::InitiatorDown);
    assert!(error.message.contains("user 65534 listens in place of iscsid"), "{error}");
    assert_eq!(host.calls(), [""; 0], "nor is it asked for a configuration file");
    set_users(&proc, "300", 0, "000001ffffffffff");
    host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap();
}

#[tokio::test]
async fn a20_a_foreign_session_is_not_logged_out() {
    let host = TestHost::new();
    let foreign = crate::agent::fixtures::foreign(crate::agent::fixtures::session(1, path("a", "1", "ens1")));
    assert!(host.initiator.logout(&foreign).await.unwrap_err().message.contains("not ours"));
    assert_eq!(host.calls(), [""; 0]);
}

#[tokio::test]
async fn records_change_one_at_a_time_and_logins_run_in_parallel() {
    let host = TestHost::new();
    // Logins wait for each other: none ends before all have begun.
    fs::write(host.file("together"), "4").unwrap();
    let logins: Vec<_> = ["1", "2", "3", "4"].map(|portal| login(path("a", portal, "ens1"))).into();
    let results = join_all(logins.iter().map(|login| host.initiator.login(login))).await;
    assert_eq!(results, vec![Ok(()); 4]);
    assert!(!host.file("overlap").exists(), "two changes at once");
}

#[tokio::test]
async fn concurrent_logins_of_one_path_make_one_session() {
    let host = TestHost::new();
    let login = login(path("a", "1", "ens1"));
    let results = join_all((0..3).map(|_| host.initiator.login(&login))).await;
    assert_eq!(results, vec![Ok(()); 3]);
    assert_eq!(host.sessions().await.len(), 1);
}

#[tokio::test]
async fn records_of_paths_neither_planned_nor_connected_are_deleted() {
    let host = TestHost::new();
    let paths = [path("a", "1", "ens1"), path("a", "2", "ens2"), path("b", "1", "ens1"), path("b", "3", "ens3")];
    for path in &paths {
        host.initiator.login(&login(path.clone())).await.unwrap();
    }
    let foreign = host.file("etc/iscsi/nodes/iqn.2003-01.org.example:a/10.0.1.10,3260,1/default");
    fs::write(&foreign, "").unwrap();
    // Only the last is still connected, and only the first planned.
    for session in 1..=3 {
        fs::remove_dir_all(host.file(&format!("sys/class/iscsi_session/session{session}"))).unwrap();
    }
    host.calls();
    host.initiator.tidy(&BTreeSet::from([paths[0].clone()])).await.unwrap();
    assert_eq!(host.calls(), ["iface delete", "node delete"], "an interface takes its nodes along");
    let left = records::database::Database::new(HostRoot::open(host.root.path()).unwrap());
    let left: Vec<_> = left.nodes().iter().map(NodeRecord::path).collect();
    assert_eq!(left, [paths[0].clone(), paths[3].clone()]);
    assert!(foreign.exists());
}

const INTERFACE: &str = "etc/iscsi/ifaces/mb.ens1";
const RECORD: &str = "etc/iscsi/nodes/iqn.2003-01.org.example:a/10.0.1.10,3260,1/mb.ens1";
const MARK: &str = "node.discovery_port = 28002\n";

#[tokio::test]
async fn a54_an_interface_record_has_no_transport_and_a_node_record_has_it_and_the_mark() {
    let host = TestHost::new();
    host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap();
    let interface = fs::read_to_string(host.file(INTERFACE)).unwrap();
    assert!(interface.contains("iface.net_ifacename = ens1\n") && !interface.contains("transport"), "{interface}");
    let record = fs::read_to_string(host.file(RECORD)).unwrap();
    assert!(record.contains("iface.transport_name = tcp\n") && record.contains(MARK), "{record}");
}

/// A host as an agent left it that did not hide its interface records: sessions to the targets a and b through ens1.
async fn upgraded() -> TestHost {
    let host = TestHost::new();
    for target in ["a", "b"] {
        host.initiator.login(&login(path(target, "1", "ens1"))).await.unwrap();
        let record = host.file(&RECORD.replace(":a", &format!(":{target}")));
        let text = fs::read_to_string(&record).unwrap().replace(MARK, "node.discovery_port = 0\n");
        fs::write(record, text.replace("node.startup = manual", "node.startup = automatic")).unwrap();
    }
    let old = "iface.iscsi_ifacename = mb.ens1\niface.net_ifacename = ens1\niface.transport_name = tcp\n";
    fs::write(host.file(INTERFACE), old).unwrap();
    host.calls();
    TestHost { initiator: TestHost::start(host.root.path()), root: host.root }
}

#[tokio::test]
async fn a54_old_records_of_planned_paths_are_hidden_and_marked_without_a_tool() {
    let host = upgraded().await;
    let planned = BTreeSet::from([path("a", "1", "ens1")]);
    host.initiator.claim(planned.clone(), BTreeMap::new());
    host.initiator.tidy(&planned).await.unwrap();
    assert!(!fs::read_to_string(host.file(INTERFACE)).unwrap().contains("transport"));
    let record = fs::read_to_string(host.file(RECORD)).unwrap();
    assert!(record.contains(MARK) && record.contains("node.startup = manual"), "{record}");
    let theirs = fs::read_to_string(host.file(&RECORD.replace(":a", ":b"))).unwrap();
    assert!(!theirs.contains(MARK) && theirs.contains("node.startup = automatic"), "{theirs}");
    assert_eq!(host.calls(), [""; 0]);
}

#[tokio::test]
async fn a44_a_session_with_our_name_is_ours_if_it_is_claimed_or_marked() {
    let host = upgraded().await;
    let (ours, theirs) = (path("a", "1", "ens1"), path("b", "1", "ens1"));
    let owners = async || host.sessions().await.into_iter().map(|session| session.owner).collect::<Vec<_>>();
    let other = SessionOwner::Other("mb.ens1".into());
    assert_eq!(owners().await, [other.clone(), other.clone()], "the name proves nothing");
    host.initiator.claim(BTreeSet::from([ours.clone()]), BTreeMap::new());
    assert_eq!(owners().await, [SessionOwner::Agent, other.clone()]);
    host.initiator.tidy(&BTreeSet::from([ours])).await.unwrap();
    let later = TestHost { initiator: TestHost::start(host.root.path()), root: host.root };
    let sessions = later.sessions().await;
    assert_eq!((&sessions[0].owner, &sessions[1].owner), (&SessionOwner::Agent, &other), "by the mark");
    assert_eq!(sessions[1].path, theirs);
}

#[tokio::test]
async fn a44_plans_of_other_paths_leave_claims_only_of_what_is_there() {
    let host = upgraded().await;
    let ours = path("a", "1", "ens1");
    host.initiator
        .claim(BTreeSet::from([ours.clone()]), BTreeMap::from([(ours.clone(), None), (path("c", "1", "ens1"), None)]));
    assert_eq!(host.sessions().await[0].owner, SessionOwner::Agent);
    for port in 1..=1000 {
        let planned = IscsiPath { portal: format!("10.0.1.10:{port}").as_str().into(), ..path("b", "1", "ens1") };
        host.initiator.claim(BTreeSet::from([planned]), BTreeMap::new());
    }
    host.initiator.tidy(&BTreeSet::new()).await.unwrap();
    let sessions = host.sessions().await;
    assert_eq!(sessions[0].owner, SessionOwner::Agent, "it was proven while it was planned");
    assert_eq!(sessions[1].owner, SessionOwner::Other("mb.ens1".into()));
    assert_eq!(host.initiator.claims.len(), 2, "the plan and the session");
    fs::remove_dir_all(host.file("sys/class/iscsi_session/session1")).unwrap();
    host.sessions().await;
    assert_eq!((host.initiator.claims.len(), host.initiator.claims.contains(&ours)), (1, false));
}

#[tokio::test]
async fn logins_of_paths_that_are_not_planned_any_more_leave_no_claim() {
    let host = TestHost::new();
    host.fail("login", &[8, 8, 8]);
    for portal in ["1", "2", "3"] {
        host.initiator.login(&login(path("a", portal, "ens1"))).await.unwrap_err();
    }
    assert_eq!((host.sessions().await.len(), host.initiator.claims.len()), (0, 0));
}

#[tokio::test]
async fn a44_records_with_our_name_that_others_made_stay_with_their_interface() {
    let host = upgraded().await;
    host.initiator.claim(BTreeSet::new(), BTreeMap::from([(path("a", "1", "ens1"), None)]));
    for session in 1..=2 {
        fs::remove_dir_all(host.file(&format!("sys/class/iscsi_session/session{session}"))).unwrap();
    }
    host.initiator.tidy(&BTreeSet::new()).await.unwrap();
    assert_eq!(host.calls(), ["node delete"]);
    assert!(!host.file(RECORD).exists() && host.file(&RECORD.replace(":a", ":b")).exists());
    assert!(host.file(INTERFACE).exists());
}

#[tokio::test]
async fn a54_records_that_an_upgrade_has_left_where_no_tool_looks_are_removed() {
    let host = TestHost::new();
    host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap();
    let left = [RECORD, INTERFACE].map(|file| host.file(&file.replace("etc/iscsi", "var/lib/iscsi")));
    for (file, copy) in [RECORD, INTERFACE].iter().zip(&left) {
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(host.file(file), copy).unwrap();
    }
    let of_others = host.file("var/lib/iscsi/ifaces/iface0");
    fs::copy(&left[1], &of_others).unwrap();
    host.initiator.tidy(&BTreeSet::new()).await.unwrap();
    assert!(left.iter().all(|file| file.exists()), "a session uses them");
    fs::remove_dir_all(host.file("sys/class/iscsi_session/session1")).unwrap();
    host.initiator.tidy(&BTreeSet::new()).await.unwrap();
    assert!(!left.iter().any(|file| file.exists()) && host.records().is_empty());
    assert!(of_others.exists());
}

#[tokio::test]
async fn a_live_session_gets_the_replacement_timeout() {
    let host = TestHost::new();
    host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap();
    let settings = SessionSettings { replacement_timeout_seconds: 42, ..SessionSettings::default() };
    host.initiator.adjust(&host.sessions().await[0], settings.into()).await.unwrap();
    let expected = LiveSettings { replacement_timeout_seconds: 42 };
    assert_eq!(host.sessions().await[0].live_settings, Some(expected));
}

#[tokio::test]
async fn the_version_of_the_initiator_is_reported_and_read_once() {
    let host = TestHost::new();
    fs::write(host.file("etc/iscsi/initiatorname.iscsi"), "## a name\nInitiatorName=iqn.2003-01.org.example:me\n")
        .unwrap();
    for _ in 0..2 {
        let facts = host.initiator.read(&InterfaceFilter::default()).await.unwrap().0;
        assert_eq!(facts.initiator.as_deref(), Some("open-iscsi 2.1.8"));
        assert_eq!(facts.initiator_name.as_deref(), Some("iqn.2003-01.org.example:me"));
        let reasons: Vec<_> = facts.warnings.iter().map(|warning| warning.reason).collect();
        assert_eq!(reasons, [PreparedReason::MultipathdMissing]);
    }
    assert_eq!(host.calls().len(), 1);
}

#[tokio::test]
async fn a_host_without_open_iscsi_reports_a_warning_and_its_facts() {
    let host = TestHost::new();
    fs::remove_file(host.file("bin/iscsiadm")).unwrap();
    let facts = host.initiator.read(&InterfaceFilter::default()).await.unwrap().0;
    let reasons: Vec<_> = facts.warnings.iter().map(|warning| warning.reason).collect();
    assert_eq!(reasons, [PreparedReason::MultipathdMissing, PreparedReason::InitiatorMissing]);
    process(&host.file("proc"), "1", "systemd", "host");
    process(&host.file("proc"), "70", "iscsid", "pod");
    let facts = host.initiator.read(&InterfaceFilter::default()).await.unwrap().0;
    let missing = &facts.warnings[1].message;
    assert!(missing.contains("; a process is named iscsid and is ignored, because it is in another "), "{missing}");
    let error = host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap_err();
    assert_eq!(error.reason, PathReason::InitiatorMissing);
}

#[tokio::test]
async fn no_record_is_known_to_be_missing_where_none_can_be_seen() {
    let host = TestHost::new();
    host.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap();
    let is_kept = async || host.sessions().await[0].record_is_kept;
    assert_eq!(is_kept().await, Some(true));
    fs::rename(host.file("etc/iscsi/nodes"), host.file("elsewhere")).unwrap();
    assert_eq!(is_kept().await, None);
}
