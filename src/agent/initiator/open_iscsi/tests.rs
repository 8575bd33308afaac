//! What the initiator makes of its tools. `iscsiadm` is a script here (`tests/iscsiadm.sh`), which writes down how it is
//! called, keeps records and sessions as files, and fails where it is told to; the real one is met in virtual machines.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use futures::future::join_all;
use tempfile::TempDir;

use super::*;
use crate::agent::{
    credentials::{Account, Credentials, Password},
    fixtures::path,
};

/// A host that is a directory.
struct Site {
    root: TempDir,
    initiator: OpenIscsi,
}

impl Site {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        for directory in ["bin", "proc", "etc/iscsi", "sys/class/iscsi_session", "sys/class/iscsi_connection"] {
            fs::create_dir_all(place(directory)).unwrap();
        }
        let script = include_str!("tests/iscsiadm.sh").replace("@ROOT@", root.path().to_str().unwrap());
        fs::write(place("bin/iscsiadm"), script).unwrap();
        fs::set_permissions(place("bin/iscsiadm"), Permissions::from_mode(0o755)).unwrap();
        let roots = Roots { sys: place("sys"), proc: place("proc"), dev: place("dev") };
        let (_, changes) = watch::channel(());
        let initiator = OpenIscsi::on(Host::in_directory(root.path()), roots, changes);
        Site { root, initiator }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The next commands with this word in them end with these codes.
    fn fail(&self, word: &str, codes: &[i32]) {
        let codes: Vec<_> = codes.iter().map(ToString::to_string).collect();
        fs::write(self.file(&format!("codes.{word}")), codes.join("\n") + "\n").unwrap();
    }

    /// What the tool was asked since the last time, in short.
    fn asked(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.file("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.file("calls"));
        let word = |call: &str| {
            let mode = call.split(' ').nth(1).unwrap_or_default().to_owned();
            let what = ["new", "update", "delete", "login", "logout"];
            let what =
                what.iter().find(|what| call.contains(&format!("--op={what}")) || call.contains(&format!("--{what}")));
            format!("{mode} {}", what.unwrap_or(&"?"))
        };
        calls.lines().map(word).collect()
    }

    async fn session(&self) -> Session {
        self.initiator.sessions().await.unwrap().remove(0)
    }
}

fn login(path: IscsiPath) -> Login {
    Login { path, network: None, settings: SessionSettings::default(), credentials: None }
}

fn with_chap(login: Login, password: &str) -> Login {
    let outgoing = Account { name: Password::from("ann".to_owned()), password: Password::from(password.to_owned()) };
    Login { credentials: Some(Credentials { outgoing, incoming: None }), ..login }
}

#[tokio::test]
async fn a_first_login_takes_four_calls_and_a_later_one_is_a_login_and_nothing_else() {
    let site = Site::new();
    let login = login(path("a", "1", "ens1"));
    site.initiator.login(&login).await.unwrap();
    assert_eq!(site.asked(), ["iface new", "node new", "node update", "node login"]);
    site.initiator.login(&login).await.unwrap();
    assert_eq!(site.asked(), [""; 0], "there is a session");
    fs::remove_dir_all(site.file("sys/class/iscsi_session/session1")).unwrap();
    site.initiator.login(&login).await.unwrap();
    assert_eq!(site.asked(), ["node login"]);
    fs::remove_dir_all(site.file("sys/class/iscsi_session/session2")).unwrap();
    site.initiator.login(&with_chap(login, "hunter2")).await.unwrap();
    assert_eq!(site.asked(), ["node update", "node login"]);
}

#[tokio::test]
async fn a23_a_refused_login_says_why_and_tells_no_secret_that_the_tool_prints() {
    let site = Site::new();
    site.fail("login", &[24]);
    fs::write(site.file("complaint"), "iscsiadm: refused ann with hunter2").unwrap();
    let login = with_chap(login(path("a", "1", "ens1")), "hunter2");
    let error = site.initiator.login(&login).await.unwrap_err();
    assert_eq!(error.reason, PathReason::AuthenticationFailed);
    assert!(error.message.contains("refused [redacted] with [redacted]"), "{error}");
}

#[tokio::test]
async fn a23_a_target_that_is_not_found_may_be_one_that_does_not_prove_who_it_is() {
    let site = Site::new();
    let one_way = with_chap(login(path("a", "1", "ens1")), "hunter2");
    let mut mutual = one_way.clone();
    if let Some(credentials) = &mut mutual.credentials {
        credentials.incoming = Some(credentials.outgoing.clone());
    }
    for (login, doubts) in [(one_way, false), (mutual, true)] {
        site.fail("login", &[19]);
        let error = site.initiator.login(&login).await.unwrap_err();
        assert_eq!(
            (error.reason, error.message.contains("password_in")),
            (PathReason::TargetNotFound, doubts),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a25_a_record_that_the_tool_cannot_use_is_made_anew_once() {
    let site = Site::new();
    let login = login(path("a", "1", "ens1"));
    for code in [21, 7, 6] {
        site.fail("login", &[code]);
        site.initiator.login(&login).await.unwrap();
        assert!(site.asked().ends_with(&["node new".into(), "node update".into(), "node login".into()]), "{code}");
        fs::remove_dir_all(site.file("sys/class/iscsi_session")).unwrap();
    }
    site.fail("login", &[7, 7, 7]);
    assert_eq!(site.initiator.login(&login).await.unwrap_err().reason, PathReason::InvalidRecord);
    assert_eq!(site.asked().iter().filter(|call| *call == "node login").count(), 2);
}

#[tokio::test]
async fn a25_a_record_of_ours_that_is_rubbish_is_replaced() {
    let site = Site::new();
    let login = login(path("a", "1", "ens1"));
    let record = site.file("etc/iscsi/nodes/iqn.2003-01.org.example:a/10.0.1.10,3260,1/mb.ens1");
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    fs::write(&record, [0xff, 0x00, 0x3d]).unwrap();
    // As iscsiadm 2.1.8 does: it finds no record where it can read none.
    site.fail("delete", &[21]);
    site.initiator.login(&login).await.unwrap();
    assert!(fs::read_to_string(record).unwrap().contains("node.startup = manual"));
}

#[tokio::test]
async fn a25_a_lock_that_nobody_gives_back_fails_the_login_without_a_fork() {
    let site = Site::new();
    fs::create_dir_all(site.file("run/lock/iscsi")).unwrap();
    fs::write(site.file("run/lock/iscsi/lock.write"), "").unwrap();
    let error = site.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap_err();
    assert_eq!((error.reason, site.asked()), (PathReason::DatabaseLocked, Vec::new()));
    assert!(error.message.contains("/run/lock/iscsi/lock.write"), "{error}");
}

#[tokio::test]
async fn what_the_tool_asks_to_try_again_is_tried_again() {
    let site = Site::new();
    site.fail("login", &[29, 31]);
    site.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap();
    assert_eq!(site.asked().iter().filter(|call| *call == "node login").count(), 3);
}

#[tokio::test]
async fn a_login_is_believed_only_when_the_kernel_has_the_session() {
    let site = Site::new();
    fs::write(site.file("no-session"), "").unwrap();
    let error = site.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap_err();
    assert_eq!(error.reason, PathReason::Internal, "{error}");
    site.fail("login", &[15]);
    let error = site.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap_err();
    assert_eq!(error.reason, PathReason::Internal, "{error}");
}

#[tokio::test]
async fn a_session_on_the_wrong_device_is_logged_out_again() {
    let site = Site::new();
    fs::write(site.file("astray"), "ens9").unwrap();
    let error = site.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap_err();
    assert_eq!(error.reason, PathReason::WrongInterface);
    assert_eq!(error.message, "the session came up bound to ens9 instead of ens1; it was logged out again");
    assert_eq!(site.initiator.sessions().await.unwrap(), []);
}

#[tokio::test]
async fn a_logout_is_believed_only_when_the_session_is_gone_and_then_its_record_is_forgotten() {
    let site = Site::new();
    site.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap();
    let session = site.session().await;
    site.fail("logout", &[21]);
    fs::write(site.file("complaint"), "iscsiadm: initiator reported error (20 - could not connect to iscsid)").unwrap();
    let error = site.initiator.logout(&session).await.unwrap_err();
    assert_eq!(error.reason, PathReason::InitiatorDown, "as iscsiadm 2.1.8 ends without its daemon");
    fs::remove_file(site.file("complaint")).unwrap();
    site.initiator.logout(&session).await.unwrap();
    assert!(!site.file("etc/iscsi/nodes/iqn.2003-01.org.example:a/10.0.1.10,3260,1/mb.ens1").exists());
    site.asked();
    assert_eq!(site.initiator.logout(&session).await, Ok(()), "it is gone already");
    assert_eq!(site.asked(), [""; 0]);
}

#[tokio::test]
async fn a20_a_session_of_somebody_else_is_not_logged_out() {
    let site = Site::new();
    let foreign = crate::agent::fixtures::foreign(crate::agent::fixtures::session(1, path("a", "1", "ens1")));
    assert!(site.initiator.logout(&foreign).await.unwrap_err().message.contains("not ours"));
    assert_eq!(site.asked(), [""; 0]);
}

#[tokio::test]
async fn records_are_changed_one_at_a_time_and_logins_are_made_at_once() {
    let site = Site::new();
    // Logins wait for each other: none ends before all have begun.
    fs::write(site.file("together"), "4").unwrap();
    let logins: Vec<_> = ["1", "2", "3", "4"].map(|portal| login(path("a", portal, "ens1"))).into();
    let results = join_all(logins.iter().map(|login| site.initiator.login(login))).await;
    assert_eq!(results, vec![Ok(()); 4]);
    assert!(!site.file("overlap").exists(), "two changes at once");
}

#[tokio::test]
async fn one_path_is_logged_in_once_however_often_that_is_asked() {
    let site = Site::new();
    let login = login(path("a", "1", "ens1"));
    let results = join_all((0..3).map(|_| site.initiator.login(&login))).await;
    assert_eq!(results, vec![Ok(()); 3]);
    assert_eq!(site.initiator.sessions().await.unwrap().len(), 1);
}

#[tokio::test]
async fn records_of_paths_that_are_neither_planned_nor_connected_are_tidied_up() {
    let site = Site::new();
    let paths = [path("a", "1", "ens1"), path("a", "2", "ens2"), path("b", "1", "ens1"), path("b", "3", "ens3")];
    for path in &paths {
        site.initiator.login(&login(path.clone())).await.unwrap();
    }
    let foreign = site.file("etc/iscsi/nodes/iqn.2003-01.org.example:a/10.0.1.10,3260,1/default");
    fs::write(&foreign, "").unwrap();
    // Only the last is still connected, and only the first planned.
    for session in 1..=3 {
        fs::remove_dir_all(site.file(&format!("sys/class/iscsi_session/session{session}"))).unwrap();
    }
    site.asked();
    site.initiator.tidy(&BTreeSet::from([paths[0].clone()])).await.unwrap();
    assert_eq!(site.asked(), ["iface delete", "node delete"], "an interface takes its nodes along");
    let left = records::database::Database::new(site.root.path());
    let left: Vec<_> = left.nodes().iter().map(path_of).collect();
    assert_eq!(left, [paths[0].clone(), paths[3].clone()]);
    assert!(foreign.exists());
}

#[tokio::test]
async fn a_live_session_gets_the_replacement_timeout() {
    let site = Site::new();
    site.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap();
    let settings = SessionSettings { replacement_timeout_seconds: 42, ..SessionSettings::default() };
    site.initiator.adjust(&site.session().await, settings).await.unwrap();
    assert_eq!(site.session().await.replacement_timeout, Some(42));
}

#[tokio::test]
async fn the_initiator_is_reported_with_its_version_and_asked_for_it_once() {
    let site = Site::new();
    fs::write(site.file("etc/iscsi/initiatorname.iscsi"), "## a name\nInitiatorName=iqn.2003-01.org.example:me\n")
        .unwrap();
    for _ in 0..2 {
        let facts = site.initiator.facts(&InterfaceFilter::default()).await.unwrap();
        assert_eq!(facts.initiator.as_deref(), Some("open-iscsi 2.1.8"));
        assert_eq!(facts.initiator_name.as_deref(), Some("iqn.2003-01.org.example:me"));
        let reasons: Vec<_> = facts.warnings.iter().map(|warning| warning.reason).collect();
        assert_eq!(reasons, [PreparedReason::MultipathdMissing]);
    }
    assert_eq!(site.asked().len(), 1);
}

#[tokio::test]
async fn a_host_without_open_iscsi_is_warned_of_and_its_facts_are_still_told() {
    let site = Site::new();
    fs::remove_file(site.file("bin/iscsiadm")).unwrap();
    let facts = site.initiator.facts(&InterfaceFilter::default()).await.unwrap();
    let reasons: Vec<_> = facts.warnings.iter().map(|warning| warning.reason).collect();
    assert_eq!(reasons, [PreparedReason::MultipathdMissing, PreparedReason::InitiatorMissing]);
    let error = site.initiator.login(&login(path("a", "1", "ens1"))).await.unwrap_err();
    assert_eq!(error.reason, PathReason::InitiatorMissing);
}

#[test]
fn tools_that_are_reached_in_another_way_say_so() {
    assert_eq!(title("2.1.8", &Way::Direct), "open-iscsi 2.1.8");
    assert_eq!(title("2.1.8", &Way::Nsenter(7)), "open-iscsi 2.1.8 (nsenter)");
    assert_eq!(title("2.1.8", &Way::Chroot("/host".into())), "open-iscsi 2.1.8 (chroot /host)");
}
