//! A site for tests: a namespace, nodes with simulated hosts, and commands as with kubectl.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    reason = "a helper of a test fails that test"
)]

pub mod fixtures;
mod health;
mod nodes;
mod objects;
mod records;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{ControlPlane, Options, Process, eventually};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::ApiResource,
    discovery,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

pub use health::{address, get, until_ready_says};
pub use nodes::{our_taint, storage_operational, taints};
pub use objects::{condition, paths, phase, ready, reason, sessions};

/// The namespace of the chart.
pub const SYSTEM: &str = "multibond-system";
/// Long enough for a busy machine; nothing waits this long when it works.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A program of this package. Cargo builds it before the tests, two directories above their binaries.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join(name);
    assert!(program.is_file(), "{} is missing: cargo builds it for tests and benches", program.display());
    program
}

/// The program `multibond`.
pub fn multibond() -> PathBuf {
    program("multibond")
}

/// A control plane with the chart installed.
pub async fn options() -> anyhow::Result<Options> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/multibond");
    let manifests = crate::render_chart(&chart, SYSTEM, &json!({})).await?;
    Ok(Options { manifests, audit: true, ..Options::default() })
}

/// The control plane of this test binary, with one controller.
pub async fn shared() -> &'static ControlPlane {
    shared_controller().await;
    ControlPlane::shared(options).await.unwrap()
}

/// The controller of this test binary's control plane.
pub async fn shared_controller() -> &'static Process {
    static CONTROLLER: OnceCell<Process> = OnceCell::const_new();
    let cluster = ControlPlane::shared(options).await.unwrap();
    CONTROLLER.get_or_init(|| controller(cluster, &["--deletion-timeout", "8s"])).await
}

/// A controller under its own service account, with quick elections.
pub async fn controller(cluster: &ControlPlane, more: &[&str]) -> Process {
    controller_of(&multibond(), cluster, more).await
}

/// Like [`controller`], with the program of another version.
pub async fn controller_of(program: &Path, cluster: &ControlPlane, more: &[&str]) -> Process {
    let token = cluster.service_account_token(SYSTEM, "multibond-controller", None).await.unwrap();
    let kubeconfig = cluster.kubeconfig_for_token(&token).unwrap();
    let quick = ["--leader-lease-duration", "3s", "--leader-renew-deadline", "2s", "--leader-retry-period", "500ms"];
    let listen = if more.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1:0"][..] };
    let arguments = [&["controller", "--namespace", SYSTEM][..], &quick, listen, more].concat();
    Process::spawn(program, arguments, [("KUBECONFIG", kubeconfig)], "controller").unwrap()
}

/// A namespace with nodes and simulated hosts of its own.
pub struct Site {
    /// Its control plane.
    pub cluster: &'static ControlPlane,
    /// A client with all rights.
    pub client: Client,
    /// The namespace; names of nodes begin with it too.
    pub namespace: String,
    files: TempDir,
    /// How long the leases of its agents last, and how often they are renewed.
    lease: [&'static str; 2],
}

impl Site {
    /// A new site on the shared control plane.
    pub async fn new(name: &str) -> Self {
        Self::on(shared().await, name).await
    }

    /// A new site on a control plane.
    pub async fn on(cluster: &'static ControlPlane, name: &str) -> Self {
        let namespace = cluster.namespace(name).await.unwrap();
        let lease = ["4s", "1s"];
        Site { cluster, client: cluster.client().await.unwrap(), namespace, files: TempDir::new().unwrap(), lease }
    }

    /// The site with agents that count as alive however busy this machine is.
    #[must_use]
    pub fn with_patient_leases(self) -> Self {
        Site { lease: ["10m", "10s"], ..self }
    }

    /// The name of a node of this site.
    pub fn node(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Writes the faults of the site's hosts; they are read again at once. `{ns}` stands for the namespace.
    pub fn faults(&self, yaml: &str) {
        self.replace_file("faults.yaml", yaml);
    }

    /// Writes the facts that the site's hosts report; they are read again at once. `{ns}` stands for the namespace.
    pub fn facts(&self, yaml: &str) {
        self.replace_file("facts.yaml", yaml);
    }

    fn replace_file(&self, name: &str, yaml: &str) {
        std::fs::write(self.file("new"), yaml.replace("{ns}", &self.namespace)).unwrap();
        std::fs::rename(self.file("new"), self.file(name)).unwrap();
    }

    /// Creates nodes, and on each starts an agent with its own simulated host and token. Sessions survive the process,
    /// as they do on a real host.
    pub async fn agents(&self, names: &[&str]) -> Process {
        self.prepare_nodes(names).await;
        self.simulate()
    }

    /// Creates nodes, and the tokens of their agents.
    pub async fn prepare_nodes(&self, names: &[&str]) {
        let tokens = self.file("tokens");
        std::fs::create_dir_all(&tokens).unwrap();
        for name in names {
            let node = self.node(name);
            let token = self.token_of_node(&node).await;
            std::fs::write(tokens.join(node), token).unwrap();
        }
    }

    /// Creates a node if it does not exist, and a token for its agent.
    pub async fn token_of_node(&self, node: &str) -> String {
        let nodes: Api<Node> = Api::all(self.client.clone());
        if nodes.get_opt(node).await.unwrap().is_none() {
            let mut object = Node::default();
            object.metadata.name = Some(node.to_owned());
            nodes.create(&PostParams::default(), &object).await.unwrap();
        }
        self.cluster.service_account_token(SYSTEM, "multibond-agent", Some(node)).await.unwrap()
    }

    /// Starts the agents of the nodes that have tokens.
    pub fn simulate(&self) -> Process {
        self.simulate_with(&multibond())
    }

    /// Like [`Site::simulate`], with the program of another version.
    pub fn simulate_with(&self, program: &Path) -> Process {
        for (file, empty) in [("faults.yaml", "faults: []"), ("facts.yaml", "facts: []")] {
            if !self.file(file).exists() {
                self.replace_file(file, empty);
            }
        }
        let arguments = [
            ("--token-dir", self.file("tokens")),
            ("--faults", self.file("faults.yaml")),
            ("--facts", self.file("facts.yaml")),
            ("--state-dir", self.file("sessions")),
            ("--namespace", SYSTEM.into()),
            ("--lease-duration", self.lease[0].into()),
            ("--lease-renew-interval", self.lease[1].into()),
        ];
        let arguments = arguments.iter().flat_map(|(flag, value)| [flag.to_string(), value.display().to_string()]);
        let arguments = std::iter::once("simulate".to_owned()).chain(arguments);
        Process::spawn(program, arguments, [("KUBECONFIG", self.cluster.kubeconfig())], &self.namespace).unwrap()
    }

    /// The content of the state file of a node's simulated host; `null` when there is none.
    pub fn held(&self, name: &str) -> Value {
        let file = self.file("sessions").join(format!("{}.json", self.node(name)));
        std::fs::read(file).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
    }

    /// The nodes whose simulated hosts have a state file.
    pub fn nodes_held(&self) -> Vec<String> {
        let Ok(files) = std::fs::read_dir(self.file("sessions")) else { return Vec::new() };
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect()
    }

    /// `kubectl apply` of one or more documents, as a person does it. `{ns}` stands for the namespace.
    pub async fn apply(&self, yaml: &str) {
        self.kubectl(&["apply", "-f", "-"], yaml).await;
    }

    /// Runs kubectl in the site's namespace, and returns its output.
    pub async fn kubectl(&self, arguments: &[&str], stdin: &str) -> String {
        let arguments = [&["-n", &self.namespace][..], arguments].concat();
        let stdin = stdin.replace("{ns}", &self.namespace);
        self.cluster.kubectl(arguments, &stdin).await.unwrap().success().unwrap()
    }

    /// An API for one of our kinds in the site's namespace, with whole objects as JSON.
    pub async fn api(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(&self.client, kind).await)
    }

    /// An object as JSON; `null` when there is none.
    pub async fn get(&self, kind: &str, name: &str) -> Value {
        let object = self.api(kind).await.get_opt(name).await.unwrap();
        object.map_or(Value::Null, |object| serde_json::to_value(object).unwrap())
    }

    /// Changes an object with a merge patch, as `kubectl patch --type=merge` does.
    pub async fn patch(&self, kind: &str, name: &str, patch: Value) {
        let patched = self.api(kind).await.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.unwrap();
    }

    /// Deletes an object without waiting until it is gone.
    pub async fn delete(&self, kind: &str, name: &str) {
        self.api(kind).await.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until `holds` is true of an object, and returns the object. A time-out shows the last one seen.
    pub async fn until(&self, what: &str, kind: &str, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let api = self.api(kind).await;
        eventually(&format!("{kind} {name}: {what}"), PATIENCE, async || {
            let object = api.get_opt(name).await.map_err(|error| error.to_string())?;
            let object = object.map_or(Value::Null, |object| serde_json::to_value(object).unwrap());
            if holds(&object) { Ok(object) } else { Err(format!("{:#}", without_noise(object))) }
        })
        .await
    }

    /// Waits until a host has a phase.
    pub async fn until_phase(&self, host: &str, wanted: &str) -> Value {
        self.until(&format!("phase {wanted}"), "Host", host, |object| phase(object) == wanted).await
    }

    /// Waits until an object is gone.
    pub async fn until_gone(&self, kind: &str, name: &str) {
        self.until("gone", kind, name, Value::is_null).await;
    }
}

async fn resource(client: &Client, kind: &str) -> ApiResource {
    let gvk = kube::core::GroupVersionKind::gvk("multibond.dev", "v1alpha1", kind);
    discovery::pinned_kind(client, &gvk).await.unwrap().0
}

fn without_noise(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| key != "managedFields" && key != "annotations");
    }
    object
}
