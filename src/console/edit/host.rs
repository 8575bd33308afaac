//! The form of a host: it starts and ends maintenance.

use super::form::{Input, fields_of, name_input};
use crate::api::Host;
use crate::console::fields::Fields;

/// The inputs of the form.
pub fn inputs() -> Vec<Input> {
    vec![
        name_input(true),
        Input::switch("maintenance", "Maintenance")
            .hint("Sessions whose disks nothing uses are logged out, and the host does not connect until maintenance ends.")
            .of("spec.maintenance"),
    ]
}

/// The values of the form for a host.
pub fn values(host: &Host) -> Fields {
    let fields = fields_of(host);
    if host.spec.maintenance { fields.with("maintenance", "yes") } else { fields }
}

/// The host that a form describes.
pub fn build(host: &Host, fields: &Fields) -> Host {
    let mut host = host.clone();
    host.spec.maintenance = fields.has("maintenance", "yes");
    host
}
