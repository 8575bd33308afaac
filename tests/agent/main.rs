//! The agent's loop on a simulated host, with an API server that is a table, in time that passes when nothing else can.
#![allow(clippy::unwrap_used, reason = "these are tests, and so are their helpers")]

mod any_order;
mod behaviour;
mod site;
