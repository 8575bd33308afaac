//! On real nodes: kubelet, containerd and runc on two hosts with real open-iscsi, and the chart installed by Helm.
//! `tests/nodes/README.md` describes the setup.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

#[path = "../archive/mod.rs"]
mod archive;
mod chart;
mod impostors;
mod nodes;
mod outages;
mod workloads;

use multibond_testbed::{iscsi_host::by_hand, site};
