//! Portal group tags: what the target answers is reported, and expected from then on.

use super::*;

/// A plan with one path that admits only this tag, if any.
fn admitting(path: &IscsiPath, only: Option<u16>) -> Plan {
    let mut plan = plan("r", std::slice::from_ref(path));
    plan.paths.values_mut().for_each(|params| params.only_tpgt = only);
    plan
}

/// The tags that each login of a step expects, and admits alone.
fn tags(step: &Step) -> Vec<(u16, Option<u16>)> {
    let tags = |action: &Action| match action {
        Action::Login(login) => Some((login.expected_tpgt, login.only_tpgt)),
        Action::Logout { .. }
        | Action::Adjust { .. }
        | Action::Tidy { .. }
        | Action::LookUp { .. }
        | Action::MakeMaps { .. } => None,
    };
    step.actions.iter().filter_map(tags).collect()
}

fn reported(step: &Step) -> Vec<u16> {
    step.connections.iter().map(|connection| connection.tpgt).collect()
}

#[test]
fn a64_a_login_expects_the_planned_tag_until_another_was_answered() {
    let one = path("a", "1", "ens1");
    assert_eq!(tags(&Harness::new(admitting(&one, None)).step()), [(1, None)]);
    let mut host = Harness::new(admitting(&one, Some(2)));
    let step = host.step();
    assert_eq!((tags(&step), reported(&step)), (vec![(2, Some(2))], vec![2]));
}

#[test]
fn a64_the_answered_tag_is_reported_and_expected_at_the_next_login() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(admitting(&one, None));
    assert_eq!(reported(&host.step()), [1]);
    host.sessions = vec![Session { tpgt: 1046, ..session(1, one.clone()) }];
    host.reconciler.login_ended(one.clone(), Ok(()));
    let step = host.step();
    assert_eq!((states(&step), reported(&step)), (vec![ok(Connected)], vec![1046]));
    host.step_after(60_000);
    host.sessions.clear();
    let step = host.step();
    assert_eq!((tags(&step), reported(&step)), (vec![(1046, None)], vec![1046]));
    let step = host.refused(&one, PathReason::PortalUnreachable);
    let mut restarted = Harness::after(admitting(&one, None), &step.connections, None);
    assert_eq!(tags(&restarted.step()), [(1046, None)], "also after a restart");
}

#[test]
fn a64_a_portal_has_one_tag_through_every_interface() {
    let [one, two] = [path("a", "1", "ens1"), path("a", "1", "ens2")];
    let mut host = Harness::new(plan("r", &[one.clone(), two]));
    host.sessions = vec![Session { tpgt: 1046, ..session(1, one) }];
    assert_eq!(tags(&host.step()), [(1046, None)]);
}

#[test]
fn a64_another_number_in_the_plan_costs_no_session_that_exists() {
    let one = path("a", "1", "ens1");
    let mut host = Harness::new(admitting(&one, Some(7)));
    host.sessions = vec![Session { tpgt: 1046, ..session(1, one) }];
    let step = host.step();
    assert_eq!((states(&step), reported(&step), logouts(&step)), (vec![ok(Connected)], vec![1046], vec![]));
}
