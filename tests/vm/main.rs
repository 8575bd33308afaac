//! On a real host: open-iscsi, dm-multipath and real targets in a virtual machine. `tests/vm/README.md` says what is
//! where in it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod by_hand;
mod chap;
mod connect;
mod damage;
mod failures;
mod host;
mod logout;
mod multipath;
mod names;
mod node;
mod restarts;
mod same_subnet;
#[path = "../site/mod.rs"]
mod site;
mod soak;
mod tools;
mod two_hosts;
mod writer;
