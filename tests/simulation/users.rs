//! What people do: objects that they create, edit, delete and create again, in any order.

use std::sync::Arc;

use http::Method;
use multibond::agent::types::credentials::SECRET_TYPE;
use serde_json::{Value, json};

use super::{
    chance::Chance,
    cluster::{Cluster, NAMESPACE},
};

pub const TARGETS: [&str; 2] = ["iqn.2003-01.org.example:disks", "iqn.2003-01.org.example:tapes"];
pub const PORTALS: [&str; 3] = ["10.0.1.10", "10.0.2.10", "10.0.3.10"];
const NETWORKS: [&str; 3] = ["san-a", "san-b", "san-c"];
const BONDS: [&str; 2] = ["storage", "archive"];
/// The Secret of the second target.
pub const SECRET: &str = "chap";
/// The passwords that it has one after another, in base64.
const PASSWORDS: [&str; 3] = ["Zmlyc3QtcGFzc3dvcmQ=", "c2Vjb25kLXBhc3N3b3Jk", "dGhpcmQtcGFzc3dvcmQ="];
/// The devices of each host, and the beginning of their addresses.
pub const DEVICES: [(&str, &str); 3] = [("ens1", "10.0.1"), ("ens2", "10.0.2"), ("ens3", "10.0.3")];

/// The people.
pub struct Users {
    cluster: Arc<Cluster>,
    nodes: Vec<String>,
}

impl Users {
    /// Creates everything.
    pub fn new(cluster: Arc<Cluster>, nodes: Vec<String>) -> Self {
        let users = Users { cluster, nodes };
        users.restore();
        users
    }

    fn path(plural: &str, name: &str) -> String {
        let name = if name.is_empty() { String::new() } else { format!("/{name}") };
        let group = if plural == "secrets" { "/api/v1" } else { "/apis/multibond.dev/v1alpha1" };
        format!("{group}/namespaces/{NAMESPACE}/{plural}{name}")
    }

    fn exists(&self, plural: &'static str, name: &str) -> bool {
        self.cluster.read(|api| api.object(plural, NAMESPACE, name).is_some())
    }

    fn create(&self, plural: &'static str, name: &str, spec: &Value) {
        let kind = match plural {
            "datacenters" => "DataCenter",
            "networks" => "Network",
            "iscsibonds" => "IscsiBond",
            _ => "Host",
        };
        let object = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec});
        self.cluster.user(Method::POST, &Self::path(plural, ""), &object);
    }

    fn patch(&self, plural: &'static str, name: &str, spec: &Value) {
        self.cluster.user(Method::PATCH, &Self::path(plural, name), &json!({"spec": spec}));
    }

    fn toggle(&self, plural: &'static str, name: &str, spec: &Value) {
        if self.exists(plural, name) {
            self.cluster.user(Method::DELETE, &Self::path(plural, name), &Value::Null);
        } else {
            self.create(plural, name, spec);
        }
    }

    /// Creates what there is not.
    pub fn restore(&self) {
        let missing = |plural: &'static str, name: &str, spec: &Value| {
            if !self.exists(plural, name) {
                self.create(plural, name, spec);
            }
        };
        self.restore_secret();
        missing("datacenters", "dc", &data_center(&TARGETS, &PORTALS[..2]));
        for name in NETWORKS {
            missing("networks", name, &network(name));
        }
        for name in BONDS {
            missing("iscsibonds", name, &bond(&["san-a", "san-b"]));
        }
        for (name, node) in self.hosts() {
            missing("hosts", &name, &json!({"dataCenter": "dc", "nodeName": node}));
        }
    }

    /// Creates the Secret if there is none: without it nothing can be connected.
    pub fn restore_secret(&self) {
        if !self.exists("secrets", SECRET) {
            let data = json!({"node.session.auth.username": "dXNlcg==", "node.session.auth.password": PASSWORDS[0]});
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
                "metadata": {"name": SECRET, "namespace": NAMESPACE}, "data": data});
            self.cluster.user(Method::POST, &Self::path("secrets", ""), &secret);
        }
    }

    /// The Hosts and their nodes; the last one claims the node of another.
    fn hosts(&self) -> Vec<(String, String)> {
        let mut hosts: Vec<_> = self.nodes.iter().map(|node| (format!("h-{node}"), node.clone())).collect();
        hosts.push(("twin".to_owned(), self.nodes[0].clone()));
        hosts
    }

    /// Makes one edit by chance.
    pub fn edit(&self, chance: &mut Chance) {
        match chance.below(18) {
            16 => {
                let data = json!({"data": {"node.session.auth.password": chance.one_of(&PASSWORDS)}});
                self.cluster.user(Method::PATCH, &Self::path("secrets", SECRET), &data);
            }
            17 if chance.once_in(3) => {
                self.cluster.user(Method::DELETE, &Self::path("secrets", SECRET), &Value::Null);
            }
            0..=3 => {
                let spec = json!({"networks": chance.any_of(&NETWORKS), "pairing": chance.one_of(&["Auto", "Auto", "AllPairs"]),
                    "targets": if chance.once_in(3) { vec![TARGETS[chance.index(2)]] } else { Vec::new() }});
                self.patch("iscsibonds", BONDS[chance.index(2)], &spec);
            }
            4 => self.toggle("iscsibonds", BONDS[chance.index(2)], &bond(&chance.any_of(&NETWORKS))),
            5 => {
                let name = NETWORKS[chance.index(3)];
                self.toggle("networks", name, &network(name));
            }
            6 => {
                let subnets = chance.any_of(&["10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"]);
                self.patch("networks", NETWORKS[chance.index(3)], &json!({"subnets": subnets}));
            }
            7 | 8 => {
                let portals = chance.any_of(&PORTALS);
                let portals = if portals.is_empty() { vec![PORTALS[0]] } else { portals };
                let targets = [&TARGETS[..], &TARGETS, &TARGETS[1..], &[]][chance.index(4)];
                let mut spec = data_center(targets, &portals);
                spec["defaultNetwork"] = json!(chance.one_of(&["Use", "Use", "Never"]));
                self.patch("datacenters", "dc", &spec);
            }
            9 | 10 => {
                let (host, _) = &self.hosts()[chance.index(self.nodes.len() + 1)];
                self.patch("hosts", host, &json!({"maintenance": chance.once_in(2)}));
            }
            11 => {
                let (host, node) = &self.hosts()[chance.index(self.nodes.len() + 1)];
                self.toggle("hosts", host, &json!({"dataCenter": "dc", "nodeName": node}));
            }
            12 if chance.once_in(3) => self.toggle("datacenters", "dc", &data_center(&TARGETS, &PORTALS[..2])),
            _ => self.restore(),
        }
    }
}

fn data_center(targets: &[&str], portals: &[&str]) -> Value {
    let portals: Vec<Value> = portals.iter().map(|address| json!({"address": address})).collect();
    let target = |iqn: &&str| {
        let mut target = json!({"iqn": iqn, "portals": portals});
        if *iqn == TARGETS[1] {
            target["chap"] = json!({"secretRef": {"name": SECRET}});
        }
        target
    };
    let targets: Vec<Value> = targets.iter().map(target).collect();
    json!({"nonOperationalAfterSeconds": 20, "storage": [{"name": "array", "targets": targets}]})
}

fn network(name: &str) -> Value {
    let subnet = match name {
        "san-a" => "10.0.1.0/24",
        "san-b" => "10.0.2.0/24",
        _ => "10.0.3.0/24",
    };
    json!({"dataCenter": "dc", "subnets": [subnet]})
}

fn bond(networks: &[&str]) -> Value {
    json!({"dataCenter": "dc", "networks": networks})
}
