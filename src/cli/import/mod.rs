//! `multibond import`: manifests from what another system knows.

mod ovirt;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Writes manifests from what another system knows of its storage, networks and hosts
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  multibond import ovirt -f engine/ --out-dir manifests")]
pub struct Arguments {
    #[command(subcommand)]
    system: System,
}

/// Where the knowledge comes from.
#[derive(Subcommand, Debug)]
enum System {
    Ovirt(ovirt::Arguments),
}

/// Imports what was asked for.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.system {
        System::Ovirt(arguments) => ovirt::run(arguments),
    }
}
