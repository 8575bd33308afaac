//! JSON patches (RFC 6902) that change an object only if it is still the object that they were made for.

use kube::api::Patch;
use serde_json::{Map, Value, json};

/// A patch of these operations.
///
/// # Errors
/// If the operations are no JSON patch.
pub fn json_patch(operations: Value) -> kube::Result<Patch<Value>> {
    serde_json::from_value(operations).map(Patch::Json).map_err(kube::Error::SerdeError)
}

/// Replaces fields of the status of the object with this uid. The patch tests the uid: a merge patch cannot, because
/// the API server ignores `metadata` in a patch of a custom resource's status, even a wrong `uid`. A test of the
/// resourceVersion would make the writes of controller and agent conflict. An added `null` removes the field, because
/// the schema has no nullable fields.
///
/// # Errors
/// None in practice: the operations are a JSON patch by construction.
pub fn status_patch(uid: Option<&str>, fields: &Map<String, Value>) -> kube::Result<Patch<Value>> {
    let same_object = json!({"op": "test", "path": "/metadata/uid", "value": uid});
    let replace = |(name, value)| json!({"op": "add", "path": format!("/status/{name}"), "value": value});
    json_patch(std::iter::once(same_object).chain(fields.iter().map(replace)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_patch_tests_the_uid_and_replaces_each_field() {
        let fields = json!({"phase": "Up", "plan": null}).as_object().cloned().unwrap();
        let Patch::Json(operations) = status_patch(Some("u1"), &fields).unwrap() else { panic!("another patch") };
        let expected = json!([
            {"op": "test", "path": "/metadata/uid", "value": "u1"},
            {"op": "add", "path": "/status/phase", "value": "Up"},
            {"op": "add", "path": "/status/plan", "value": null},
        ]);
        assert_eq!(serde_json::to_value(operations).unwrap(), expected);
    }
}
