//! The form of a data center as a whole; its storage has forms of its own.

use kube::Resource as _;

use super::form::{Choice, Input, description, description_input, fields_of, metadata, name_input};
use crate::api::{DataCenter, DataCenterSpec, DefaultNetwork};
use crate::console::fields::Fields;
use crate::console::location::DataCenterRef;
use crate::console::model::Model;

/// What is asked for.
pub fn inputs(exists: bool) -> Vec<Input> {
    let choice = |value: &str, label: &str, hint: &str| Choice {
        value: value.to_owned(),
        label: label.to_owned(),
        hint: hint.to_owned(),
    };
    vec![
        Input::line("namespace", "Namespace")
            .hint("Its home, and the boundary of its permissions; it must exist.")
            .of("metadata.namespace")
            .fixed(exists),
        name_input(exists),
        description_input(),
        Input::one(
            "default-network",
            "A host with none of a target's bond networks",
            vec![
                choice("Use", "uses its default network", ""),
                choice("Never", "does not connect", "and is NonOperational"),
            ],
        )
        .of("spec.defaultNetwork"),
    ]
}

/// What a data center's form holds.
pub fn values(data_center: &DataCenter) -> Fields {
    fields_of(data_center)
        .with("namespace", data_center.metadata.namespace.clone().unwrap_or_default())
        .with("description", data_center.spec.description.clone().unwrap_or_default())
        .with(
            "default-network",
            match data_center.spec.default_network {
                DefaultNetwork::Use => "Use",
                DefaultNetwork::Never => "Never",
            },
        )
}

/// The data center that a form describes.
pub fn build(current: Option<&DataCenter>, fields: &Fields) -> DataCenter {
    let new = || {
        let metadata = metadata(fields.get("namespace"), fields.get("name"));
        let spec = DataCenterSpec { non_operational_after_seconds: 60, ..DataCenterSpec::default() };
        DataCenter { metadata, spec, status: None }
    };
    let mut data_center = current.map_or_else(new, DataCenter::clone);
    data_center.spec.description = description(fields);
    let never = fields.has("default-network", "Never");
    data_center.spec.default_network = if never { DefaultNetwork::Never } else { DefaultNetwork::Use };
    data_center
}

/// What follows from the data center's deletion, beside what hosts do.
pub fn consequences(model: &Model, dc: &DataCenterRef) -> Vec<String> {
    let Some(view) = model.view(dc) else { return Vec::new() };
    let list = |what: &str, names: Vec<&str>| {
        if names.is_empty() {
            format!("It has no {what}.")
        } else {
            format!("Its {what} go with it: {}.", names.join(", "))
        }
    };
    let hosts = view.hosts.iter().filter_map(|host| model.host(dc, &host.name));
    let owner = DataCenter::kind(&());
    let (made, others): (Vec<_>, Vec<_>) = hosts
        .partition(|host| host.metadata.owner_references.iter().flatten().any(|reference| reference.kind == owner));
    vec![
        list("bonds", view.bonds.iter().map(|bond| bond.name.as_str()).collect()),
        list("networks", view.networks.iter().map(|network| network.name.as_str()).collect()),
        format!(
            "{} hosts that were made for it go with it; {} others stay, Unassigned, with their sessions safely logged out.",
            made.len(),
            others.len()
        ),
    ]
}
