//! `make demo`: a small data center on this machine, on a real control plane, with simulated hosts.
//!
//! What runs is what a cluster runs: the chart's CRDs, permissions and policies, the controller and an agent for each
//! host under their own service accounts, and `examples/`. Only the iSCSI sessions are simulated.

mod data_center;
mod place;
mod screen;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use data_center::DataCenter;
use screen::{Screen, show};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A small data center on this machine: a real control plane, simulated hosts, until Ctrl-C.
///
/// Without a terminal it ends by itself, with exit code 0 if all went well.
#[derive(Debug, Parser)]
struct Arguments {
    /// Stay until Ctrl-C, also without a terminal
    #[arg(long)]
    stay: bool,
    /// The program that it shows [default: the `multibond` beside this one]
    #[arg(long, value_name = "FILE")]
    multibond: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    Box::pin(run(Arguments::parse())).await.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    let stays = arguments.stay || (io::stdin().is_terminal() && io::stdout().is_terminal());
    let multibond = arguments.multibond.map_or_else(beside_this_one, Ok)?;
    let screen = Screen::new();
    // From here a signal ends the demo in an orderly way; before this there is nothing to clean up.
    let mut end = End::listen()?;
    let data_center = tokio::select! {
        data_center = DataCenter::start(&multibond, &screen) => data_center?,
        () = end.asked_for() => return Ok(ExitCode::from(130)),
    };
    show("\n");
    data_center.show_status().await?;
    if !stays {
        return Ok(ExitCode::SUCCESS);
    }
    show(&data_center.how_to_go_on());
    tokio::select! {
        broken = data_center.broken() => Err(broken),
        () = end.asked_for() => {
            show("\nEnded; nothing is left of it.\n");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn beside_this_one() -> Result<PathBuf> {
    let program = std::env::current_exe().context("where is this program?")?.with_file_name("multibond");
    anyhow::ensure!(program.is_file(), "{} is not built yet: run `make demo`", program.display());
    Ok(program)
}

/// Ctrl-C, and the other ways to end a program.
struct End([Signal; 3]);

impl End {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    async fn asked_for(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
