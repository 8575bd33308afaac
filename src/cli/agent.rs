//! `multibond agent`: the agent of one node.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Global, in_runtime, plan::metadata, process};
use crate::{
    agent::{
        cluster::lease::LeaseTiming,
        host::{access::AccessMode, mount_points::MountPoints},
        initiator::{
            Initiator,
            open_iscsi::OpenIscsi,
            simulated::{self, Faults, NodeFacts, Simulation},
        },
        metrics::AgentMetrics,
        serve,
    },
    api::portal_policy::PortalPolicy,
    ops::{self, Platform},
};

/// Holds the iSCSI sessions of one node, as its Host's plan asks for
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  multibond agent --node-name worker-1\n  multibond agent --node-name worker-1 \
                        --initiator simulated --faults faults.yaml")]
pub struct Arguments {
    /// The node: the agent serves the Host that names it in `spec.nodeName`
    #[arg(long, env = "MULTIBOND_NODE_NAME", value_name = "NAME", value_parser = node_name)]
    node_name: String,
    /// The initiator that holds the sessions
    #[arg(long, env = "MULTIBOND_INITIATOR", value_enum, default_value = "open-iscsi")]
    initiator: InitiatorKind,
    /// Open-iscsi only: how the host's tools are reached: auto, direct, nsenter, chroot, or chroot=DIR where DIR is the
    /// host's root directory; auto enters the namespaces of iscsid where these are not the agent's own
    #[arg(long, env = "MULTIBOND_HOST_TOOLS", value_name = "WAY", default_value = "auto")]
    host_tools: AccessMode,
    /// Which portals may be dialled: the chart's value `portals` as JSON; without it every address but those where no
    /// storage can be, such as loopback
    #[arg(long, env = "MULTIBOND_ALLOWED_PORTALS", value_name = "JSON", default_value = "{}")]
    allowed_portals: PortalPolicy,
    #[command(flatten)]
    cold_start: ColdStartArguments,
    #[command(flatten)]
    simulation: SimulationArguments,
    #[command(flatten)]
    lease: LeaseArguments,
    #[command(flatten)]
    health: HealthArguments,
}

/// Checks the name of a Node.
fn node_name(text: &str) -> Result<String, String> {
    let valid = metadata::is_subdomain(text).then(|| text.to_owned());
    valid.ok_or_else(|| format!("the name of a Node has {}", metadata::SUBDOMAIN))
}

/// The implementations of an initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum InitiatorKind {
    /// The host's open-iscsi.
    OpenIscsi,
    /// Sessions in memory, for demos and tests.
    Simulated,
}

/// The flags of a simulation.
#[derive(Args, Debug)]
pub struct SimulationArguments {
    /// Simulated only: a YAML file with faults, which is read again when it changes
    #[arg(long, env = "MULTIBOND_FAULTS", value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// Simulated only: a YAML file with the interfaces of nodes, which is read again when it changes; a node without an
    /// entry has the interfaces that its Host names
    #[arg(long, env = "MULTIBOND_FACTS", value_name = "FILE")]
    pub facts: Option<PathBuf>,
    /// Simulated only: keep the sessions in this directory, so that they survive the process; it is created if needed
    #[arg(long, env = "MULTIBOND_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

impl SimulationArguments {
    /// Starts a simulation with these files. An invalid file is an error now, and a line in the log later.
    pub fn start(&self) -> anyhow::Result<Arc<Simulation>> {
        if let Some(directory) = &self.state_dir {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("creating the directory {}", directory.display()))?;
        }
        let simulation = Simulation::new(self.state_dir.clone());
        if let Some(file) = &self.faults {
            simulation.set_faults(simulated::read::<Faults>(file)?);
        }
        if let Some(file) = &self.facts {
            simulation.set_facts(simulated::read::<NodeFacts>(file)?);
        }
        if self.faults.is_some() || self.facts.is_some() {
            tokio::spawn(simulated::follow(simulation.clone(), self.faults.clone(), self.facts.clone()));
        }
        Ok(simulation)
    }

    fn is_empty(&self) -> bool {
        let SimulationArguments { faults, facts, state_dir } = self;
        faults.is_none() && facts.is_none() && state_dir.is_none()
    }
}

/// The flags of a cold start: a boot while the API server does not answer.
#[derive(Args, Debug)]
pub struct ColdStartArguments {
    /// Keep the last plan in this file, and connect by it after a boot while the API server does not answer; for an agent
    /// that starts without the API server, such as a systemd service; without it nothing is kept
    #[arg(long, env = "MULTIBOND_LAST_PLAN", value_name = "FILE")]
    last_plan: Option<PathBuf>,
    /// The last plan is not used when the API server has last confirmed it longer ago than this
    #[arg(long, env = "MULTIBOND_LAST_PLAN_MAX_AGE", value_name = "DURATION", default_value = "168h", value_parser = ops::positive_duration)]
    last_plan_max_age: Duration,
}

impl ColdStartArguments {
    /// The file with the last plan, if one is kept, and how old the plan may be.
    fn file(self) -> anyhow::Result<Option<(PathBuf, Duration)>> {
        let Some(file) = self.last_plan else { return Ok(None) };
        ensure!(file.is_absolute(), "--last-plan is {}: it must be an absolute path", file.display());
        Ok(Some((file, self.last_plan_max_age)))
    }
}

/// The flags of the lease, which shows that an agent is alive.
#[derive(Args, Debug)]
pub struct LeaseArguments {
    /// The namespace of the leases; without it the pod's own, else `multibond-system`
    #[arg(long, env = "MULTIBOND_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,
    /// How long an agent counts as alive after it has renewed its lease
    #[arg(long, env = "MULTIBOND_LEASE_DURATION", value_name = "DURATION", default_value = "40s", value_parser = ops::positive_duration)]
    lease_duration: Duration,
    /// How often an agent renews its lease
    #[arg(long, env = "MULTIBOND_LEASE_RENEW_INTERVAL", value_name = "DURATION", default_value = "10s", value_parser = ops::positive_duration)]
    lease_renew_interval: Duration,
}

impl LeaseArguments {
    /// The namespace of the leases.
    pub fn namespace(&self) -> String {
        process::own_namespace(self.namespace.clone())
    }

    /// The validity of the lease, and the interval of its renewals.
    pub fn timing(&self) -> anyhow::Result<LeaseTiming> {
        let (duration, renew_every) = (self.lease_duration, self.lease_renew_interval);
        ensure!(
            duration >= Duration::from_secs(1) && renew_every < duration,
            "--lease-duration is {duration:?} and --lease-renew-interval {renew_every:?}: the lease must last at least a \
             second, and longer than it takes until it is renewed"
        );
        Ok(LeaseTiming { duration, renew_every })
    }
}

/// The flags for metrics and health.
#[derive(Args, Debug)]
pub struct HealthArguments {
    /// Where /metrics, /livez and /readyz are served; default: nowhere
    #[arg(long, env = "MULTIBOND_LISTEN", value_name = "ADDRESS", value_parser = ops::listen_address)]
    listen: Option<SocketAddr>,
}

impl HealthArguments {
    /// Creates the metrics, and serves them if there is an address.
    pub async fn start(&self, stop: CancellationToken) -> anyhow::Result<AgentMetrics> {
        let mut registry = ops::process_registry();
        let metrics = AgentMetrics::new(&mut registry);
        if let Some(address) = self.listen {
            let listener = ops::bind(address).await?;
            info!(address = %listener.local_addr()?, "serving metrics and health");
            let known = metrics.clone();
            tokio::spawn(ops::serve(listener, registry, || async {}, move || known.readiness(), stop));
        }
        Ok(metrics)
    }
}

/// Runs the agent until a signal to stop.
pub fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    match arguments.initiator {
        InitiatorKind::OpenIscsi if !arguments.simulation.is_empty() => {
            bail!("--faults, --facts and --state-dir are for --initiator simulated")
        }
        InitiatorKind::OpenIscsi => in_runtime(open_iscsi(arguments, global)),
        InitiatorKind::Simulated if arguments.host_tools != AccessMode::Auto => {
            bail!("--host-tools is for --initiator open-iscsi")
        }
        InitiatorKind::Simulated => in_runtime(simulated(arguments, global)),
    }
}

async fn open_iscsi(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let stop = process::shutdown()?;
    let initiator = OpenIscsi::new(arguments.host_tools.clone(), MountPoints::default());
    let initiator = Arc::new(initiator.context("listening for changes of the host's devices")?);
    serve(initiator, arguments, global, stop).await
}

async fn simulated(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let stop = process::shutdown()?;
    let simulation = arguments.simulation.start()?;
    let initiator = simulation.host(&arguments.node_name.as_str().into()).context("reading the saved sessions")?;
    serve(initiator, arguments, global, stop).await
}

/// Serves the node's Host with an initiator until `stop` is cancelled.
async fn serve(
    initiator: Arc<impl Initiator>,
    arguments: Arguments,
    global: &Global,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let options = serve::Options {
        lease: arguments.lease.timing()?,
        node: arguments.node_name.into(),
        namespace: arguments.lease.namespace(),
        portals: arguments.allowed_portals,
        last_plan: arguments.cold_start.file()?,
    };
    let client = global.client().await?;
    let metrics = arguments.health.start(stop.clone()).await?;
    serve::serve(Platform::start(), client, initiator, options, metrics, stop).await;
    Ok(ExitCode::SUCCESS)
}
