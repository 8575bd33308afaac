//! A node whose host is a [`Guest`](crate::Guest): the agent, real open-iscsi, and a writer that notices every error.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    reason = "a helper of a test fails that test"
)]

pub mod by_hand;
pub mod node;
pub mod writer;
