//! The agent of a node: it holds the sessions that its Host's plan asks for.
//!
//! [`run`] reads and acts, [`reconcile`] decides what is connected when, [`disconnect`] which session may go, [`outbox`]
//! when a report is written; the last three are pure. An initiator is anything that implements
//! [`Initiator`](initiator::Initiator): [`simulated`] is one.

pub mod backoff;
mod claim;
pub mod cluster;
mod complaint;
pub mod credentials;
pub mod disconnect;
pub mod hosts;
pub mod initiator;
pub mod lease;
mod leaving;
pub mod metrics;
pub mod open_iscsi;
pub mod outbox;
pub mod path;
pub mod plan;
pub mod reconcile;
pub mod report;
mod run;
mod secrets;
pub mod simulated;
pub mod situation;
pub mod standing;

pub use run::Agent;

#[cfg(test)]
mod fixtures;
