//! What a change costs from the edit to the last host: real API server, real controller, real agents on simulated
//! hosts.
//!
//! `cargo bench --bench control_plane -- 100 1000` measures with 100 and with 1000 hosts, each on a fresh control
//! plane, and prints a table. Times depend on the machine; each is therefore also given as a ratio to the *floor*,
//! measured between the edits: a bare client that writes as many statuses of the same size by the cheapest verb.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot measure has nothing to tell")]

mod attack;
mod audit;
mod floor;
mod observer;
mod scenario;
mod site;
mod table;
mod usage;

use std::time::Duration;

use clap::Parser;

use scenario::{Scenario, Wanted};
use site::BenchSite;

/// What to measure.
#[derive(Parser)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Arguments {
    /// Numbers of hosts
    #[arg(default_values_t = [100])]
    hosts: Vec<usize>,
    /// How often each edit is made
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How long nothing happens while idle writes are counted, in seconds
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// How long a login takes, in milliseconds: as long as real ones do by default
    #[arg(long, default_value_t = 1000)]
    login: u64,
    /// Measure only what the controller does while no agent runs
    #[arg(long)]
    only_alone: bool,
    /// Leave the audit log out: writes are then not counted, and the API server has less to do
    #[arg(long)]
    no_audit: bool,
    /// Measure only how long one Host waits while an editor of another namespace does the worst
    #[arg(long)]
    attack: bool,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` also runs benches, to check that they start.
        return;
    }
    let wanted =
        Wanted { runs: arguments.runs, idle: Duration::from_secs(arguments.idle), only_alone: arguments.only_alone };
    let mut measured = Vec::new();
    for &hosts in &arguments.hosts {
        eprintln!("{hosts} hosts: starting");
        let site = BenchSite::start(hosts, Duration::from_millis(arguments.login), !arguments.no_audit).await;
        if arguments.attack {
            attack::run(site).await;
            continue;
        }
        measured.push(Scenario::run(site, wanted).await);
        println!("{}", table::render(&measured));
    }
}
