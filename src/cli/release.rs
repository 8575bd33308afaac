//! `multibond release`: removes everything that Multibond has set on objects of the cluster.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{Global, in_runtime, output, process};
use crate::{
    controller::release::{self, Held},
    ops,
};

/// Releases what Multibond holds in the cluster: finalizers, and taints and conditions of Nodes
///
/// It waits until no controller leads, which would put them back. Objects and iSCSI sessions stay; what was marked for
/// deletion goes. `helm uninstall` runs it. Exit code 0: nothing is held any more; 1: something is; with --dry-run 2:
/// something would be released.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  multibond release --dry-run\n  multibond release --namespace multibond-system")]
pub(super) struct Arguments {
    /// Where the leader's lease is; default: the pod's own, else multibond-system
    #[arg(long, env = "MULTIBOND_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,
    /// How long to wait while a controller still leads
    #[arg(long, env = "MULTIBOND_WAIT", value_name = "DURATION", default_value = "2m", value_parser = ops::duration)]
    wait: Duration,
    /// Only say what would be released, whoever leads
    #[arg(long, env = "MULTIBOND_DRY_RUN")]
    dry_run: bool,
}

pub(super) fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let Arguments { namespace, wait, dry_run } = arguments;
    let namespace = process::own_namespace(namespace);
    in_runtime(async {
        let client = global.client().await?;
        if dry_run {
            let held = release::held(&client).await?;
            let lines = held.iter().map(|held: &Held| format!("would release {held}\n"));
            output::print(&lines.collect::<String>())?;
            return Ok(ExitCode::from(if held.is_empty() { 0 } else { 2 }));
        }
        // Different from all controllers, and from itself at another time.
        let identity = format!("release_{}_{:x}", std::process::id(), ops::time_of_day().as_millisecond());
        let mut released = 0;
        let left = release::release(&client, &namespace, &identity, wait, |what| {
            released += 1;
            // Nobody who reads it is a reason to stop half-way.
            let _ = output::print(&format!("released {what}\n"));
        })
        .await?;
        for line in &left {
            output::complain(format_args!("still held: {line}"));
        }
        output::print(&format!("{released} released, {} still held\n", left.len()))?;
        Ok(ExitCode::from(u8::from(!left.is_empty())))
    })
}
