//! Two versions side by side: programs and chart of an older version, built from the history of this repository, beside
//! those of the present, on a real control plane.
//!
//! Building takes minutes, so `cargo test` leaves these tests out; `make test-skew` runs them. The tests that need the
//! older version's statuses only have them as a file (`tests/planner/older.rs`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod cluster;
mod cost;
mod data_centers;
mod mixtures;
mod version;

use multibond_testbed::site;
