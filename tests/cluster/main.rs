//! The real binary against a real control plane, under the permissions that the chart grants.
//!
//! One control plane and one controller serve all tests; each test has a namespace, nodes and simulated hosts of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod bonds;
mod claims;
mod convergence;
mod deletion;
mod deletion_of_data_centers;
mod events;
mod kinds;
mod made_hosts;
mod mistakes;
mod nodes;
mod operations;
mod plan;
mod skew;
mod storms;
mod successors;
mod tenants;
mod verdicts;

use multibond_testbed::site::{self, fixtures};
