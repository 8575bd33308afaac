//! The command line with a real API server: `lun`, `plan`, `status` and `simulate`.
//!
//! One control plane with the CRDs serves all tests that do not stop it. No controller runs: `plan` is compared with
//! the controller in `tests/cluster/plan.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod columns;
mod lun;
mod plan;
mod refusals;
#[path = "../cli/schema_examples.rs"]
mod schema_examples;
mod simulate;
mod status;

use multibond::api;
use multibond_testbed::{ControlPlane, Options};

/// The shared control plane, with the CRDs.
async fn cluster() -> &'static ControlPlane {
    let options = async || {
        let manifests = api::crds().iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
        Ok(Options { manifests, audit: true, ..Options::default() })
    };
    ControlPlane::shared(options).await.unwrap()
}
