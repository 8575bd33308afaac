//! Validates `metadata` as the API server does for every kind.
//!
//! Fields that the API server itself writes (`resourceVersion`, `uid`, `managedFields`) are accepted, though a create
//! would refuse them: the output of `kubectl get -o yaml` is input too.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::{Value, json};

use super::schema::{Rule, Violation, show};

/// The schema of `metadata`: its fields and types. [`check`] validates the values.
pub static SCHEMA: LazyLock<JSONSchemaProps> = LazyLock::new(|| {
    let text = json!({"type": "string"});
    let integer = json!({"type": "integer"});
    let time = json!({"type": "string", "format": "date-time"});
    let texts = json!({"type": "object", "additionalProperties": text});
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let owner = json!({"type": "object", "required": ["apiVersion", "kind", "name", "uid"], "properties": {
        "apiVersion": {"type": "string", "minLength": 1, "description": "The owner's API version, such as `v1`."},
        "kind": {"type": "string", "minLength": 1, "description": "The owner's kind."},
        "name": {"type": "string", "minLength": 1, "description": "The owner's name."},
        "uid": {"type": "string", "minLength": 1, "description": "The owner's UID."},
        "controller": {"type": "boolean"}, "blockOwnerDeletion": {"type": "boolean"},
    }});
    let managed = json!({"type": "object", "properties": {
        "apiVersion": text, "fieldsType": text, "fieldsV1": anything, "manager": text, "operation": text,
        "subresource": text, "time": time,
    }});
    let schema = json!({
        "type": "object",
        "description": "An object with at least a name.",
        "properties": {
            "name": text, "generateName": text, "namespace": text, "labels": texts, "annotations": texts,
            "finalizers": {"type": "array", "items": text}, "ownerReferences": {"type": "array", "items": owner},
            "uid": text, "resourceVersion": text, "selfLink": text, "generation": integer, "creationTimestamp": time,
            "deletionTimestamp": time, "deletionGracePeriodSeconds": integer,
            "managedFields": {"type": "array", "items": managed},
        },
    });
    serde_json::from_value(schema).unwrap_or_default()
});

/// The limit of all annotations of an object together, in bytes.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// The requirement of [`is_subdomain`], for messages.
pub const SUBDOMAIN: &str =
    "at most 253 lower-case letters, digits, '-' and '.', each part starting and ending with a letter or digit";
/// The requirement of [`is_label`], for messages.
pub const LABEL: &str = "at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit";
const QUALIFIED: &str = "at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit; before it, if wanted, a DNS name and '/', such as example.com/team";
const LABEL_VALUE: &str =
    "empty, or at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit";

/// Validates the values of metadata whose types are right.
pub fn check(metadata: &Value) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut say = |field: String, message: String, rule| violations.push(Violation { field, message, rule });
    let text = |name: &str| metadata[name].as_str().filter(|text| !text.is_empty());
    let entries = |name: &str| metadata[name].as_object().into_iter().flatten();

    match (text("name"), text("generateName")) {
        (Some(name), _) if !is_subdomain(name) => {
            say("metadata.name".to_owned(), format!("found {name:?}; allowed: {SUBDOMAIN}"), Rule::Value);
        }
        (None, Some(prefix)) => {
            let message =
                format!("generateName {prefix:?} leaves the name to the API server; a plan needs metadata.name");
            say("metadata.generateName".to_owned(), message, Rule::Type);
        }
        (None, None) => {
            say("metadata.name".to_owned(), format!("missing, but required; allowed: {SUBDOMAIN}"), Rule::Type);
        }
        (Some(_), Some(prefix)) if !is_subdomain(&without_trailing_dash(prefix)) => {
            say("metadata.generateName".to_owned(), format!("found {prefix:?}; allowed: {SUBDOMAIN}"), Rule::Value);
        }
        (Some(_), _) => {}
    }
    if let Some(namespace) = text("namespace").filter(|name| !is_label(name)) {
        say("metadata.namespace".to_owned(), format!("found {namespace:?}; allowed: {LABEL}"), Rule::Value);
    }
    for (key, value) in entries("labels") {
        if !is_qualified(key) {
            say("metadata.labels".to_owned(), format!("found the key {key:?}; allowed: {QUALIFIED}"), Rule::Value);
        }
        if !value.as_str().is_some_and(is_label_value) {
            let message = format!("found {}; allowed: {LABEL_VALUE}", show(value));
            say(format!("metadata.labels[{key:?}]"), message, Rule::Value);
        }
    }
    for (key, _) in entries("annotations").filter(|(key, _)| !is_qualified(&key.to_lowercase())) {
        say("metadata.annotations".to_owned(), format!("found the key {key:?}; allowed: {QUALIFIED}"), Rule::Value);
    }
    let size: usize = entries("annotations").map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > ANNOTATIONS_LIMIT {
        let message = format!("{size} bytes, but at most {ANNOTATIONS_LIMIT} are allowed in all annotations together");
        say("metadata.annotations".to_owned(), message, Rule::Value);
    }
    let finalizers: Vec<&str> =
        metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for finalizer in finalizers.iter().filter(|name| !is_qualified(name)) {
        say("metadata.finalizers".to_owned(), format!("found {finalizer:?}; allowed: {QUALIFIED}"), Rule::Value);
    }
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        let message = "found orphan and foregroundDeletion; allowed: one of the two".to_owned();
        say("metadata.finalizers".to_owned(), message, Rule::Value);
    }
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    if owners.clone().filter(|owner| owner["controller"] == json!(true)).count() > 1 {
        let message = "two owners with controller: true; allowed: one".to_owned();
        say("metadata.ownerReferences".to_owned(), message, Rule::Value);
    }
    for (index, _) in owners.enumerate().filter(|(_, owner)| owner["apiVersion"] == "v1" && owner["kind"] == "Event") {
        say(format!("metadata.ownerReferences[{index}]"), "an Event cannot own anything".to_owned(), Rule::Value);
    }
    violations
}

/// A DNS label (RFC 1123), the form of a namespace's name.
pub fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 63 && bounded(text, |byte| byte != b'-') && text.bytes().all(inner)
}

/// A DNS subdomain (RFC 1123), the form of most names.
pub fn is_subdomain(text: &str) -> bool {
    // The parts have no length limit of their own here.
    let part = |part: &str| {
        bounded(part, |byte| byte != b'-')
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

fn is_word(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= 63 && bounded(text, |byte| byte.is_ascii_alphanumeric()) && text.bytes().all(inner)
}

fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_word(name),
        None => is_word(text),
    }
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_word(text)
}

/// Whether a text is not empty, and its first and last byte are allowed there.
fn bounded(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    text.bytes().next().is_some_and(&allowed) && text.bytes().next_back().is_some_and(&allowed)
}

/// As the API server validates a name prefix: it may end in '-', because characters follow.
fn without_trailing_dash(prefix: &str) -> String {
    let mut rest: Vec<char> = prefix.chars().collect();
    if rest.len() > 1 && rest.ends_with(&['-']) {
        rest.truncate(rest.len() - 2);
        rest.push('a');
    }
    rest.into_iter().collect()
}
