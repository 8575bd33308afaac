//! The product against a model of its surroundings, in every order of events.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what serves a test fails it")]
#![allow(clippy::similar_names, reason = "a patch has a path, and a request is requested")]

mod actor;
mod actors;
mod api;
mod chance;
mod clock;
mod cluster;
mod differential;
mod fabric;
mod host;
mod invariants;
mod luns;
mod mistakes;
#[path = "../planner/model.rs"]
mod model;
mod neighbours;
mod network;
mod seed;
mod seeds;
mod settled;
mod users;
