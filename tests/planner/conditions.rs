//! metav1 conditions: merging keeps transition times and conditions of others.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use multibond::api::{
    condition::{self, ConditionUpdate, Status},
    reason::{ConditionType, Reason},
};

fn at(seconds: i64) -> Time {
    Time(Timestamp::from_second(seconds).expect("a time"))
}

fn condition(type_: &str, status: &str, since: i64) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        last_transition_time: at(since),
        reason: "Before".to_owned(),
        message: "before".to_owned(),
        observed_generation: Some(1),
    }
}

fn update(kind: ConditionType, status: Status) -> ConditionUpdate {
    ConditionUpdate::new(kind, status, Reason::Progressing, "after")
}

#[test]
fn merge_changes_times_only_with_the_status_and_keeps_the_order() {
    let before = [
        condition("example.com/Foreign", "True", 10),
        condition("Ready", "False", 20),
        condition("Operational", "Unknown", 30),
    ];
    let now = Timestamp::from_millisecond(99_900).expect("a time");
    let updates = vec![
        update(ConditionType::Operational, Status::True),
        update(ConditionType::AgentReady, Status::Unknown),
        update(ConditionType::Ready, Status::False),
    ];
    let ours = |type_: &str, status: &str, since: i64| Condition {
        reason: "Progressing".to_owned(),
        message: "after".to_owned(),
        observed_generation: Some(2),
        ..condition(type_, status, since)
    };
    let after = condition::merge(&before, updates.clone(), Some(2), now);
    assert_eq!(
        after,
        [
            condition("example.com/Foreign", "True", 10),
            ours("Ready", "False", 20),
            ours("Operational", "True", 99),
            ours("AgentReady", "Unknown", 99),
        ]
    );
    let later = Timestamp::from_second(500).expect("a time");
    assert_eq!(condition::merge(&after, updates, Some(2), later), after);
}

#[test]
fn a10b_pending_condition_gets_the_time_of_the_first_reconcile() {
    let born: Condition = serde_json::from_value(condition::pending()).expect("a condition");
    assert_eq!((&*born.type_, &*born.status, &*born.reason), ("Ready", "Unknown", "Pending"));
    let now = Timestamp::from_second(77).expect("a time");
    let merged =
        |status| condition::merge(std::slice::from_ref(&born), vec![update(ConditionType::Ready, status)], None, now);
    assert_eq!(merged(Status::Unknown)[0].last_transition_time, at(77));
    assert_eq!(merged(Status::True)[0].last_transition_time, at(77));
}

#[test]
fn conditions_are_found_and_removed_by_type() {
    let conditions = [condition("Ready", "True", 1), condition("FullyConnected", "True", 2)];
    assert_eq!(condition::find(&conditions, ConditionType::FullyConnected), Some(&conditions[1]));
    assert_eq!(condition::find(&conditions, ConditionType::Operational), None);
    assert_eq!(condition::without(&conditions, ConditionType::FullyConnected), conditions[..1]);
}

#[test]
fn long_messages_are_truncated() {
    for long in ["x".repeat(5000), "é".repeat(5000), "x".repeat(2049)] {
        let ConditionUpdate { message, .. } = ConditionUpdate::new(ConditionType::Ready, true, Reason::Ready, &long);
        assert!(message.len() <= 2048 && message.ends_with('…') && long.starts_with(message.trim_end_matches('…')));
    }
    let fits = "x".repeat(2048);
    assert_eq!(ConditionUpdate::new(ConditionType::Ready, true, Reason::Ready, &fits).message, fits);
}
