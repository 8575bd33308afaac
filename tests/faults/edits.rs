//! Random edits by users and random changes of hardware.

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use multibond_testbed::Chance;
use serde_json::{Value, json};

use super::site::{Site, phase};

pub const NODES: [&str; 3] = ["w1", "w2", "w3"];
/// The last Host names the node of another Host.
const HOSTS: [(&str, &str); 4] = [("w1", "w1"), ("w2", "w2"), ("w3", "w3"), ("twin", "w1")];
const NETWORKS: [&str; 3] = ["san-a", "san-b", "san-c"];
const BONDS: [&str; 2] = ["storage", "archive"];
const TARGETS: [&str; 2] = ["iqn.2003-01.org.example:disks", "iqn.2003-01.org.example:tapes"];
const DEVICES: [(&str, &str, &str); 3] =
    [("ens1", "san-a", "10.0.1"), ("ens2", "san-b", "10.0.2"), ("ens3", "san-c", "10.0.3")];

/// The objects that may exist in a site.
pub struct Data<'a> {
    site: &'a Site,
    /// The current devices of each node.
    devices: [Vec<(&'static str, &'static str, &'static str)>; NODES.len()],
}

impl<'a> Data<'a> {
    /// Creates all objects and all devices.
    pub async fn new(site: &'a Site) -> Self {
        let data = Data { site, devices: NODES.map(|_| DEVICES.to_vec()) };
        data.write_facts();
        for (kind, name, spec) in data.all() {
            data.create(kind, name, spec).await;
        }
        data
    }

    /// All objects with their initial specs.
    fn all(&self) -> Vec<(&'static str, &'static str, Value)> {
        let center = ("DataCenter", "dc", data_center(&TARGETS, &["10.0.1.10", "10.0.2.10"]));
        let bond = |name| ("IscsiBond", name, json!({"dataCenter": "dc", "networks": ["san-a", "san-b"]}));
        let host = |(name, node)| ("Host", name, json!({"dataCenter": "dc", "nodeName": self.site.node(node)}));
        let networks = NETWORKS.into_iter().map(|name| ("Network", name, network(name)));
        std::iter::once(center).chain(networks).chain(BONDS.map(bond)).chain(HOSTS.map(host)).collect()
    }

    /// Restores most of the missing objects, so that later edits have something to change.
    pub async fn restore(&self, chance: &mut Chance) {
        for (kind, name, spec) in self.all() {
            let (create, reset) = (chance.below(3) > 0, chance.below(2) > 0);
            let now = self.site.get(kind, name).await;
            if create && now.is_null() {
                println!("  {}", self.create(kind, name, spec).await);
            } else if reset && (kind == "DataCenter" || phase(&now) == "Maintenance") {
                let spec = if kind == "DataCenter" { spec } else { json!({"maintenance": false}) };
                println!("  {}", self.patch(kind, name, json!({"spec": spec})).await);
            }
        }
    }

    /// Makes one random edit. Returns its description.
    pub async fn edit(&mut self, chance: &mut Chance) -> String {
        match chance.below(20) {
            0..=2 => self.edit_bond(chance).await,
            3 | 4 => self.toggle_bond(chance).await,
            5 | 6 => self.toggle_network(chance).await,
            7 | 8 => self.edit_network(chance).await,
            9 | 10 => self.edit_storage(chance).await,
            11 | 12 => self.edit_interfaces(chance).await,
            13 | 14 => self.change_devices(chance),
            15 => self.toggle_maintenance(chance).await,
            16 => self.toggle_host(chance).await,
            17 => self.toggle_data_center(chance).await,
            _ => self.begin_faults(chance),
        }
    }

    /// Ends all faults.
    pub fn end_faults(&self) {
        self.site.faults("faults: []");
    }

    async fn edit_bond(&self, chance: &mut Chance) -> String {
        let name = chance.one_of(&BONDS);
        let mut networks = chance.any_of(&NETWORKS);
        if chance.below(5) == 0 {
            networks.push("typo");
        }
        let targets = if chance.below(3) == 0 { vec![chance.one_of(&TARGETS)] } else { Vec::new() };
        let pairing = chance.one_of(&["Auto", "Auto", "AllPairs"]);
        let spec = json!({"networks": networks, "targets": targets, "pairing": pairing});
        self.patch("IscsiBond", name, json!({"spec": spec})).await
    }

    async fn toggle_bond(&self, chance: &mut Chance) -> String {
        let networks = chance.any_of(&NETWORKS);
        self.toggle("IscsiBond", chance.one_of(&BONDS), json!({"dataCenter": "dc", "networks": networks})).await
    }

    async fn toggle_network(&self, chance: &mut Chance) -> String {
        let name = chance.one_of(&NETWORKS);
        self.toggle("Network", name, network(name)).await
    }

    async fn edit_network(&self, chance: &mut Chance) -> String {
        let subnets = chance.any_of(&["10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"]);
        self.patch("Network", chance.one_of(&NETWORKS), json!({"spec": {"subnets": subnets}})).await
    }

    async fn edit_storage(&self, chance: &mut Chance) -> String {
        let portals = chance.any_of(&["10.0.1.10", "10.0.2.10", "10.0.3.10", "10.9.9.9"]);
        let portals = if portals.is_empty() { vec!["10.0.1.10"] } else { portals };
        let targets = chance.one_of(&[&TARGETS[..], &TARGETS, &TARGETS, &TARGETS[1..], &[]]);
        let mut spec = data_center(targets, &portals);
        spec["defaultNetwork"] = json!(chance.one_of(&["Use", "Use", "Never"]));
        self.patch("DataCenter", "dc", json!({"spec": spec})).await
    }

    async fn edit_interfaces(&self, chance: &mut Chance) -> String {
        let named = chance.any_of(&DEVICES);
        let interfaces: Vec<Value> =
            named.iter().map(|(device, ..)| json!({"name": device, "networks": chance.any_of(&NETWORKS)})).collect();
        self.patch("Host", chance.one_of(&HOSTS).0, json!({"spec": {"interfaces": interfaces}})).await
    }

    fn change_devices(&mut self, chance: &mut Chance) -> String {
        let node = chance.one_of(&[0, 1, 2]);
        self.devices[node] = chance.any_of(&DEVICES);
        self.write_facts();
        format!("{} has {:?}", NODES[node], self.devices[node])
    }

    async fn toggle_maintenance(&self, chance: &mut Chance) -> String {
        let name = chance.one_of(&NODES);
        let host = self.site.get("Host", name).await;
        let maintenance = phase(&host) != "Maintenance";
        self.patch("Host", name, json!({"spec": {"maintenance": maintenance}})).await
    }

    async fn toggle_host(&self, chance: &mut Chance) -> String {
        let (name, node) = chance.one_of(&HOSTS);
        self.toggle("Host", name, json!({"dataCenter": "dc", "nodeName": self.site.node(node)})).await
    }

    async fn toggle_data_center(&self, chance: &mut Chance) -> String {
        let portals = chance.any_of(&["10.0.2.10", "10.0.3.10"]);
        let portals = if portals.is_empty() { vec!["10.0.1.10"] } else { portals };
        self.toggle("DataCenter", "dc", data_center(&TARGETS, &portals)).await
    }

    fn begin_faults(&self, chance: &mut Chance) -> String {
        let host = chance.one_of(&NODES);
        let kind = chance.one_of(&["Unreachable", "Dropped", "TargetNotFound", "InUse", "InterfaceNotFound"]);
        let portal = chance.one_of(&["10.0.1.10:3260", "10.0.2.10:3260"]);
        let faults = format!("faults: [{{host: {host}, portal: '{portal}', fault: {kind}}}]");
        self.site.faults(&faults);
        faults
    }

    /// Creates the object if it is missing, deletes it if it exists, and leaves it alone while it is being deleted.
    async fn toggle(&self, kind: &str, name: &str, spec: Value) -> String {
        let now = self.site.get(kind, name).await;
        if now.is_null() {
            self.create(kind, name, spec).await
        } else if now["metadata"]["deletionTimestamp"].is_null() {
            let deleted = self.site.api(kind).await.delete(name, &DeleteParams::default()).await;
            describe(format!("delete {kind} {name}"), deleted.map(drop))
        } else {
            format!("{kind} {name} is being deleted")
        }
    }

    async fn create(&self, kind: &str, name: &str, spec: Value) -> String {
        let object =
            json!({"apiVersion": "multibond.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let parsed: DynamicObject = serde_json::from_value(object).unwrap();
        let created = self.site.api(kind).await.create(&PostParams::default(), &parsed).await;
        describe(format!("create {kind} {name} {spec}"), created.map(drop))
    }

    async fn patch(&self, kind: &str, name: &str, patch: Value) -> String {
        let patched = self.site.api(kind).await.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        describe(format!("patch {kind} {name} {patch}"), patched.map(drop))
    }

    fn write_facts(&self) {
        let facts = NODES.iter().zip(1..).zip(&self.devices).map(|((node, number), devices)| {
            let device = |(name, _, subnet): &(&str, &str, &str)| {
                json!({"name": name, "mac": format!("02:00:00:00:00:0{number}"),
                "mtu": 1500, "up": true, "addresses": [format!("{subnet}.2{number}/24")]})
            };
            json!({"node": self.site.node(node), "interfaces": devices.iter().map(device).collect::<Vec<_>>()})
        });
        self.site.facts(&json!({"facts": facts.collect::<Vec<_>>()}).to_string());
    }
}

/// Describes an edit, and notes when it had no effect.
fn describe(what: String, result: kube::Result<()>) -> String {
    match result {
        Ok(()) => what,
        Err(kube::Error::Api(status)) if status.is_not_found() => format!("{what}: not there"),
        // The object was created or deleted at the same time.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            format!("{what}: {}", status.message)
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

fn data_center(targets: &[&str], portals: &[&str]) -> Value {
    let portals: Vec<Value> = portals.iter().map(|address| json!({"address": address})).collect();
    let targets: Vec<Value> = targets.iter().map(|iqn| json!({"iqn": iqn, "portals": portals})).collect();
    json!({"nonOperationalAfterSeconds": 1, "defaultNetwork": "Use", "storage": [{"name": "array", "targets": targets}]})
}

fn network(name: &str) -> Value {
    let (_, _, subnet) = DEVICES.iter().find(|(_, network, _)| *network == name).unwrap();
    json!({"dataCenter": "dc", "subnets": [format!("{subnet}.0/24")]})
}
