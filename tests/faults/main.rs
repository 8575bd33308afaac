//! Crashes, outages and concurrent writers, against a real control plane.
//!
//! One control plane, and one test at a time: each test starts its own controllers, and some stop the API server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod edits;
mod election;
mod kills;
mod line;
mod outage;
mod quiet;
mod replica;
mod settled;
mod writers;

use multibond_testbed::{
    ControlPlane,
    site::{self, fixtures},
};
use tokio::sync::{Mutex, MutexGuard};

/// Two fabrics, a bond over both, and two hosts on both.
fn two_hosts() -> String {
    let (one, two) = (fixtures::HOST_ON_BOTH, fixtures::HOST_ON_BOTH.replace("w1", "w2"));
    [fixtures::TWO_FABRICS, &fixtures::bond("san-a, san-b"), one, &two].concat()
}

/// The control plane, reserved for this test while it holds the guard.
async fn alone() -> (&'static ControlPlane, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    (ControlPlane::shared(site::options).await.unwrap(), turn)
}
