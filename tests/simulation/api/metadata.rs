//! The metadata of objects: what the server sets, what it keeps, and what it refuses.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use regex::Regex;
use serde_json::{Map, Value};
use std::sync::LazyLock;

use super::{
    kinds::{Core, Form, Kind},
    refusal::{Cause, Refused},
};

/// Fields that only the server sets.
const OF_SERVER: [&str; 5] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// Brings the metadata of a body into the form of the API server: known fields only, times in whole seconds, nothing
/// empty. `managedFields` are left out.
pub fn decode(object: &mut Value) -> Result<(), Refused> {
    let metadata = object.get("metadata").filter(|metadata| !metadata.is_null()).cloned();
    let read: ObjectMeta = serde_json::from_value(metadata.unwrap_or_else(|| Map::new().into()))
        .map_err(|error| Refused::bad_request(format!("cannot read metadata: {error}")))?;
    let read = ObjectMeta { managed_fields: None, self_link: None, ..read };
    let mut metadata = serde_json::to_value(read).map_err(|error| Refused::internal(error.to_string()))?;
    if let Some(fields) = metadata.as_object_mut() {
        fields.retain(|_, value| !is_empty(value));
    }
    object["metadata"] = metadata;
    Ok(())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A time as metadata has it.
pub fn time(now: Timestamp) -> Value {
    serde_json::to_value(Time(now)).unwrap_or_default()
}

/// The text of a field of metadata; empty if it has none.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Sets what a new object gets from the server.
pub fn fill_new(kind: &Kind, object: &mut Value, uid: String, now: Timestamp) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    metadata.retain(|field, _| !OF_SERVER.contains(&field.as_str()));
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), time(now));
    if matches!(kind.form, Form::Custom { .. }) {
        metadata.insert("generation".to_owned(), 1.into());
    }
}

/// Keeps what an update cannot change.
pub fn fill_update(object: &mut Value, old: &Value) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    for field in ["creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        match old["metadata"].get(field) {
            Some(value) => drop(metadata.insert(field.to_owned(), value.clone())),
            None => drop(metadata.remove(field)),
        }
    }
    metadata.entry("uid").or_insert_with(|| old["metadata"]["uid"].clone());
}

/// What is wrong with the metadata of an object, if it is an update also compared with the old one.
pub fn validate(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let metadata = &object["metadata"];
    let invalid = |field: &str, message: &str| Cause::new("FieldValueInvalid", format!("metadata.{field}"), message);
    let name = text(object, "name");
    match old {
        None if name.is_empty() => {
            causes.push(Cause::new("FieldValueRequired", "metadata.name", "name or generateName is required"));
        }
        None if !is_name(kind, name) => causes.push(invalid("name", "a lowercase RFC 1123 name is expected")),
        None => {}
        Some(old) => {
            for field in ["name", "namespace", "uid"] {
                if metadata[field] != old["metadata"][field] {
                    causes.push(invalid(field, "field is immutable"));
                }
            }
        }
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        if !is_qualified(key) || !value.as_str().is_some_and(is_label_value) {
            causes.push(invalid("labels", "a valid label is expected"));
        }
    }
    for key in metadata["annotations"].as_object().into_iter().flatten().map(|(key, _)| key) {
        if !is_qualified(&key.to_lowercase()) {
            causes.push(invalid("annotations", "a qualified name is expected"));
        }
    }
    causes.extend(owners(metadata));
    let finalizers = list(metadata, "finalizers");
    for (at, finalizer) in finalizers.iter().enumerate() {
        if !finalizer.as_str().is_some_and(is_qualified) {
            causes.push(invalid("finalizers", "a qualified name is expected"));
        }
        let is_new = old.is_some_and(|old| !list(&old["metadata"], "finalizers").contains(finalizer));
        if is_new && old.is_some_and(is_being_deleted) && !finalizers[..at].contains(finalizer) {
            let message = "no new finalizers can be added if the object is being deleted";
            causes.push(Cause::new("FieldValueForbidden", "metadata.finalizers", message));
        }
    }
    causes
}

fn owners(metadata: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let owners = list(metadata, "ownerReferences");
    for owner in owners {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                let place = format!("metadata.ownerReferences.{field}");
                causes.push(Cause::new("FieldValueInvalid", place, "must not be empty"));
            }
        }
    }
    if owners.iter().filter(|owner| owner["controller"] == true).count() > 1 {
        let message = "Only one reference can have Controller set to true";
        causes.push(Cause::new("FieldValueInvalid", "metadata.ownerReferences", message));
    }
    causes
}

/// A list; empty if it is missing.
pub fn list<'a>(metadata: &'a Value, field: &str) -> &'a [Value] {
    metadata[field].as_array().map_or(&[], Vec::as_slice)
}

/// Whether the deletion of an object has begun.
pub fn is_being_deleted(object: &Value) -> bool {
    object["metadata"].get("deletionTimestamp").is_some()
}

fn is_name(kind: &Kind, name: &str) -> bool {
    static SUBDOMAIN: LazyLock<Regex> =
        LazyLock::new(|| regex(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"));
    let is_label = matches!(kind.form, Form::Core(Core::Namespace));
    SUBDOMAIN.is_match(name) && if is_label { name.len() <= 63 && !name.contains('.') } else { name.len() <= 253 }
}

fn is_qualified(name: &str) -> bool {
    static QUALIFIED: LazyLock<Regex> = LazyLock::new(|| {
        regex(
            r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        )
    });
    QUALIFIED.is_match(name)
}

fn is_label_value(value: &str) -> bool {
    static VALUE: LazyLock<Regex> = LazyLock::new(|| regex(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"));
    VALUE.is_match(value)
}

/// # Panics
/// If it is no regular expression.
pub fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}
