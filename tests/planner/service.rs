//! Lost targets over time: delays, history, retained sessions, messages (behaviour 2).

use super::timeline::{Timeline, line, message};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use multibond::{
    api::{ConnectionState, HostWarning, Phase, reason::ConditionType, reason::PreparedReason},
    planner::AgentState,
};

const HALL: &str = "
    hall:
      storage: [{name: array, targets: [{iqn: '@alpha', portals: [{address: 10.0.1.10}, {address: 10.0.1.11}]}]}]
      networks: {san-a: {}}
      bonds: {storage: {networks: [san-a]}}
      hosts: {h1: {interfaces: [{name: ens3, networks: [san-a]}]}}
    ";

fn running() -> Timeline {
    let mut timeline = Timeline::new(HALL);
    assert_eq!(timeline.reports("CC").judge().phase, Phase::Up);
    timeline
}

#[test]
fn a64_a_path_is_connected_whatever_portal_group_tag_is_answered() {
    let mut timeline = Timeline::new(HALL);
    let as_planned = timeline.reports("CC").verdict();
    let reported = timeline.host().status.as_mut().expect("a status");
    reported.connections.iter_mut().for_each(|connection| connection.tpgt = 1046);
    assert_eq!(timeline.verdict(), as_planned);
}

#[test]
fn a18_a_lost_target_is_non_operational_after_the_delay_and_not_before() {
    let mut timeline = running();
    let lost = timeline.reports("FF").judge();
    assert_eq!(line(&lost), "Lost 0/2 | Unknown StorageLost | False PathsFailed | False StorageLost");
    assert_eq!(lost.without_session, ["iqn.2003-01.org.example:alpha"]);
    let boundary = lost.recheck_at.expect("a time to look again");
    // Lost at 1000.4 s: the API's times have whole seconds, and the delay never ends early.
    assert_eq!(boundary.as_millisecond(), 1_061_000);

    assert_eq!(timeline.wait_millis(60599).judge(), lost, "nothing changes meanwhile");
    assert_eq!(timeline.now.as_millisecond(), 1_060_999);
    let verdict = timeline.wait_millis(1).judge();
    assert_eq!(verdict.phase, Phase::NonOperational);
    assert_eq!(verdict.recheck_at, None);
    assert_eq!(verdict.targets, lost.targets, "and is remembered as lost since then");
    assert_eq!(timeline.wait(4000).judge(), verdict);

    assert_eq!(timeline.reports("FC").judge().phase, Phase::Degraded, "back by itself");
    let back = timeline.reports("CC").judge();
    assert_eq!((back.phase, back.targets[0].lost_at.as_ref()), (Phase::Up, None));
    assert_eq!(timeline.reports("FF").judge().phase, Phase::Lost, "and the next loss has its own delay");
}

#[test]
fn a_loss_at_a_whole_second_has_exactly_its_delay() {
    let mut timeline = running();
    timeline.wait_millis(600).reports("FF");
    assert_eq!(
        timeline.judge().recheck_at.map(Timestamp::as_millisecond),
        Some(timeline.now.as_millisecond() + 60_000)
    );
    assert_eq!(timeline.wait_millis(59999).judge().phase, Phase::Lost);
    assert_eq!(timeline.wait_millis(1).judge().phase, Phase::NonOperational);
}

#[test]
fn a18_without_a_delay_a_lost_target_is_non_operational_at_once() {
    let mut timeline = running();
    timeline.delay = 0;
    let verdict = timeline.reports("FF").judge();
    assert_eq!((verdict.phase, verdict.recheck_at), (Phase::NonOperational, None));
    assert_eq!(timeline.reports("C-").judge().phase, Phase::Up);
    assert_eq!(timeline.reports("cF").judge().phase, Phase::NonOperational);
}

#[test]
fn a_changed_delay_counts_from_the_loss() {
    let mut timeline = running();
    timeline.reports("FF").judge();
    timeline.delay = 10;
    assert_eq!(timeline.wait(11).judge().phase, Phase::NonOperational);
    timeline.delay = 3600;
    assert_eq!(timeline.judge().phase, Phase::Lost);
}

#[test]
fn clock_set_back_does_not_extend_a_delay() {
    let mut timeline = running();
    timeline.reports("FF").judge();
    timeline.now -= jiff::SignedDuration::from_mins(10);
    let again = timeline.judge();
    assert_eq!(again.phase, Phase::Lost);
    assert_eq!(timeline.wait(59).judge(), again, "nothing is written twice");
    assert_eq!(timeline.wait(2).judge().phase, Phase::NonOperational);
}

#[test]
fn overflowing_time_of_loss_does_not_panic() {
    let mut timeline = running();
    timeline.reports("FF").judge();
    let targets = &mut timeline.host().status.as_mut().expect("a status").targets;
    targets[0].lost_at = Some(Time(Timestamp::MAX));
    assert_eq!(timeline.judge().phase, Phase::Lost);
}

#[test]
fn each_target_has_a_delay_of_its_own() {
    let mut timeline =
        Timeline::new(&HALL.replace(
            "{address: 10.0.1.11}]}",
            "{address: 10.0.1.11}]}, {iqn: '@beta', portals: [{address: 10.0.1.12}]}",
        ));
    timeline.reports("CCC").judge();
    timeline.reports("FFC").judge();
    assert_eq!(timeline.wait(50).reports("FFF").judge().phase, Phase::Lost);
    let verdict = timeline.wait(11).judge();
    assert_eq!(verdict.phase, Phase::NonOperational);
    assert_eq!(verdict.without_session.len(), 2);
    assert!(!message(&verdict, ConditionType::Operational).contains("@beta"));
    assert!(verdict.recheck_at.is_some_and(|at| at > timeline.now));
    let verdict = timeline.wait(50).judge();
    assert!(message(&verdict, ConditionType::Operational).contains("@beta"));
}

#[test]
fn retained_sessions_do_not_count_as_reachable_and_keep_the_taint_away() {
    let mut timeline = running();
    timeline.reports("FF").also("alpha", ConnectionState::Retained);
    assert_eq!(timeline.judge().phase, Phase::Connecting);
    let verdict = timeline.wait(61).judge();
    assert_eq!(verdict.phase, Phase::NonOperational);
    assert!(verdict.without_session.is_empty());
}

#[test]
fn retained_session_bridges_first_attempts_for_every_delay() {
    for delay in [0, 1] {
        let mut timeline = running();
        timeline.delay = delay;
        timeline.reports("c-").also("alpha", ConnectionState::Retained).judge();
        assert_eq!(timeline.wait(5).judge().phase, Phase::Connecting, "delay {delay}");
        timeline.reports("FF").also("alpha", ConnectionState::Retained);
        assert_eq!(timeline.judge().phase, Phase::NonOperational, "delay {delay}");
    }
}

#[test]
fn new_host_with_a_retained_session_gets_the_delay() {
    let mut timeline = Timeline::new(HALL);
    timeline.reports("FF").also("alpha", ConnectionState::Retained);
    assert_eq!(timeline.judge().phase, Phase::Connecting, "after the delay, as at run time");
    assert_eq!(timeline.wait(61).judge().phase, Phase::NonOperational);
}

#[test]
fn history_is_cleared_when_the_host_leaves_service() {
    let mut timeline = running();
    timeline.host().spec.maintenance = true;
    assert_eq!(timeline.reports("").judge().targets, []);
    timeline.host().spec.maintenance = false;
    assert_eq!(timeline.reports("FF").judge().phase, Phase::NonOperational, "at once, as when created");

    let mut moved = running();
    moved.host().status.as_mut().expect("a status").data_center = Some("cellar".to_owned());
    assert_eq!(moved.reports("FF").judge().phase, Phase::NonOperational);
}

#[test]
fn delay_continues_while_the_agent_is_silent() {
    let mut timeline = running();
    timeline.reports("FF").judge();
    timeline.agent = AgentState::Silent;
    assert_eq!(timeline.wait(120).judge().phase, Phase::Unknown);
    timeline.agent = AgentState::Alive;
    assert_eq!(timeline.judge().phase, Phase::NonOperational);
}

#[test]
fn connected_report_wins_among_two_reports_on_one_path() {
    for order in [["C", "F"], ["F", "C"]] {
        let mut timeline = Timeline::new(&HALL.replace(", {address: 10.0.1.11}", ""));
        let connections: Vec<_> = order
            .into_iter()
            .flat_map(|state| timeline.reports(state).host().status.clone().expect("a status").connections)
            .collect();
        timeline.host().status.as_mut().expect("a status").connections = connections;
        assert_eq!(timeline.judge().phase, Phase::Up);
    }
}

#[test]
fn a18_messages_name_targets_paths_and_reasons() {
    let mut timeline = Timeline::new(HALL);
    let verdict = timeline.reports("FF").judge();
    let paths = "10.0.1.10:3260 through ens3 (san-a): PortalUnreachable (no answer), \
                 10.0.1.11:3260 through ens3 (san-a): PortalUnreachable (no answer)";
    let expected = format!("target @alpha is not reachable: {paths}");
    assert_eq!(message(&verdict, ConditionType::Operational), expected);
    assert_eq!(message(&verdict, ConditionType::Ready), expected);

    let verdict = timeline.reports("CF").judge();
    let failed = "@alpha 10.0.1.11:3260 through ens3 (san-a): PortalUnreachable (no answer)";
    assert_eq!(message(&verdict, ConditionType::FullyConnected), failed);
    assert_eq!(message(&verdict, ConditionType::Ready), failed);

    let mut default = Timeline::new(&HALL.replace("interfaces: [{name: ens3, networks: [san-a]}]", ""));
    let verdict = default.reports("FF").judge();
    assert!(message(&verdict, ConditionType::Operational).contains("10.0.1.10:3260 through the default network: "));

    let held = Timeline::new(&HALL.replace("[san-a]}}", "[typo]}}")).judge();
    let why = "bond storage names a network that does not exist, or nearly the name of this target; correct it, its conditions say what was probably meant";
    assert_eq!(message(&held, ConditionType::Operational), format!("@alpha is held without a session: {why}"));

    let left = "@alpha 192.0.2.99:3260 through the default network, session 9 (sdb is mounted)";
    let left_of = |what: &str| format!("{what}: {left}");
    let mut maintenance = Timeline::new(&HALL.replace("h1: {", "h1: {maintenance: true, "));
    let verdict = maintenance.reports("").also("alpha", ConnectionState::Retained).judge();
    assert_eq!(message(&verdict, ConditionType::Ready), left_of("still connected"));
    maintenance.agent = AgentState::Silent;
    assert_eq!(
        message(&maintenance.judge(), ConditionType::Ready),
        left_of("the agent is silent, and last reported as connected")
    );
}

#[test]
fn a_message_names_the_first_and_counts_the_rest() {
    let targets: Vec<String> =
        (0..9).map(|n| format!("{{iqn: '@t{n}', portals: [{{address: 10.0.2.{n}}}]}}")).collect();
    let mut timeline = Timeline::new(&HALL.replace("targets: [", &format!("targets: [{}, ", targets.join(", "))));
    let verdict = timeline.reports(&"F".repeat(11)).judge();
    let text = message(&verdict, ConditionType::Operational);
    assert!(text.starts_with("target @alpha is not reachable: ") && text.ends_with(", and 6 more"), "{text}");
}

#[test]
fn host_warnings_do_not_change_the_phase() {
    let prepared = |timeline: &mut Timeline| {
        let verdict = timeline.judge();
        let condition = verdict.conditions.iter().find(|condition| condition.kind == ConditionType::HostPrepared);
        (
            verdict.phase,
            condition.map(|condition| (condition.status.as_str(), condition.reason, condition.message.clone())),
        )
    };
    let mut timeline = running();
    assert_eq!(prepared(&mut timeline), (Phase::Up, None), "nothing has been reported");
    timeline.host().status.as_mut().expect("a status").interfaces = Some(Vec::new());
    let fine = ("True", "Prepared", "nothing on the host wants attention".to_owned());
    assert_eq!(prepared(&mut timeline), (Phase::Up, Some(fine)));
    timeline.warnings = vec![
        HostWarning { reason: PreparedReason::MultipathdMissing, message: "it does not run".to_owned() },
        HostWarning { reason: PreparedReason::MTUMismatch, message: "ens3".to_owned() },
    ];
    let warned = ("False", "MultipathdMissing", "MultipathdMissing: it does not run, MTUMismatch: ens3".to_owned());
    assert_eq!(prepared(&mut timeline), (Phase::Up, Some(warned)));
}

#[test]
fn a61_lost_target_is_named_with_its_paths_and_the_time_it_has() {
    let mut timeline = running();
    let lost = timeline.reports("FF").judge();
    let text = message(&lost, ConditionType::Operational);
    assert!(
        text.starts_with(
            "target @alpha has lost its last path, NonOperational at 1970-01-01T00:17:41Z: 10.0.1.10:3260 through "
        ),
        "{text}"
    );
    assert_eq!(timeline.wait(30).reports("FC").judge().phase, Phase::Degraded, "back in time");
}

#[test]
fn a61_retained_session_keeps_a_lost_target_connecting() {
    let mut timeline = running();
    assert_eq!(timeline.reports("FF").judge().phase, Phase::Lost);
    timeline.reports("FF").also("alpha", ConnectionState::Retained);
    assert_eq!(timeline.judge().phase, Phase::Connecting);
}

/// A host in service whose only bond names no network that exists.
fn held() -> Timeline {
    Timeline::new(&HALL.replace("[san-a]}}", "[typo]}}"))
}

#[test]
fn a60_held_target_without_a_session_has_the_delay() {
    let mut timeline = held();
    let verdict = timeline.judge();
    assert_eq!(line(&verdict), "Connecting 0/0 | Unknown TargetsHeld | False TargetsHeld | False TargetsHeld");
    assert_eq!(timeline.wait(59).judge(), verdict, "nothing is written twice");
    let verdict = timeline.wait(2).judge();
    assert_eq!(verdict.phase, Phase::NonOperational);
    assert_eq!(verdict.without_session, ["iqn.2003-01.org.example:alpha"], "its Node may get the taint");
}

#[test]
fn a60_held_target_that_loses_its_session_is_lost() {
    let mut timeline = held();
    timeline.also("alpha", ConnectionState::Retained);
    assert_eq!(timeline.judge().phase, Phase::Up);
    timeline.host().status.as_mut().expect("a status").connections.clear();
    assert_eq!(timeline.judge().phase, Phase::Lost);
    assert_eq!(timeline.wait(61).judge().phase, Phase::NonOperational);
}

#[test]
fn a60_corrected_name_leaves_nothing_of_the_hold_behind() {
    let mut timeline = held();
    timeline.judge();
    timeline.wait(50).objects.bonds[0].spec.networks = vec!["san-a".to_owned()];
    let mut new = Timeline::new(HALL);
    new.now = timeline.now;
    assert_eq!(timeline.reports("c-").judge(), new.reports("c-").judge());
    assert_eq!(timeline.reports("FF").judge(), new.reports("FF").judge(), "no delay: it has had no session");
}
