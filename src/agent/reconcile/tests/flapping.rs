//! Sessions that are lost again and again for a moment.

use super::*;

/// A path that has been connected for a minute, with its session.
fn connected() -> (Harness, Session) {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(plan("r", std::slice::from_ref(&one)));
    host.step();
    host.logged_in(1, &one);
    host.step_after(60_000);
    (host, session(1, one))
}

/// The session is lost for a second, ten seconds later. Returns the report after it.
fn flap(host: &mut Harness, session: &Session) -> Step {
    host.sessions = vec![lost(session.clone())];
    host.step_after(10_000);
    host.sessions = vec![session.clone()];
    host.step_after(1000)
}

fn message(step: &Step) -> Option<&str> {
    step.connections[0].message.as_deref()
}

#[test]
fn a_path_that_flaps_says_how_often_and_since_when() {
    let (mut host, session) = connected();
    let first = flap(&mut host, &session);
    assert_eq!((states(&first), message(&first)), (vec![ok(Connected)], None), "once is nothing");
    flap(&mut host, &session);
    let third = flap(&mut host, &session);
    assert_eq!(states(&third), [ok(Connected)]);
    let said = message(&third).unwrap();
    assert!(said.contains("at least 3 times since 2027-01-15T08:01:11Z"), "{said}");
    let fourth = flap(&mut host, &session);
    assert_eq!(fourth.connections, third.connections, "the number is not written each time");
    (0..6).for_each(|_| drop(flap(&mut host, &session)));
    assert!(message(&host.step()).unwrap().contains("at least 10 times"));
}

#[test]
fn a_path_that_is_calm_for_ten_minutes_does_not_flap_any_more() {
    let (mut host, session) = connected();
    (0..3).for_each(|_| drop(flap(&mut host, &session)));
    let step = host.step_after(599_000);
    assert!(message(&step).is_some());
    assert_eq!(wakes_in(&step, &host), Some(Duration::from_secs(1)));
    assert_eq!(message(&host.step_after(1000)), None);
}

#[test]
fn a_session_that_is_made_anew_for_new_credentials_is_no_loss() {
    let (mut host, paths) = rotating("old");
    host.step();
    for (id, password_text) in [(3, "two"), (4, "three"), (5, "four"), (6, "five")] {
        host.secrets.insert("array".into(), password(password_text));
        let step = host.step_after(60_000);
        let [(old, reason)] = logouts(&step)[..] else { panic!("one logout: {step:?}") };
        let path = host.sessions.iter().find(|session| session.id == old).unwrap().path.clone();
        host.logged_out(old, reason);
        let new = fingerprint(&password(password_text));
        host.sessions.push(Session { credentials: new, ..session(id, path.clone()) });
        host.sessions.iter_mut().for_each(|session| session.credentials = new);
        host.reconciler.login_ended(path, Ok(()));
        let step = host.step();
        assert!(step.connections.iter().all(|connection| connection.message.is_none()), "{paths:?}");
    }
}
