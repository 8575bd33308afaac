//! `multibond check`: whether a cluster is ready for Multibond, and whether Multibond works in it.

mod render;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use kube::Client;
use tokio::time::{Instant, sleep};

use super::output::{self, Format};
use super::{Asking, Global, in_runtime, process};
use crate::check::{self, CheckOutcome, Stage};
use crate::ops;

/// Timeouts of requests. A working cluster answers within them.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Pause between two checks with `--wait`.
const PAUSE: Duration = Duration::from_secs(1);

/// Checks whether Multibond works, or with --pre whether it can be installed
///
/// Each line names what should hold. If it does not hold, the line says what was found, what to do, and where to read
/// on. Checks that you have no permission for are skipped. Nothing is changed. Exit code 0: no errors, perhaps warnings;
/// 2: errors; 1: the check could not run.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  multibond check --pre
  multibond check
  multibond check --wait 2m -o json")]
pub struct Arguments {
    /// Check before an installation: the cluster, your permissions, and existing objects that would block it
    #[arg(long, env = "MULTIBOND_PRE")]
    pre: bool,
    /// The namespace of the release; default: the pod's own, else multibond-system
    #[arg(short, long, env = "MULTIBOND_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,
    /// Repeat the check while there are errors, for at most this long; useful after an installation
    #[arg(long, env = "MULTIBOND_WAIT", value_name = "DURATION", default_value = "0s", value_parser = ops::duration)]
    wait: Duration,
    /// The form of the output
    #[arg(short, long, env = "MULTIBOND_OUTPUT", value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    asking: Asking,
}

/// Checks the cluster, and prints the report.
pub fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let Arguments { pre, namespace, wait, output: format, asking } = arguments;
    let stage = if pre { Stage::Before } else { Stage::After };
    let namespace = process::own_namespace(namespace);
    in_runtime(async {
        let mut config = asking.cluster(global, ANSWER_WITHIN).await?;
        config.connect_timeout = Some(CONNECT_WITHIN);
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config)?;
        let until = Instant::now() + wait;
        let report = loop {
            let facts = Box::pin(check::gather(&client, &url, &namespace, stage)).await;
            let report = check::judge(&facts, stage);
            if report.outcome < CheckOutcome::Error || Instant::now() >= until {
                break report;
            }
            sleep(PAUSE).await;
        };
        match format {
            Format::Json => output::print(&output::json(&report)?)?,
            Format::Yaml => output::print(&ops::yaml(&report)?)?,
            Format::Table => output::print_styled(&render::lines(&report))?,
        }
        Ok(ExitCode::from(if report.outcome == CheckOutcome::Error { 2 } else { 0 }))
    })
}
