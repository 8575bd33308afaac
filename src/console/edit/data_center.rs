//! The form of a data center. Its storage has forms of its own.

use kube::ResourceExt as _;

use super::form::{Choice, Input, description, description_input, fields_of, metadata, name_input};
use crate::api::{DataCenter, DataCenterSpec, DefaultNetwork, ownership};
use crate::console::fields::Fields;
use crate::console::location::DataCenterRef;
use crate::console::model::Model;
use crate::status_view::Snapshot;

/// The inputs of the form.
pub fn inputs(exists: bool) -> Vec<Input> {
    let choice = |value: &str, label: &str, hint: &str| Choice {
        value: value.to_owned(),
        label: label.to_owned(),
        hint: hint.to_owned(),
    };
    vec![
        Input::line("namespace", "Namespace")
            .hint("The data center and everything in it live in this namespace, which must exist. Permissions are granted per namespace.")
            .of("metadata.namespace")
            .fixed(exists),
        name_input(exists),
        description_input(),
        Input::one(
            "default-network",
            "If a host carries none of the bond’s networks",
            vec![
                choice(DefaultNetwork::Use.as_str(), "it uses its default network", ""),
                choice(DefaultNetwork::Never.as_str(), "it does not connect", "and becomes NonOperational"),
            ],
        )
        .of("spec.defaultNetwork"),
    ]
}

/// The values of the form for a data center.
pub fn values(data_center: &DataCenter) -> Fields {
    fields_of(data_center)
        .with("namespace", data_center.metadata.namespace.clone().unwrap_or_default())
        .with("description", data_center.spec.description.clone().unwrap_or_default())
        .with("default-network", data_center.spec.default_network.as_str())
}

/// The data center that a form describes.
pub fn build(current: Option<&DataCenter>, fields: &Fields) -> DataCenter {
    let new = || {
        let metadata = metadata(fields.get("namespace"), fields.get("name"));
        DataCenter { metadata, spec: DataCenterSpec::default(), status: None }
    };
    let mut data_center = current.map_or_else(new, DataCenter::clone);
    data_center.spec.description = description(fields);
    let choice = DefaultNetwork::ALL.iter().copied().find(|it| fields.has("default-network", it.as_str()));
    data_center.spec.default_network = choice.unwrap_or_default();
    data_center
}

/// The consequences of the deletion of the data center, apart from the changes on its hosts.
pub fn consequences(model: &Model, dc: &DataCenterRef) -> Vec<String> {
    let Some(data_center) = model.data_center(dc) else { return Vec::new() };
    let Snapshot { networks, bonds, hosts, .. } = &model.snapshot;
    let bonds = bonds.iter().filter(|it| ownership::bond_goes_with(it, data_center)).map(|it| it.name_any());
    let networks = networks.iter().filter(|it| ownership::network_goes_with(it, data_center)).map(|it| it.name_any());
    let deleted = hosts.iter().filter(|it| ownership::host_goes_with(it, data_center)).count();
    let own_hosts =
        hosts.iter().filter(|it| it.namespace() == data_center.namespace() && it.spec.data_center == dc.name);
    let stay = own_hosts.filter(|it| !ownership::host_goes_with(it, data_center)).count();
    vec![
        deleted_too("bonds", bonds.collect()),
        deleted_too("networks", networks.collect()),
        match deleted {
            0 => "No host was generated for it.".to_owned(),
            1 => "1 host that was generated for it is deleted too.".to_owned(),
            _ => format!("{deleted} hosts that were generated for it are deleted too."),
        },
        match stay {
            0 => "It has no other hosts.".to_owned(),
            1 => "1 other host stays, Unassigned, with its sessions safely logged out.".to_owned(),
            _ => format!("{stay} other hosts stay, Unassigned, with their sessions safely logged out."),
        },
    ]
}

fn deleted_too(what: &str, mut names: Vec<String>) -> String {
    names.sort();
    if names.is_empty() {
        format!("It has no {what}.")
    } else {
        format!("Its {what} are deleted too: {}.", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::api::Host;
    use crate::console::edit::change::{Change, Object, Verb};

    fn model() -> Model {
        let host = |name: &str, labels: Value, owners: Value| -> Arc<Host> {
            let metadata = json!({"name": name, "namespace": "ns", "labels": labels, "ownerReferences": owners});
            Arc::new(
                serde_json::from_value(json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Host",
                    "metadata": metadata, "spec": {"dataCenter": "fra", "nodeName": name}}))
                .unwrap(),
            )
        };
        let data_center: DataCenter = serde_json::from_value(json!({"apiVersion": "multibond.dev/v1alpha1",
            "kind": "DataCenter", "metadata": {"name": "fra", "namespace": "ns", "uid": "u"}, "spec": {}}))
        .unwrap();
        let owner = json!([{"apiVersion": "multibond.dev/v1alpha1", "kind": "DataCenter", "name": "fra", "uid": "u"}]);
        let hosts = vec![
            host("labelled", json!({"multibond.dev/made-for": "fra"}), json!([])),
            host("owned", json!({}), owner),
            host("users", json!({}), json!([])),
        ];
        let snapshot = Snapshot { data_centers: vec![Arc::new(data_center)], hosts, ..Snapshot::default() };
        Model::new(snapshot, Vec::new())
    }

    #[test]
    fn a_deleted_data_center_takes_along_the_hosts_that_have_its_label() {
        let (model, dc) = (model(), DataCenterRef { namespace: "ns".to_owned(), name: "fra".to_owned() });
        let data_center = model.data_center(&dc).unwrap().clone();
        let change = Change { verb: Verb::Delete, object: Object::DataCenter(Box::new(data_center)) };
        let left: Vec<String> = change.applied_to(model.objects()).hosts.iter().map(Host::name_any).collect();
        assert_eq!(left, ["owned", "users"]);
        let consequences = consequences(&model, &dc);
        assert_eq!(consequences[2], "1 host that was generated for it is deleted too.");
        assert_eq!(consequences[3], "2 other hosts stay, Unassigned, with their sessions safely logged out.");
    }
}
