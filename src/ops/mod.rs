//! Plumbing that all processes share: metrics and health over HTTP, watches, errors as text, patches, durations, foreign
//! text, YAML. It has no domain logic.

pub mod backoff;
mod clock;
mod duration;
pub mod errors;
mod http;
pub mod log_once;
mod metrics;
pub mod patch;
mod platform;
mod process;
mod relist;
mod text;
mod yaml;

pub use clock::{Clock, Instant, Now, time_of_day};
pub use duration::{DurationError, age, duration, positive_duration};
pub use http::{BindError, ClientLimits, Readiness, bind, listen_address, serve, serve_router};
pub use metrics::{GaugePart, WhatLabel, process_registry, registered};
pub use platform::{Platform, Supervisor, Tasks};
pub use relist::watch_from_list;
pub use text::{for_terminal, one_line};
pub use yaml::{YamlError, yaml};
