//! A32: Multibond under GitOps. A real engine applies, heals and prunes; Argo CD's health checks judge real objects;
//! and an API server accepts the example repository.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

mod engine;
mod examples;
mod fixtures;
mod health;
mod living_with_it;
mod order;

use std::fs;
use std::path::PathBuf;

use multibond_testbed::{
    ControlPlane,
    site::{self, Site},
};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The control plane, with the chart, its controller, and the CRDs of Flux and Argo CD.
async fn cluster() -> &'static ControlPlane {
    let options = async || {
        let mut options = site::options().await?;
        for entry in fs::read_dir(root().join("tests/gitops/kinds"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "yaml") {
                options.manifests.extend(serde_saphyr::from_multiple::<Value>(&fs::read_to_string(path)?)?);
            }
        }
        Ok(options)
    };
    ControlPlane::shared(options).await.unwrap();
    site::shared().await
}

/// A new site on the control plane.
async fn new_site(name: &str) -> Site {
    Site::on(cluster().await, name).await
}
