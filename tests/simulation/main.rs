//! The product against a model of its surroundings, in every order of events.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod api;
