//! The agent of a node: it holds the sessions that its Host's plan asks for.
//!
//! [`run`] reads and acts. [`reconcile`] decides what is connected when, and which session may be logged out; it is pure.
//! [`cluster`] is the API server: the Hosts, the Secrets, the lease, and when a report is written. [`host`] is the Linux
//! host. An initiator is anything that implements [`Initiator`](initiator::Initiator).

pub mod cluster;
mod cold_start;
pub mod fleet;
pub mod host;
pub mod initiator;
mod jobs;
pub mod metrics;
pub mod reconcile;
mod run;
pub mod serve;
pub mod types;

pub use cold_start::ColdStart;
pub use run::Agent;

#[cfg(test)]
mod fixtures;
