//! The decisions, one file per kind: each is a function of the index, the key of an object, and the time. No client, no
//! clock, no async.

pub(crate) mod action;
pub(crate) mod aggregate;
pub(crate) mod data_center;
pub(crate) mod finalizer;
pub(crate) mod generated_hosts;
pub(crate) mod host;
pub(crate) mod iscsi_bond;
pub(crate) mod network;
pub(crate) mod node;

use std::time::Duration;

/// Settings of the administrator that decisions depend on.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How long a deletion may wait for acknowledgements.
    pub deletion_timeout: Duration,
}
