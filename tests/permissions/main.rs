//! A29: the permissions that the chart grants, checked against a real API server with real tokens.
//!
//! Every attempt is a dry run: the API server authorizes and admits it as it would the real one, and keeps nothing, so
//! that the rows of a table do not depend on each other.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod agents;
mod attempt;
mod controller;
mod namespaces;
mod people;
mod release;
mod storage;
mod the_cluster_itself;
