//! The verdict depends on the state and not on its history (behaviour 2 and 3).

use super::{
    timeline::{Timeline, line},
    verdict_model::VerdictModel,
};
use multibond::{
    api::{ConnectionState, DefaultNetwork, LunProblemKind, Phase, reason::ConditionType},
    planner::{AgentState, HostVerdict},
};
use proptest::prelude::*;
use rstest::rstest;

/// Two data centers with the same storage; the host is in the first.
fn new_timeline(networks: &str, delay: u64) -> Timeline {
    let hall = |name: &str| {
        format!(
            "
        {name}:
          storage: [{{name: array, targets: [{{iqn: '@alpha', portals: [{{address: 10.0.1.10}}]}}, {{iqn: '@beta', portals: [{{address: 10.0.1.11}}]}}]}}]
          networks: {{{name}-a: {{}}, {name}-b: {{}}}}
          bonds: {{{name}: {{networks: [{networks}]}}}}",
            networks = networks.replace('?', name),
        )
    };
    let host = "
          hosts: {h1: {interfaces: [{name: ens3, networks: [hall-a, cellar-a]}, {name: ens4, networks: [hall-b, cellar-b]}]}}";
    let mut timeline = Timeline::new(&format!("{}{host}{}", hall("hall"), hall("cellar")));
    timeline.delay = delay;
    timeline
}

fn bond_networks(timeline: &mut Timeline, networks: &[&str]) {
    for bond in &mut timeline.objects.bonds {
        let data_center = bond.spec.data_center.clone();
        bond.spec.networks = networks.iter().map(|network| network.replace('?', &data_center)).collect();
    }
}

/// All parts of a verdict that a user sees.
fn visible(verdict: &HostVerdict) -> String {
    let messages = verdict.conditions.iter().map(|condition| format!("\n{}: {}", condition.kind, condition.message));
    format!("{}{}", line(verdict), messages.collect::<String>())
}

/// Brings a host to a final state: the bond names `networks`, the agent reports `states`, and the delay passes.
fn finish(timeline: &mut Timeline, networks: &[&str], states: &str) -> String {
    bond_networks(timeline, networks);
    apply(timeline, &Event::DefaultNetwork(DefaultNetwork::Use));
    timeline.lun(None);
    timeline.host().spec.maintenance = false;
    "hall".clone_into(&mut timeline.host().spec.data_center);
    timeline.agent = AgentState::Alive;
    timeline.reports(states).judge();
    let delay = timeline.delay;
    visible(&timeline.wait(delay + 1).judge())
}

#[rstest]
#[case::through_a_bond(&["?-b"])]
#[case::through_the_default_network(&[])]
fn a19_same_failure_has_the_same_verdict_however_it_arises(
    #[case] networks: &[&str],
    #[values(0, 60)] delay: u64,
    #[values("FF", "CF", "FC", "CC")] states: &str,
) {
    let created = finish(&mut new_timeline("?-a", delay), networks, states);

    let mut edited = new_timeline("?-a", delay);
    edited.reports("CC").judge();
    assert_eq!(finish(&mut edited, networks, states), created, "edit");

    let mut activated = new_timeline("?-a", delay);
    bond_networks(&mut activated, networks);
    activated.host().spec.maintenance = true;
    activated.reports("").judge();
    assert_eq!(finish(&mut activated, networks, states), created, "activation");

    let mut moved = new_timeline("?-a", delay);
    "cellar".clone_into(&mut moved.host().spec.data_center);
    moved.reports("CC").judge();
    assert_eq!(finish(&mut moved, networks, states), created, "move");

    let mut run_time = new_timeline("?-a", delay);
    bond_networks(&mut run_time, networks);
    run_time.reports("CC").judge();
    assert_eq!(finish(&mut run_time, networks, states), created, "run time");
}

#[test]
fn a19_only_run_time_and_edits_have_a_delay() {
    let mut created = new_timeline("?-a", 60);
    assert_eq!(created.reports("FF").judge().phase, Phase::NonOperational);
    let mut run_time = new_timeline("?-a", 60);
    run_time.reports("CC").judge();
    assert_eq!(run_time.reports("FF").judge().phase, Phase::Lost);
    bond_networks(&mut run_time, &["?-b"]);
    assert_eq!(run_time.reports("FF").judge().phase, Phase::Lost);
    assert_eq!(run_time.wait(61).judge().phase, Phase::NonOperational);
}

#[test]
fn target_released_from_hold_is_judged_like_any_other() {
    let mut held = new_timeline("?-typo", 60);
    held.reports("").also("alpha", ConnectionState::Connected).also("beta", ConnectionState::Retained);
    assert_eq!(held.judge().phase, Phase::Up);
    bond_networks(&mut held, &["?-a"]);
    held.reports("FF").also("beta", ConnectionState::Retained);
    assert_eq!(held.judge().phase, Phase::Lost);
    let verdict = held.wait(61).judge();
    assert_eq!(verdict.phase, Phase::NonOperational);
    let operational = super::timeline::message(&verdict, ConditionType::Operational);
    assert!(operational.contains("@alpha") && operational.contains("@beta"), "{operational}");
}

/// One random event in the life of a host.
#[derive(Clone, Debug)]
enum Event {
    Bond(&'static [&'static str]),
    Maintenance(bool),
    DataCenter(&'static str),
    Agent(AgentState),
    Reports([char; 8]),
    Also(ConnectionState),
    Lun(Option<LunProblemKind>),
    Wait(u64),
    DefaultNetwork(DefaultNetwork),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let networks: [&'static [&'static str]; 5] = [&[], &["?-a"], &["?-b"], &["?-a", "?-b"], &["?-typo"]];
    let event = prop_oneof![
        prop::sample::select(networks.to_vec()).prop_map(Event::Bond),
        any::<bool>().prop_map(Event::Maintenance),
        prop::sample::select(vec!["hall", "cellar", "typo"]).prop_map(Event::DataCenter),
        prop::sample::select(vec![AgentState::Alive, AgentState::Silent, AgentState::Missing]).prop_map(Event::Agent),
        prop::array::uniform8(prop::sample::select(vec!['C', 'F', 'c', '-', 'R', 'D'])).prop_map(Event::Reports),
        prop::sample::select(vec![ConnectionState::Connected, ConnectionState::Retained]).prop_map(Event::Also),
        prop::option::of(prop::sample::select(LunProblemKind::ALL)).prop_map(Event::Lun),
        (0..100_u64).prop_map(Event::Wait),
        prop::sample::select(vec![DefaultNetwork::Use, DefaultNetwork::Never]).prop_map(Event::DefaultNetwork),
    ];
    prop::collection::vec(event, 0..12)
}

fn apply(timeline: &mut Timeline, event: &Event) {
    match event {
        Event::Bond(networks) => bond_networks(timeline, networks),
        Event::Maintenance(maintenance) => timeline.host().spec.maintenance = *maintenance,
        Event::DataCenter(name) => (*name).clone_into(&mut timeline.host().spec.data_center),
        Event::Agent(agent) => timeline.agent = *agent,
        Event::Reports(states) => {
            let states: String = states.iter().take(timeline.plan().paths.len()).collect();
            timeline.reports(&states);
        }
        Event::Also(state) => drop(timeline.also("alpha", *state)),
        Event::Lun(problem) => drop(timeline.lun(*problem)),
        Event::Wait(seconds) => drop(timeline.wait(*seconds)),
        Event::DefaultNetwork(wanted) => {
            timeline.objects.data_centers.iter_mut().for_each(|center| center.spec.default_network = *wanted);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: multibond_testbed::cases(256), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a19_verdict_does_not_depend_on_history(
        story in events(),
        delay in prop::sample::select(vec![0_u64, 1, 60]),
        networks in prop::sample::select(vec![&[][..], &["?-a"], &["?-a", "?-b"]]),
        states in prop::array::uniform4(prop::sample::select(vec!['C', 'F'])),
    ) {
        let paths = 2 * networks.len().max(1);
        let states: String = states.iter().take(paths).collect();
        let mut used = new_timeline("?-a", delay);
        for event in &story {
            apply(&mut used, event);
            used.judge();
        }
        prop_assert_eq!(finish(&mut used, networks, &states), finish(&mut new_timeline("?-a", delay), networks, &states));
    }

    #[test]
    fn every_phase_is_that_of_the_model(story in events(), delay in prop::sample::select(vec![0_u64, 1, 60])) {
        let mut timeline = new_timeline("?-a", delay);
        let mut model = VerdictModel::default();
        for event in &story {
            apply(&mut timeline, event);
            let expected = model.phase(&timeline, &timeline.plan());
            prop_assert_eq!(timeline.judge().phase, expected);
        }
    }

    #[test]
    fn judging_again_changes_nothing(story in events()) {
        let mut timeline = new_timeline("?-a", 60);
        for event in &story {
            apply(&mut timeline, event);
            let first = timeline.judge();
            prop_assert_eq!(timeline.judge(), first);
        }
    }
}
