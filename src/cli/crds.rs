//! `multibond crds`: the custom resource definitions, as YAML.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::output;
use crate::api;

/// Prints the custom resource definitions, or writes one file for each
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  multibond crds | kubectl apply --server-side -f -\n  multibond crds --out-dir crds"
)]
pub struct Arguments {
    /// Write the files into this directory, which is made if need be, instead of printing them
    #[arg(long, env = "MULTIBOND_OUT_DIR", value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

/// Prints or writes the definitions.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let files = files()?;
    match &arguments.out_dir {
        Some(directory) => write(directory, &files)?,
        None => {
            let documents: Vec<&str> = files.iter().map(|(_, yaml)| yaml.as_str()).collect();
            output::print(&documents.join("---\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(directory: &Path, files: &[(String, String)]) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("making the directory {}", directory.display()))?;
    for (name, yaml) in files {
        let file = directory.join(name);
        std::fs::write(&file, yaml).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// File names and their contents.
fn files() -> anyhow::Result<Vec<(String, String)>> {
    let file = |crd: &CustomResourceDefinition| {
        Ok((format!("{}.{}.yaml", crd.spec.names.plural, crd.spec.group), serde_saphyr::to_string(crd)?))
    };
    api::crds().iter().map(file).collect()
}
