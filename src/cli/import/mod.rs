//! `multibond import`: manifests from the configuration of another system.

mod ovirt;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Writes manifests from the storage, networks and hosts of another system
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  multibond import ovirt -f engine/ --out-dir manifests")]
pub struct Arguments {
    #[command(subcommand)]
    system: System,
}

/// The other system.
#[derive(Subcommand, Debug)]
enum System {
    Ovirt(ovirt::Arguments),
}

/// Imports from the chosen system.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.system {
        System::Ovirt(arguments) => ovirt::run(arguments),
    }
}
