//! What a restarted agent does and says.

use super::*;

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

#[test]
fn a26_a_restarted_agent_deletes_old_records_once() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::after(plan("r", std::slice::from_ref(&one)), &[], Some("r"));
    host.sessions.push(session(1, one));
    assert!(is_tidying(&host.step()));
    assert_eq!(host.step().actions.len(), 0, "once");
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
