//! A GitOps engine. It is not part of the control plane, so only the tests that use it wait for it.

use std::env;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::build::{Program, build};
use super::{assets, required_version};
use crate::cache::{cache_directory, lock};

const NAME: &str = "kustomize-controller";

/// Flux's kustomize-controller: from the directory that `KUBEBUILDER_ASSETS` names, or from the cache; otherwise it is
/// built from source, which takes minutes, once. Flux releases images of it and no binaries.
///
/// # Errors
/// If it is missing and cannot be built; the error says what to install.
pub fn kustomize_controller() -> Result<PathBuf> {
    if let Some(given) = assets().map(|assets| assets.join(NAME)).filter(|path| path.is_file()) {
        return Ok(given);
    }
    let go_mod = include_str!("../../../control-plane/kustomize-controller/go.mod");
    let version = required_version(go_mod, "github.com/fluxcd/kustomize-controller")
        .context("tests/control-plane/kustomize-controller requires no version of it")?;
    let cache = cache_directory()?.join(format!("{NAME}-{version}-{}", env::consts::ARCH));
    let program = cache.join(NAME);
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot create the cache {}", cache.display()))?;
    let _lock = lock(&cache.join(".lock"), NAME)?;
    if !program.is_file() {
        let package = "github.com/fluxcd/kustomize-controller";
        build(&[Program { name: NAME, version, module: NAME, package, linker_flags: "-s -w".to_owned() }], &cache)?;
    }
    Ok(program)
}
