//! The verdict table (behaviour 2, and the table that oVirt gets wrong).

use super::timeline::Timeline;
use multibond::{
    api::{ConnectionState, LunProblemKind, Phase, condition::Status, reason::ConditionType},
    planner::AgentState,
};
use rstest::rstest;

fn one_target(portals: &str, pairing: &str, networks: &str) -> Timeline {
    Timeline::new(&format!(
        "
        hall:
          storage: [{{name: array, targets: [{{iqn: '@alpha', portals: [{portals}]}}]}}]
          networks: {{n1: {{}}, n2: {{}}}}
          bonds: {{storage: {{networks: [n1, n2], pairing: {pairing}}}}}
          hosts: {{h1: {{interfaces: [{networks}]}}}}
        "
    ))
}

const C1: &str = "{address: 10.0.1.10}";
const C1_C2: &str = "{address: 10.0.1.10}, {address: 10.0.2.20}";
const N1: &str = "{name: ens3, networks: [n1]}";
const N1_N2: &str = "{name: ens3, networks: [n1]}, {name: ens4, networks: [n2]}";

/// Paths are sorted by portal, then by interface: c1n1, c1n2, c2n1, c2n2.
#[rstest]
#[case::one_portal_nothing_fails(C1, N1_N2, "CC", Phase::Up)]
#[case::one_portal_n1_fails(C1, N1_N2, "FC", Phase::Degraded)]
#[case::one_portal_n2_fails(C1, N1_N2, "CF", Phase::Degraded)]
#[case::one_portal_fails(C1, N1_N2, "FF", Phase::NonOperational)]
#[case::nothing_fails(C1_C2, N1_N2, "CCCC", Phase::Up)]
#[case::path_c1_n1_fails(C1_C2, N1_N2, "FCCC", Phase::Degraded)]
#[case::path_c1_n2_fails(C1_C2, N1_N2, "CFCC", Phase::Degraded)]
#[case::path_c2_n1_fails(C1_C2, N1_N2, "CCFC", Phase::Degraded)]
#[case::path_c2_n2_fails(C1_C2, N1_N2, "CCCF", Phase::Degraded)]
#[case::network_n1_fails(C1_C2, N1_N2, "FCFC", Phase::Degraded)]
#[case::network_n2_fails(C1_C2, N1_N2, "CFCF", Phase::Degraded)]
#[case::portal_c1_fails(C1_C2, N1_N2, "FFCC", Phase::Degraded)]
#[case::portal_c2_fails(C1_C2, N1_N2, "CCFF", Phase::Degraded)]
#[case::opposite_paths_fail(C1_C2, N1_N2, "FCCF", Phase::Degraded)]
#[case::one_path_is_left(C1_C2, N1_N2, "FFFC", Phase::Degraded)]
#[case::everything_is_dead(C1_C2, N1_N2, "FFFF", Phase::NonOperational)]
#[case::a_host_with_one_network_of_two(C1_C2, N1, "CF", Phase::Degraded)]
#[case::the_default_path_of_one_portal(C1_C2, "", "CF", Phase::Degraded)]
#[case::the_default_paths_of_all(C1_C2, "", "FF", Phase::NonOperational)]
fn a17_at_activation(#[case] portals: &str, #[case] networks: &str, #[case] states: &str, #[case] phase: Phase) {
    let mut timeline = one_target(portals, "AllPairs", networks);
    assert_eq!(timeline.reports(states).judge().phase, phase);
    let first = timeline.verdict();

    let mut reversed = one_target(portals, "AllPairs", networks);
    reversed.host().spec.interfaces.reverse();
    reversed.objects.bonds[0].spec.networks.reverse();
    reversed.objects.networks.reverse();
    reversed.objects.data_centers[0].spec.storage[0].targets[0].portals.reverse();
    reversed.reports(states).host().status.as_mut().expect("a status").connections.reverse();
    assert_eq!(reversed.judge().phase, phase);
    assert_eq!(reversed.verdict(), first);
}

#[test]
fn a17_verdict_for_every_mix_of_states_of_four_paths() {
    for number in 0..81_u32 {
        let states: String = (0..4).map(|path| ['C', 'F', 'c'][(number / 3_u32.pow(path) % 3) as usize]).collect();
        let expected = match (states.contains('C'), states.contains('F'), states.contains('c')) {
            (true, false, false) => "Up | True TargetsReachable | True AllPathsConnected | True Up",
            (true, false, true) => "Up | True TargetsReachable | False Connecting | False Progressing",
            (true, true, _) => "Degraded | True TargetsReachable | False PathsFailed | True Degraded",
            (false, true, false) => {
                "NonOperational | False StorageUnreachable | False PathsFailed | False StorageUnreachable"
            }
            (false, true, true) => "Connecting | Unknown Progressing | False PathsFailed | False Progressing",
            (false, false, _) => "Connecting | Unknown Progressing | False Connecting | False Progressing",
        };
        let connected = states.matches('C').count();
        let expected = expected.replacen(" |", &format!(" {connected}/4 |"), 1);
        assert_eq!(one_target(C1_C2, "AllPairs", N1_N2).reports(&states).verdict(), expected, "{states}");
    }
}

const HALL: &str = "
    hall:
      storage:
      - {name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}]}, {iqn: '@beta', portals: [{address: 10.0.1.11}]}]}
      networks: {n1: {subnets: [10.0.1.0/24]}, n2: {}}
      bonds: {storage: {networks: [n1, n2]}}
      hosts: {h1: {interfaces: [{name: ens3, networks: [n1]}]}}
    ";

fn hall(from: &str, to: &str) -> Timeline {
    assert!(HALL.contains(from));
    Timeline::new(&HALL.replacen(from, to, 1))
}

#[test]
fn a10b_unassigned() {
    let verdict = |from, to| hall(from, to).verdict();
    assert_eq!(
        verdict("hosts: {h1: {", "hosts: {h1: {dataCenter: typo, "),
        "Unassigned 0/0 | False DataCenterNotFound | - | False DataCenterNotFound"
    );
    assert_eq!(
        verdict("storage:\n", "deleting: true\n      storage:\n"),
        "Unassigned 0/0 | False DataCenterDeleting | - | False DataCenterDeleting"
    );
    let mut claimed = hall("hosts: {", "hosts: {h0: {nodeName: node-of-h1, created: '2026-01-01'}, ");
    claimed.objects.hosts.reverse();
    claimed.agent = AgentState::Silent;
    assert_eq!(claimed.verdict(), "Unassigned 0/0 | False NodeClaimed | - | False NodeClaimed");
}

#[test]
fn a10b_maintenance_is_ready_when_all_sessions_are_logged_out() {
    let maintenance = || hall("hosts: {h1: {", "hosts: {h1: {maintenance: true, ");
    let done = "Maintenance 0/0 | False Maintenance | - | True Maintenance";
    let leaving = "Maintenance 0/0 | False Maintenance | - | False Disconnecting";

    assert_eq!(maintenance().verdict(), leaving, "the agent has not acknowledged yet");
    assert_eq!(maintenance().reports("").verdict(), done);
    for (state, expected) in [
        (ConnectionState::Connected, leaving),
        (ConnectionState::Retained, leaving),
        (ConnectionState::Disconnecting, leaving),
        (ConnectionState::Failed, leaving),
        (ConnectionState::Connecting, done),
    ] {
        for agent in [AgentState::Alive, AgentState::Silent, AgentState::Missing] {
            let mut timeline = maintenance();
            timeline.agent = agent;
            assert_eq!(timeline.reports("").also("alpha", state).verdict(), expected, "{state:?}, {agent:?}");
        }
    }
    let mut failed = maintenance();
    failed.reports("").also("alpha", ConnectionState::Failed);
    failed.host().status.as_mut().unwrap().connections[0].session_id = None;
    assert_eq!(failed.verdict(), done, "a login that has failed has left no session");
    for agent in [AgentState::Silent, AgentState::Missing] {
        let mut never_reported = maintenance();
        never_reported.agent = agent;
        assert_eq!(never_reported.verdict(), done, "{agent:?}");
    }
}

#[test]
fn a10b_connecting_up_degraded_and_non_operational() {
    for (states, expected) in [
        ("--", "Connecting 0/2 | Unknown Progressing | False Connecting | False Progressing"),
        ("C-", "Connecting 1/2 | Unknown Progressing | False Connecting | False Progressing"),
        ("CD", "Connecting 1/2 | Unknown Progressing | False Connecting | False Progressing"),
        ("CC", "Up 2/2 | True TargetsReachable | True AllPathsConnected | True Up"),
        ("CF", "NonOperational 1/2 | False StorageUnreachable | False PathsFailed | False StorageUnreachable"),
        ("cF", "NonOperational 0/2 | False StorageUnreachable | False PathsFailed | False StorageUnreachable"),
    ] {
        assert_eq!(hall("", "").reports(states).verdict(), expected, "{states}");
    }
}

#[test]
fn report_on_an_earlier_plan_does_not_make_the_host_ready() {
    let mut timeline = hall("", "");
    timeline.reports("CC");
    let mut reported = timeline.host().status.clone().expect("a status");
    // The plan was changed and changed back. The agent may still be logging out paths that the plan between lacked.
    reported.plan.as_mut().expect("a plan").sequence = 3;
    reported.agent.as_mut().expect("an agent").observed_sequence = Some(1);
    timeline.host().status = Some(reported.clone());
    assert_eq!(timeline.verdict(), "Up 2/2 | True TargetsReachable | False Connecting | False Progressing");
    reported.agent.as_mut().expect("an agent").observed_sequence = Some(3);
    timeline.host().status = Some(reported);
    assert_eq!(timeline.verdict(), "Up 2/2 | True TargetsReachable | True AllPathsConnected | True Up");
}

#[test]
fn a05_a_host_with_nothing_to_connect_is_up() {
    let up = "Up 0/0 | True NothingToConnect | True AllPathsConnected | True Up";
    assert_eq!(Timeline::new("hall: {hosts: {h1: {}}}").verdict(), up);
}

#[test]
fn a27_silent_or_missing_agent_is_unknown_and_keeps_the_history() {
    for (agent, reason, ready) in
        [(AgentState::Silent, "AgentSilent", "False"), (AgentState::Missing, "AgentMissing", "Unknown")]
    {
        for states in ["CC", "CF", "--"] {
            let mut timeline = hall("", "");
            let before = timeline.reports("CC").judge().targets;
            timeline.reports(states).agent = agent;
            let verdict = timeline.wait(600).judge();
            let connected = states.matches('C').count();
            assert_eq!(
                super::timeline::line(&verdict),
                format!("Unknown {connected}/2 | Unknown {reason} | Unknown {reason} | Unknown {reason}")
            );
            assert_eq!(verdict.targets, before);
            assert_eq!(verdict.recheck_at, None);
            let agent_ready = verdict.conditions.iter().find(|c| c.kind.as_str() == "AgentReady").expect("AgentReady");
            assert_eq!((agent_ready.status.as_str(), agent_ready.reason), (ready, reason));
        }
    }
    let mut unreported = hall("h1: {interfaces: [{name: ens3, networks: [n1]}]}", "h1: {}");
    unreported.agent = AgentState::Missing;
    assert_eq!(
        unreported.verdict(),
        "Unknown 0/0 | Unknown AgentMissing | Unknown AgentMissing | Unknown AgentMissing"
    );
}

#[test]
fn a04b_host_without_reported_interfaces_is_connecting() {
    let mut timeline = hall("h1: {interfaces: [{name: ens3, networks: [n1]}]}", "h1: {}");
    assert_eq!(
        timeline.verdict(),
        "Connecting 0/0 | Unknown InterfacesUnknown | False Connecting | False InterfacesUnknown"
    );
}

#[test]
fn a04b_held_target_is_reachable_through_any_live_session() {
    let held = || {
        let mut timeline = hall("networks: [n1, n2]", "networks: [typo], targets: ['@beta']");
        timeline.reports("C");
        timeline
    };
    let waiting = "Connecting 1/1 | Unknown TargetsHeld | False TargetsHeld | False TargetsHeld";
    let up = "Up 1/1 | True TargetsReachable | True AllPathsConnected | True Up";
    assert_eq!(held().verdict(), waiting);
    assert_eq!(held().also("beta", ConnectionState::Connected).verdict(), up);
    assert_eq!(held().also("beta", ConnectionState::Retained).verdict(), up);
    assert_eq!(held().also("beta", ConnectionState::Failed).verdict(), waiting);
    assert_eq!(held().also("gamma", ConnectionState::Connected).verdict(), waiting);
}

#[test]
fn target_without_any_allowed_network_is_non_operational() {
    let mut timeline = hall("storage:\n", "defaultNetwork: Never\n      storage:\n");
    timeline.objects.bonds[0].spec.targets = vec!["iqn.2003-01.org.example:alpha".to_owned()];
    let expected = "NonOperational 1/1 | False NoNetwork | False NoNetwork | False NoNetwork";
    assert_eq!(timeline.reports("C").verdict(), expected);
    assert_eq!(timeline.verdict_while_frozen(), expected, "also from the plan that was written");
    assert_eq!(timeline.reports("F").judge().phase, Phase::NonOperational);
}

/// The status and the reason of a condition.
fn condition(timeline: &mut Timeline, kind: ConditionType) -> Option<(Status, &'static str)> {
    timeline.judge().conditions.iter().find(|it| it.kind == kind).map(|it| (it.status, it.reason))
}

#[test]
fn a49_a_host_with_a_lun_that_is_gone_is_degraded_and_fully_connected() {
    let mut timeline = one_target(C1_C2, "AllPairs", N1_N2);
    timeline.reports("CCCC").lun(None);
    assert_eq!(timeline.judge().phase, Phase::Up);
    assert_eq!(condition(&mut timeline, ConditionType::LunsHealthy), Some((Status::True, "AllLunsHealthy")));
    timeline.lun(Some(LunProblemKind::NoActivePath));
    assert_eq!(timeline.judge().phase, Phase::Degraded);
    assert_eq!(condition(&mut timeline, ConditionType::LunsHealthy), Some((Status::False, "NoActivePath")));
    assert_eq!(condition(&mut timeline, ConditionType::FullyConnected), Some((Status::True, "AllPathsConnected")));
    assert_eq!(condition(&mut timeline, ConditionType::Ready), Some((Status::True, "Degraded")));
    let ready = timeline.judge().conditions.into_iter().find(|it| it.kind == ConditionType::Ready).unwrap();
    assert!(ready.message.contains("NoActivePath: LUN 3600a (iqn.2003-01.org.example:alpha#1)"), "{}", ready.message);
}

#[test]
fn a49_by_luns_alone_no_host_is_worse_than_degraded_nor_better_than_its_paths() {
    for (states, phase) in [("FFFF", Phase::NonOperational), ("FCCC", Phase::Degraded), ("cccc", Phase::Connecting)] {
        let mut timeline = one_target(C1_C2, "AllPairs", N1_N2);
        timeline.reports(states).lun(Some(LunProblemKind::NoActivePath));
        assert_eq!(timeline.judge().phase, phase, "{states}");
        assert_eq!(condition(&mut timeline, ConditionType::LunsHealthy), Some((Status::False, "NoActivePath")));
    }
}

#[test]
fn a_host_whose_plan_is_being_carried_out_is_not_ready_by_its_luns() {
    let mut timeline = one_target(C1_C2, "AllPairs", N1_N2);
    timeline.reports("CCCC").lun(Some(LunProblemKind::PathsMissing));
    timeline.host().status.as_mut().unwrap().agent.as_mut().unwrap().observed_revision = Some("older".into());
    assert_eq!(timeline.judge().phase, Phase::Degraded);
    assert_eq!(condition(&mut timeline, ConditionType::Ready), Some((Status::False, "Progressing")));
}

#[test]
fn what_is_said_of_luns_ends_with_the_report() {
    let mut timeline = one_target(C1_C2, "AllPairs", N1_N2);
    timeline.reports("CCCC");
    assert_eq!(condition(&mut timeline, ConditionType::LunsHealthy), None, "an agent of the version before");
    timeline.lun(Some(LunProblemKind::SizeDiffers)).agent = AgentState::Silent;
    assert_eq!(condition(&mut timeline, ConditionType::LunsHealthy), Some((Status::Unknown, "AgentSilent")));
    timeline.agent = AgentState::Alive;
    timeline.host().spec.maintenance = true;
    let verdict = timeline.judge();
    assert!(verdict.absent.contains(&ConditionType::LunsHealthy));
}
