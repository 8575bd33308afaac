//! The agent's loop on a simulated host, with a fake API server and with paused time, which advances when nothing else
//! can run.
#![allow(clippy::unwrap_used, reason = "these are tests, and so are their helpers")]

mod any_order;
mod behaviour;
mod cold_start;
mod harness;
