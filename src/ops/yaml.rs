//! YAML for people and for diffs.

use serde::Serialize;

/// A value as YAML, with the structure of its JSON.
///
/// # Errors
/// When the value has no form in YAML, such as a map whose keys are maps.
pub fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    // One line for each text, as the Kubernetes tools write them: a diff then shows the field that changed.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    Ok(serde_saphyr::to_string_with_options(value, options)?)
}
