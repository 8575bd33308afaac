//! YAML for people and for diffs.

use serde::Serialize;

/// A value that YAML cannot express, such as a map whose keys are maps.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct YamlError(#[from] serde_saphyr::SerializeError);

/// Writes a value as YAML, with the structure of its JSON.
///
/// # Errors
/// If YAML cannot express the value.
pub fn yaml(value: &impl Serialize) -> Result<String, YamlError> {
    // Each text on one line, as the Kubernetes tools write it: a diff then shows the field that changed.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    Ok(serde_saphyr::to_string_with_options(value, options)?)
}
