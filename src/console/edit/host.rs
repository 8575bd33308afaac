//! The form of a host: into maintenance, and out of it.

use super::form::{Input, fields_of, name_input};
use crate::api::Host;
use crate::console::fields::Fields;

/// What is asked for.
pub fn inputs() -> Vec<Input> {
    vec![
        name_input(true),
        Input::switch("maintenance", "Maintenance")
            .hint("Its sessions are logged out where nothing uses their disks, and it stays away until this is taken back.")
            .of("spec.maintenance"),
    ]
}

/// What a host's form holds.
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
