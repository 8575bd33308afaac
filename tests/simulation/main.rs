//! The product against a model of its surroundings, in every order of events.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod actor;
mod actors;
mod api;
mod chance;
mod clock;
mod cluster;
mod fabric;
mod invariants;
#[path = "../planner/model.rs"]
mod model;
mod network;
mod seed;
mod seeds;
mod settled;
mod users;
