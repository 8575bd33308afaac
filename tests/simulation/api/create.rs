//! New objects.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    ApiServer, Key, core_kinds,
    kinds::{Core, Form, Kind},
    metadata::{self, text},
    refusal::{Cause, Refused},
    request::Call,
    validate,
};

/// The longest name that a generated suffix is added to.
const LONGEST_PREFIX: usize = 58;

impl ApiServer {
    pub(super) fn create(&mut self, now: Timestamp, call: &Call) -> Result<Arc<Value>, Refused> {
        let object = decoded(call, call.object()?)?;
        self.create_object(now, call, object)
    }

    /// Creates an object that is decoded.
    pub(super) fn create_object(
        &mut self,
        now: Timestamp,
        call: &Call,
        mut object: Value,
    ) -> Result<Arc<Value>, Refused> {
        let kind = call.kind;
        if text(&object, "name").is_empty() && !text(&object, "generateName").is_empty() {
            let prefix: String = text(&object, "generateName").chars().take(LONGEST_PREFIX).collect();
            object["metadata"]["name"] = format!("{prefix}{}", self.suffix()).into();
        }
        let name = text(&object, "name").to_owned();
        self.admit(kind, &name, &call.namespace)?;
        let uid = self.new_uid();
        metadata::fill_new(kind, &mut object, uid, now);
        let mut causes = metadata::validate(kind, &object, None);
        let mut lacks_defaults = false;
        match &kind.form {
            Form::Custom { schema, .. } => {
                if let Some(fields) = object.as_object_mut() {
                    fields.remove("status");
                }
                causes.extend(validate::validate(schema, &object, None));
                // A new object has no status. Its default is added when the object is read.
                let stored = object.clone();
                schema.set_defaults(&mut object);
                lacks_defaults = object != stored;
            }
            Form::Core(core) => {
                core_kinds::prepare_new(*core, &mut object);
                causes.extend(core_kinds::validate(*core, &object, None));
            }
        }
        if !causes.is_empty() {
            return Err(Refused::invalid(kind, &name, &causes));
        }
        if !text(&object, "resourceVersion").is_empty() {
            return Err(Refused::internal("resourceVersion should not be set on objects to be created"));
        }
        let key = Key { plural: kind.plural, namespace: call.namespace.clone(), name };
        if self.store.get(&key).is_some() {
            return Err(Refused::already_exists(kind, &key.name));
        }
        if matches!(kind.form, Form::Core(Core::Event)) {
            self.store.expires(now, key.clone());
        }
        let created = self.store.put(key.clone(), object);
        if lacks_defaults {
            self.store.lacks_defaults(key);
        }
        Ok(created)
    }

    /// Whether the namespace takes new objects.
    fn admit(&self, kind: &Kind, name: &str, namespace: &str) -> Result<(), Refused> {
        if !kind.namespaced {
            return Ok(());
        }
        let key = Key { plural: "namespaces", namespace: String::new(), name: namespace.to_owned() };
        match (self.store.get(&key), self.kinds.by_plural("namespaces")) {
            (None, Some(namespaces)) => Err(Refused::not_found(namespaces, namespace)),
            (Some(found), _) if metadata::is_being_deleted(found) => Err(Refused::terminating(kind, name, namespace)),
            _ => Ok(()),
        }
    }
}

/// Brings the body of a request into the form of the server.
pub(super) fn decoded(call: &Call, mut object: Value) -> Result<Value, Refused> {
    let kind = call.kind;
    for (field, expected) in [("apiVersion", kind.api_version()), ("kind", kind.kind.to_owned())] {
        match object[field].as_str() {
            // Core kinds are known by their place.
            None if matches!(kind.form, Form::Core(_)) => object[field] = expected.into(),
            Some(found) if found == expected => {}
            found => return Err(Refused::bad_request(format!("expected {field} {expected}, found {found:?}"))),
        }
    }
    metadata::decode(&mut object)?;
    if kind.namespaced {
        match text(&object, "namespace") {
            "" => object["metadata"]["namespace"] = call.namespace.clone().into(),
            found if found == call.namespace => {}
            _ => {
                let message = "the namespace of the provided object does not match the namespace sent on the request";
                return Err(Refused::bad_request(message));
            }
        }
    }
    match &kind.form {
        Form::Custom { schema, .. } => schema.decode(&mut object),
        Form::Core(core) => core_kinds::decode(*core, &mut object)?,
    }
    Ok(object)
}

/// What is wrong with an object that is to replace `old`.
pub(super) fn problems(kind: &Kind, object: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = metadata::validate(kind, object, Some(old));
    causes.extend(match &kind.form {
        Form::Custom { schema, .. } => validate::validate(schema, object, Some(old)),
        Form::Core(core) => core_kinds::validate(*core, object, Some(old)),
    });
    causes
}
