//! The form of a bond: networks, and optionally targets and pairing.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use super::form::{Choice, Input, description, description_input, fields_of, metadata, name_input};
use crate::api::{IscsiBond, IscsiBondSpec, Pairing};
use crate::console::fields::Fields;
use crate::console::location::DataCenterRef;
use crate::console::model::Model;

/// The inputs of the form.
pub fn inputs(model: &Model, dc: &DataCenterRef, name: &str) -> Vec<Input> {
    let bond = model.bond(dc, name);
    let pairing = vec![
        choice(Pairing::Auto.as_str(), "Automatic", "each portal is used through the networks that it is on"),
        choice(Pairing::AllPairs.as_str(), "All pairs", "each portal is used through each network, as in oVirt"),
    ];
    vec![
        name_input(bond.is_some()),
        description_input(),
        Input::any("networks", "Networks", networks(model, dc, bond))
            .hint("Any number, or none. Hosts that carry none of them use their default network.")
            .of("spec.networks"),
        Input::any("targets", "Storage targets", targets(model, dc, bond))
            .hint("If none is chosen, the bond covers all targets of the data center.")
            .of("spec.targets"),
        Input::one("pairing", "Pairing of portals and networks", pairing).of("spec.pairing"),
    ]
}

fn choice(value: &str, label: &str, hint: impl Into<String>) -> Choice {
    Choice { value: value.to_owned(), label: label.to_owned(), hint: hint.into() }
}

/// The networks of the data center, and names in the bond that are not networks.
fn networks(model: &Model, dc: &DataCenterRef, bond: Option<&IscsiBond>) -> Vec<Choice> {
    let mut choices = BTreeMap::new();
    for name in bond.iter().flat_map(|bond| &bond.spec.networks) {
        choices.insert(name.clone(), "this network does not exist".to_owned());
    }
    for network in model.networks(dc) {
        let hosts = network.status.as_ref().filter(|status| status.observed_generation.is_some());
        let hosts = hosts.map(|status| format!("on {} of the hosts", status.hosts));
        let facts = [network.spec.description.clone(), Some(network.spec.subnets.join(", ")), hosts];
        let facts: Vec<String> = facts.into_iter().flatten().filter(|fact| !fact.is_empty()).collect();
        choices.insert(network.name_any(), facts.join(" · "));
    }
    choices.into_iter().map(|(name, hint)| choice(&name, &name, hint)).collect()
}

/// The targets of the data center, and those in the bond that no storage has.
fn targets(model: &Model, dc: &DataCenterRef, bond: Option<&IscsiBond>) -> Vec<Choice> {
    let mut choices = BTreeMap::new();
    for iqn in bond.iter().flat_map(|bond| &bond.spec.targets) {
        choices.insert(iqn.clone(), "no storage of the data center has this target".to_owned());
    }
    for storage in model.data_center(dc).iter().flat_map(|data_center| &data_center.spec.storage) {
        for target in &storage.targets {
            choices.insert(target.iqn.clone(), format!("{} · {} portals", storage.name, target.portals.len()));
        }
    }
    choices.into_iter().map(|(iqn, hint)| choice(&iqn, &iqn, hint)).collect()
}

/// The values of the form for a bond.
pub fn values(bond: &IscsiBond) -> Fields {
    let IscsiBondSpec { data_center: _, description, networks, targets, pairing } = &bond.spec;
    let fields = fields_of(bond).with("description", description.clone().unwrap_or_default());
    let fields = networks.iter().fold(fields, |fields, network| fields.with("networks", network));
    let fields = targets.iter().fold(fields, |fields, target| fields.with("targets", target));
    fields.with("pairing", pairing.as_str())
}

/// The bond that a form describes.
pub fn build(current: Option<&IscsiBond>, dc: &DataCenterRef, fields: &Fields) -> IscsiBond {
    let spec = IscsiBondSpec {
        data_center: dc.name.clone(),
        description: description(fields),
        networks: fields.all("networks"),
        targets: fields.all("targets"),
        pairing: Pairing::ALL.iter().copied().find(|it| fields.has("pairing", it.as_str())).unwrap_or_default(),
    };
    match current {
        Some(bond) => IscsiBond { spec, ..bond.clone() },
        None => IscsiBond { metadata: metadata(&dc.namespace, fields.get("name")), spec, status: None },
    }
}
