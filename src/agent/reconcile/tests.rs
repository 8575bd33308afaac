mod credentials;
mod dead_networks;
mod flapping;
mod group_tags;
mod neighbours;
mod restarts;
mod surplus;

use std::sync::Arc;

use self::credentials::rotating;
use super::*;
use crate::{
    agent::{
        fixtures::{
            TestClock, facts, foreign, holding, inventory, lost, map, path, plan, refused, session, used, with_secret,
        },
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
        Action::Logout { .. }
        | Action::Adjust { .. }
        | Action::MakeMaps { .. }
        | Action::LookUp { .. }
        | Action::Tidy { .. } => None,
    };
    step.actions.iter().filter_map(login).collect()
}

fn logouts(step: &Step) -> Vec<(u32, LogoutReason)> {
    let logout = |action: &Action| match action {
        Action::Logout { session, reason, .. } => Some((session.id, *reason)),
        Action::Login(_)
        | Action::Adjust { .. }
        | Action::MakeMaps { .. }
        | Action::LookUp { .. }
        | Action::Tidy { .. } => None,
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

fn is_tidying(step: &Step) -> bool {
    matches!(&step.actions[..], [Action::Tidy { .. }])
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
