//! The system under measurement: a control plane, a controller, and hosts.

use std::{fs, path::Path, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use multibond::api::{DataCenter, Host, IscsiBond, Network};
use multibond_testbed::{ControlPlane, Options, Process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::observer::Observer;

/// The namespace of the chart.
pub const SYSTEM: &str = "multibond-system";
/// The bond that concerns all hosts.
pub const BOND: &str = "storage";
/// The bond over a network that one host carries.
pub const SOLO_BOND: &str = "solo";
/// The number of portals of the target: each one has a path through each network.
pub const PORTALS: usize = 4;
/// The number of concurrent requests when the bench itself writes.
pub const IN_FLIGHT: usize = 32;

const MULTIBOND: &str = env!("CARGO_BIN_EXE_multibond");
/// Long enough that no agent renews its lease during a measurement: with thousands of agents in one process and
/// an API server on the same two cores, renewals would be most of what is measured.
const LEASES: [(&str, &str); 2] = [("--lease-duration", "4h"), ("--lease-renew-interval", "3h")];

/// A control plane with the chart, a controller, and hosts with simulated initiators.
pub struct BenchSite {
    pub cluster: ControlPlane,
    pub client: Client,
    pub namespace: String,
    pub hosts: usize,
    pub controller: Process,
    pub agents: Process,
    pub observer: Observer,
    pub audited: bool,
    _files: TempDir,
}

impl BenchSite {
    /// Starts a site with `hosts` hosts and this duration of a login, and returns when all hosts are connected.
    pub async fn start(hosts: usize, login: Duration, audited: bool) -> Self {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/multibond");
        let manifests = multibond_testbed::render_chart(&chart, SYSTEM, &json!({})).await.unwrap();
        let api_server_args = if audited { vec!["--audit-log-maxsize=100000".to_owned()] } else { Vec::new() };
        let options = Options { manifests, api_server_args, audit: audited, ..Options::default() };
        let cluster = ControlPlane::start(options).await.unwrap();
        let client = cluster.client().await.unwrap();
        let namespace = cluster.namespace("bench").await.unwrap();

        let files = TempDir::new().unwrap();
        fs::write(files.path().join("faults.yaml"), format!("latency: {}ms", login.as_millis())).unwrap();
        declare(&client, &namespace, hosts).await;
        let observer = Observer::new(&client, &namespace);
        let controller = start_controller(&cluster).await;
        let agents = start_agents(&cluster, files.path());
        BenchSite { cluster, client, namespace, hosts, controller, agents, observer, audited, _files: files }
    }

    /// Starts the controller anew.
    pub async fn start_controller(&mut self) {
        self.controller = start_controller(&self.cluster).await;
    }

    /// Stops all agents. They still count as alive, because their leases have not expired.
    pub async fn stop_agents(&self) {
        self.agents.term(Duration::from_secs(60)).await.unwrap();
    }

    /// Sets the networks of a bond, and returns its new generation.
    pub async fn set_networks(&self, bond: &str, networks: &[&str]) -> i64 {
        let bonds: Api<IscsiBond> = Api::namespaced(self.client.clone(), &self.namespace);
        let body = json!({"spec": {"networks": networks}});
        let bond = bonds.patch(bond, &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
        bond.metadata.generation.unwrap()
    }

    /// Sets the networks on the second interface of a host.
    pub async fn set_second_interface(&self, host: usize, networks: &[&str]) {
        let hosts: Api<Host> = Api::namespaced(self.client.clone(), &self.namespace);
        let interfaces = json!([{"name": "ens1", "networks": ["net-a"]}, {"name": "ens2", "networks": networks}]);
        let body = json!({"spec": {"interfaces": interfaces}});
        hosts.patch(&host_name(host), &PatchParams::default(), &Patch::Merge(body)).await.unwrap();
    }
}

/// The name of a host and of its node.
pub fn host_name(number: usize) -> String {
    format!("worker-{number:05}")
}

/// The declared objects: a data center with one target, two networks that every host carries and one that only the last
/// host carries, and a bond over the first network.
async fn declare(client: &Client, namespace: &str, hosts: usize) {
    let portals: Vec<Value> = (1..=PORTALS).map(|n| json!({"address": format!("10.0.{n}.10")})).collect();
    let target = json!({"iqn": "iqn.2003-01.org.example:array-a", "portals": portals});
    let storage = json!({"storage": [{"name": "array-a", "targets": [target]}]});
    create::<DataCenter>(client, namespace, "dc", storage).await;
    for network in ["net-a", "net-b", "net-solo"] {
        create::<Network>(client, namespace, network, json!({"dataCenter": "dc"})).await;
    }
    create::<IscsiBond>(client, namespace, BOND, json!({"dataCenter": "dc", "networks": ["net-a"]})).await;
    create::<IscsiBond>(client, namespace, SOLO_BOND, json!({"dataCenter": "dc", "networks": []})).await;
    stream::iter(0..hosts)
        .for_each_concurrent(IN_FLIGHT, async |number| {
            let name = host_name(number);
            let mut node = Node::default();
            node.metadata.name = Some(name.clone());
            Api::all(client.clone()).create(&PostParams::default(), &node).await.unwrap();
            let carrying = |interface, network| json!({"name": interface, "networks": [network]});
            let mut interfaces = vec![carrying("ens1", "net-a"), carrying("ens2", "net-b")];
            if number + 1 == hosts {
                interfaces.push(carrying("ens3", "net-solo"));
            }
            let spec = json!({"dataCenter": "dc", "nodeName": name, "interfaces": interfaces});
            create::<Host>(client, namespace, &name, spec).await;
        })
        .await;
}

/// Creates an object with this spec.
pub async fn create<K>(client: &Client, namespace: &str, name: &str, spec: Value)
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    let resource = kube::core::ApiResource::erase::<K>(&());
    let api: Api<kube::core::DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let object = kube::core::DynamicObject::new(name, &resource).data(json!({ "spec": spec }));
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// Starts the controller under its own service account, with the default lease, which it releases at its end.
async fn start_controller(cluster: &ControlPlane) -> Process {
    let token = cluster.service_account_token(SYSTEM, "multibond-controller", None).await.unwrap();
    let kubeconfig = cluster.kubeconfig_for_token(&token).unwrap();
    let arguments = ["controller", "--namespace", SYSTEM, "--listen", "127.0.0.1:0"];
    Process::spawn(MULTIBOND, arguments, [("KUBECONFIG", kubeconfig)], "controller").unwrap()
}

/// Starts all agents in one process, with one watch and one identity.
fn start_agents(cluster: &ControlPlane, files: &Path) -> Process {
    let faults = files.join("faults.yaml").display().to_string();
    let arguments = ["simulate", "--namespace", SYSTEM, "--faults", &faults];
    let arguments = arguments.into_iter().chain(LEASES.into_iter().flat_map(|(flag, value)| [flag, value]));
    Process::spawn(MULTIBOND, arguments, [("KUBECONFIG", cluster.kubeconfig())], "agents").unwrap()
}
