//! Multibond: iSCSI multipath bonds, declared on Kubernetes.
//!
//! A person declares which networks of a data center carry storage traffic. Every host with such a network then holds an
//! iSCSI session through it to the targets, and multipath combines the sessions.
//!
//! # Layers
//!
//! A module imports only modules that are below it here, and its own submodules.
//!
//! ```text
//! cli            one module per subcommand: arguments, output, exit code
//!   console        the web server of `multibond console`: model, views, forms
//!   check          the facts of a cluster, and a pure judgement of them
//!   controller     store <- index <- reconcile (pure) <- engine: which plan each Host gets
//!   agent          host <- initiator <- reconcile (pure) <- cluster <- run: the sessions of one node
//!     status_view    what `multibond status` and the console show, and the JSON of `status`
//!     planner        pure: the objects of a data center -> plans, conditions, problems
//!       ops            plumbing without domain: HTTP, errors, durations, back-off, log-once
//!         api            the four kinds, closed sets of words, names that are never renamed
//! ```
//!
//! `console`, `check`, `controller` and `agent` do not import each other.
//!
//! # Data flow
//!
//! ```text
//! kubectl, GitOps, console
//!       |  spec: DataCenter, Network, Host, IscsiBond
//!       v
//!  API server  --- watch --->  controller: index -> planner -> reconcile
//!    |     ^  <-- Host.status.plan, conditions, Node condition and taint ---'
//!    |     |
//!  watch   |  Host.status: interfaces, connections, agent; Lease
//!    v     |
//!   agent of the node:  plan + what the host has -> logins, logouts
//!       |
//!       v
//!  open-iscsi, kernel, multipathd  <=== iSCSI ===>  storage array
//! ```
//!
//! The controller alone decides which paths a host should have; it never talks to a host. An agent alone decides when a
//! login or logout is safe; it reads only its own Hosts and their Secrets. If the controller is down, agents keep and
//! repair the sessions of the last plan.
//!
//! The modules that decide do no I/O: [`planner`], the controller's `index` and `reconcile`, [`agent::reconcile`], and the
//! `judge` of [`check`]. Most tests are about them, and `tests/layers.rs` keeps them pure.

pub mod agent;
pub mod api;
pub mod check;
pub mod cli;
pub mod console;
pub mod controller;
#[cfg(test)]
mod fuzz;
pub mod ops;
pub mod planner;
pub mod status_view;
