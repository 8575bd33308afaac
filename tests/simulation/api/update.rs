//! Changes of objects: replacements and patches.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    ApiServer, core_kinds,
    create::{decoded, problems},
    kinds::{Core, Form, Kind},
    metadata::{self, text},
    patch,
    refusal::Refused,
    request::{Call, Part, PatchKind},
};

impl ApiServer {
    /// Returns the status code too: a replacement may create.
    pub(super) fn replace(&mut self, now: Timestamp, call: &Call) -> Result<(u16, Arc<Value>), Refused> {
        let object = decoded(call, call.object()?)?;
        is_in_place(call, &object)?;
        let (uid, stored) = (text(&object, "uid"), self.store.get(&call.key()).cloned());
        if stored.is_none() && !call.kind.created_by_replacement() {
            return Err(Refused::not_found(call.kind, &call.name));
        }
        let stored_uid = stored.as_deref().map(|stored| text(stored, "uid")).unwrap_or_default();
        if !uid.is_empty() && uid != stored_uid {
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {stored_uid}");
            return Err(Refused::conflict(call.kind, &call.name, &why));
        }
        match stored {
            Some(old) => self.update(call, &old, object).map(|object| (200, object)),
            None => self.create_object(now, call, object).map(|object| (201, object)),
        }
    }

    pub(super) fn patch(&mut self, call: &Call, kind: PatchKind) -> Result<Arc<Value>, Refused> {
        let old = self.stored(call)?.clone();
        let patched = patch::patched(call, kind, &old)?;
        let object = decoded(call, patched)?;
        is_in_place(call, &object)?;
        self.update(call, &old, object)
    }

    /// Stores `object` in place of `old`, unless nothing changes.
    fn update(&mut self, call: &Call, old: &Arc<Value>, mut object: Value) -> Result<Arc<Value>, Refused> {
        let kind = call.kind;
        let version = text(&object, "resourceVersion").to_owned();
        if version.is_empty() && kind.replaced_unseen() {
            object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        } else if version.is_empty() {
            return Err(Refused::without_version(kind, &call.name));
        } else if version != text(old, "resourceVersion") {
            return Err(Refused::modified(kind, &call.name));
        }
        keep(kind, &mut object, old, call.part);
        metadata::fill_update(&mut object, old);
        if let Form::Custom { schema, .. } = &kind.form {
            schema.set_defaults(&mut object);
            if !is_same_spec(&object, old) {
                let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
                object["metadata"]["generation"] = (generation + 1).into();
            }
        }
        let causes = problems(kind, &object, old);
        if !causes.is_empty() {
            return Err(Refused::invalid(kind, text(&object, "name"), &causes));
        }
        if object == **old && self.store.has_defaults(&call.key()) {
            return Ok(old.clone());
        }
        if metadata::is_being_deleted(&object) && is_free(&object) {
            self.store.remove(&call.key());
            return Ok(Arc::new(object));
        }
        Ok(self.store.put(call.key(), object))
    }
}

/// Refuses an object that has another name than the request.
fn is_in_place(call: &Call, object: &Value) -> Result<(), Refused> {
    let name = text(object, "name");
    if name == call.name {
        return Ok(());
    }
    let message = format!("the name of the object ({name}) does not match the name on the URL ({})", call.name);
    Err(Refused::bad_request(message))
}

/// Keeps what a write of this part does not change.
fn keep(kind: &Kind, object: &mut Value, old: &Value, part: Part) {
    match (&kind.form, part) {
        (Form::Custom { .. }, Part::Whole) => set(object, "status", old.get("status").cloned()),
        (Form::Custom { .. }, Part::Status) => {
            let status = object.get("status").cloned();
            *object = old.clone();
            set(object, "status", status);
        }
        (Form::Core(core), part) => core_kinds::prepare_update(*core, object, old, part == Part::Status),
    }
}

fn set(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    match value {
        Some(value) => drop(fields.insert(field.to_owned(), value)),
        None => drop(fields.remove(field)),
    }
}

/// Whether two versions of an object differ in nothing but metadata and status.
fn is_same_spec(one: &Value, other: &Value) -> bool {
    let fields = |object: &Value| -> Vec<(String, Value)> {
        let all = object.as_object().into_iter().flatten();
        let counts = |name: &str| name != "metadata" && name != "status";
        all.filter(|(name, _)| counts(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    fields(one) == fields(other)
}

/// Whether nothing holds an object that is being deleted.
pub(super) fn is_free(object: &Value) -> bool {
    metadata::list(&object["metadata"], "finalizers").is_empty()
        && metadata::list(&object["spec"], "finalizers").is_empty()
}

impl Kind {
    /// Whether it is the kind of namespaces.
    pub(super) fn is_namespace(&self) -> bool {
        matches!(self.form, Form::Core(Core::Namespace))
    }
}
