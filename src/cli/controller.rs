//! `multibond controller`: the controller, beside its replicas.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::Args;

use super::{Global, in_runtime, process};
use crate::{
    controller::{self, Options},
    ops,
};

/// Runs the controller: plans the paths of each host, and aggregates what the agents report
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  multibond controller --namespace multibond-system --listen 127.0.0.1:8080")]
pub(super) struct Arguments {
    /// Where the leases of the leader and of the agents are; default: the pod's own, else multibond-system
    #[arg(long, env = "MULTIBOND_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,
    /// Where /metrics, /livez and /readyz are served; default: 127.0.0.1:8080, in a pod 0.0.0.0:8080
    #[arg(long, env = "MULTIBOND_LISTEN", value_name = "ADDRESS", value_parser = ops::listen_address)]
    listen: Option<SocketAddr>,
    /// The name of this replica, different from all others; default: the host's name and the process
    #[arg(long, env = "MULTIBOND_IDENTITY", value_name = "NAME")]
    identity: Option<String>,
    /// How long a deletion may wait for hosts to acknowledge
    #[arg(long, env = "MULTIBOND_DELETION_TIMEOUT", value_name = "DURATION", default_value = "2m", value_parser = ops::positive_duration)]
    deletion_timeout: Duration,
    /// How long the leader's lease lasts without renewal
    #[arg(long, env = "MULTIBOND_LEADER_LEASE_DURATION", value_name = "DURATION", default_value = "15s", value_parser = ops::positive_duration)]
    leader_lease_duration: Duration,
    /// How long a leader tries to renew its lease before it stops acting; shorter than the lease
    #[arg(long, env = "MULTIBOND_LEADER_RENEW_DEADLINE", value_name = "DURATION", default_value = "10s", value_parser = ops::positive_duration)]
    leader_renew_deadline: Duration,
    /// The time between two attempts to get or to renew the leader's lease
    #[arg(long, env = "MULTIBOND_LEADER_RETRY_PERIOD", value_name = "DURATION", default_value = "2s", value_parser = ops::positive_duration)]
    leader_retry_period: Duration,
}

pub(super) fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let Arguments {
        namespace,
        listen,
        identity,
        deletion_timeout,
        leader_lease_duration,
        leader_renew_deadline,
        leader_retry_period,
    } = arguments;
    anyhow::ensure!(
        leader_retry_period < leader_renew_deadline && leader_renew_deadline < leader_lease_duration,
        "--leader-retry-period must be shorter than --leader-renew-deadline, and that shorter than --leader-lease-duration: \
         a leader must know that it has lost its lease before another gets it"
    );
    let any_host = if process::in_pod() { [0, 0, 0, 0] } else { [127, 0, 0, 1] };
    let options = Options {
        namespace: process::own_namespace(namespace),
        identity: identity.unwrap_or_else(default_identity),
        listen: listen.unwrap_or_else(|| SocketAddr::from((any_host, 8080))),
        deletion_timeout,
        lease_duration: leader_lease_duration,
        renew_deadline: leader_renew_deadline,
        retry_period: leader_retry_period,
    };
    in_runtime(async {
        let shutdown = process::shutdown()?;
        controller::run(global.client().await?, options, shutdown).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The host's name (in a pod: the pod's), and a number that no other process of it has had.
fn default_identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let started = ops::time_of_day().as_millisecond();
    format!("{}_{}_{started:x}", host.trim(), std::process::id())
}
