//! The writes that a reconcile asks for, as data. The engine carries them out.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::Taint,
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    api::{NetworkName, NodeName, ObjectKey, ObjectKind, Phase, reason::EventReason},
    controller::index::state::{Memo, PhaseChange},
};

/// The decision for an object.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// To be carried out in this order. A step that fails does not stop the steps that do not require it.
    pub steps: Vec<Step>,
    /// The time at which the decision may change without another change of the cluster.
    pub recheck_at: Option<Timestamp>,
    /// The part of this decision that later decisions need.
    pub memo: Memo,
}

impl Outcome {
    /// Adds an action that requires nothing.
    pub(crate) fn push(&mut self, action: Action) {
        self.steps.push(Step::from(action));
    }

    /// Adds actions that require nothing.
    pub(crate) fn extend(&mut self, actions: impl IntoIterator<Item = Action>) {
        self.steps.extend(actions.into_iter().map(Step::from));
    }

    /// Asks for another decision at this time, unless one is due earlier.
    pub(crate) fn recheck(&mut self, at: Timestamp) {
        self.recheck_at = Some(self.recheck_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// An action, and the earlier steps of the same outcome that must have succeeded before it.
#[derive(Debug)]
pub(crate) struct Step {
    pub action: Action,
    pub requires: Requires,
}

impl From<Action> for Step {
    fn from(action: Action) -> Self {
        Step { action, requires: Requires::Nothing }
    }
}

/// The earlier steps of the same outcome that must have succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requires {
    /// None of them.
    Nothing,
    /// The step right before this one.
    Previous,
    /// All steps before this one.
    AllBefore,
    /// At least one of this many steps right before this one.
    AnyOfLast(usize),
}

impl Requires {
    /// Whether the requirement is met. `ended` contains for each earlier step, in order, whether it has succeeded. A
    /// skipped step has not.
    pub(crate) fn is_met(self, ended: &[bool]) -> bool {
        match self {
            Requires::Nothing => true,
            Requires::Previous => ended.last().is_none_or(|succeeded| *succeeded),
            Requires::AllBefore => ended.iter().all(|succeeded| *succeeded),
            Requires::AnyOfLast(steps) => ended.iter().rev().take(steps).any(|succeeded| *succeeded),
        }
    }
}

/// A Kubernetes Event to publish about an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EventSpec {
    pub warning: bool,
    pub reason: &'static str,
    pub note: String,
}

impl EventSpec {
    pub(crate) fn warning(reason: EventReason, note: String) -> Self {
        EventSpec { warning: true, reason: reason.as_str(), note }
    }

    pub(crate) fn normal(reason: EventReason, note: String) -> Self {
        EventSpec { warning: false, reason: reason.as_str(), note }
    }

    /// About hosts that have come into this phase.
    pub(crate) fn of_phase(phase: Phase, note: String) -> Self {
        let warning = match phase {
            Phase::Lost | Phase::NonOperational | Phase::Degraded | Phase::Unknown => true,
            Phase::Unassigned | Phase::Maintenance | Phase::Connecting | Phase::Up => false,
        };
        EventSpec { warning, reason: phase.as_str(), note }
    }
}

/// A condition of a Node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeCondition {
    pub status: &'static str,
    pub reason: String,
    pub message: String,
    pub since: Time,
}

/// Top-level fields of a status, with their new values. A field with the value `null` is removed, other fields stay.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StatusFields(pub Map<String, Value>);

impl StatusFields {
    /// The fields of a structure; `None` if the value is no structure or has no JSON form. Then nothing is written.
    fn of(part: &impl Serialize) -> Option<Self> {
        match serde_json::to_value(part) {
            Ok(Value::Object(fields)) => Some(StatusFields(fields)),
            Ok(_) => None,
            Err(error) => {
                tracing::error!(%error, "a status has no JSON form and is not written");
                None
            }
        }
    }
}

/// One write to the API server. Each carries the uid or the resourceVersion of the object that it was decided for, so
/// that another object of the same name, created since, is not changed.
#[derive(Debug)]
pub(crate) enum Action {
    /// Writes the controller's fields of a status, and then publishes an Event about the change.
    WriteStatus {
        kind: ObjectKind,
        key: ObjectKey,
        uid: Option<String>,
        fields: StatusFields,
        event: Option<EventSpec>,
    },
    /// Publishes an Event about an object. With `once` the object gets at most one with this reason, even if this is retried.
    PublishEvent { kind: ObjectKind, key: ObjectKey, uid: Option<String>, event: EventSpec, once: bool },
    /// Publishes the Event of a data center about hosts that have changed at once. It is tried again until it is published.
    AnnounceStorm { uid: Option<String>, storm: PhaseChange, event: EventSpec },
    /// Replaces the finalizers of an object, if they are still `before`.
    SetFinalizers { kind: ObjectKind, key: ObjectKey, uid: Option<String>, before: Vec<String>, after: Vec<String> },
    /// Replaces the owner references of this version of an object.
    SetOwners { kind: ObjectKind, key: ObjectKey, owners: Vec<OwnerReference>, version: Option<String> },
    /// Removes a network's name from a bond, if it still is at this position, and then publishes an Event about it.
    DropNetwork { bond: ObjectKey, uid: Option<String>, at: usize, network: NetworkName, event: EventSpec },
    /// Deletes an object.
    Delete { kind: ObjectKind, key: ObjectKey, uid: Option<String> },
    /// Deletes the lease of an agent, if nobody has renewed it since.
    DeleteLease { lease: ObjectKey, uid: Option<String>, version: Option<String> },
    /// Creates a Host for a Node.
    CreateHost { key: ObjectKey, data_center: String, node: String, owner: OwnerReference },
    /// Moves a generated Host back into the data center that it was generated for, and then publishes an Event about it.
    MoveHost { key: ObjectKey, uid: Option<String>, data_center: String, event: EventSpec },
    /// Records on a generated Host the time since which its Node is gone, or removes that record.
    NodeGone { key: ObjectKey, uid: Option<String>, since: Option<Timestamp> },
    /// Sets or removes Multibond's condition of a Node.
    NodeCondition { node: NodeName, uid: Option<String>, condition: Option<NodeCondition> },
    /// Replaces the taints of this version of a Node: `spec.taints` is atomic, and most of them belong to others.
    NodeTaints { node: NodeName, taints: Vec<Taint>, version: Option<String> },
}

impl Action {
    /// The write of a status; `None` if the part of the status has no JSON form.
    pub(crate) fn write_status(
        kind: ObjectKind,
        key: &ObjectKey,
        uid: Option<&String>,
        part: &impl Serialize,
        event: Option<EventSpec>,
    ) -> Option<Self> {
        let fields = StatusFields::of(part)?;
        Some(Action::WriteStatus { kind, key: key.clone(), uid: uid.cloned(), fields, event })
    }

    /// The Host that it creates.
    pub(crate) fn created_host(&self) -> Option<&ObjectKey> {
        match self {
            Action::CreateHost { key, .. } => Some(key),
            _ => None,
        }
    }

    /// The storm that has its Event then.
    pub(crate) fn announced_storm(&self) -> Option<&PhaseChange> {
        match self {
            Action::AnnounceStorm { storm, .. } => Some(storm),
            _ => None,
        }
    }

    /// Its name in metrics, from a closed set.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Action::WriteStatus { .. } => "status",
            Action::PublishEvent { .. } | Action::AnnounceStorm { .. } => "event",
            Action::SetFinalizers { .. } => "finalizers",
            Action::SetOwners { .. } => "owners",
            Action::DropNetwork { .. } => "drop-network",
            Action::Delete { .. } => "delete",
            Action::DeleteLease { .. } => "delete-lease",
            Action::CreateHost { .. } => "create-host",
            Action::MoveHost { .. } => "move-host",
            Action::NodeGone { .. } => "node-gone",
            Action::NodeCondition { .. } => "node-condition",
            Action::NodeTaints { .. } => "node-taints",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_runs_only_if_the_steps_that_it_requires_succeeded() {
        assert!(Requires::Nothing.is_met(&[false, false]));
        assert!(Requires::Previous.is_met(&[false, true]));
        assert!(!Requires::Previous.is_met(&[true, false]));
        assert!(Requires::AllBefore.is_met(&[true, true]));
        assert!(!Requires::AllBefore.is_met(&[false, true]));
        assert!(Requires::AnyOfLast(2).is_met(&[false, true, false]));
        assert!(!Requires::AnyOfLast(2).is_met(&[true, false, false]));
    }

    #[test]
    fn a_status_without_a_json_object_is_not_written() {
        let key = ObjectKey::new("ns", "n");
        assert!(Action::write_status(ObjectKind::Network, &key, None, &Option::<u8>::None, None).is_none());
    }
}
