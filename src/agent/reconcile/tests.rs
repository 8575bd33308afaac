mod dead_networks;
mod flapping;
mod group_tags;

use std::sync::Arc;

use super::*;
use crate::{
    agent::{
        fixtures::{TestClock, facts, foreign, holding, inventory, lost, map, path, plan, session, used, with_secret},
        initiator::{DeviceUser, Facts, LiveSettings, Map},
        types::credentials::{Account, Credentials, Fingerprint, Password, SecretState},
    },
    api::{
        ConnectionState::{self, Connected, Connecting, Disconnecting, Failed, Retained},
        portal_policy::PortalRules,
    },
};

/// A reconciler with its inputs. An action happens when the test says so.
struct Harness {
    reconciler: Reconciler,
    plan: Plan,
    sessions: Vec<Session>,
    maps: Vec<Map>,
    facts: Facts,
    secrets: BTreeMap<SecretName, SecretState>,
    portals: Arc<PortalRules>,
    clock: TestClock,
}

impl Harness {
    fn new(plan: Plan) -> Self {
        Harness::after(plan, &[], None)
    }

    /// After a restart, with this last report.
    fn after(plan: Plan, reported: &[Connection], acknowledged: Option<&str>) -> Self {
        Harness {
            reconciler: Reconciler::new(
                7,
                reported,
                acknowledged.map(|revision| PlanVersion { revision: revision.into(), sequence: 1 }),
            ),
            plan,
            sessions: Vec::new(),
            maps: Vec::new(),
            facts: facts(&["ens1", "ens2", "ens3"]),
            secrets: BTreeMap::new(),
            portals: Arc::default(),
            clock: TestClock::new(),
        }
    }

    fn step(&mut self) -> Step {
        let mut inventory = inventory(self.sessions.clone(), self.maps.clone());
        // As on a real host, the users of a disk are known only if the inventory was asked for them.
        let candidates = self.reconciler.logout_candidates(&self.plan, &inventory, &self.secrets);
        for session in inventory.sessions.iter_mut().filter(|session| !candidates.contains(&session.id)) {
            session.disks.iter_mut().for_each(|disk| disk.users = None);
        }
        self.reconciler.step(StepInput {
            plan: &self.plan,
            inventory: &inventory,
            facts: &self.facts,
            secrets: &self.secrets,
            portals: &self.portals,
            now: self.clock.now(),
        })
    }

    fn step_after(&mut self, milliseconds: u64) -> Step {
        self.clock.pass(milliseconds);
        self.step()
    }

    fn logged_in(&mut self, id: u32, path: &IscsiPath) -> Step {
        self.sessions.push(session(id, path.clone()));
        self.reconciler.login_ended(path.clone(), Ok(()));
        self.step()
    }

    fn refused(&mut self, path: &IscsiPath, reason: PathReason) -> Step {
        self.reconciler.login_ended(path.clone(), Err(PathError::new(reason, "because")));
        self.step()
    }

    fn logged_out(&mut self, id: u32, reason: LogoutReason) -> Step {
        self.sessions.retain(|session| session.id != id);
        self.reconciler.logout_ended(id, reason, Ok(true), self.clock.now());
        self.step()
    }
}

fn logins(step: &Step) -> Vec<IscsiPath> {
    let login = |action: &Action| match action {
        Action::Login(login) => Some(login.path.clone()),
        Action::Logout { .. } | Action::Adjust { .. } | Action::MakeMaps { .. } | Action::Tidy { .. } => None,
    };
    step.actions.iter().filter_map(login).collect()
}

fn logouts(step: &Step) -> Vec<(u32, LogoutReason)> {
    let logout = |action: &Action| match action {
        Action::Logout { session, reason, .. } => Some((session.id, *reason)),
        Action::Login(_) | Action::Adjust { .. } | Action::MakeMaps { .. } | Action::Tidy { .. } => None,
    };
    step.actions.iter().filter_map(logout).collect()
}

fn states(step: &Step) -> Vec<(ConnectionState, Option<PathReason>)> {
    step.connections.iter().map(|connection| (connection.state, connection.reason)).collect()
}

fn ok(state: ConnectionState) -> (ConnectionState, Option<PathReason>) {
    (state, None)
}

fn bad(reason: PathReason) -> (ConnectionState, Option<PathReason>) {
    (Failed, Some(reason))
}

fn password(password: &str) -> SecretState {
    let text = |text: &str| Password::from(text.to_owned());
    let outgoing = Account { name: text("ann"), password: text(password) };
    SecretState::Read(Credentials { outgoing, incoming: None })
}

fn fingerprint(state: &SecretState) -> Option<Fingerprint> {
    match state {
        SecretState::Read(credentials) => Some(credentials.fingerprint()),
        SecretState::Unread | SecretState::Unusable => None,
    }
}

fn acknowledged(step: &Step) -> Option<&str> {
    step.acknowledged.as_ref().map(|version| version.revision.as_str())
}

fn wakes_in(step: &Step, host: &Harness) -> Option<Duration> {
    step.wake_at.map(|at| at.checked_sub(host.clock.now().monotonic).unwrap())
}

#[test]
fn a10_a_plan_is_acknowledged_when_its_last_path_is_connected() {
    let (one, two) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    let mut host = Harness::new(plan("r", &[one.clone(), two.clone()]));
    let step = host.step();
    assert_eq!(logins(&step), [one.clone(), two.clone()]);
    assert_eq!(states(&step), [ok(Connecting), ok(Connecting)]);
    let step = host.logged_in(5, &two);
    assert_eq!(states(&step), [ok(Connecting), ok(Connected)]);
    assert_eq!((step.acknowledged, logins(&host.step())), (None, vec![]));
    let step = host.logged_in(6, &one);
    assert_eq!(states(&step), [ok(Connected), ok(Connected)]);
    assert_eq!(acknowledged(&step), Some("r"));
    assert_eq!(step.connections[1].session_id, Some(5));
    assert!(matches!(&step.actions[..], [Action::Tidy { keep }] if keep.len() == 2));
    assert_eq!((host.step().actions.len(), host.step().wake_at), (0, None), "then there is nothing to do");
}

#[test]
fn a67_a_plan_that_only_connects_logs_nothing_out_and_deletes_nothing() {
    let (one, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    let only_connects = Plan { only_connects: true, ..plan("", std::slice::from_ref(&one)) };
    let mut host = Harness::new(with_secret(only_connects, "stored"));
    host.secrets.insert("stored".into(), password("new"));
    host.sessions.push(session(1, old.clone()));
    assert_eq!(logins(&host.step()), std::slice::from_ref(&one));
    let step = host.logged_in(2, &one);
    host.sessions[1].credentials = fingerprint(&password("old"));
    for step in [step, host.step_after(600_000)] {
        assert_eq!((step.actions.len(), acknowledged(&step)), (0, None));
    }

    // The plan of now does what is due.
    host.reconciler.begin_again(&[], None);
    host.plan = plan("r", std::slice::from_ref(&one));
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::Surplus)]);
}

#[test]
fn a67_a_login_for_the_last_plan_that_has_not_ended_holds_the_plan_of_now() {
    let (one, two) = (path("a", "1", "ens1"), path("b", "2", "ens2"));
    let mut host = Harness::new(Plan { only_connects: true, ..plan("", &[one.clone(), two.clone()]) });
    assert_eq!(logins(&host.step()).len(), 2);
    host.reconciler.begin_again(&[], None);
    host.plan = plan("r", std::slice::from_ref(&one));
    let step = host.logged_in(1, &one);
    assert_eq!((logins(&step), acknowledged(&step)), (vec![], None), "the other login may still make a session");
    host.sessions.push(session(2, two.clone()));
    host.reconciler.login_ended(two, Ok(()));
    assert_eq!(logouts(&host.step()), [(2, LogoutReason::Surplus)]);
    assert_eq!(acknowledged(&host.logged_out(2, LogoutReason::Surplus)), Some("r"));
}

fn is_tidying(step: &Step) -> bool {
    matches!(&step.actions[..], [Action::Tidy { .. }])
}

#[test]
fn a26_a_restarted_agent_deletes_old_records_once() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::after(plan("r", std::slice::from_ref(&one)), &[], Some("r"));
    host.sessions.push(session(1, one));
    assert!(is_tidying(&host.step()));
    assert_eq!(host.step().actions.len(), 0, "once");
}

#[test]
fn a26_records_that_could_not_be_deleted_are_tried_again() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    let _ = host.step();
    assert!(is_tidying(&host.logged_in(1, &one)));
    host.reconciler.tidy_failed(host.clock.now());
    let waits = host.step();
    assert_eq!((waits.actions.len(), wakes_in(&waits, &host)), (0, Some(Duration::from_secs(60))));
    assert!(is_tidying(&host.step_after(60_000)));
    let done = host.step_after(60_000);
    assert_eq!((done.actions.len(), done.wake_at), (0, None));
}

#[test]
fn a22_a_retry_that_fails_as_before_changes_nothing_in_the_report() {
    let dead = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&dead)));
    host.step();
    host.clock.pass(5000);
    let first = host.refused(&dead, PathReason::PortalUnreachable);
    assert_eq!(states(&first), [bad(PathReason::PortalUnreachable)]);
    assert_eq!(first.connections[0].message.as_deref(), Some("because"));
    assert_eq!(first.connections[0].retry_every.as_deref(), Some("30s"));
    assert_eq!(acknowledged(&first), Some("r"), "its first attempt has ended");
    let pause = wakes_in(&first, &host).unwrap();
    assert!(pause <= Duration::from_secs(2), "{pause:?}");

    assert_eq!(logins(&host.step()), []);
    let retry = host.step_after(2000);
    assert_eq!(logins(&retry), std::slice::from_ref(&dead));
    assert_eq!(retry.connections, first.connections, "still failed while it is retried");
    host.clock.pass(5000);
    assert_eq!(host.refused(&dead, PathReason::PortalUnreachable).connections, first.connections);
    assert_eq!(logins(&host.step_after(30_000)), std::slice::from_ref(&dead));
    let other = host.refused(&dead, PathReason::TargetNotFound);
    assert_eq!(states(&other), [bad(PathReason::TargetNotFound)]);
    assert_eq!(other.connections[0].since, first.connections[0].since, "another reason is no new failure");
}

#[test]
fn a22_a_login_that_hangs_is_reported_after_its_timeout_and_a_margin() {
    let slow = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&slow)));
    let step = host.step();
    assert_eq!(wakes_in(&step, &host), Some(Duration::from_secs(9)));
    assert_eq!(states(&host.step_after(8999)), [ok(Connecting)]);
    let step = host.step_after(1);
    assert_eq!(states(&step), [bad(PathReason::Timeout)]);
    assert_eq!((logins(&step), acknowledged(&step)), (vec![], Some("r")), "it is not begun again");
    let ended = host.refused(&slow, PathReason::PortalUnreachable);
    assert_eq!(states(&ended), [bad(PathReason::PortalUnreachable)], "the tool knows better why");

    assert_eq!(logins(&host.step_after(2000)), std::slice::from_ref(&slow));
    let retry = host.step_after(60_000);
    assert_eq!((retry.connections, retry.wake_at), (ended.connections, None), "a slow retry is no news");
    assert_eq!(states(&host.logged_in(1, &slow)), [ok(Connected)]);
}

#[test]
fn a18_a_path_fails_three_seconds_after_its_session_is_lost() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.step();
    let connected = host.logged_in(1, &one);
    host.sessions = vec![lost(session(1, one.clone()))];
    let step = host.step_after(1000);
    assert_eq!(step.connections, connected.connections, "nothing to report yet");
    assert_eq!(wakes_in(&step, &host), Some(Duration::from_secs(3)));
    assert_eq!(host.step_after(2999).connections, connected.connections);
    let step = host.step_after(1);
    assert_eq!(states(&step), [bad(PathReason::PortalUnreachable)]);
    assert_eq!((step.connections[0].session_id, logins(&step), logouts(&step)), (Some(1), vec![], vec![]));
    host.sessions = vec![session(1, one)];
    let step = host.step_after(60_000);
    assert_eq!((states(&step), logins(&step)), (vec![ok(Connected)], vec![]));
}

#[test]
fn a20_a_session_that_is_gone_is_restored_at_once_and_unreported() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.step();
    let connected = host.logged_in(1, &one);
    host.clock.pass(60_000);
    host.step();
    host.sessions.clear();
    let step = host.step();
    assert_eq!((logins(&step), &step.connections), (vec![one.clone()], &connected.connections));
    host.clock.pass(1000);
    let step = host.logged_in(2, &one);
    assert_eq!(step.connections[0].session_id, Some(2));
    assert_eq!(step.connections[0].since, connected.connections[0].since);
}

#[test]
fn a20_a_session_that_cannot_be_restored_fails_with_the_reason() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.step();
    host.logged_in(1, &one);
    host.clock.pass(60_000);
    host.sessions.clear();
    host.step();
    assert_eq!(states(&host.refused(&one, PathReason::TargetNotFound)), [ok(Connected)]);
    assert_eq!(states(&host.step_after(3000)), [bad(PathReason::TargetNotFound)]);
}

/// The pauses before a session is restored, in milliseconds, that others log out five times, each time after it has lasted
/// this long.
fn pauses(host: &mut Harness, one: &IscsiPath, lasts: u64) -> Vec<u64> {
    let mut pauses = Vec::new();
    for id in 11..16 {
        host.logged_in(id, one);
        host.step_after(lasts);
        host.sessions.retain(|session| session.path != *one);
        let mut waited = 0;
        while logins(&host.step()).is_empty() {
            host.clock.pass(100);
            waited += 100;
        }
        pauses.push(waited);
    }
    pauses
}

#[test]
fn a45_a_session_that_keeps_vanishing_is_restored_after_growing_pauses() {
    let (one, other) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    for lasts in [0, 40_000] {
        let mut host = Harness::new(plan("r", &[one.clone(), other.clone()]));
        host.sessions.push(session(1, other.clone()));
        host.step();
        let pauses = pauses(&mut host, &one, lasts);
        assert!(pauses[0] == 0 && pauses[1] >= 1000 && pauses[4] >= 8000, "{pauses:?}");
    }
}

#[test]
fn a45_the_only_session_of_a_target_is_restored_without_growing_pauses() {
    let (one, other) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    let mut host = Harness::new(plan("r", &[one.clone(), other.clone()]));
    host.sessions.push(lost(session(1, other)));
    host.step();
    let pauses = pauses(&mut host, &one, 0);
    assert!(pauses.iter().all(|pause| *pause <= 1000), "{pauses:?}");
}

#[test]
fn a45_what_others_log_out_is_named_and_counted_but_not_our_own_logouts() {
    let (one, other) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    let mut host = Harness::new(plan("r", &[one.clone(), other.clone()]));
    host.sessions.push(session(1, other.clone()));
    host.step();
    assert_eq!(host.logged_in(2, &one).warnings, []);
    host.sessions.remove(1);
    host.step();
    let step = host.logged_in(3, &one);
    assert_eq!((step.interfered, step.warnings.len()), (vec![Interfered::Session], 1));
    assert_eq!(host.step().interfered, []);

    let (mut host, [one, _]) = rotating("other");
    let old: Vec<_> = logouts(&host.step()).into_iter().map(|(id, _)| id).collect();
    host.sessions.retain(|session| !old.contains(&session.id));
    host.step();
    host.logged_out(old[0], LogoutReason::NewCredentials);
    let step = host.logged_in(9, &one);
    assert_eq!((step.interfered, step.warnings), (vec![], vec![]));
}

#[test]
fn records_are_tidied_when_the_last_logout_has_ended_and_not_when_its_session_is_gone() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", &[]));
    host.sessions = vec![session(1, one)];
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::Surplus)]);
    host.sessions.clear();
    let step = host.step();
    assert_eq!((is_tidying(&step), acknowledged(&step)), (false, None), "its record is still being deleted");
    assert!(is_tidying(&host.logged_out(1, LogoutReason::Surplus)));
}

#[test]
fn records_are_tidied_again_when_a_session_that_was_kept_goes() {
    let mut host = Harness::new(plan("r", &[]));
    host.sessions = vec![used(session(1, path("a", "1", "ens1")), &DeviceUser::Swap)];
    assert!(is_tidying(&host.step()), "it is kept, and so is what it needs");
    host.sessions = vec![session(1, path("a", "1", "ens1"))];
    assert_eq!(logouts(&host.step_after(10_000)), [(1, LogoutReason::Surplus)]);
    host.sessions.clear();
    assert!(is_tidying(&host.logged_out(1, LogoutReason::Surplus)));
    assert_eq!(host.step().actions.len(), 0, "once");
}

#[test]
fn a45_a_record_that_others_changed_is_put_right_but_not_in_a_fight() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.step();
    assert!(is_tidying(&host.logged_in(1, &one)));
    host.clock.pass(120_000);
    host.step();
    let changed = |host: &mut Harness, is_kept: bool, milliseconds: u64| {
        host.sessions[0].record_is_kept = is_kept;
        let step = host.step_after(milliseconds);
        (step.interfered.len(), is_tidying(&step))
    };
    assert_eq!(changed(&mut host, false, 1000), (1, true));
    assert_eq!(changed(&mut host, true, 1000), (0, false));
    assert_eq!(changed(&mut host, false, 1000), (1, false), "not again at once");
    assert_eq!(changed(&mut host, false, 58_000), (0, true));
}

#[test]
fn a51_a_foreign_session_to_a_planned_target_is_a_warning_until_it_is_gone() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.sessions = vec![session(1, one), foreign(session(2, path("a", "1", "-")))];
    let step = host.step();
    assert_eq!((step.warnings.len(), states(&step), logouts(&step)), (1, vec![ok(Connected)], vec![]));
    host.sessions.pop();
    assert_eq!(host.step().warnings, []);
}

#[test]
fn a12_a_missing_device_or_address_is_reported_without_an_attempt() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.facts = facts(&["ens2"]);
    let step = host.step();
    assert_eq!((states(&step), logins(&step)), (vec![bad(PathReason::InterfaceNotFound)], vec![]));
    assert!(step.connections[0].message.as_ref().unwrap().contains("maintenance and back"), "how to forget it");
    assert_eq!((acknowledged(&step), step.wake_at), (Some("r"), None));
    host.facts = facts(&["ens1"]);
    host.facts.interfaces[0].addresses.clear();
    assert_eq!(states(&host.step()), [bad(PathReason::NoAddress)]);
    host.facts = facts(&["ens1"]);
    assert_eq!(logins(&host.step()), std::slice::from_ref(&one));
    host.logged_in(1, &one);
    host.facts = facts(&[]);
    host.sessions = vec![lost(session(1, one))];
    host.step();
    assert_eq!(states(&host.step_after(3000)), [bad(PathReason::InterfaceNotFound)]);
}

#[test]
fn a12_a_changed_address_is_tried_at_once() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.step();
    assert_eq!(logins(&host.refused(&one, PathReason::PortalUnreachable)), []);
    host.facts.interfaces[1].addresses.push("10.9.9.9/24".into());
    assert_eq!(logins(&host.step()), [], "of another device it is not");
    host.facts.interfaces[0].addresses.push("10.9.9.9/24".into());
    assert_eq!(logins(&host.step()), [one]);
}

#[test]
fn a23_a_path_waits_for_its_secret_and_reports_a_missing_one() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(with_secret(plan("r", std::slice::from_ref(&one)), "array"));
    let step = host.step();
    assert_eq!((states(&step), logins(&step)), (vec![ok(Connecting)], vec![]));
    host.secrets.insert("array".into(), SecretState::Unusable);
    let step = host.step();
    assert_eq!(states(&step), [bad(PathReason::SecretNotFound)]);
    let message = step.connections[0].message.as_deref().unwrap();
    assert!(
        message.starts_with("the Secret array cannot be used: it must be in the data center's namespace"),
        "{message}"
    );
    host.secrets.insert("array".into(), password("hunter2"));
    assert_eq!(logins(&host.step()), [one]);
}

#[test]
fn a23_refused_credentials_are_retried_slowly_corrected_ones_at_once() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(with_secret(plan("r", std::slice::from_ref(&one)), "array"));
    host.secrets.insert("array".into(), password("wrong"));
    host.step();
    let step = host.refused(&one, PathReason::AuthenticationFailed);
    assert_eq!(step.connections[0].retry_every.as_deref(), Some("10m"));
    assert_eq!(logins(&host.step_after(59_000)), []);
    host.secrets.insert("array".into(), password("hunter2"));
    assert_eq!(logins(&host.step()), [one]);
}

#[test]
fn a23_relogins_go_one_by_one_and_stop_when_one_is_refused() {
    let paths = [path("a", "1", "ens1"), path("a", "2", "ens2"), path("a", "3", "ens3")];
    let mut host = Harness::new(with_secret(plan("r", &paths), "array"));
    let old = password("old");
    let with = |id, path: &IscsiPath, state| Session { credentials: fingerprint(state), ..session(id, path.clone()) };
    host.secrets.insert("array".into(), old.clone());
    host.sessions = (1..).zip(&paths).map(|(id, path)| with(id, path, &old)).collect();
    assert_eq!(host.step().actions.len(), 1, "tidy");
    let new = password("new");
    host.secrets.insert("array".into(), new.clone());
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::NewCredentials)]);
    assert_eq!(logouts(&host.step()), []);
    let step = host.logged_out(1, LogoutReason::NewCredentials);
    assert_eq!((logins(&step), logouts(&step)), (vec![paths[0].clone()], vec![]));
    assert_eq!(states(&step), [ok(Connected), ok(Connected), ok(Connected)], "a moment is no loss");
    host.sessions.push(with(4, &paths[0], &new));
    host.reconciler.login_ended(paths[0].clone(), Ok(()));
    assert_eq!(logouts(&host.step()), [(2, LogoutReason::NewCredentials)]);
    host.logged_out(2, LogoutReason::NewCredentials);
    host.refused(&paths[1], PathReason::AuthenticationFailed);
    let step = host.step_after(3000);
    assert_eq!(states(&step), [ok(Connected), bad(PathReason::AuthenticationFailed), ok(Connected)]);
    assert_eq!(logouts(&step), [], "the array does not know the new one yet: the rest is left alone");
    host.refused(&paths[1], PathReason::TargetNotFound);
    assert_eq!(logouts(&host.step_after(3000)), [], "the array does not prove itself with the new one");
}

#[test]
fn a23_a_relogin_whose_logout_fails_is_retried_later() {
    let paths = [path("a", "1", "ens1"), path("a", "2", "ens2")];
    let mut host = Harness::new(with_secret(plan("r", &paths), "array"));
    let old = fingerprint(&password("old"));
    host.secrets.insert("array".into(), password("new"));
    host.sessions = (1..).zip(paths).map(|(id, path)| Session { credentials: old, ..session(id, path) }).collect();
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::NewCredentials)]);
    let busy = PathError::new(PathReason::DatabaseLocked, "the database is locked");
    host.reconciler.logout_ended(1, LogoutReason::NewCredentials, Err(busy), host.clock.now());
    let step = host.step();
    assert_eq!((logouts(&step), wakes_in(&step, &host)), (vec![], Some(Duration::from_secs(30))));
    assert_eq!(logouts(&host.step_after(30_000)), [(1, LogoutReason::NewCredentials)]);
}

/// Two live paths with the credentials of another Secret than the one that is set.
fn rotating(new: &str) -> (Harness, [IscsiPath; 2]) {
    let paths = [path("a", "1", "ens1"), path("a", "2", "ens2")];
    let mut host = Harness::new(with_secret(plan("r", &paths), "array"));
    host.secrets.insert("array".into(), password(new));
    host.sessions = (1..).zip(paths.clone()).map(|(id, path)| with_old(session(id, path))).collect();
    (host, paths)
}

fn with_old(session: Session) -> Session {
    Session { credentials: fingerprint(&password("old")), ..session }
}

#[test]
fn a23_a_rotation_that_changes_nothing_is_not_repeated() {
    let (mut host, paths) = rotating("new");
    let mut id = 10;
    let mut logouts_of = |secret: &str| {
        host.secrets.insert("array".into(), password(secret));
        let mut count = 0;
        for _ in 0..30 {
            let step = host.step_after(2000);
            for (old, reason) in logouts(&step) {
                count += 1;
                id += 1;
                let path = host.sessions.iter().find(|session| session.id == old).unwrap().path.clone();
                host.logged_out(old, reason);
                // The initiator stores something else, so the new session shows the same as the old one.
                host.sessions.push(with_old(session(id, path.clone())));
                host.reconciler.login_ended(path, Ok(()));
            }
        }
        count
    };
    assert_eq!(logouts_of("new"), paths.len(), "once for each path");
    assert_eq!(logouts_of("newer"), paths.len(), "another Secret is another rotation");
    assert_eq!(logouts_of("newer"), 0);
}

#[test]
fn a23_a_restarted_agent_repeats_no_rotation_that_changed_nothing() {
    let (mut host, _) = rotating("new");
    for session in &mut host.sessions {
        session.stored_credentials = fingerprint(&password("new"));
    }
    assert_eq!(logouts(&host.step()), [], "the next login would use what is stored, as the last one did");
    host.secrets.insert("array".into(), password("newer"));
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::NewCredentials)]);
}

#[test]
fn a23_a_rotation_that_did_not_happen_is_tried_again() {
    let (mut host, _) = rotating("new");
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::NewCredentials)]);
    host.reconciler.logout_ended(1, LogoutReason::NewCredentials, Ok(false), host.clock.now());
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::NewCredentials)], "the rule did not allow it");
}

#[test]
fn a23_a_lost_session_is_made_anew_when_its_secret_changes() {
    let (mut host, paths) = rotating("old");
    host.step();
    host.sessions = host.sessions.into_iter().map(lost).collect();
    host.step();
    host.secrets.insert("array".into(), password("new"));
    assert_eq!(logouts(&host.step_after(2999)), [], "it may still come back");
    assert_eq!(logouts(&host.step_after(1)), [(1, LogoutReason::NewCredentials)], "the initiator never would");
    assert_eq!(logouts(&host.step()), [], "one at a time");
    let step = host.logged_out(1, LogoutReason::NewCredentials);
    assert_eq!((logins(&step), logouts(&step)), (vec![paths[0].clone()], vec![]));
    let step = host.refused(&paths[0], PathReason::AuthenticationFailed);
    assert_eq!(logouts(&step), [], "the new one is refused, so the other session stays as it is");
    let new = fingerprint(&password("new"));
    host.sessions.push(Session { credentials: new, ..session(3, paths[0].clone()) });
    assert_eq!(logouts(&host.step_after(1000)), [(2, LogoutReason::NewCredentials)]);
}

/// Three live paths with old credentials, of which the first has been taken out for new ones.
fn first_taken_out() -> (Harness, [IscsiPath; 3]) {
    let paths = [path("a", "1", "ens1"), path("a", "2", "ens2"), path("a", "3", "ens3")];
    let mut host = Harness::new(with_secret(plan("r", &paths), "array"));
    let old = fingerprint(&password("old"));
    host.secrets.insert("array".into(), password("new"));
    host.sessions =
        (1..).zip(paths.clone()).map(|(id, path)| Session { credentials: old, ..session(id, path) }).collect();
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::NewCredentials)]);
    host.logged_out(1, LogoutReason::NewCredentials);
    (host, paths)
}

#[test]
fn a23_one_path_at_most_is_taken_out_whatever_fails() {
    for reason in [PathReason::InvalidRecord, PathReason::DatabaseLocked, PathReason::PortalUnreachable] {
        let (mut host, paths) = first_taken_out();
        host.refused(&paths[0], reason);
        assert_eq!(logouts(&host.step_after(3000)), [], "{reason}");
        assert_eq!(logouts(&host.step_after(600_000)), [], "{reason}, ever");
    }
}

#[test]
fn a23_a_session_whose_login_would_be_blocked_is_not_rotated() {
    let (mut host, _) = rotating("new");
    host.facts = facts(&[]);
    assert_eq!(logouts(&host.step()), []);
}

#[test]
fn a23_a_portal_without_the_target_does_not_stop_the_rotation_of_others() {
    let paths = [path("a", "1", "ens1"), path("a", "2", "ens2"), path("a", "3", "ens3")];
    let mut host = Harness::new(with_secret(plan("r", &paths), "array"));
    let old = fingerprint(&password("old"));
    host.secrets.insert("array".into(), password("old"));
    host.sessions =
        (1..).zip(&paths[..2]).map(|(id, path)| Session { credentials: old, ..session(id, path.clone()) }).collect();
    host.step();
    host.refused(&paths[2], PathReason::TargetNotFound);
    host.secrets.insert("array".into(), password("new"));
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::NewCredentials)]);
}

#[test]
fn a23_a_lost_session_from_before_chap_is_made_anew() {
    let (mut host, _) = rotating("new");
    for session in &mut host.sessions {
        session.credentials = None;
    }
    assert_eq!(logouts(&host.step()), [], "it works");
    host.sessions = host.sessions.into_iter().map(lost).collect();
    host.step();
    assert_eq!(logouts(&host.step_after(3000)), [(1, LogoutReason::NewCredentials)]);
}

#[test]
fn a13_old_paths_are_logged_out_one_by_one_after_the_new_is_connected() {
    let (new, first, second) = (path("a", "1", "ens1"), path("a", "2", "ens2"), path("a", "3", "ens3"));
    let mut host = Harness::new(plan("r", std::slice::from_ref(&new)));
    host.sessions = vec![session(1, first), session(2, second)];
    let step = host.step();
    assert_eq!((logins(&step), logouts(&step)), (vec![new.clone()], vec![]));
    assert_eq!(states(&step), [ok(Connecting), ok(Disconnecting), ok(Disconnecting)]);
    assert_eq!(logouts(&host.logged_in(3, &new)), [(1, LogoutReason::Surplus)]);
    assert_eq!(logouts(&host.step()), []);
    let step = host.logged_out(1, LogoutReason::Surplus);
    assert_eq!((logouts(&step), step.acknowledged), (vec![(2, LogoutReason::Surplus)], None));
    let step = host.logged_out(2, LogoutReason::Surplus);
    assert_eq!((states(&step), acknowledged(&step)), (vec![ok(Connected)], Some("r")));
}

#[test]
fn a13_an_old_path_is_retained_until_the_new_one_is_connected() {
    let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    let mut host = Harness::new(plan("r", std::slice::from_ref(&new)));
    host.sessions = vec![session(1, old)];
    host.step();
    let step = host.refused(&new, PathReason::PortalUnreachable);
    assert_eq!(states(&step), [bad(PathReason::PortalUnreachable), (Retained, Some(PathReason::InUse))]);
    let message = step.connections[1].message.as_deref();
    assert_eq!(message, Some("kept, because no planned path of the target is connected"));
    assert_eq!(acknowledged(&step), Some("r"));
    host.step_after(5000);
    let step = host.logged_in(2, &new);
    assert_eq!(logouts(&step), [(1, LogoutReason::Surplus)]);
    assert_eq!(states(&step), [ok(Connected), (Retained, Some(PathReason::InUse))], "it just goes");
}

#[test]
fn a13b_a_map_in_use_has_three_seconds_to_add_the_new_path() {
    let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    let mut host = Harness::new(plan("r", std::slice::from_ref(&new)));
    host.sessions = vec![session(1, old)];
    host.maps = vec![map(1, &[(1, true)])];
    host.step();
    let step = host.logged_in(2, &new);
    assert_eq!((states(&step), logouts(&step)), (vec![ok(Connected), ok(Disconnecting)], vec![]));
    assert_eq!(wakes_in(&step, &host), Some(Duration::from_secs(3)));
    let step = host.step_after(3000);
    assert_eq!(states(&step)[1], (Retained, Some(PathReason::InUse)));
    assert_eq!(wakes_in(&step, &host), Some(Duration::from_secs(10)), "looked at again: use is not announced");
    host.maps = vec![map(1, &[(1, true), (2, true)])];
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::Surplus)]);
}

#[test]
fn a13b_the_message_changes_with_the_kind_of_thing_that_keeps_a_session() {
    let old = path("a", "2", "ens2");
    let mut host = Harness::new(plan("r", &[]));
    host.sessions = vec![used(session(1, old.clone()), &DeviceUser::Swap)];
    let swap = host.step();
    assert_eq!(swap.connections[0].message.as_deref(), Some("kept, because its disk sd1 is used as swap"));
    host.sessions = vec![used(session(1, old.clone()), &DeviceUser::Mount("/data".into()))];
    assert_eq!(host.step_after(1000).connections, swap.connections, "no news: it is in use");
    host.plan = holding(plan("s", &[]), "a");
    let held = host.step();
    assert_eq!(states(&held), [ok(Retained)]);
    assert!(held.connections[0].message.as_ref().unwrap().starts_with("held, because"));
    host.sessions = vec![lost(session(1, old))];
    host.step();
    assert_eq!(states(&host.step_after(3000)), [bad(PathReason::PortalUnreachable)], "a lost one keeps nothing alive");
}

#[test]
fn a_logout_that_fails_is_reported_and_retried() {
    let mut host = Harness::new(plan("r", &[]));
    host.sessions = vec![session(1, path("a", "1", "ens1"))];
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::Surplus)]);
    let busy = PathError::new(PathReason::DatabaseLocked, "the database is locked");
    host.reconciler.logout_ended(1, LogoutReason::Surplus, Err(busy), host.clock.now());
    let step = host.step();
    assert_eq!(states(&step), [(Retained, Some(PathReason::DatabaseLocked))]);
    assert_eq!((logouts(&step), acknowledged(&step)), (vec![], Some("r")));
    assert_eq!(logouts(&host.step_after(2000)), [(1, LogoutReason::Surplus)]);
}

#[test]
fn a20_foreign_sessions_are_reported_only_on_planned_paths() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.sessions = vec![foreign(session(1, one)), foreign(session(2, path("a", "2", "ens2")))];
    let step = host.step();
    assert_eq!((states(&step), logins(&step)), (vec![ok(Connected)], vec![]));
    host.plan = plan("s", &[]);
    let step = host.step();
    assert_eq!((states(&step), logouts(&step), acknowledged(&step)), (vec![], vec![], Some("s")));
}

#[test]
fn a26_a_restarted_agent_reports_the_same_as_before() {
    let (good, dead, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"), path("a", "3", "ens3"));
    let wanted = plan("r", &[good.clone(), dead.clone()]);
    let mut host = Harness::new(wanted.clone());
    host.sessions = vec![used(session(9, old), &DeviceUser::Swap)];
    host.step();
    host.logged_in(1, &good);
    let before = host.refused(&dead, PathReason::PortalUnreachable);
    assert_eq!(before.connections.len(), 3);

    let mut restarted = Harness::after(wanted, &before.connections, Some("r"));
    restarted.sessions = host.sessions;
    restarted.clock.pass(3_600_000);
    let step = restarted.step();
    assert_eq!(step.connections, before.connections);
    assert_eq!((logins(&step), acknowledged(&step)), (vec![dead], Some("r")));
    assert!(logouts(&step).is_empty());
}

#[test]
fn a26_a_session_lost_while_the_agent_was_down_is_restored() {
    let one = path("a", "1", "ens1");
    let wanted = plan("r", std::slice::from_ref(&one));
    let mut host = Harness::new(wanted.clone());
    host.step();
    let before = host.logged_in(1, &one);
    let mut restarted = Harness::after(wanted, &before.connections, Some("r"));
    let step = restarted.step();
    assert_eq!((logins(&step), &step.connections), (vec![one], &before.connections));
    assert_eq!(states(&restarted.step_after(3000)), [bad(PathReason::PortalUnreachable)]);
}

#[test]
fn a_plan_that_comes_back_is_acknowledged_again() {
    let (one, two) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    let mut host = Harness::new(plan("one", std::slice::from_ref(&one)));
    host.step();
    assert_eq!(acknowledged(&host.logged_in(1, &one)), Some("one"));
    host.plan = plan("two", &[one.clone(), two.clone()]);
    assert_eq!(acknowledged(&host.step()), Some("one"), "the last that was carried out");
    host.plan = plan("one", std::slice::from_ref(&one));
    assert_eq!(host.step().acknowledged, None, "the login to the second path has not ended");
    let step = host.logged_in(2, &two);
    assert_eq!((logouts(&step), step.acknowledged), (vec![(2, LogoutReason::Surplus)], None));
    assert_eq!(acknowledged(&host.logged_out(2, LogoutReason::Surplus)), Some("one"));
}

#[test]
fn a_planned_path_waits_for_the_end_of_its_logout() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("none", &[]));
    host.sessions = vec![session(1, one.clone())];
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::Surplus)]);
    host.plan = plan("one", std::slice::from_ref(&one));
    let step = host.step();
    assert_eq!((states(&step), logins(&step)), (vec![ok(Connecting)], vec![]), "the session may go yet");
    assert_eq!(step.acknowledged, None);
    host.sessions.clear();
    assert_eq!(logins(&host.step()), [], "its record may still be being forgotten");
    assert_eq!(logins(&host.logged_out(1, LogoutReason::Surplus)), [one]);
}

#[test]
fn a_planned_path_whose_logout_was_refused_is_connected() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("none", &[]));
    host.sessions = vec![session(1, one.clone())];
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::Surplus)]);
    host.plan = plan("one", &[one]);
    host.step();
    host.reconciler.logout_ended(1, LogoutReason::Surplus, Ok(false), host.clock.now());
    let step = host.step();
    assert_eq!(states(&step), [ok(Connected)]);
    assert_eq!(step.acknowledged.map(|version| version.revision).as_deref(), Some("one"));
}

#[test]
fn a22_first_attempts_go_first_and_are_spread_over_devices_and_portals() {
    let portals: Vec<String> = (10..28).map(|portal| portal.to_string()).collect();
    let paths: Vec<IscsiPath> = portals.iter().flat_map(|p| [path("a", p, "ens1"), path("a", p, "ens2")]).collect();
    let mut host = Harness::new(plan("r", &paths));
    let first = logins(&host.step());
    let portals: BTreeSet<_> = first.iter().map(|path| &path.portal).collect();
    let through_ens1 = first.iter().filter(|path| path.interface.as_deref() == Some("ens1")).count();
    assert_eq!((first.len(), portals.len(), through_ens1), (16, 16, 8), "{first:?}");
    for path in &first {
        host.refused(path, PathReason::TargetNotFound);
    }
    host.clock.pass(60_000);
    let under_way: BTreeSet<IscsiPath> = host.reconciler.logins.keys().cloned().collect();
    assert!(under_way.len() == 16 && first.iter().all(|path| !under_way.contains(path)), "the rest: {under_way:?}");
    for path in &under_way {
        host.refused(path, PathReason::TargetNotFound);
    }
    let retries = host.reconciler.logins.keys().filter(|path| first.contains(path)).count();
    assert_eq!(retries, 5, "and then retries, which leave room: {:?}", host.reconciler.logins);
}

#[test]
fn changed_settings_are_applied_to_a_live_session_once() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.sessions =
        vec![Session { live_settings: Some(LiveSettings { replacement_timeout_seconds: 120 }), ..session(1, one) }];
    let adjusts = |step: &Step| step.actions.iter().filter(|action| matches!(action, Action::Adjust { .. })).count();
    assert_eq!((adjusts(&host.step()), adjusts(&host.step())), (1, 0));
    host.plan.settings.replacement_timeout_seconds = 20;
    assert_eq!(adjusts(&host.step()), 1);
}

#[test]
fn maps_are_reported_with_the_target_of_their_disks() {
    let mut host = Harness::new(plan("r", &[]));
    host.sessions = vec![foreign(session(1, path("a", "1", "ens1")))];
    host.maps = vec![map(0, &[(1, true), (8, false)]), map(0, &[(7, true)])];
    let wwid = "3600a".to_owned();
    let target = "iqn.2003-01.org.example:a".to_owned();
    assert_eq!(host.step().multipath, [MultipathMap { wwid, target, paths: 2, active: 1, disks: vec![] }]);
}

#[test]
fn a_map_with_paths_of_two_targets_is_reported_for_both_with_disks() {
    let mut host = Harness::new(plan("r", &[]));
    host.sessions = vec![
        session(1, path("a", "1", "ens1")),
        session(2, path("a", "2", "ens2")),
        session(3, path("b", "3", "ens1")),
    ];
    host.maps = vec![map(1, &[(1, true), (2, true), (3, true)])];
    let entries: Vec<_> =
        host.step().multipath.into_iter().map(|map| (map.target, map.paths, map.disks.join(" "))).collect();
    let target = |name: &str| format!("iqn.2003-01.org.example:{name}");
    assert_eq!(entries, [(target("a"), 2, "sd1 sd2".to_owned()), (target("b"), 1, "sd3".to_owned())]);
}
