//! A control plane for use by hand: prepares its binaries, or runs one until Ctrl-C.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use multibond_testbed::{Binaries, ControlPlane, Options, Tool, render_chart};
use tokio::signal::unix::{SignalKind, signal};

/// A real Kubernetes control plane on loopback, for trying things out.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare the binaries (download or build what is missing) and print their directory.
    Fetch,
    /// Start a control plane, print how to reach it, and keep it until Ctrl-C.
    Start {
        /// A chart: what it renders to with its default values is applied.
        #[arg(long)]
        chart: Option<PathBuf>,
        /// A flag of kube-apiserver, such as `--v=4`; may be repeated.
        #[arg(long = "api-server-arg", value_name = "FLAG", allow_hyphen_values = true)]
        api_server_args: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Fetch => {
            let binaries = tokio::task::spawn_blocking(Binaries::locate).await??;
            println!("{}", binaries.directory().display());
        }
        Command::Start { chart, api_server_args } => start(chart, api_server_args).await?,
    }
    Ok(())
}

async fn start(chart: Option<PathBuf>, api_server_args: Vec<String>) -> Result<()> {
    let manifests = match chart {
        Some(chart) => render_chart(&chart, "multibond-system", &serde_json::json!({})).await?,
        None => Vec::new(),
    };
    let cluster = ControlPlane::start(Options { manifests, api_server_args, ..Options::default() }).await?;
    // Before the address is printed, because the reader may send a signal at once.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    eprintln!("kubectl is {}; Ctrl-C ends it all", cluster.binaries().path(Tool::Kubectl).display());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
