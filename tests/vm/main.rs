//! On a real host: open-iscsi, dm-multipath and real targets in a virtual machine. `tests/vm/README.md` describes
//! it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod busy_neighbour;
mod chap;
mod cold_start;
mod connect;
mod damage;
mod disk_users;
mod failures;
mod host;
mod host_settings;
mod lio;
mod logout;
mod multipath;
mod names;
mod neighbours;
mod restarts;
mod same_subnet;
mod soak;
mod tools;
mod two_hosts;

use multibond_testbed::{
    iscsi_host::{by_hand, node, writer},
    site,
};
