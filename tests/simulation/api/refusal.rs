//! Refusals, as the Status that the API server answers.

use serde_json::{Value, json};

use super::{
    Key,
    kinds::{Core, Form, Kind},
};

/// A request that is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The HTTP status code.
    pub code: u16,
    reason: &'static str,
    message: String,
    details: Option<Value>,
}

/// One reason why an object is invalid.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Such as `spec.interfaces[0].name`.
    pub field: String,
    /// Such as `FieldValueRequired`.
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
}

impl Cause {
    /// A cause.
    pub fn new(reason: &'static str, field: impl Into<String>, message: impl Into<String>) -> Self {
        Cause { field: field.into(), reason, message: message.into() }
    }
}

impl Refused {
    fn new(code: u16, reason: &'static str, message: impl Into<String>, details: Option<Value>) -> Self {
        Refused { code, reason, message: message.into(), details }
    }

    /// There is no such object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", kind.qualified()), Some(details(kind, name)))
    }

    /// There is one with this name.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.qualified());
        Self::new(409, "AlreadyExists", message, Some(details(kind, name)))
    }

    /// The object is not the one that the request was made for.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        Self::new(409, "Conflict", message, Some(details(kind, name)))
    }

    /// The object has changed since the client has read it.
    pub fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// The object is invalid.
    pub fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        let all: Vec<_> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let group = group_inside(kind);
        let whole = if group.is_empty() { kind.kind.to_owned() } else { format!("{}.{group}", kind.kind) };
        let message = format!("{whole} \"{name}\" is invalid: {}", all.join(", "));
        let causes: Vec<_> = causes
            .iter()
            .map(|cause| json!({"field": cause.field, "reason": cause.reason, "message": cause.message}))
            .collect();
        let mut details = json!({"kind": kind.kind, "causes": causes});
        details.as_object_mut().into_iter().for_each(|details| put_names(details, group, name));
        Self::new(422, "Invalid", message, Some(details))
    }

    /// A JSON patch that cannot be carried out, such as after a failed test.
    pub fn patch_failed(why: &str) -> Self {
        let message = format!("the server rejected our request due to an error in our request: {why}");
        Self::new(422, "Invalid", message, Some(json!({})))
    }

    /// An update that does not say of which version. Here the API server names the resource in place of the kind.
    pub fn without_version(kind: &Kind, name: &str) -> Self {
        let message = "must be specified for an update";
        let cause = Cause::new("FieldValueInvalid", "metadata.resourceVersion", message);
        let mut refused = Self::invalid(kind, name, &[cause]);
        refused.details.iter_mut().for_each(|details| details["kind"] = kind.plural.into());
        refused
    }

    /// A deletion of another object than the one that is there. Here the API server names the kind.
    pub fn precondition(kind: &Kind, name: &str, why: &str) -> Self {
        let mut details = json!({"kind": kind.kind});
        details.as_object_mut().into_iter().for_each(|details| put_names(details, group_inside(kind), name));
        Refused { details: Some(details), ..Self::conflict(kind, name, why) }
    }

    /// The request itself is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message, None)
    }

    /// The server cannot do this, and gives no reason.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message, None)
    }

    /// The kind has no such patches.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message, None)
    }

    /// The namespace is being deleted.
    pub fn terminating(kind: &Kind, name: &str, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.qualified());
        let cause = json!({"reason": "NamespaceTerminating", "field": "metadata.namespace",
            "message": format!("namespace {namespace} is being terminated")});
        let mut details = json!({"kind": kind.plural, "causes": [cause]});
        details.as_object_mut().into_iter().for_each(|details| put_names(details, kind.group, name));
        Self::new(403, "Forbidden", message, Some(details))
    }

    /// The history is forgotten from which the request wants to go on.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message, None)
    }

    /// The Status that is answered.
    pub fn body(&self) -> Value {
        let Refused { code, reason, message, details } = self;
        let mut body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "code": code});
        if !reason.is_empty() {
            body["reason"] = (*reason).into();
        }
        if let Some(details) = details {
            body["details"] = details.clone();
        }
        body
    }
}

/// The group that the API server knows a kind by where it names the kind: inside, Events are still those of the core group.
fn group_inside(kind: &Kind) -> &'static str {
    if matches!(kind.form, Form::Core(Core::Event)) { "" } else { kind.group }
}

fn details(kind: &Kind, name: &str) -> Value {
    let mut details = json!({"kind": kind.plural});
    details.as_object_mut().into_iter().for_each(|details| put_names(details, kind.group, name));
    details
}

/// Empty names are left out, as in Go.
fn put_names(details: &mut serde_json::Map<String, Value>, group: &str, name: &str) {
    for (field, value) in [("group", group), ("name", name)] {
        if !value.is_empty() {
            details.insert(field.to_owned(), value.into());
        }
    }
}

/// What answers the deletion of an object that is gone at once.
pub fn deleted(kind: &Kind, key: &Key, uid: &Value) -> Value {
    let mut details = json!({"kind": kind.plural, "uid": uid});
    details.as_object_mut().into_iter().for_each(|details| put_names(details, kind.group, &key.name));
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
