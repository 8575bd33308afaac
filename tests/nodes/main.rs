//! On real nodes: kubelet, containerd and runc on two hosts with real open-iscsi, and the chart installed by Helm.
//! `tests/nodes/README.md` says what is where.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

#[path = "../archive/mod.rs"]
mod archive;
#[allow(dead_code, reason = "tests on one host use more of it")]
#[path = "../vm/by_hand.rs"]
mod by_hand;
mod chart;
mod nodes;
mod outages;
#[path = "../site/mod.rs"]
mod site;
