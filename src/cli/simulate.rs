//! `multibond simulate`: the agents of many simulated hosts in one process.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use kube::runtime::watcher;

use super::{
    Global,
    agent::{HealthArguments, LeaseArguments, SimulationArguments},
    in_runtime, process,
};
use crate::agent::fleet::Fleet;

/// Runs an agent for every Host in the cluster, with simulated iSCSI sessions
///
/// Everything else is real. For demos, tests, and trying a change before it reaches hardware.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  multibond simulate\n  multibond simulate --faults faults.yaml --facts facts.yaml\n\n\
                        Faults (the first match counts; a field that is absent matches all):\n  \
                        latency: 200ms\n  \
                        faults:\n  \
                        - {portal: \"10.0.2.10:3260\", fault: Unreachable, after: 5s}\n  \
                        - {host: worker-2, interface: ens2f0, fault: InterfaceNotFound}\n\n\
                        Facts:\n  \
                        facts:\n  \
                        - {node: worker-1, interfaces: [{name: ens2f0, up: true, addresses: [\"10.0.1.21/24\"]}]}"
)]
pub struct Arguments {
    #[command(flatten)]
    simulation: SimulationArguments,
    /// Serve only Hosts with these labels, such as `rack=7`
    #[arg(long, env = "MULTIBOND_SELECTOR", value_name = "LABELS", conflicts_with = "token_dir")]
    selector: Option<String>,
    /// A directory with one token for each node, in a file named after the node: each agent authenticates with its own token
    #[arg(long, env = "MULTIBOND_TOKEN_DIR", value_name = "DIR")]
    token_dir: Option<PathBuf>,
    #[command(flatten)]
    lease: LeaseArguments,
    #[command(flatten)]
    health: HealthArguments,
}

/// Runs the agents until SIGTERM or Ctrl-C.
pub fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    in_runtime(simulate(arguments, global))
}

async fn simulate(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let stop = process::shutdown()?;
    let metrics = arguments.health.start(stop.clone()).await?;
    let (namespace, timing) = (arguments.lease.namespace(), arguments.lease.timing()?);
    let fleet = Fleet::new(arguments.simulation.start()?, namespace, timing, metrics, stop);
    if let Some(directory) = &arguments.token_dir {
        let done = fleet.follow_tokens(&global.cluster().await?, directory).await;
        done.with_context(|| format!("--token-dir {}", directory.display()))?;
    } else {
        let config = watcher::Config { label_selector: arguments.selector, ..watcher::Config::default() };
        fleet.follow_hosts(global.client().await?, config).await?;
    }
    Ok(ExitCode::SUCCESS)
}
