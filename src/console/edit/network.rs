//! The form of a network.

use kube::ResourceExt as _;

use super::errors::Errors;
use super::form::{Input, description, description_input, fields_of, metadata, name_input};
use crate::api::{Network, NetworkSpec, ownership};
use crate::console::fields::Fields;
use crate::console::location::DataCenterRef;
use crate::console::model::Model;

/// The inputs of the form.
pub fn inputs(name: &str) -> Vec<Input> {
    vec![
        name_input(!name.is_empty()),
        description_input(),
        Input::lines("subnets", "Subnets")
            .hint("One per line, such as 10.0.1.0/24. A host with an address in one of them carries the network; a portal with an address in one of them is on the network.")
            .of("spec.subnets"),
        Input::line("mtu", "MTU")
            .hint("In bytes, such as 9000. Hosts that carry the network with another MTU get a warning.")
            .of("spec.mtu"),
    ]
}

/// The values of the form for a network.
pub fn values(network: &Network) -> Fields {
    let NetworkSpec { data_center: _, description, subnets, mtu } = &network.spec;
    fields_of(network)
        .with("description", description.clone().unwrap_or_default())
        .with("subnets", subnets.join("\n"))
        .with("mtu", mtu.map(|mtu| mtu.to_string()).unwrap_or_default())
}

/// The network that a form describes.
///
/// # Errors
/// If the MTU is not a number.
pub fn build(current: Option<&Network>, dc: &DataCenterRef, fields: &Fields) -> Result<Network, Errors> {
    let mtu = match fields.get("mtu") {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            Errors::of("spec.mtu", format!("expected a number of bytes such as 9000, or nothing; found “{text}”"))
        })?),
    };
    let spec = NetworkSpec {
        data_center: dc.name.clone(),
        description: description(fields),
        subnets: fields.get("subnets").split_whitespace().map(str::to_owned).collect(),
        mtu,
    };
    Ok(match current {
        Some(network) => Network { spec, ..network.clone() },
        None => Network { metadata: metadata(&dc.namespace, fields.get("name")), spec, status: None },
    })
}

/// The consequences of the deletion of the network, apart from the changes on the hosts.
pub fn consequences(model: &Model, dc: &DataCenterRef, name: &str) -> Vec<String> {
    let Some(network) = model.network(dc, name) else { return Vec::new() };
    let bonds = model.snapshot.bonds.iter().filter(|bond| ownership::bond_names(bond, network));
    let bonds: Vec<String> = bonds.map(|bond| bond.name_any()).collect();
    if bonds.is_empty() {
        vec!["No bond names it.".to_owned()]
    } else {
        vec![format!("It is removed from the bonds that name it: {}.", bonds.join(", "))]
    }
}
