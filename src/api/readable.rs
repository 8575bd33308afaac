//! Objects of our kinds as the API server returns them, decoded as far as possible.
//!
//! Anybody who may write a status can write something into it that this version cannot decode: a newer version, a person
//! with kubectl, an agent with a stolen token. A status says what is, and is written again; a spec says what should be.
//! So a field of a status that cannot be decoded counts as absent, and makes nothing else of the object unreadable.

use std::borrow::Cow;

use kube::{Resource, api::ObjectMeta, core::error_boundary::InvalidObject};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::{Map, Value, value::RawValue};

/// An object, or why its spec or metadata cannot be decoded.
#[derive(Clone, Debug)]
pub struct Readable<K> {
    /// The object, without the fields of the status that cannot be decoded.
    pub object: Result<K, InvalidObject>,
    /// The fields of the status that cannot be decoded, and why.
    pub status_error: Option<String>,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Readable<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let (object, status_error) = match decode(raw.get()).map_err(D::Error::custom)? {
            Decoded::Whole(object) => (Ok(object), None),
            Decoded::WithoutPartsOfStatus(object, error) => (Ok(object), Some(error)),
            Decoded::Not { value, error } => (Err(InvalidObject { error, metadata: metadata(&value)? }), None),
        };
        Ok(Readable { object, status_error })
    }
}

impl<K: Resource> Resource for Readable<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }
    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }
    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }
    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }
    fn meta(&self) -> &ObjectMeta {
        match &self.object {
            Ok(object) => object.meta(),
            Err(invalid) => &invalid.metadata,
        }
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.object {
            Ok(object) => object.meta_mut(),
            Err(invalid) => &mut invalid.metadata,
        }
    }
}

/// The result of [`decode`].
pub(crate) enum Decoded<K> {
    /// All of it.
    Whole(K),
    /// All but some fields of the status, with the reasons.
    WithoutPartsOfStatus(K, String),
    /// Not even without its status.
    Not {
        /// The object as JSON.
        value: Value,
        /// Why.
        error: String,
    },
}

/// Decodes an object. The text of a valid object is parsed only once.
///
/// # Errors
/// If the text is no JSON.
pub(crate) fn decode<K: DeserializeOwned>(text: &str) -> serde_json::Result<Decoded<K>> {
    if let Ok(object) = serde_json::from_str(text) {
        return Ok(Decoded::Whole(object));
    }
    let mut value: Value = serde_json::from_str(text)?;
    let status = value.as_object_mut().and_then(|object| object.remove("status"));
    if let Err(error) = K::deserialize(&value) {
        if let (Some(object), Some(status)) = (value.as_object_mut(), status) {
            object.insert("status".to_owned(), status);
        }
        return Ok(Decoded::Not { error: error.to_string(), value });
    }
    let mut errors = Vec::new();
    let mut kept = Map::new();
    match status {
        Some(Value::Object(fields)) => {
            for (name, field) in fields {
                value["status"] = Value::Object(Map::from_iter([(name.clone(), field)]));
                match K::deserialize(&value) {
                    Ok(_) => drop(kept.insert(name.clone(), value["status"][&name].take())),
                    Err(error) => errors.push(format!("status.{name} cannot be read: {error}")),
                }
            }
        }
        _ => errors.push("status cannot be read: it is not an object".to_owned()),
    }
    value["status"] = Value::Object(kept);
    Ok(match K::deserialize(&value) {
        Ok(object) => Decoded::WithoutPartsOfStatus(object, errors.join("; ")),
        Err(error) => Decoded::Not { error: error.to_string(), value },
    })
}

/// The metadata of an object.
pub(crate) fn metadata<E: serde::de::Error>(value: &Value) -> Result<ObjectMeta, E> {
    let metadata = value.get("metadata").unwrap_or(&Value::Null);
    Option::<ObjectMeta>::deserialize(metadata).map(Option::unwrap_or_default).map_err(E::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{Host, Phase};

    fn host(status: &Value) -> Readable<Host> {
        let object = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Host", "metadata": {"name": "w1"},
            "spec": {"dataCenter": "dc", "nodeName": "w1"}, "status": status});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_field_of_the_status_that_cannot_be_decoded_counts_as_absent() {
        let connection = json!({"target": "iqn.x", "portal": "10.0.0.1:3260", "tpgt": 1, "state": "Connected",
            "sessionID": 5_000_000_000_u64, "since": "2026-01-01T00:00:00Z"});
        let plan = json!({"revision": "r", "paths": []});
        let Readable { object, status_error } =
            host(&json!({"phase": "Up", "connections": [connection], "plan": plan}));
        let status = object.unwrap().status.unwrap();
        assert_eq!((status.phase, status.connections.len()), (Some(Phase::Up), 0));
        assert_eq!(status.plan.unwrap().revision, "r");
        let error = status_error.unwrap();
        assert!(error.starts_with("status.connections cannot be read: invalid value: integer `5000000000`"), "{error}");
    }

    #[test]
    fn a_plan_without_paths_is_not_an_empty_plan() {
        for plan in [json!({"revision": "r"}), json!({"paths": []}), json!({"revision": "r", "groups": [{}]})] {
            let Readable { object, status_error } = host(&json!({"phase": "Up", "plan": plan}));
            assert_eq!(object.unwrap().status.unwrap().plan, None);
            assert!(status_error.unwrap().starts_with("status.plan cannot be read: missing field"), "{plan}");
        }
    }

    #[test]
    fn a_status_that_is_no_object_counts_as_absent() {
        let Readable { object, status_error } = host(&json!("Up"));
        assert!(object.is_ok() && status_error.is_some());
    }

    #[test]
    fn a_spec_that_cannot_be_decoded_leaves_the_metadata() {
        let text = json!({"metadata": {"name": "w1"}, "spec": {"nodeName": 7}, "status": {"phase": 1}}).to_string();
        let host: Readable<Host> = serde_json::from_str(&text).unwrap();
        assert!(host.object.as_ref().is_err_and(|invalid| !invalid.error.contains("phase")));
        assert_eq!(host.meta().name.as_deref(), Some("w1"));
    }

    #[test]
    fn what_can_be_decoded_has_no_error() {
        assert!(host(&json!({"phase": "Up"})).status_error.is_none());
        assert!(host(&Value::Null).status_error.is_none());
    }
}
