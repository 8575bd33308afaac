//! A test host for use by hand: prepares it, or starts one and runs the commands from standard input in it.

use anyhow::Result;
use clap::{Parser, Subcommand};
use multibond_testbed::Guest;

/// A real open-iscsi and dm-multipath host in a virtual machine, for trying things out.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make what test hosts start from, if it is not there.
    Fetch,
    /// Start a host, run each line of standard input in it, and end it with the input.
    Shell,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Fetch => Guest::prepare().await,
        Command::Shell => shell().await,
    }
}

async fn shell() -> Result<()> {
    let guest = Guest::start("shell").await?;
    eprintln!("the host is up; each line runs in it, Ctrl-D ends it");
    for line in std::io::stdin().lines() {
        let output = guest.run(&line?).await?;
        print!("{}", output.stdout);
        eprint!("{}", output.stderr);
        if let Some(code) = output.code.filter(|code| *code != 0) {
            eprintln!("exit code {code}");
        }
    }
    Ok(())
}
