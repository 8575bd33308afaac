//! The decisions, one file per kind: each is a function of the index, the key of an object and the time. No client, no
//! clock, no async, no state: the part of a decision that later decisions need is in its [`Outcome`].

pub(crate) mod action;
mod aggregate;
mod data_center;
pub(crate) mod finalizer;
mod generated_hosts;
mod host;
mod iscsi_bond;
mod network;
pub(crate) mod node;
mod ownership;

use std::time::Duration;

pub(crate) use aggregate::aggregates;
pub(crate) use host::partition_changed;

use crate::{
    api::ObjectKind,
    controller::{index::Index, store::key::Key},
    ops::Now,
};
use action::Outcome;

/// Settings of the administrator that decisions depend on.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The longest time that a deletion waits for acknowledgements.
    pub deletion_timeout: Duration,
}

/// Decides what to do about one object.
pub(crate) fn reconcile(index: &Index, key: &Key, settings: &Settings, now: Now) -> Outcome {
    match key {
        Key::Object(ObjectKind::Host, key) => host::reconcile(index, key, settings, now),
        Key::Object(ObjectKind::Network, key) => network::reconcile(index, key, settings, now),
        Key::Object(ObjectKind::IscsiBond, key) => iscsi_bond::reconcile(index, key, now),
        Key::Object(ObjectKind::DataCenter, key) => data_center::reconcile(index, key, settings, now),
        Key::Node(name) => node::reconcile(index, name, now),
    }
}
