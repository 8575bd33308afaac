//! Finalizers: added at the first reconcile, removed when the hosts have acknowledged or the deletion timeout is over.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::ObjectMeta;

use super::{
    Settings,
    action::{Action, EventSpec, Outcome, Requires, Step},
};
use crate::{
    api::{FINALIZER, Host, ObjectKey, ObjectKind, has_finalizer, reason::EventReason},
    controller::index::{Index, state::HostState},
    ops::Now,
    planner::AgentState,
};

/// The state of a deletion that waits for acknowledgements.
pub(crate) struct Wait {
    since: Duration,
    /// The names of the objects and lists that the deletion still waits for. If there are none, it does not wait.
    pub waiting_for: Vec<String>,
}

impl Wait {
    /// The deletion timeout starts with the first decision about the deletion while this replica leads.
    pub(crate) fn new(index: &Index, kind: ObjectKind, key: &ObjectKey, waiting_for: Vec<String>, now: Now) -> Self {
        Wait { since: index.deletion_since(kind, key).unwrap_or(now.monotonic), waiting_for }
    }
}

/// Adds the finalizer to an object that does not have it.
pub(crate) fn ensure_finalizer(kind: ObjectKind, key: &ObjectKey, metadata: &ObjectMeta) -> Option<Action> {
    if has_finalizer(metadata) {
        return None;
    }
    let before = metadata.finalizers.clone().unwrap_or_default();
    let after = [before.as_slice(), &[FINALIZER.to_owned()]].concat();
    Some(Action::SetFinalizers { kind, key: key.clone(), uid: metadata.uid.clone(), before, after })
}

/// Removes the finalizer from an object that has it.
pub(crate) fn remove_finalizer(kind: ObjectKind, key: &ObjectKey, metadata: &ObjectMeta) -> Option<Action> {
    if !has_finalizer(metadata) {
        return None;
    }
    let before = metadata.finalizers.clone().unwrap_or_default();
    let after = before.iter().filter(|name| *name != FINALIZER).cloned().collect();
    Some(Action::SetFinalizers { kind, key: key.clone(), uid: metadata.uid.clone(), before, after })
}

/// Removes the finalizer when nothing is left to wait for, or when the deletion has waited too long.
pub(crate) fn finalize(
    kind: ObjectKind,
    key: &ObjectKey,
    metadata: &ObjectMeta,
    wait: &Wait,
    settings: &Settings,
    now: Now,
    outcome: &mut Outcome,
) {
    outcome.memo.deletion = true;
    let Some(remove) = remove_finalizer(kind, key, metadata) else { return };
    if wait.waiting_for.is_empty() {
        outcome.push(remove);
        return;
    }
    let left = (wait.since + settings.deletion_timeout).saturating_sub(now.monotonic);
    if !left.is_zero() {
        outcome.recheck(now.wall.saturating_add(left).unwrap_or(Timestamp::MAX));
        return;
    }
    let note = format!(
        "gone without an acknowledgement of {} after {} s: their sessions may still be there",
        wait.waiting_for.join(", "),
        settings.deletion_timeout.as_secs()
    );
    let event = EventSpec::warning(EventReason::DeletionTimedOut, note);
    let publish = Action::PublishEvent { kind, key: key.clone(), uid: metadata.uid.clone(), event, once: true };
    // The earlier steps have not led to an acknowledgement within the timeout. They must not block the deletion.
    outcome.steps = vec![remove.into(), Step { action: publish, requires: Requires::AllBefore }];
}

/// Hosts of a data center with a live agent that have not acknowledged the plan of the present plan epoch, and lists
/// that were not read.
pub(crate) fn unacknowledged(index: &Index, dc_key: &ObjectKey) -> Vec<String> {
    let unread = index.unfilled_plan_inputs().into_iter().map(|plural| format!("the list of {plural}"));
    let Some(center) = index.data_center(dc_key) else { return unread.collect() };
    let hosts = center.hosts.iter().map(|name| dc_key.beside(name.clone()));
    let pending = hosts.filter(|key| {
        let Some(host) = index.hosts.get(key) else { return false };
        let served = index.agent(&host.spec.node_name) == AgentState::Alive
            && index.owner_of_node(&host.spec.node_name).is_some_and(|owner| owner == key);
        served && !index.host_state(key).is_some_and(|state| has_acknowledged(host, state, center.plan_epoch))
    });
    pending.map(|key| format!("host {key}")).chain(unread).collect()
}

/// Whether the agent has carried out the plan of this plan epoch.
fn has_acknowledged(host: &Host, state: &HostState, plan_epoch: u64) -> bool {
    let Some(status) = &host.status else { return false };
    if state.plan_epoch != Some(plan_epoch) {
        return false;
    }
    // A host that never had a plan, and gets none, has nothing to acknowledge.
    let never_planned = status.plan.is_none() && state.plan.paths.is_empty();
    never_planned || state.published.as_ref().is_some_and(|revision| status.has_carried_out(revision))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{
        fixtures::{SETTINGS, at},
        store::key::Key,
    };

    /// A clock that has run for `monotonic` seconds, and shows another time of day.
    fn clock(monotonic: u64, wall: i64) -> Now {
        Now { wall: Timestamp::from_second(wall).unwrap(), ..at(monotonic) }
    }

    /// Until when a network waits for a host; `None` when its finalizer is removed.
    fn waits_until(index: &mut Index, now: Now) -> Option<i64> {
        let key = ObjectKey::new("ns", "san-a");
        let metadata = ObjectMeta { finalizers: Some(vec![FINALIZER.to_owned()]), ..ObjectMeta::default() };
        let wait = Wait::new(index, ObjectKind::Network, &key, vec!["host ns/h1".to_owned()], now);
        let mut outcome = Outcome::default();
        finalize(ObjectKind::Network, &key, &metadata, &wait, &SETTINGS, now, &mut outcome);
        index.remember(&Key::Object(ObjectKind::Network, key), outcome.memo, now);
        let removed = matches!(outcome.steps[..], [Step { action: Action::SetFinalizers { .. }, .. }, _]);
        assert_eq!(outcome.recheck_at.is_none(), removed);
        outcome.recheck_at.map(Timestamp::as_second)
    }

    #[test]
    fn a_deletion_times_out_by_the_monotonic_clock() {
        let mut index = Index::default();
        assert_eq!(waits_until(&mut index, clock(10, 9_000)), Some(9_120));
        assert_eq!(waits_until(&mut index, clock(129, 99_000)), Some(99_001), "the wall clock was set forward");
        assert_eq!(waits_until(&mut index, clock(129, 1_000)), Some(1_001), "and back");
        assert_eq!(waits_until(&mut index, clock(130, 1_001)), None);
    }

    #[test]
    fn a_new_leader_starts_the_deletion_timeout_again() {
        let mut index = Index::default();
        assert_eq!(waits_until(&mut index, clock(10, 1_000)), Some(1_120));
        index.resume(clock(500, 1_490));
        assert_eq!(waits_until(&mut index, clock(500, 1_490)), Some(1_610));
    }

    #[test]
    fn timeout_event_is_published_only_after_removing_the_finalizer() {
        let key = ObjectKey::new("ns", "san-a");
        let metadata = ObjectMeta { finalizers: Some(vec![FINALIZER.to_owned()]), ..ObjectMeta::default() };
        let wait = Wait { since: Duration::ZERO, waiting_for: vec!["host ns/h1".to_owned()] };
        let mut outcome = Outcome::default();
        finalize(ObjectKind::Network, &key, &metadata, &wait, &SETTINGS, at(120), &mut outcome);
        let [remove, publish] = &outcome.steps[..] else { panic!("{outcome:?}") };
        assert!(remove.requires.is_met(&[]));
        assert!(!publish.requires.is_met(&[false]) && publish.requires.is_met(&[true]));
    }
}
