//! Sessions that are not planned, until they are gone.

use super::*;

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
fn a_session_waits_while_its_portal_may_be_one_that_is_now_a_name() {
    let [by_address, other] = [path("a", "1", "ens1"), path("a", "2", "ens2")];
    let named = IscsiPath { portal: Portal::new("san.example.com", 3260), ..by_address.clone() };
    let mut host = Harness::new(plan("r", &[by_address.clone(), other.clone()]));
    host.step();
    host.logged_in(1, &by_address);
    host.logged_in(2, &other);
    host.plan = plan("s", &[named.clone(), other]);
    let step = host.step();
    assert_eq!((logins(&step), logouts(&step)), (vec![named.clone()], vec![]), "the login may find the session");
    let step = host.refused(&named, PathReason::NameNotResolved);
    assert_eq!(logouts(&step), [(1, LogoutReason::Surplus)]);
}

#[test]
fn a61_a_lost_session_stays_failed_when_its_path_leaves_the_plan() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.step();
    host.logged_in(1, &one);
    host.sessions = vec![lost(session(1, one.clone()))];
    host.step_after(1000);
    let lost = host.step_after(3000);
    assert_eq!(states(&lost), [bad(PathReason::PortalUnreachable)]);
    host.plan = holding(plan("s", &[]), "a");
    let held = host.step_after(1000);
    assert_eq!((held.connections[0].state, &held.connections[0].since), (Failed, &lost.connections[0].since));
    host.sessions = vec![session(1, one)];
    assert_eq!(host.step_after(1000).connections[0].state, Retained, "the session is back");
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
fn a55_the_error_of_a_logout_replaces_what_kept_the_session_before() {
    let (new, old) = (path("a", "1", "ens1"), path("a", "2", "ens2"));
    let mut host = Harness::new(plan("r", std::slice::from_ref(&new)));
    host.sessions = vec![session(1, old)];
    host.step();
    host.refused(&new, PathReason::PortalUnreachable);
    assert_eq!(logouts(&host.logged_in(2, &new)), [(1, LogoutReason::Surplus)]);
    let mounted = PathError::new(PathReason::InUse, "set iscsid.safe_logout = No");
    host.reconciler.logout_ended(1, LogoutReason::Surplus, Err(mounted), host.clock.now());
    let step = host.step();
    assert_eq!(states(&step)[1], (Retained, Some(PathReason::InUse)), "the reason is the same, its cause is not");
    let message = step.connections[1].message.as_deref();
    assert_eq!(message, Some("the logout has failed: set iscsid.safe_logout = No"));
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
fn a_session_at_a_refused_address_fails_its_path_and_is_logged_out() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.step();
    host.logged_in(1, &one);
    host.sessions = vec![used(refused(session(1, one.clone())), &DeviceUser::Mount("/data".into()))];
    let step = host.step_after(1000);
    assert_eq!((logouts(&step), logins(&step)), (vec![], vec![]), "its disk is in use");
    let step = host.step_after(4000);
    assert_eq!(states(&step), [bad(PathReason::PortalUnreachable)]);
    let message = step.connections[0].message.as_deref().unwrap();
    assert_eq!(
        message,
        "127.0.0.1 is a loopback address; it does not count, and is logged out as soon as nothing needs it"
    );
    assert_eq!(wakes_in(&step, &host), Some(USAGE_RECHECK), "the end of use is not announced");
    host.sessions = vec![refused(session(1, one.clone()))];
    assert_eq!(logouts(&host.step_after(1000)), [(1, LogoutReason::Refused)]);
    let step = host.logged_out(1, LogoutReason::Refused);
    assert_eq!(logins(&step), [one], "it is tried again");
}

#[test]
fn a_lost_session_whose_portals_name_has_moved_is_made_anew() {
    let named = IscsiPath { portal: Portal::new("san.example.com", 3260), ..path("a", "1", "ens1") };
    let mut host = Harness::new(plan("r", std::slice::from_ref(&named)));
    host.step();
    host.logged_in(1, &named);
    host.sessions = vec![lost(session(1, named.clone()))];
    let look_ups = |step: &Step| step.actions.iter().filter(|it| matches!(it, Action::LookUp { .. })).count();
    assert_eq!(look_ups(&host.step_after(1000)), 0, "it may come back");
    assert_eq!(look_ups(&host.step_after(3000)), 1);
    assert_eq!(look_ups(&host.step_after(1000)), 0);
    host.reconciler.look_up_ended(&named, 1, false);
    assert_eq!(look_ups(&host.step_after(30_000)), 1, "the name may move later");
    host.reconciler.look_up_ended(&named, 1, true);
    assert_eq!(logouts(&host.step_after(1000)), [(1, LogoutReason::NewAddress)]);
    assert_eq!(logins(&host.logged_out(1, LogoutReason::NewAddress)), [named]);
}

#[test]
fn a_moved_session_stays_while_its_disk_is_in_use() {
    let named = IscsiPath { portal: Portal::new("san.example.com", 3260), ..path("a", "1", "ens1") };
    let mut host = Harness::new(plan("r", std::slice::from_ref(&named)));
    host.step();
    host.logged_in(1, &named);
    host.sessions = vec![used(lost(session(1, named.clone())), &DeviceUser::Swap)];
    host.step_after(1000);
    host.step_after(3000);
    host.reconciler.look_up_ended(&named, 1, true);
    assert_eq!(logouts(&host.step_after(1000)), []);
}
