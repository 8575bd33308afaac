//! What others on the host do.

use super::*;

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
fn a45_a_record_that_others_changed_is_put_right_but_not_in_a_fight() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.step();
    assert!(is_tidying(&host.logged_in(1, &one)));
    host.clock.pass(120_000);
    host.step();
    let changed = |host: &mut Harness, is_kept: bool, milliseconds: u64| {
        host.sessions[0].record_is_kept = Some(is_kept);
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
