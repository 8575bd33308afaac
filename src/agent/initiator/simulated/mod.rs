//! Simulated hosts: for the demo, tests and benches, and to try a change without hardware.
//!
//! Only the initiator is simulated; the rest of the agent is real. Faults and facts come from files ([`Faults`],
//! [`NodeFacts`]). One task reads them again when they change, for all hosts.

mod array;
mod conditions;
mod faults;
mod files;
mod host;
mod simulation;
mod state;

pub use array::{Lun, Luns};
pub use faults::{Fault, FaultKind, FaultSubject, Faults, NodeFacts};
pub use files::{FileError, follow, read};
pub use host::SimulatedHost;
pub use simulation::Simulation;
pub use state::Reads;
