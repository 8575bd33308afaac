//! What operators look at: metrics, liveness and readiness, served over HTTP.

pub mod errors;
mod http;
mod metrics;

pub use http::{Readiness, bind, serve};
pub use metrics::{BondLabel, ControllerMetrics, KindLabel, PhaseLabel, ReasonLabel, WriteLabel};
