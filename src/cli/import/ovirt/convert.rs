//! Converts the objects of the engine to manifests, one data center after the other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{bail, ensure};
use serde_json::{Value, json};

use super::{
    engine::{OvirtBond, OvirtDataCenter, OvirtEngine, OvirtHost},
    names::{UniqueNames, subdomain},
    networks::{self, ImportedNetwork},
    storage,
};
use crate::{
    api::{GROUP, OVIRT_NAME_ANNOTATION, VERSION},
    ops,
};

/// The manifests, and remarks on what has no counterpart in them.
#[derive(Debug)]
pub struct Manifests {
    /// Pairs of the name of a namespace and its documents as YAML.
    pub data_centers: Vec<(String, String)>,
    /// One line each, which names the object.
    pub remarks: Vec<String>,
}

/// The manifests of all data centers, or of the one with the name `only`.
///
/// # Errors
/// If there is no data center, or none with that name.
pub fn convert(engine: &OvirtEngine, only: Option<&str>) -> anyhow::Result<Manifests> {
    ensure!(!engine.data_centers.is_empty(), "the input has no data center: add the answer of /api/datacenters");
    let mut centers: Vec<&OvirtDataCenter> =
        engine.data_centers.iter().filter(|center| only.is_none_or(|name| center.name == name)).collect();
    if let (Some(name), true) = (only, centers.is_empty()) {
        let known: Vec<&str> = engine.data_centers.iter().map(|center| center.name.as_str()).collect();
        bail!("there is no data center {name:?}; the input has {}", known.join(", "));
    }
    centers.sort_by(|a, b| a.name.cmp(&b.name));
    let mut namespaces = UniqueNames::default();
    let mut remarks = Vec::new();
    let data_centers = centers
        .into_iter()
        .map(|center| {
            let name = namespaces.give(&center.id, &center.name);
            let documents = Conversion { engine, center, name: name.clone(), remarks: &mut remarks }.documents();
            let yaml: Vec<String> = documents.iter().map(ops::yaml).collect::<Result<_, _>>()?;
            Ok((name, yaml.join("---\n")))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Manifests { data_centers, remarks })
}

/// A data center that is being converted.
struct Conversion<'a> {
    engine: &'a OvirtEngine,
    center: &'a OvirtDataCenter,
    /// The name of the namespace, and of the DataCenter in it.
    name: String,
    remarks: &'a mut Vec<String>,
}

impl Conversion<'_> {
    fn documents(mut self) -> Vec<Value> {
        let mut bonds: Vec<&OvirtBond> =
            self.engine.bonds.iter().filter(|bond| bond.data_center.is(&self.center.id)).collect();
        bonds.sort_by(|a, b| a.name.cmp(&b.name));
        if bonds.is_empty() {
            self.remark("it has no iSCSI bond: its hosts will use their default network");
        }
        let hosts = self.engine.hosts_of(&self.center.id);
        if hosts.is_empty() {
            self.remark("it has no host in the input: add /api/clusters and /api/hosts?follow=nics");
        }

        let used: BTreeSet<&str> =
            bonds.iter().flat_map(|bond| &bond.networks.network).filter_map(|link| link.id.as_deref()).collect();
        let (networks, remarks) = networks::import(self.engine, &self.center.id, &used, &hosts);
        self.remark_all(remarks);
        let (storage, remarks) = storage::import(self.engine, &self.center.id, &bonds, &self.name);
        self.remark_all(remarks);

        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}});
        let mut spec = json!({ "storage": storage.list });
        describe(&mut spec, self.center.description.as_deref());
        let mut documents = vec![namespace, self.object("DataCenter", &self.name, &self.center.name, &spec)];
        documents.extend(networks.iter().map(|network| self.network(network)));
        for host in hosts {
            documents.push(self.host(host, &networks));
        }
        let mut names = UniqueNames::default();
        for bond in bonds {
            let name = names.give(&bond.id, &bond.name);
            documents.extend(self.bond(&name, bond, &networks, &storage.targets));
        }
        documents
    }

    fn network(&self, network: &ImportedNetwork) -> Value {
        let mut spec = json!({"dataCenter": self.name});
        describe(&mut spec, network.description.as_deref());
        if !network.subnets.is_empty() {
            spec["subnets"] = network.subnets.iter().map(|subnet| json!(subnet.to_string())).collect();
        }
        if let Some(mtu) = network.mtu {
            spec["mtu"] = json!(mtu);
        }
        self.object("Network", &network.name, &network.original, &spec)
    }

    fn host(&mut self, host: &OvirtHost, networks: &[ImportedNetwork]) -> Value {
        let name = subdomain(&host.name);
        let mut spec = json!({"dataCenter": self.name, "nodeName": name});
        if host.status.as_deref() == Some("maintenance") {
            spec["maintenance"] = json!(true);
        }
        let mut devices: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for network in networks {
            for device in network.devices.get(&host.id).into_iter().flatten() {
                devices.entry(device).or_default().push(&network.name);
            }
        }
        if !devices.is_empty() {
            let interfaces = devices.into_iter().map(|(name, networks)| json!({"name": name, "networks": networks}));
            spec["interfaces"] = interfaces.collect();
        }
        self.object("Host", &name, &host.name, &spec)
    }

    fn bond(
        &mut self,
        name: &str,
        bond: &OvirtBond,
        networks: &[ImportedNetwork],
        targets: &BTreeMap<String, BTreeSet<String>>,
    ) -> Option<Value> {
        let named = |link: &&super::engine::Link| {
            networks.iter().find(|network| link.is(&network.id)).map(|network| network.name.clone())
        };
        let carried: Vec<String> = bond.networks.network.iter().filter_map(|link| named(&link)).collect();
        let missing = bond.networks.network.len() - carried.len();
        if missing > 0 {
            self.remark(&format!(
                "iSCSI bond {}: {missing} of its networks are not in the input: add the answer of /api/networks",
                bond.name
            ));
        }
        let connections: BTreeSet<&str> =
            bond.storage_connections.storage_connection.iter().filter_map(|found| found.id.as_deref()).collect();
        let covered: BTreeMap<&String, usize> = targets
            .iter()
            .map(|(iqn, ids)| (iqn, ids.iter().filter(|id| connections.contains(id.as_str())).count()))
            .filter(|(_, count)| *count > 0)
            .collect();
        if covered.is_empty() {
            // An IscsiBond without targets covers all targets, which is the opposite.
            self.remark(&format!(
                "iSCSI bond {}: skipped: it has no storage connection to a known target, so it has no effect",
                bond.name
            ));
            return None;
        }
        for (iqn, count) in &covered {
            let all = targets[*iqn].len();
            if *count < all {
                self.remark(&format!(
                    "iSCSI bond {}: it has {count} of the {all} portals of {iqn}; in Multibond a bond covers whole targets",
                    bond.name
                ));
            }
        }
        let mut spec = json!({"dataCenter": self.name, "networks": carried});
        describe(&mut spec, bond.description.as_deref());
        if covered.len() < targets.len() {
            spec["targets"] = covered.keys().map(|iqn| json!(iqn)).collect();
        }
        Some(self.object("IscsiBond", name, &bond.name, &spec))
    }

    fn object(&self, kind: &str, name: &str, original: &str, spec: &Value) -> Value {
        let mut metadata = json!({"name": name, "namespace": self.name});
        if name != original {
            metadata["annotations"] = json!({OVIRT_NAME_ANNOTATION: original});
        }
        json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind, "metadata": metadata, "spec": spec})
    }

    fn remark(&mut self, text: &str) {
        self.remarks.push(format!("data center {}: {text}", self.center.name));
    }

    fn remark_all(&mut self, texts: Vec<String>) {
        for text in texts {
            self.remark(&text);
        }
    }
}

fn describe(spec: &mut Value, description: Option<&str>) {
    if let Some(text) = description.filter(|text| !text.is_empty()) {
        spec["description"] = json!(text);
    }
}
