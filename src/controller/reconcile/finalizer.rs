//! Finalizers: held from the first look, let go when the hosts concerned have acknowledged, and never held for ever.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::ObjectMeta;

use crate::{
    api::{FINALIZER, ObjectKey, has_finalizer},
    controller::{
        index::World,
        reconcile::{
            Settings,
            action::{Action, Announcement, Outcome},
            host::HostState,
        },
    },
    ops::Now,
    planner::{AgentState, Kind},
};

/// What a deletion waits for.
pub(crate) struct Wait {
    since: Duration,
    /// Names of what has not acknowledged yet; none: nothing is waited for.
    pub waiting_for: Vec<String>,
}

impl Wait {
    /// Waiting begins when the mark for deletion is first seen by a controller that can tell the hosts.
    pub(crate) fn new(world: &World, kind: Kind, key: &ObjectKey, waiting_for: Vec<String>, now: Now) -> Self {
        Wait { since: world.waits_since(kind, key, now), waiting_for }
    }
}

/// Puts our finalizer on an object that does not have it.
pub(crate) fn hold(kind: Kind, key: &ObjectKey, metadata: &ObjectMeta) -> Option<Action> {
    let add = || {
        let before = metadata.finalizers.clone().unwrap_or_default();
        let after = [before.as_slice(), &[FINALIZER.to_owned()]].concat();
        Action::SetFinalizers { kind, key: key.clone(), uid: metadata.uid.clone(), before, after }
    };
    (!has_finalizer(metadata)).then(add)
}

/// Takes our finalizer off an object that has it.
pub(crate) fn drop_finalizer(kind: Kind, key: &ObjectKey, metadata: &ObjectMeta) -> Option<Action> {
    let drop = || {
        let before = metadata.finalizers.clone().unwrap_or_default();
        let after = before.iter().filter(|name| *name != FINALIZER).cloned().collect();
        Action::SetFinalizers { kind, key: key.clone(), uid: metadata.uid.clone(), before, after }
    };
    has_finalizer(metadata).then(drop)
}

/// Lets an object go when nothing is waited for any more, or when it has taken too long.
pub(crate) fn let_go(
    kind: Kind,
    key: &ObjectKey,
    metadata: &ObjectMeta,
    wait: &Wait,
    settings: &Settings,
    now: Now,
    outcome: &mut Outcome,
) {
    let Some(let_go) = drop_finalizer(kind, key, metadata) else { return };
    let left = (wait.since + settings.deletion_timeout).saturating_sub(now.monotonic);
    if !wait.waiting_for.is_empty() && !left.is_zero() {
        let until = now.wall.saturating_add(left).unwrap_or(Timestamp::MAX);
        outcome.recheck_at = Some(outcome.recheck_at.map_or(until, |earlier| earlier.min(until)));
        return;
    }
    if wait.waiting_for.is_empty() {
        outcome.actions.push(let_go);
        return;
    }
    let note = format!(
        "gone without an acknowledgement of {} after {} s: their sessions may still be there",
        wait.waiting_for.join(", "),
        settings.deletion_timeout.as_secs()
    );
    let announcement = Announcement { warning: true, reason: "DeletionTimedOut", note };
    let announce = Action::Announce { kind, key: key.clone(), uid: metadata.uid.clone(), announcement };
    // What has not succeeded in all this time must not stand in the way now.
    outcome.actions = vec![let_go, announce];
}

/// Hosts of a data center that live and have not acknowledged the plan that follows from what there is now.
pub(crate) fn unacknowledged(world: &World, center_key: &ObjectKey) -> Vec<String> {
    let missing = world.missing().into_iter().map(|plural| format!("the list of {plural}"));
    let Some(center) = world.center(center_key) else { return missing.collect() };
    let hosts = center.hosts.iter().map(|name| center_key.beside(name.clone()));
    let pending = hosts.filter(|key| {
        let Some(host) = world.hosts.get(key) else { return false };
        let lives = world.agent(&host.spec.node_name) == AgentState::Alive
            && world.claimant(&host.spec.node_name).is_some_and(|winner| winner == key);
        lives && !world.state(key).is_some_and(|state| acknowledged(host, state, center.stamp))
    });
    pending.map(|key| format!("host {key}")).chain(missing).collect()
}

/// Whether the agent has carried out the plan that follows from what there is now.
fn acknowledged(host: &crate::api::Host, state: &HostState, stamp: u64) -> bool {
    let Some(status) = &host.status else { return false };
    // A host that was never told anything has nothing to acknowledge.
    let told_nothing = status.plan.is_none() && state.plan.paths.is_empty();
    let done = || state.told.as_ref().is_some_and(|revision| status.has_carried_out(revision));
    state.stamp == Some(stamp) && (told_nothing || done())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { deletion_timeout: Duration::from_secs(120) };

    /// A clock that goes on by `monotonic` seconds, and says something else on the wall.
    fn at(monotonic: u64, wall: i64) -> Now {
        Now { monotonic: Duration::from_secs(monotonic), wall: Timestamp::from_second(wall).unwrap() }
    }

    /// Until when a network waits for a host; none when it has been let go.
    fn waits_until(world: &World, now: Now) -> Option<i64> {
        let key = ObjectKey::new("ns", "san-a");
        let metadata = ObjectMeta { finalizers: Some(vec![FINALIZER.to_owned()]), ..ObjectMeta::default() };
        let wait = Wait::new(world, Kind::Network, &key, vec!["host ns/h1".to_owned()], now);
        let mut outcome = Outcome::default();
        let_go(Kind::Network, &key, &metadata, &wait, &SETTINGS, now, &mut outcome);
        assert_eq!(outcome.recheck_at.is_none(), matches!(outcome.actions[..], [Action::SetFinalizers { .. }, _]));
        outcome.recheck_at.map(Timestamp::as_second)
    }

    #[test]
    fn a_deletion_waits_as_long_as_is_set_whatever_the_clocks_of_machines_say() {
        let world = World::default();
        assert_eq!(waits_until(&world, at(10, 9_000)), Some(9_120));
        assert_eq!(waits_until(&world, at(129, 99_000)), Some(99_001), "the clock was set forward");
        assert_eq!(waits_until(&world, at(129, 1_000)), Some(1_001), "and back");
        assert_eq!(waits_until(&world, at(130, 1_001)), None);
    }

    #[test]
    fn a_deletion_waits_anew_for_a_controller_that_has_just_begun_to_act() {
        let mut world = World::default();
        assert_eq!(waits_until(&world, at(10, 1_000)), Some(1_120));
        world.begin_to_act(at(500, 1_490));
        assert_eq!(waits_until(&world, at(500, 1_490)), Some(1_610));
    }
}
