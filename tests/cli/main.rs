//! The subcommands that need no cluster, as people and pipelines use them.
//!
//! Subcommands that need a control plane are tested in `tests/cli_cluster`; the planner itself in `tests/planner`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod crds;
mod examples;
mod explain;
mod import;
mod plan;
mod plan_schema;
mod schema_examples;

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// Runs `multibond` with these arguments.
fn multibond(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multibond"));
    command.args(arguments);
    command
}

/// Exit code, standard output and standard error.
fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A file or directory in `tests/cli/data`.
fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/data").join(path)
}
