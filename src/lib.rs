//! iSCSI multipath bonds, declared on Kubernetes.
//!
//! A person declares which networks of a data center storage traffic uses; from then on every host that carries one of
//! those networks holds a session through it to every target. [`planner`] decides, [`controller`] writes what should be
//! into each Host's status, and [`agent`] makes it so on its node.

pub mod agent;
pub mod api;
pub mod check;
pub mod cli;
pub mod console;
pub mod controller;
pub mod ops;
pub mod planner;
pub mod status_view;
