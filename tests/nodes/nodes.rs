//! Two real nodes, and an administrator's commands on them.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, api::ListParams};
use multibond_testbed::{ControlPlane, Guest, Options, eventually};

use crate::{
    archive,
    by_hand::{ALPHA, until_sessions},
    site::{PATIENCE, SYSTEM, Site},
};

/// The nodes, each with the name of its Host.
pub const NODES: [(&str, &str); 2] = [("node-1", "one"), ("node-2", "two")];

/// The components of the chart, as their pods are labelled.
pub const AGENT: &str = "agent";
pub const CONTROLLER: &str = "controller";

/// A cluster of two nodes with hosts on the same fabrics; they use the storage of the first host.
pub struct Nodes {
    pub cluster: &'static ControlPlane,
    pub site: Site,
    pub guests: [Guest; 2],
}

impl Nodes {
    /// Two nodes that are ready, with the image of Multibond on them and nothing else.
    async fn start(name: &str) -> Self {
        let options = Options { real_nodes: true, ..Options::default() };
        let (cluster, guests) = tokio::join!(ControlPlane::start(options), Guest::start_nodes(name));
        let (cluster, guests) = (&*Box::leak(Box::new(cluster.unwrap())), guests.unwrap());
        let [one, two] = &guests;
        let image = tokio::task::spawn_blocking(|| archive::file(&archive::make())).await.unwrap();
        let (site, (), ()) = tokio::join!(
            Site::on(cluster, name),
            ready(cluster, one, NODES[0].0, &image),
            ready(cluster, two, NODES[1].0, &image),
        );
        Self { cluster, site, guests }
    }

    /// Two nodes with the chart and a data center: connected as planned, and every pod is ready.
    pub async fn connected(name: &str) -> Self {
        let nodes = Self::start(name).await;
        nodes.helm(&["install", "multibond", &chart(), "--create-namespace"]).await;
        nodes.site.kubectl(&["apply", "-f", &data_center()], "").await;
        let pods = ["daemonset/multibond-agent", "deployment/multibond-controller"];
        nodes.kubectl(&[&["rollout", "status", "--timeout=10m"][..], &pods].concat()).await;
        nodes.until_connected().await;
        nodes
    }

    /// Runs Helm in the namespace of the chart, with a longer time-out than its five minutes: emulated nodes are slow.
    pub async fn helm(&self, arguments: &[&str]) {
        let arguments = [arguments, &["--namespace", SYSTEM, "--timeout", "15m"]].concat();
        self.cluster.helm(arguments).await.unwrap().success().unwrap();
    }

    /// Runs kubectl in the namespace of the chart, and returns its output.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let arguments = [&["--namespace", SYSTEM][..], arguments].concat();
        self.cluster.kubectl(arguments, "").await.unwrap().success().unwrap()
    }

    /// `kubectl apply` of one or more documents, which name their namespaces.
    pub async fn kubectl_apply(&self, yaml: &str) {
        self.cluster.kubectl(["apply", "-f", "-"], yaml).await.unwrap().success().unwrap();
    }

    /// Waits until both hosts have exactly the planned sessions, and both Hosts report them.
    pub async fn until_connected(&self) {
        let planned = ["mb.san1 LOGGED_IN 10.0.101.1", "mb.san2 LOGGED_IN 10.0.102.1"];
        let planned = planned.map(|path| format!("{path} {ALPHA}"));
        for guest in &self.guests {
            until_sessions(guest, &planned).await;
        }
        for (_, host) in NODES {
            self.site.until_phase(host, "Up").await;
        }
    }

    /// The kernel sessions of both hosts, by number. A new session has a new number.
    pub async fn sessions(&self) -> [String; 2] {
        let [one, two] = &self.guests;
        let list = "ls /sys/class/iscsi_session";
        let (one, two) = tokio::join!(one.run_ok(list), two.run_ok(list));
        [one.unwrap(), two.unwrap()]
    }

    /// The pods of a component on a node that run and are ready, without those that are being deleted.
    pub async fn pods(&self, component: &str, node: &str) -> Vec<Pod> {
        let api: Api<Pod> = Api::namespaced(self.site.client.clone(), SYSTEM);
        let chosen = ListParams::default()
            .labels(&format!("app.kubernetes.io/component={component}"))
            .fields(&format!("spec.nodeName={node}"));
        let pods = api.list(&chosen).await.unwrap().items;
        pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod)).collect()
    }

    /// The agent's pod on a node, which must be ready.
    pub async fn agent(&self, node: &str) -> Pod {
        self.pods(AGENT, node).await.pop().unwrap()
    }

    /// Waits until the node's agent is another pod, or the same pod with a restarted container.
    pub async fn until_other_agent(&self, node: &str, before: &Pod) {
        eventually(&format!("another agent on {node}"), PATIENCE, async || {
            let pods = self.pods(AGENT, node).await;
            let starts: Vec<_> = pods.iter().map(start).collect();
            if starts.iter().any(|other| *other != start(before)) { Ok(()) } else { Err(format!("{starts:?}")) }
        })
        .await;
    }

    /// Waits until a Node is ready that is not the one with this UID.
    pub async fn until_node_other_than(&self, name: &str, uid: &str) {
        until_ready(self.cluster, name, |node| node.metadata.uid.as_deref() != Some(uid)).await;
    }
}

/// The directory of the chart.
pub fn chart() -> String {
    root().join("charts/multibond").display().to_string()
}

/// A data center with both hosts, in one directory.
fn data_center() -> String {
    root().join("tests/nodes/data-center").display().to_string()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Makes a guest a ready node with the image of Multibond.
async fn ready(cluster: &ControlPlane, guest: &Guest, name: &str, image: &Path) {
    // As docs/install.md describes. Done before kubelet starts, because the emulated processor is slow.
    guest.copy(image, "/run/multibond.oci.tar").await.unwrap();
    guest
        .run_ok("ctr --namespace k8s.io images import /run/multibond.oci.tar && rm /run/multibond.oci.tar")
        .await
        .unwrap();
    guest.join(cluster, name).await.unwrap();
    until_ready(cluster, name, |_| true).await;
}

async fn until_ready(cluster: &ControlPlane, name: &str, more: impl Fn(&Node) -> bool) {
    let nodes: Api<Node> = Api::all(cluster.client().await.unwrap());
    eventually(&format!("Node {name} is ready"), PATIENCE, async || {
        let node = nodes.get(name).await.map_err(|error| error.to_string())?;
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if ready && more(&node) { Ok(()) } else { Err(format!("{:?}", node.status)) }
    })
    .await;
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Identifies one start of a container: the pod, and the number of its restarts.
fn start(pod: &Pod) -> (Option<&str>, Option<i32>) {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    (pod.metadata.uid.as_deref(), containers.map(|container| container.restart_count).next())
}
