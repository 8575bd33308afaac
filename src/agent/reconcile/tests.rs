use super::*;
use crate::{
    agent::{
        credentials::{Account, Fingerprint, Password, SecretState},
        fixtures::{Clock, facts, foreign, holding, inventory, lost, map, path, plan, session, used, with_secret},
        initiator::{DeviceUser, Facts, LiveSettings, Map},
    },
    api::ConnectionState::{self, Connected, Connecting, Disconnecting, Failed, Retained},
};

/// One host, as the reconciler sees it; what it wants done is done when the test says so.
struct Desk {
    reconciler: Reconciler,
    plan: Plan,
    sessions: Vec<Session>,
    maps: Vec<Map>,
    facts: Facts,
    secrets: BTreeMap<Arc<str>, SecretState>,
    clock: Clock,
}

impl Desk {
    fn new(plan: Plan) -> Self {
        Desk::after(plan, &[], None)
    }

    /// After a restart, with this last report.
    fn after(plan: Plan, reported: &[Connection], observed: Option<&str>) -> Self {
        Desk {
            reconciler: Reconciler::new(
                7,
                reported,
                observed.map(|revision| Written { revision: revision.to_owned(), sequence: 1 }),
            ),
            plan,
            sessions: Vec::new(),
            maps: Vec::new(),
            facts: facts(&["ens1", "ens2", "ens3"]),
            secrets: BTreeMap::new(),
            clock: Clock::new(),
        }
    }

    fn step(&mut self) -> Step {
        let mut inventory = inventory(self.sessions.clone(), self.maps.clone());
        // As on a real host, nothing is known of what uses a disk but where it was asked for.
        let in_question = self.reconciler.in_question(&self.plan, &inventory, &self.secrets);
        for session in inventory.sessions.iter_mut().filter(|session| !in_question.contains(&session.id)) {
            session.disks.iter_mut().for_each(|disk| disk.users = None);
        }
        self.reconciler.step(Situation {
            plan: &self.plan,
            inventory: &inventory,
            facts: &self.facts,
            secrets: &self.secrets,
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

    fn logged_out(&mut self, id: u32, why: Why) -> Step {
        self.sessions.retain(|session| session.id != id);
        self.reconciler.logout_ended(id, why, Ok(true), self.clock.now());
        self.step()
    }
}

fn logins(step: &Step) -> Vec<IscsiPath> {
    let login = |action: &Action| match action {
        Action::Login(login) => Some(login.path.clone()),
        Action::Logout { .. } | Action::Adjust { .. } | Action::Tidy { .. } => None,
    };
    step.actions.iter().filter_map(login).collect()
}

fn logouts(step: &Step) -> Vec<(u32, Why)> {
    let logout = |action: &Action| match action {
        Action::Logout { session, why, .. } => Some((session.id, *why)),
        Action::Login(_) | Action::Adjust { .. } | Action::Tidy { .. } => None,
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
        SecretState::Unread | SecretState::Unusable(_) => None,
    }
}

fn wakes_in(step: &Step, desk: &Desk) -> Option<Duration> {
    step.wake_at.map(|at| at - desk.clock.now().instant)
}

#[test]
fn a10_paths_are_connecting_then_connected_and_the_plan_is_acknowledged_with_the_last() {
    let (one, two) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    let mut desk = Desk::new(plan("r", &[one.clone(), two.clone()]));
    let step = desk.step();
    assert_eq!(logins(&step), [one.clone(), two.clone()]);
    assert_eq!(states(&step), [ok(Connecting), ok(Connecting)]);
    let step = desk.logged_in(5, &two);
    assert_eq!(states(&step), [ok(Connecting), ok(Connected)]);
    assert_eq!((step.observed, logins(&desk.step())), (None, vec![]));
    let step = desk.logged_in(6, &one);
    assert_eq!(states(&step), [ok(Connected), ok(Connected)]);
    assert_eq!(step.observed.as_ref().map(|written| &*written.revision), Some("r"));
    assert_eq!(step.connections[1].session_id, Some(5));
    assert!(matches!(&step.actions[..], [Action::Tidy { keep }] if keep.len() == 2));
    assert_eq!((desk.step().actions.len(), desk.step().wake_at), (0, None), "then there is nothing to do");
}

fn is_tidying(step: &Step) -> bool {
    matches!(&step.actions[..], [Action::Tidy { .. }])
}

#[test]
fn a26_records_that_an_agent_killed_after_its_acknowledgement_left_behind_are_forgotten_by_the_next() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::after(plan("r", std::slice::from_ref(&one)), &[], Some("r"));
    desk.sessions.push(session(1, one));
    assert!(is_tidying(&desk.step()));
    assert_eq!(desk.step().actions.len(), 0, "once");
}

#[test]
fn a26_records_that_could_not_be_forgotten_are_tried_again_until_they_are() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&one)));
    let _ = desk.step();
    assert!(is_tidying(&desk.logged_in(1, &one)));
    desk.reconciler.tidying_failed(desk.clock.now());
    let waits = desk.step();
    assert_eq!((waits.actions.len(), wakes_in(&waits, &desk)), (0, Some(Duration::from_secs(60))));
    assert!(is_tidying(&desk.step_after(60_000)));
    let done = desk.step_after(60_000);
    assert_eq!((done.actions.len(), done.wake_at), (0, None));
}

#[test]
fn a22_a_failed_path_says_why_and_since_when_and_says_the_same_when_it_fails_again() {
    let dead = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&dead)));
    desk.step();
    desk.clock.pass(5000);
    let first = desk.refused(&dead, PathReason::PortalUnreachable);
    assert_eq!(states(&first), [bad(PathReason::PortalUnreachable)]);
    assert_eq!(first.connections[0].message.as_deref(), Some("because"));
    assert_eq!(first.connections[0].retry_every.as_deref(), Some("30s"));
    assert_eq!(first.observed.as_ref().map(|written| &*written.revision), Some("r"), "its first attempt has ended");
    let pause = wakes_in(&first, &desk).unwrap();
    assert!(pause <= Duration::from_secs(2), "{pause:?}");

    assert_eq!(logins(&desk.step()), []);
    let retry = desk.step_after(2000);
    assert_eq!(logins(&retry), std::slice::from_ref(&dead));
    assert_eq!(retry.connections, first.connections, "still failed while it is retried");
    desk.clock.pass(5000);
    assert_eq!(desk.refused(&dead, PathReason::PortalUnreachable).connections, first.connections);
    assert_eq!(logins(&desk.step_after(30_000)), std::slice::from_ref(&dead));
    let other = desk.refused(&dead, PathReason::TargetNotFound);
    assert_eq!(states(&other), [bad(PathReason::TargetNotFound)]);
    assert_eq!(other.connections[0].since, first.connections[0].since, "another reason is no new failure");
}

#[test]
fn a22_a_login_that_does_not_end_is_reported_after_its_timeout_and_a_margin() {
    let slow = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&slow)));
    let step = desk.step();
    assert_eq!(wakes_in(&step, &desk), Some(Duration::from_secs(9)));
    assert_eq!(states(&desk.step_after(8999)), [ok(Connecting)]);
    let step = desk.step_after(1);
    assert_eq!(states(&step), [bad(PathReason::Timeout)]);
    assert_eq!(
        (logins(&step), step.observed.as_ref().map(|written| &*written.revision)),
        (vec![], Some("r")),
        "it is not begun again"
    );
    let ended = desk.refused(&slow, PathReason::PortalUnreachable);
    assert_eq!(states(&ended), [bad(PathReason::PortalUnreachable)], "the tool knows better why");

    assert_eq!(logins(&desk.step_after(2000)), std::slice::from_ref(&slow));
    let retry = desk.step_after(60_000);
    assert_eq!((retry.connections, retry.wake_at), (ended.connections, None), "a slow retry is no news");
    assert_eq!(states(&desk.logged_in(1, &slow)), [ok(Connected)]);
}

#[test]
fn a18_a_lost_session_has_failed_after_three_seconds_and_is_left_to_the_initiator() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&one)));
    desk.step();
    let connected = desk.logged_in(1, &one);
    desk.sessions = vec![lost(session(1, one.clone()))];
    let step = desk.step_after(1000);
    assert_eq!(step.connections, connected.connections, "nothing to report yet");
    assert_eq!(wakes_in(&step, &desk), Some(Duration::from_secs(3)));
    assert_eq!(desk.step_after(2999).connections, connected.connections);
    let step = desk.step_after(1);
    assert_eq!(states(&step), [bad(PathReason::PortalUnreachable)]);
    assert_eq!((step.connections[0].session_id, logins(&step), logouts(&step)), (Some(1), vec![], vec![]));
    desk.sessions = vec![session(1, one)];
    let step = desk.step_after(60_000);
    assert_eq!((states(&step), logins(&step)), (vec![ok(Connected)], vec![]));
}

#[test]
fn a20_a_session_that_is_gone_is_made_anew_at_once_and_nobody_notices() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&one)));
    desk.step();
    let connected = desk.logged_in(1, &one);
    desk.clock.pass(60_000);
    desk.step();
    desk.sessions.clear();
    let step = desk.step();
    assert_eq!((logins(&step), &step.connections), (vec![one.clone()], &connected.connections));
    desk.clock.pass(1000);
    let step = desk.logged_in(2, &one);
    assert_eq!(step.connections[0].session_id, Some(2));
    assert_eq!(step.connections[0].since, connected.connections[0].since);
}

#[test]
fn a20_a_session_that_cannot_be_made_anew_has_failed_after_three_seconds_with_the_reason() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&one)));
    desk.step();
    desk.logged_in(1, &one);
    desk.clock.pass(60_000);
    desk.sessions.clear();
    desk.step();
    assert_eq!(states(&desk.refused(&one, PathReason::TargetNotFound)), [ok(Connected)]);
    assert_eq!(states(&desk.step_after(3000)), [bad(PathReason::TargetNotFound)]);
}

#[test]
fn a_session_that_keeps_vanishing_is_not_made_anew_at_once_each_time() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&one)));
    desk.step();
    let mut pauses = Vec::new();
    for id in 1..6 {
        desk.logged_in(id, &one);
        desk.sessions.clear();
        let mut waited = 0;
        while logins(&desk.step()).is_empty() {
            desk.clock.pass(100);
            waited += 100;
        }
        pauses.push(waited);
    }
    assert!(pauses[0] >= 1000 && pauses[4] >= 8000, "{pauses:?}");
}

#[test]
fn a12_a_missing_device_or_address_is_told_without_an_attempt_and_tried_at_once_when_it_is_back() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&one)));
    desk.facts = facts(&["ens2"]);
    let step = desk.step();
    assert_eq!((states(&step), logins(&step)), (vec![bad(PathReason::InterfaceNotFound)], vec![]));
    assert!(step.connections[0].message.as_ref().unwrap().contains("maintenance and back"), "how to forget it");
    assert_eq!((step.observed.as_ref().map(|written| &*written.revision), step.wake_at), (Some("r"), None));
    desk.facts = facts(&["ens1"]);
    desk.facts.interfaces[0].addresses.clear();
    assert_eq!(states(&desk.step()), [bad(PathReason::NoAddress)]);
    desk.facts = facts(&["ens1"]);
    assert_eq!(logins(&desk.step()), std::slice::from_ref(&one));
    desk.logged_in(1, &one);
    desk.facts = facts(&[]);
    desk.sessions = vec![lost(session(1, one))];
    desk.step();
    assert_eq!(states(&desk.step_after(3000)), [bad(PathReason::InterfaceNotFound)]);
}

#[test]
fn a12_an_address_that_changes_is_reason_enough_to_try_at_once() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&one)));
    desk.step();
    assert_eq!(logins(&desk.refused(&one, PathReason::PortalUnreachable)), []);
    desk.facts.interfaces[1].addresses.push("10.9.9.9/24".into());
    assert_eq!(logins(&desk.step()), [], "of another device it is not");
    desk.facts.interfaces[0].addresses.push("10.9.9.9/24".into());
    assert_eq!(logins(&desk.step()), [one]);
}

#[test]
fn a23_a_path_waits_for_its_secret_and_a_missing_one_is_told() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(with_secret(plan("r", std::slice::from_ref(&one)), "array"));
    let step = desk.step();
    assert_eq!((states(&step), logins(&step)), (vec![ok(Connecting)], vec![]));
    desk.secrets.insert("array".into(), SecretState::Unusable("there is none in namespace frankfurt".into()));
    let step = desk.step();
    assert_eq!(states(&step), [bad(PathReason::SecretNotFound)]);
    let message = step.connections[0].message.as_deref();
    assert_eq!(message, Some("the Secret array cannot be used: there is none in namespace frankfurt"));
    desk.secrets.insert("array".into(), password("hunter2"));
    assert_eq!(logins(&desk.step()), [one]);
}

#[test]
fn a23_a_refused_secret_is_tried_slowly_and_a_corrected_one_at_once() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(with_secret(plan("r", std::slice::from_ref(&one)), "array"));
    desk.secrets.insert("array".into(), password("wrong"));
    desk.step();
    let step = desk.refused(&one, PathReason::AuthenticationFailed);
    assert_eq!(step.connections[0].retry_every.as_deref(), Some("10m"));
    assert_eq!(logins(&desk.step_after(59_000)), []);
    desk.secrets.insert("array".into(), password("hunter2"));
    assert_eq!(logins(&desk.step()), [one]);
}

#[test]
fn a23_a_rotated_secret_renews_one_session_at_a_time_and_stops_when_it_is_refused() {
    let paths = [path("a", "1", "ens1"), path("a", "2", "ens2"), path("a", "3", "ens3")];
    let mut desk = Desk::new(with_secret(plan("r", &paths), "array"));
    let old = password("old");
    let with = |id, path: &IscsiPath, state| Session { credentials: fingerprint(state), ..session(id, path.clone()) };
    desk.secrets.insert("array".into(), old.clone());
    desk.sessions = (1..).zip(&paths).map(|(id, path)| with(id, path, &old)).collect();
    assert_eq!(desk.step().actions.len(), 1, "tidy");
    let new = password("new");
    desk.secrets.insert("array".into(), new.clone());
    assert_eq!(logouts(&desk.step()), [(1, Why::Rotated)]);
    assert_eq!(logouts(&desk.step()), []);
    let step = desk.logged_out(1, Why::Rotated);
    assert_eq!((logins(&step), logouts(&step)), (vec![paths[0].clone()], vec![]));
    assert_eq!(states(&step), [ok(Connected), ok(Connected), ok(Connected)], "a moment is no loss");
    desk.sessions.push(with(4, &paths[0], &new));
    desk.reconciler.login_ended(paths[0].clone(), Ok(()));
    assert_eq!(logouts(&desk.step()), [(2, Why::Rotated)]);
    desk.logged_out(2, Why::Rotated);
    desk.refused(&paths[1], PathReason::AuthenticationFailed);
    let step = desk.step_after(3000);
    assert_eq!(states(&step), [ok(Connected), bad(PathReason::AuthenticationFailed), ok(Connected)]);
    assert_eq!(logouts(&step), [], "the array does not know the new one yet: the rest is left alone");
    desk.refused(&paths[1], PathReason::TargetNotFound);
    assert_eq!(logouts(&desk.step_after(3000)), [], "the array does not prove itself with the new one");
}

#[test]
fn a23_a_session_that_cannot_be_logged_out_is_made_anew_later() {
    let paths = [path("a", "1", "ens1"), path("a", "2", "ens2")];
    let mut desk = Desk::new(with_secret(plan("r", &paths), "array"));
    let old = fingerprint(&password("old"));
    desk.secrets.insert("array".into(), password("new"));
    desk.sessions = (1..).zip(paths).map(|(id, path)| Session { credentials: old, ..session(id, path) }).collect();
    assert_eq!(logouts(&desk.step()), [(1, Why::Rotated)]);
    let busy = PathError::new(PathReason::DatabaseLocked, "the database is locked");
    desk.reconciler.logout_ended(1, Why::Rotated, Err(busy), desk.clock.now());
    let step = desk.step();
    assert_eq!((logouts(&step), wakes_in(&step, &desk)), (vec![], Some(Duration::from_secs(30))));
    assert_eq!(logouts(&desk.step_after(30_000)), [(1, Why::Rotated)]);
}

#[test]
fn a13_old_paths_go_one_by_one_and_after_the_new_one_is_there() {
    let (new, first, second) = (path("a", "1", "ens1"), path("a", "2", "ens2"), path("a", "3", "ens3"));
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&new)));
    desk.sessions = vec![session(1, first), session(2, second)];
    let step = desk.step();
    assert_eq!((logins(&step), logouts(&step)), (vec![new.clone()], vec![]));
    assert_eq!(states(&step), [ok(Connecting), ok(Disconnecting), ok(Disconnecting)]);
    assert_eq!(logouts(&desk.logged_in(3, &new)), [(1, Why::Surplus)]);
    assert_eq!(logouts(&desk.step()), []);
    let step = desk.logged_out(1, Why::Surplus);
    assert_eq!((logouts(&step), step.observed), (vec![(2, Why::Surplus)], None));
    let step = desk.logged_out(2, Why::Surplus);
    assert_eq!(
        (states(&step), step.observed.as_ref().map(|written| &*written.revision)),
        (vec![ok(Connected)], Some("r"))
    );
}

#[test]
fn a13_when_the_new_path_fails_the_old_one_is_retained_and_goes_when_it_heals() {
    let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&new)));
    desk.sessions = vec![session(1, old)];
    desk.step();
    let step = desk.refused(&new, PathReason::PortalUnreachable);
    assert_eq!(states(&step), [bad(PathReason::PortalUnreachable), (Retained, Some(PathReason::InUse))]);
    let message = step.connections[1].message.as_deref();
    assert_eq!(message, Some("kept, because no planned path of the target is connected"));
    assert_eq!(step.observed.as_ref().map(|written| &*written.revision), Some("r"));
    desk.step_after(5000);
    let step = desk.logged_in(2, &new);
    assert_eq!(logouts(&step), [(1, Why::Surplus)]);
    assert_eq!(states(&step), [ok(Connected), (Retained, Some(PathReason::InUse))], "it just goes");
}

#[test]
fn a13b_a_map_in_use_is_given_time_to_take_up_the_new_path() {
    let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&new)));
    desk.sessions = vec![session(1, old)];
    desk.maps = vec![map(1, &[(1, true)])];
    desk.step();
    let step = desk.logged_in(2, &new);
    assert_eq!((states(&step), logouts(&step)), (vec![ok(Connected), ok(Disconnecting)], vec![]));
    assert_eq!(wakes_in(&step, &desk), Some(Duration::from_secs(3)));
    let step = desk.step_after(3000);
    assert_eq!(states(&step)[1], (Retained, Some(PathReason::InUse)));
    assert_eq!(wakes_in(&step, &desk), Some(Duration::from_secs(10)), "looked at again: use is not announced");
    desk.maps = vec![map(1, &[(1, true), (2, true)])];
    assert_eq!(logouts(&desk.step()), [(1, Why::Surplus)]);
}

#[test]
fn a13b_what_keeps_a_session_is_told_and_told_anew_when_it_is_something_else() {
    let old = path("a", "2", "ens2");
    let mut desk = Desk::new(plan("r", &[]));
    desk.sessions = vec![used(session(1, old.clone()), &DeviceUser::Swap)];
    let swap = desk.step();
    assert_eq!(swap.connections[0].message.as_deref(), Some("kept, because its disk sd1 is used as swap"));
    desk.sessions = vec![used(session(1, old.clone()), &DeviceUser::Mount("/data".into()))];
    assert_eq!(desk.step_after(1000).connections, swap.connections, "no news: it is in use");
    desk.plan = holding(plan("s", &[]), "a");
    let held = desk.step();
    assert_eq!(states(&held), [ok(Retained)]);
    assert!(held.connections[0].message.as_ref().unwrap().starts_with("held, because"));
    desk.sessions = vec![lost(session(1, old))];
    desk.step();
    assert_eq!(states(&desk.step_after(3000)), [bad(PathReason::PortalUnreachable)], "a lost one keeps nothing alive");
}

#[test]
fn a_logout_that_fails_is_told_and_tried_again() {
    let mut desk = Desk::new(plan("r", &[]));
    desk.sessions = vec![session(1, path("a", "1", "ens1"))];
    assert_eq!(logouts(&desk.step()), [(1, Why::Surplus)]);
    let busy = PathError::new(PathReason::DatabaseLocked, "the database is locked");
    desk.reconciler.logout_ended(1, Why::Surplus, Err(busy), desk.clock.now());
    let step = desk.step();
    assert_eq!(states(&step), [(Retained, Some(PathReason::DatabaseLocked))]);
    assert_eq!((logouts(&step), step.observed.as_ref().map(|written| &*written.revision)), (vec![], Some("r")));
    assert_eq!(logouts(&desk.step_after(2000)), [(1, Why::Surplus)]);
}

#[test]
fn a20_a_foreign_session_on_a_planned_path_is_the_path_and_others_are_not_reported() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&one)));
    desk.sessions = vec![foreign(session(1, one)), foreign(session(2, path("a", "2", "ens2")))];
    let step = desk.step();
    assert_eq!((states(&step), logins(&step)), (vec![ok(Connected)], vec![]));
    desk.plan = plan("s", &[]);
    let step = desk.step();
    assert_eq!(
        (states(&step), logouts(&step), step.observed.as_ref().map(|written| &*written.revision)),
        (vec![], vec![], Some("s"))
    );
}

#[test]
fn a26_a_restarted_agent_reports_what_it_has_reported() {
    let (good, dead, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"), path("a", "3", "ens3"));
    let wanted = plan("r", &[good.clone(), dead.clone()]);
    let mut desk = Desk::new(wanted.clone());
    desk.sessions = vec![used(session(9, old), &DeviceUser::Swap)];
    desk.step();
    desk.logged_in(1, &good);
    let before = desk.refused(&dead, PathReason::PortalUnreachable);
    assert_eq!(before.connections.len(), 3);

    let mut restarted = Desk::after(wanted, &before.connections, Some("r"));
    restarted.sessions = desk.sessions;
    restarted.clock.pass(3_600_000);
    let step = restarted.step();
    assert_eq!(step.connections, before.connections);
    assert_eq!((logins(&step), step.observed.as_ref().map(|written| &*written.revision)), (vec![dead], Some("r")));
    assert!(logouts(&step).is_empty());
}

#[test]
fn a26_a_session_that_was_lost_while_the_agent_was_away_is_made_anew() {
    let one = path("a", "1", "ens1");
    let wanted = plan("r", std::slice::from_ref(&one));
    let mut desk = Desk::new(wanted.clone());
    desk.step();
    let before = desk.logged_in(1, &one);
    let mut restarted = Desk::after(wanted, &before.connections, Some("r"));
    let step = restarted.step();
    assert_eq!((logins(&step), &step.connections), (vec![one], &before.connections));
    assert_eq!(states(&restarted.step_after(3000)), [bad(PathReason::PortalUnreachable)]);
}

#[test]
fn a_plan_that_comes_back_is_acknowledged_anew() {
    let (one, two) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    let mut desk = Desk::new(plan("one", std::slice::from_ref(&one)));
    desk.step();
    assert_eq!(desk.logged_in(1, &one).observed.as_ref().map(|written| &*written.revision), Some("one"));
    desk.plan = plan("two", &[one.clone(), two.clone()]);
    assert_eq!(
        desk.step().observed.as_ref().map(|written| &*written.revision),
        Some("one"),
        "the last that was carried out"
    );
    desk.plan = plan("one", std::slice::from_ref(&one));
    assert_eq!(desk.step().observed, None, "the login to the second path has not ended");
    let step = desk.logged_in(2, &two);
    assert_eq!((logouts(&step), step.observed), (vec![(2, Why::Surplus)], None));
    assert_eq!(desk.logged_out(2, Why::Surplus).observed.as_ref().map(|written| &*written.revision), Some("one"));
}

#[test]
fn a_path_whose_logout_has_not_ended_is_not_connected_before_it_has() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("none", &[]));
    desk.sessions = vec![session(1, one.clone())];
    assert_eq!(logouts(&desk.step()), [(1, Why::Surplus)]);
    desk.plan = plan("one", std::slice::from_ref(&one));
    let step = desk.step();
    assert_eq!((states(&step), logins(&step)), (vec![ok(Connecting)], vec![]), "the session may go yet");
    assert_eq!(step.observed, None);
    desk.sessions.clear();
    assert_eq!(logins(&desk.step()), [], "its record may still be being forgotten");
    assert_eq!(logins(&desk.logged_out(1, Why::Surplus)), [one]);
}

#[test]
fn a_path_whose_logout_was_called_off_is_connected() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("none", &[]));
    desk.sessions = vec![session(1, one.clone())];
    assert_eq!(logouts(&desk.step()), [(1, Why::Surplus)]);
    desk.plan = plan("one", &[one]);
    desk.step();
    desk.reconciler.logout_ended(1, Why::Surplus, Ok(false), desk.clock.now());
    let step = desk.step();
    assert_eq!(states(&step), [ok(Connected)]);
    assert_eq!(step.observed.map(|written| written.revision).as_deref(), Some("one"));
}

#[test]
fn a22_sixteen_logins_at_once_first_attempts_first_and_spread_over_portals() {
    let portals: Vec<String> = (10..28).map(|portal| portal.to_string()).collect();
    let paths: Vec<IscsiPath> = portals.iter().flat_map(|p| [path("a", p, "ens1"), path("a", p, "ens2")]).collect();
    let mut desk = Desk::new(plan("r", &paths));
    let first = logins(&desk.step());
    assert_eq!(first.len(), 16);
    assert!(first.iter().all(|path| path.interface.as_deref() == Some("ens1")), "one of each portal: {first:?}");
    for path in &first {
        desk.refused(path, PathReason::PortalUnreachable);
    }
    desk.clock.pass(60_000);
    let under_way: BTreeSet<IscsiPath> = desk.reconciler.logins.keys().cloned().collect();
    assert_eq!(under_way.len(), 16, "the rest of the first attempts");
    for path in &under_way {
        desk.refused(path, PathReason::PortalUnreachable);
    }
    let retries = desk.reconciler.logins.keys().filter(|path| first.contains(path)).count();
    assert_eq!(retries, 5, "and then retries, which leave room: {:?}", desk.reconciler.logins);
}

#[test]
fn a_live_session_is_brought_in_line_with_the_settings_once() {
    let one = path("a", "1", "ens1");
    let mut desk = Desk::new(plan("r", std::slice::from_ref(&one)));
    desk.sessions =
        vec![Session { live_settings: Some(LiveSettings { replacement_timeout_seconds: 120 }), ..session(1, one) }];
    let adjusts = |step: &Step| step.actions.iter().filter(|action| matches!(action, Action::Adjust { .. })).count();
    assert_eq!((adjusts(&desk.step()), adjusts(&desk.step())), (1, 0));
    desk.plan.settings.replacement_timeout_seconds = 20;
    assert_eq!(adjusts(&desk.step()), 1);
}

#[test]
fn maps_are_reported_with_the_target_of_their_disks() {
    let mut desk = Desk::new(plan("r", &[]));
    desk.sessions = vec![foreign(session(1, path("a", "1", "ens1")))];
    desk.maps = vec![map(0, &[(1, true), (8, false)]), map(0, &[(7, true)])];
    let wwid = "3600a".to_owned();
    let target = "iqn.2003-01.org.example:a".to_owned();
    assert_eq!(desk.step().multipath, [MultipathMap { wwid, target, paths: 2, active: 1 }]);
}
