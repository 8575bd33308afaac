//! Secrets and their rotation.

use super::*;

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
pub(super) fn rotating(new: &str) -> (Harness, [IscsiPath; 2]) {
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
fn a23_a_secret_that_comes_back_before_the_login_is_rotated_to_again() {
    let (mut host, paths) = rotating("new");
    assert_eq!(logouts(&host.step()), [(1, LogoutReason::NewCredentials)]);
    host.secrets.insert("array".into(), password("old"));
    assert_eq!(logins(&host.logged_out(1, LogoutReason::NewCredentials)), [paths[0].clone()]);
    host.sessions.push(with_old(session(3, paths[0].clone())));
    host.reconciler.login_ended(paths[0].clone(), Ok(()));
    assert_eq!(logouts(&host.step()), []);
    host.secrets.insert("array".into(), password("new"));
    assert_eq!(logouts(&host.step()), [(3, LogoutReason::NewCredentials)]);
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
