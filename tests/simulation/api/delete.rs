//! Deletions: at once, or marked until the last finalizer is gone.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{
    ApiServer, Key,
    kinds::{Form, Kind},
    metadata::{self, text},
    refusal::{self, Refused},
    request::Call,
    update::is_free,
};

/// The options of a deletion.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Options {
    propagation_policy: Option<String>,
    preconditions: Option<Preconditions>,
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
}

/// What the object must be.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl ApiServer {
    pub(super) fn delete(&mut self, now: Timestamp, call: &Call) -> Result<Arc<Value>, Refused> {
        let options: Options = call.body_if_any()?;
        let policy = options.propagation_policy.as_deref();
        assert!(
            matches!(policy, None | Some("Background")),
            "the model of the API server knows deletion in the background alone: {policy:?} of {:?}",
            call.key()
        );
        let object = self.stored(call)?.clone();
        let Preconditions { uid, resource_version } = options.preconditions.unwrap_or_default();
        for (what, field, wanted) in [("UID", "uid", uid), ("ResourceVersion", "resourceVersion", resource_version)] {
            let found = text(&object, field);
            if let Some(wanted) = wanted.filter(|wanted| wanted != found) {
                let why =
                    format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
                return Err(Refused::precondition(call.kind, &call.name, &why));
            }
        }
        let (key, kind) = (call.key(), call.kind);
        Ok(match delete_object(&mut self.store, now, kind, &key, &object) {
            Some(marked) => marked,
            None => Arc::new(refusal::deleted(kind, &key, &object["metadata"]["uid"])),
        })
    }
}

/// Removes an object, or marks it and returns it.
pub(super) fn delete_object(
    store: &mut super::store::Store,
    now: Timestamp,
    kind: &Kind,
    key: &Key,
    object: &Arc<Value>,
) -> Option<Arc<Value>> {
    if is_free(object) {
        store.remove(key);
        return None;
    }
    if metadata::is_being_deleted(object) {
        return Some(object.clone());
    }
    let mut marked = Value::clone(object);
    let metadata = &mut marked["metadata"];
    metadata["deletionTimestamp"] = metadata::time(now);
    match &kind.form {
        Form::Custom { .. } => {
            let generation = metadata["generation"].as_i64().unwrap_or(0);
            metadata["deletionGracePeriodSeconds"] = 0.into();
            metadata["generation"] = (generation + 1).into();
        }
        Form::Core(_) if kind.is_namespace() => marked["status"]["phase"] = "Terminating".into(),
        Form::Core(_) => metadata["deletionGracePeriodSeconds"] = 0.into(),
    }
    Some(store.put(key.clone(), marked))
}
