//! `multibond crds`: the custom resource definitions, as YAML.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Number, Value};

use super::output;
use crate::api;

/// Prints the custom resource definitions, or writes one file for each
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  multibond crds | kubectl apply --server-side -f -
  multibond crds --out-dir crds")]
pub struct Arguments {
    /// Write the files into this directory, which is created if necessary, instead of printing them
    #[arg(long, env = "MULTIBOND_OUT_DIR", value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

/// Prints or writes the definitions.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let files = files()?;
    if let Some(directory) = &arguments.out_dir {
        write(directory, &files)?;
    } else {
        let documents: Vec<&str> = files.iter().map(|(_, yaml)| yaml.as_str()).collect();
        output::print(&documents.join("---\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(directory: &Path, files: &[(String, String)]) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("creating the directory {}", directory.display()))?;
    for (name, yaml) in files {
        let file = directory.join(name);
        std::fs::write(&file, yaml).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// Pairs of a file name, such as `hosts.multibond.dev.yaml`, and its content.
fn files() -> anyhow::Result<Vec<(String, String)>> {
    api::crds().iter().map(|crd| Ok((format!("{}.yaml", file_stem(crd)), yaml(crd)?))).collect()
}

/// The name of the definition, in the form that Kubernetes requires: plural and group.
fn file_stem(crd: &CustomResourceDefinition) -> String {
    format!("{}.{}", crd.spec.names.plural, crd.spec.group)
}

fn yaml(crd: &CustomResourceDefinition) -> anyhow::Result<String> {
    let mut value = serde_json::to_value(crd)?;
    write_integers_as_integers(&mut value);
    Ok(crate::ops::yaml(&value)?)
}

/// Makes whole numbers integers: the type of the schema has floats for all bounds.
fn write_integers_as_integers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            // Exact: bounds beyond 2^53 do not occur.
            #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
            if let Some(float) = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15) {
                *number = Number::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(write_integers_as_integers),
        Value::Object(fields) => fields.values_mut().for_each(write_integers_as_integers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
