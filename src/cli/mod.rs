//! The command line: one module per subcommand, and here what they share.
//!
//! Every flag is also an environment variable, `MULTIBOND_` and the flag's name. Avoid flags named `port` or
//! `service…`: Kubernetes puts `MULTIBOND_PORT` and `MULTIBOND_SERVICE_HOST` into every pod beside a Service named
//! `multibond`.

mod agent;
mod check;
mod completion;
mod console;
mod controller;
mod crds;
mod enter;
mod explain;
mod handover;
mod import;
mod lun;
pub mod node;
mod output;
mod plan;
mod process;
mod release;
mod simulate;
mod status;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tracing_subscriber::EnvFilter;

use crate::ops::{self, errors::causes};

/// The read time-out of requests. Without it, a dead connection (say, of an API server whose machine failed) would be
/// noticed after a quarter of an hour. Watches are not cut off: they get a bookmark every minute.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// iSCSI multipath bonds, declared on Kubernetes.
#[derive(Parser, Debug)]
#[command(name = "multibond", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// A subcommand with its arguments.
#[derive(Subcommand, Debug)]
enum Command {
    Agent(agent::Arguments),
    Check(check::Arguments),
    Completion(completion::Arguments),
    Console(console::Arguments),
    Controller(controller::Arguments),
    Crds(crds::Arguments),
    #[command(hide = true)]
    Enter(enter::Arguments),
    Explain(explain::Arguments),
    Import(import::Arguments),
    Lun(lun::Arguments),
    Man(completion::ManArguments),
    Plan(plan::Arguments),
    Release(release::Arguments),
    Simulate(simulate::Arguments),
    Status(status::Arguments),
}

/// The command line of a program.
trait Program: Parser {
    /// The arguments that all subcommands have.
    fn global(&self) -> &Global;
    /// Runs the subcommand.
    fn run(self) -> anyhow::Result<ExitCode>;
}

impl Program for Cli {
    fn global(&self) -> &Global {
        &self.global
    }

    /// Subcommands that talk to a cluster start a runtime ([`in_runtime`]). The others start faster without it.
    fn run(self) -> anyhow::Result<ExitCode> {
        let global = &self.global;
        match self.command {
            Command::Agent(arguments) => agent::run(arguments, global),
            Command::Check(arguments) => check::run(arguments, global),
            Command::Completion(arguments) => completion::run(&arguments),
            Command::Console(arguments) => console::run(arguments, global),
            Command::Controller(arguments) => controller::run(arguments, global),
            Command::Crds(arguments) => crds::run(&arguments),
            Command::Enter(arguments) => Ok(enter::run(&arguments)),
            Command::Explain(arguments) => explain::run(&arguments),
            Command::Import(arguments) => import::run(arguments),
            Command::Lun(arguments) => lun::run(arguments, global),
            Command::Man(arguments) => completion::run_man(&arguments),
            Command::Plan(arguments) => plan::run(arguments),
            Command::Release(arguments) => release::run(arguments, global),
            Command::Simulate(arguments) => simulate::run(arguments, global),
            Command::Status(arguments) => status::run(arguments, global),
        }
    }
}

/// The arguments that every subcommand has.
#[derive(Args, Debug)]
pub struct Global {
    /// The format of log lines; they go to standard error, `RUST_LOG` filters them
    #[arg(
        long,
        env = "MULTIBOND_LOG_FORMAT",
        value_enum,
        default_value = "text",
        global = true,
        help_heading = "Global options"
    )]
    log_format: LogFormat,
    /// The kubeconfig file; default: `KUBECONFIG`, then `~/.kube/config`, then the pod's service account
    #[arg(long, env = "MULTIBOND_KUBECONFIG", value_name = "FILE", global = true, help_heading = "Global options")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig file; default: its current one
    #[arg(long, env = "MULTIBOND_CONTEXT", value_name = "NAME", global = true, help_heading = "Global options")]
    context: Option<String>,
    /// The user to act as, as for kubectl; needs the permission to impersonate it
    #[arg(long = "as", env = "MULTIBOND_AS", value_name = "NAME", global = true, help_heading = "Global options")]
    impersonate: Option<String>,
}

/// The argument of the subcommands that ask a few times and end. A watch would not survive a short time-out.
#[derive(Args, Debug)]
struct Asking {
    /// How long to wait for each answer of the API server; default: longer than a working cluster needs
    #[arg(long, env = "MULTIBOND_REQUEST_TIMEOUT", value_name = "DURATION", value_parser = ops::positive_duration)]
    request_timeout: Option<Duration>,
}

impl Asking {
    /// The configuration of the cluster for these requests, as [`Global::cluster`]; they usually wait for `usual`.
    async fn cluster(&self, global: &Global, usual: Duration) -> anyhow::Result<kube::Config> {
        let mut config = global.cluster().await?;
        config.read_timeout = Some(self.request_timeout.unwrap_or(usual));
        Ok(config)
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Global {
    /// The configuration of the cluster, found in the same places as by kubectl.
    ///
    /// # Errors
    /// If there is no kubeconfig and this is not a pod, or if the kubeconfig cannot be read.
    pub async fn cluster(&self) -> anyhow::Result<kube::Config> {
        let mut config = self.find_cluster().await?;
        config.read_timeout = Some(ANSWER_WITHIN);
        if self.impersonate.is_some() {
            config.auth_info.impersonate.clone_from(&self.impersonate);
        }
        // The time-out counts from the request, not from the last use of the connection.
        config.reset_reader_on_write = true;
        Ok(config)
    }

    async fn find_cluster(&self) -> anyhow::Result<kube::Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        if let Some(file) = &self.kubeconfig {
            let read = Kubeconfig::read_from(file).with_context(|| format!("--kubeconfig {}", file.display()))?;
            return Ok(kube::Config::from_custom_kubeconfig(read, &options).await?);
        }
        if self.context.is_some() {
            return Ok(kube::Config::from_kubeconfig(&options).await?);
        }
        kube::Config::infer().await.context(
            "no cluster to talk to: pass --kubeconfig FILE, set KUBECONFIG, or run in a pod with a service account",
        )
    }

    /// A client for the cluster that [`Global::cluster`] finds.
    ///
    /// # Errors
    /// As [`Global::cluster`], and if the TLS settings of the kubeconfig are wrong.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        Ok(kube::Client::try_from(self.cluster().await?)?)
    }

    fn start_logging(&self) {
        // Our own code logs a failure once; kube would log every retry.
        let usual = || EnvFilter::new("info,kube_runtime=error,kube_client::client::builder=off");
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| usual());
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(output::colours_in_logs());
        match self.log_format {
            LogFormat::Text => lines.init(),
            LogFormat::Json => lines.json().flatten_event(true).init(),
        }
    }
}

/// Runs a future to completion, on a runtime with all cores.
///
/// # Errors
/// The errors of the future, and an error if the operating system refuses threads.
pub fn in_runtime<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting threads")?.block_on(future)
}

/// The command line of `multibond` as a clap command, for documentation that lists its flags.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// The main function of `multibond`: parses the arguments and runs the subcommand. Exit code 0: success; 1: failure; 2:
/// `plan` found problems, `check` found errors, `import` has remarks, or `release --dry-run` found something to release.
#[must_use]
pub fn main() -> ExitCode {
    start::<Cli>()
}

fn start<P: Program>() -> ExitCode {
    let program = match P::try_parse() {
        Ok(program) => program,
        Err(answer) => {
            // Help and version are not errors. If the text cannot be printed, there is nowhere to report that.
            let _ = answer.print();
            return ExitCode::from(u8::from(answer.use_stderr()));
        }
    };
    program.global().start_logging();
    // Fails only if a provider is already installed, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    program.run().unwrap_or_else(|error| {
        output::complain(format_args!("error: {}", causes(error.as_ref())));
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_invalid_node_name_is_refused_with_the_allowed_form() {
        let agent_of = |node| Cli::try_parse_from(["multibond", "agent", "--node-name", node]);
        assert!(agent_of("worker-1.example.com").is_ok());
        for bad in ["Worker_1", "worker 1", ""] {
            let error = agent_of(bad).unwrap_err().to_string();
            assert!(error.contains("lower-case letters"), "{error}");
        }
    }

    #[test]
    fn every_subcommand_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("multibond {}", command.get_name())), "{}: {help:?}", command.get_name());
        }
    }

    #[test]
    fn every_flag_has_a_variable_that_no_service_link_sets() {
        let cli = Cli::command();
        // Nobody configures the hidden subcommand, which only the agent calls.
        let for_people = cli.get_subcommands().filter(|command| !command.is_hide_set());
        let all = std::iter::once(&cli).chain(for_people);
        for argument in all.flat_map(|command| command.get_arguments().map(move |argument| (command, argument))) {
            let (command, argument) = argument;
            let name = format!("{} {}", command.get_name(), argument.get_id());
            let variable = argument.get_env().unwrap_or_else(|| panic!("{name} has no variable")).to_string_lossy();
            assert!(variable.starts_with("MULTIBOND_"), "{name}: {variable}");
            assert!(!variable.starts_with("MULTIBOND_PORT") && !variable.starts_with("MULTIBOND_SERVICE"), "{name}");
        }
    }
}
