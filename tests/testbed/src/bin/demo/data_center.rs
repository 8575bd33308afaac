//! The running demo: a control plane, the controller, the agents of simulated hosts, and `examples/` applied.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use multibond_testbed::{Binaries, ControlPlane, Options, Process, Tool, render_chart};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::sleep;

use crate::place::Place;
use crate::screen::Screen;

/// The namespace of the chart.
const SYSTEM: &str = "multibond-system";
/// The namespace of `examples/`, and the data center in it.
const NAMESPACE: &str = "frankfurt";
/// How long the bond may take to become Ready, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The running demo. It ends when this value is dropped.
pub struct DataCenter {
    // Fields are dropped in this order.
    agents: Process,
    controller: Process,
    cluster: ControlPlane,
    place: Place,
}

impl DataCenter {
    /// Starts everything, and returns when the bond is Ready.
    pub async fn start(multibond: &Path, screen: &Screen) -> Result<Self> {
        // It reports downloads and builds itself.
        let binaries = tokio::task::spawn_blocking(Binaries::locate).await??;
        let place = Place::take()?;
        let what = format!("Kubernetes {} with the chart's CRDs, permissions and policies", Tool::Kubectl.version()?);
        let cluster = screen.step(&what, control_plane()).await?;
        place.link("bin/multibond", multibond)?;
        place.link("bin/kubectl", &binaries.path(Tool::Kubectl))?;
        write_kubeconfig(&cluster, &place).await?;

        let what = "the controller, under its own service account";
        let controller = screen.step(what, controller(multibond, &cluster)).await?;
        place.link("controller.log", controller.log_path())?;

        let nodes = nodes(&examples())?;
        let what = format!("{} simulated hosts, each with an agent and a token of its own", nodes.len());
        let agents = screen.step(&what, agents(multibond, &cluster, &place, &nodes)).await?;
        place.link("agents.log", agents.log_path())?;

        let data_center = Self { agents, controller, cluster, place };
        screen.step("kubectl apply -f examples/", data_center.apply(&examples())).await?;
        screen.step("the bond is Ready", data_center.ready(nodes.len())).await?;
        Ok(data_center)
    }

    async fn apply(&self, manifests: &Path) -> Result<()> {
        self.kubectl(&["apply", "--filename", &manifests.display().to_string()]).await.map(|_| ())
    }

    /// Waits until the bond is Ready and the data center counts all its hosts as up.
    async fn ready(&self, hosts: usize) -> Result<()> {
        let outcome = async {
            self.wait("condition=Ready", "iscsibond,mbhost").await?;
            self.wait(&format!("jsonpath={{.status.summary.hosts}}={hosts}/{hosts}"), "datacenter").await
        };
        let Err(error) = outcome.await else { return Ok(()) };
        // If that fails too, the first error is the one to report.
        let _ = self.show_status().await;
        let (controller, agents) = (self.controller.log_tail(), self.agents.log_tail());
        Err(error.context(format!("the bond is not Ready\nthe controller:\n{controller}\nthe agents:\n{agents}")))
    }

    async fn wait(&self, holds: &str, kinds: &str) -> Result<()> {
        let (holds, timeout) = (format!("--for={holds}"), format!("--timeout={}s", PATIENCE.as_secs()));
        self.kubectl(&["wait", "--all", kinds, &holds, &timeout]).await.map(|_| ())
    }

    /// Shows the state, with the commands that people will use.
    pub async fn show_status(&self) -> Result<()> {
        let mut status = Command::new(self.place.file("bin/multibond"));
        status.arg("status").env("KUBECONFIG", self.place.file("kubeconfig")).kill_on_drop(true);
        let status = status.status().await.context("cannot run `multibond status`")?;
        ensure!(status.success(), "`multibond status` ended, {status}");
        Ok(())
    }

    /// Suggests what to try.
    pub fn how_to_go_on(&self) -> String {
        let (kubeconfig, bin, faults) =
            (self.place.shown("kubeconfig"), self.place.shown("bin"), self.place.shown("faults.yaml"));
        let log = self.place.shown("controller.log");
        format!(
            "
Go on in a second terminal, in the same directory:

  export KUBECONFIG={kubeconfig} PATH={bin}:$PATH

  # Pull worker-1's cable to fabric A, and plug it in again.
  cp examples/simulate/pull-a-cable.yaml {faults}
  multibond status
  echo 'faults: []' > {faults}

  # Remove a network: it leaves the bond, and no path of the other network is touched.
  kubectl delete mbnet san-b

  # Delete the data center: its bonds and networks go with it, the hosts log out.
  kubectl delete datacenter frankfurt

  # Once more from the start.
  kubectl apply -f examples/

The controller's log is {log}, the agents' beside it.
Ctrl-C ends everything and leaves nothing behind.
"
        )
    }

    /// Returns when a process ends that should run.
    pub async fn broken(&self) -> anyhow::Error {
        loop {
            for process in [&self.controller, &self.agents] {
                if let Some(status) = process.exit_status() {
                    let (name, log) = (process.name(), process.log_tail());
                    return anyhow!("the {name} ended, {status}; the end of its log:\n{log}");
                }
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl_as(&self.place.file("kubeconfig"), arguments, "").await?.success()
    }
}

async fn control_plane() -> Result<ControlPlane> {
    let chart = root().join("charts/multibond");
    let mut manifests = render_chart(&chart, SYSTEM, &json!({})).await?;
    // No node runs pods, and `multibond check` would miss them.
    manifests.retain(|object| object["kind"] != "Deployment" && object["kind"] != "DaemonSet");
    ControlPlane::start(Options { manifests, ..Options::default() }).await
}

/// The administrator's kubeconfig, in the namespace of the examples.
async fn write_kubeconfig(cluster: &ControlPlane, place: &Place) -> Result<()> {
    place.write("kubeconfig", &fs::read_to_string(cluster.kubeconfig())?)?;
    let set = ["config", "set-context", "--current", "--namespace", NAMESPACE];
    cluster.kubectl_as(&place.file("kubeconfig"), set, "").await?.success().map(|_| ())
}

async fn controller(multibond: &Path, cluster: &ControlPlane) -> Result<Process> {
    let token = cluster.service_account_token(SYSTEM, "multibond-controller", None).await?;
    let kubeconfig = cluster.kubeconfig_for_token(&token)?;
    let arguments = ["controller", "--namespace", SYSTEM, "--listen", "127.0.0.1:0"];
    Process::spawn(multibond, arguments, [("KUBECONFIG", kubeconfig)], "controller")
}

/// Creates the nodes, and starts an agent on each.
async fn agents(multibond: &Path, cluster: &ControlPlane, place: &Place, nodes: &[String]) -> Result<Process> {
    let node = |name| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    cluster.apply_all(&nodes.iter().map(node).collect::<Vec<_>>()).await?;
    for node in nodes {
        let token = cluster.service_account_token(SYSTEM, "multibond-agent", Some(node)).await?;
        place.write(&format!("tokens/{node}"), &token)?;
    }
    place.write("faults.yaml", "faults: []\n")?;
    place.write("facts.yaml", &fs::read_to_string(examples().join("simulate/facts.yaml"))?)?;
    let file = |name| place.file(name).display().to_string();
    let arguments = [
        ["--token-dir".to_owned(), file("tokens")],
        ["--faults".to_owned(), file("faults.yaml")],
        ["--facts".to_owned(), file("facts.yaml")],
        ["--namespace".to_owned(), SYSTEM.to_owned()],
    ];
    let arguments = std::iter::once("simulate".to_owned()).chain(arguments.into_iter().flatten());
    Process::spawn(multibond, arguments, [("KUBECONFIG", cluster.kubeconfig())], "agents")
}

/// The nodes that the Hosts in a directory of manifests name.
fn nodes(manifests: &Path) -> Result<Vec<String>> {
    let file = manifests.join("3-hosts.yaml");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let hosts: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| format!("{}", file.display()))?;
    let nodes = hosts.iter().filter_map(|host| host["spec"]["nodeName"].as_str()).map(str::to_owned);
    Ok(nodes.collect())
}

fn examples() -> PathBuf {
    root().join("examples")
}

/// The directory of the project.
fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
