//! What operators look at: metrics, liveness and readiness, served over HTTP; and YAML.

pub mod backoff;
mod duration;
pub mod errors;
mod http;
pub mod log_once;
mod metrics;
mod yaml;

pub use duration::{age, duration, positive_duration};
pub use http::{Readiness, bind, serve};
pub use metrics::{BondLabel, ControllerMetrics, KindLabel, PhaseLabel, ReasonLabel, WriteLabel, registered};
pub use yaml::yaml;
