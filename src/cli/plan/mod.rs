//! `multibond plan`: the plans that the controller would make for these manifests, without a cluster.

pub(super) mod document;
mod field_path;
pub(super) mod input;
pub mod metadata;
mod objects;
mod render;
mod schema;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use self::objects::ManifestReader;
use super::output::{self, Format};
use crate::ops;
use crate::planner::{Problem, plan_all};

/// Prints the paths that each host would get from these manifests, and all problems, without a cluster
///
/// Manifests are checked as the API server checks them with strict field validation. Exit code 0: a plan without
/// problems; 2: a plan, and problems; 1: input that cannot be read or is invalid. A warning is what may be meant, such as a
/// network that no host carries yet: it does not change the exit code.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  multibond plan -f manifests/
  kubectl get multibond,namespaces -A -o yaml | multibond plan -f - -o json
  helm template . | multibond plan -f - -n storage")]
pub struct Arguments {
    /// A manifest, a directory of manifests (*.yaml, *.yml, *.json), or - for standard input; may be repeated
    #[arg(short, long = "filename", env = "MULTIBOND_FILENAME", value_name = "FILE|DIR|-", required = true)]
    filename: Vec<PathBuf>,
    /// Read directories recursively
    #[arg(short = 'R', long, env = "MULTIBOND_RECURSIVE")]
    recursive: bool,
    /// The namespace of objects that do not name one
    #[arg(short, long, env = "MULTIBOND_NAMESPACE", default_value = "default", value_parser = namespace)]
    namespace: String,
    /// The output format
    #[arg(short, long, env = "MULTIBOND_OUTPUT", value_enum, default_value = "table")]
    output: Format,
}

fn namespace(text: &str) -> Result<String, String> {
    let valid = metadata::is_label(text).then(|| text.to_owned());
    valid.ok_or_else(|| metadata::LABEL.to_owned())
}

/// Plans, and prints the plans and problems, or the findings in the manifests.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { filename, recursive, namespace, output: format } = arguments;
    let stdins = filename.iter().filter(|argument| *argument == Path::new("-")).count();
    anyhow::ensure!(stdins < 2, "standard input (-f -) is given {stdins} times, but can be read only once");
    let mut reader = ManifestReader::new(namespace);
    for argument in filename {
        match input::sources(&argument, recursive) {
            Ok(sources) => sources.iter().for_each(|source| match input::text(source) {
                Ok(text) => reader.read(source, &text),
                Err(error) => reader.report(error),
            }),
            Err(error) => reader.report(error),
        }
    }
    let found = reader.found;
    let objects = match reader.finish() {
        Ok(_) if found == 0 => anyhow::bail!("the input is empty: there is nothing to plan"),
        Ok(objects) => objects,
        Err(findings) => {
            for finding in &findings {
                output::complain(format_args!("{finding}"));
            }
            let word = if findings.len() == 1 { "finding" } else { "findings" };
            anyhow::bail!("{} {word}; nothing was planned", findings.len());
        }
    };
    let report = plan_all(&objects);
    output::print(&match format {
        Format::Table => render::table(&report),
        Format::Json => output::json(&render::Output::from(&report))?,
        Format::Yaml => ops::yaml(&render::Output::from(&report))?,
    })?;
    Ok(ExitCode::from(if report.problems.iter().all(Problem::is_warning) { 0 } else { 2 }))
}
