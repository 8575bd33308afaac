//! The form of a target: its storage, its portals, and how hosts authenticate.

use super::errors::Errors;
use super::form::{Input, fields_of};
use crate::api::{Chap, DataCenter, SecretReference, Storage, Target};
use crate::console::fields::Fields;
use crate::console::location::DataCenterRef;
use crate::console::model::Model;
use crate::console::portal_line;
use crate::console::reach::Reaches;

/// The inputs of the form.
pub fn inputs(model: &Model, dc: &DataCenterRef, iqn: &str) -> Vec<Input> {
    // Without networks in the data center there is none to name after a portal.
    let pins = !model.networks(dc).is_empty();
    let portals = if pins {
        "One per line: the address or DNS name, with the port if it is not 3260. If the subnets do not show which network a portal is on, name the network after it, such as “10.0.1.10 san-a”."
    } else {
        "One per line: the address or DNS name, with the port if it is not 3260, such as “10.0.1.10” or “[fd00::10]:3261”."
    };
    vec![
        Input::line("storage", "Storage")
            .hint("The array's name, such as array-a. A storage may have several targets.")
            .of("spec.storage.name")
            .fixed(!iqn.is_empty()),
        Input::line("iqn", "Target")
            .hint("Its iSCSI name, such as iqn.2003-01.org.example:array-a.")
            .of("spec.storage.targets.iqn")
            .fixed(!iqn.is_empty()),
        Input::lines("portals", "Portals").hint(portals).state(reached(model, dc, iqn)).of("spec.storage.targets.portals"),
        Input::line("secret", "CHAP secret")
            .hint("The name of a Secret of type kubernetes.io/iscsi-chap in the same namespace. Leave it empty if CHAP is not used.")
            .of("spec.storage.targets.chap"),
    ]
}

/// The portals of a target with the number of hosts that reach them, before the change; none for a new target.
fn reached(model: &Model, dc: &DataCenterRef, iqn: &str) -> Vec<String> {
    let (Some(view), Some(data_center)) = (model.view(dc), model.data_center(dc)) else { return Vec::new() };
    let reaches = Reaches::of(view);
    let targets = data_center.spec.storage.iter().flat_map(|storage| &storage.targets);
    let portals = targets.filter(|target| target.iqn == iqn).flat_map(|target| &target.portals);
    portals.map(|portal| format!("{}: {}", portal_line::format(portal), reaches.portal(iqn, portal))).collect()
}

/// The values of the form for a target; `None` when it does not exist.
pub fn values(data_center: &DataCenter, storage: &str, iqn: &str) -> Option<Fields> {
    let fields = fields_of(data_center).with("storage", storage).with("iqn", iqn);
    if iqn.is_empty() {
        return Some(fields);
    }
    let storages = data_center.spec.storage.iter().filter(|its| its.name == storage);
    let target = storages.flat_map(|its| &its.targets).find(|target| target.iqn == iqn)?;
    let portals: Vec<String> = target.portals.iter().map(portal_line::format).collect();
    let secret = target.chap.as_ref().map(|chap| chap.secret_ref.name.clone()).unwrap_or_default();
    Some(fields.with("portals", portals.join("\n")).with("secret", secret))
}

/// The data center with the new or changed target.
///
/// # Errors
/// If a line is not a portal.
pub fn build(data_center: &DataCenter, storage: &str, iqn: &str, fields: &Fields) -> Result<DataCenter, Errors> {
    let lines = fields.get("portals").lines().map(str::trim).filter(|line| !line.is_empty());
    let portals = lines
        .map(portal_line::parse)
        .collect::<Result<_, _>>()
        .map_err(|error| Errors::of("spec.storage.targets.portals", error.to_string()))?;
    let secret = fields.get("secret");
    let chap = (!secret.is_empty()).then(|| Chap { secret_ref: SecretReference { name: secret.to_owned() } });
    let (storage, old) = if iqn.is_empty() { (fields.get("storage"), None) } else { (storage, Some(iqn)) };
    let target = Target { iqn: old.unwrap_or_else(|| fields.get("iqn")).to_owned(), portals, chap };
    let mut data_center = data_center.clone();
    let storages = &mut data_center.spec.storage;
    let at = storages.iter().position(|its| its.name == storage).unwrap_or_else(|| {
        storages.push(Storage { name: storage.to_owned(), targets: Vec::new() });
        storages.len() - 1
    });
    let targets = &mut storages[at].targets;
    match old.and_then(|iqn| targets.iter_mut().find(|target| target.iqn == iqn)) {
        Some(old) => *old = target,
        // If the storage has this target already, the API server refuses the duplicate.
        None => targets.push(target),
    }
    Ok(data_center)
}

/// The data center without a target. A storage is removed with its last target.
pub fn without(data_center: &DataCenter, storage: &str, iqn: &str) -> DataCenter {
    let mut data_center = data_center.clone();
    for its in data_center.spec.storage.iter_mut().filter(|its| its.name == storage) {
        its.targets.retain(|target| target.iqn != iqn);
    }
    data_center.spec.storage.retain(|its| its.name != storage || !its.targets.is_empty());
    data_center
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_center(yaml: &str) -> DataCenter {
        let head = "{apiVersion: multibond.dev/v1alpha1, kind: DataCenter, metadata: {name: fra}, spec: {storage: ";
        serde_saphyr::from_str(&format!("{head}{yaml}}}}}")).unwrap()
    }

    fn fields(storage: &str, iqn: &str, portals: &str) -> Fields {
        Fields::default().with("storage", storage).with("iqn", iqn).with("portals", portals)
    }

    const TWO: &str = "[{name: a, targets: [{iqn: iqn.2003-01.org.example:a, portals: [{address: 10.0.1.10}]}]}, {name: b, targets: [{iqn: iqn.2003-01.org.example:b, portals: [{address: 10.0.2.10}]}]}]";

    #[test]
    fn a_new_target_is_added_to_its_storage_or_to_a_new_one() {
        let before = data_center(TWO);
        let joined =
            build(&before, "", "", &fields("b", "iqn.2003-01.org.example:b2", "10.0.2.11\n\n 10.0.2.12 ")).unwrap();
        assert_eq!(joined.spec.storage[1].targets[1].portals.len(), 2);
        assert_eq!(joined.spec.storage[0], before.spec.storage[0]);
        let begun = build(&before, "", "", &fields("c", "iqn.2003-01.org.example:c", "10.0.3.10")).unwrap();
        assert_eq!(begun.spec.storage[2].name, "c");
    }

    #[test]
    fn an_edit_changes_only_its_own_target() {
        let before = data_center(TWO);
        let shown = values(&before, "b", "iqn.2003-01.org.example:b").unwrap();
        assert_eq!(shown.get("portals"), "10.0.2.10");
        let edit = fields("forged", "forged", "10.0.2.99").with("secret", "chap");
        let after = build(&before, "b", "iqn.2003-01.org.example:b", &edit).unwrap();
        assert_eq!(after.spec.storage[0], before.spec.storage[0]);
        let target = &after.spec.storage[1].targets[0];
        assert_eq!(
            (portal_line::format(&target.portals[0]).as_str(), target.iqn.as_str()),
            ("10.0.2.99", "iqn.2003-01.org.example:b")
        );
        assert_eq!(target.chap.as_ref().unwrap().secret_ref.name, "chap");
    }

    #[test]
    fn a_storage_is_removed_with_its_last_target() {
        let after = without(&data_center(TWO), "a", "iqn.2003-01.org.example:a");
        assert_eq!(after.spec.storage.iter().map(|storage| storage.name.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}
