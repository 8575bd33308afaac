//! Patches of JSON.

use json_patch::{AddOperation, PatchOperation, ReplaceOperation, TestOperation, jsonptr::PointerBuf};
use serde_json::{Map, Value};

use super::{
    kinds::{Core, Form},
    refusal::Refused,
    request::{Call, PatchKind},
};

/// The object that the patch of a request makes of `old`.
pub fn patched(call: &Call, kind: PatchKind, old: &Value) -> Result<Value, Refused> {
    let mut object = old.clone();
    match kind {
        PatchKind::Merge => json_patch::merge(&mut object, &call.object()?),
        PatchKind::Json => {
            let operations: Vec<PatchOperation> = call.body()?;
            let failed = |why: &dyn ToString| Refused::patch_failed(&why.to_string());
            for operation in operations {
                match operation {
                    PatchOperation::Test(TestOperation { path, value: Value::Null }) => {
                        test_null(&object, &path).map_err(|why| failed(&why))?;
                    }
                    // The API server's library replaces what is missing, if its parent is an object.
                    PatchOperation::Replace(ReplaceOperation { path, value })
                        if object.pointer(path.as_str()).is_none() =>
                    {
                        let add = PatchOperation::Add(AddOperation { path, value });
                        json_patch::patch(&mut object, &[add]).map_err(|error| failed(&error))?;
                    }
                    other => json_patch::patch(&mut object, &[other]).map_err(|error| failed(&error))?,
                }
            }
        }
        PatchKind::Strategic => match call.kind.form {
            Form::Core(Core::Node) => merge_strategically(&mut object, call.object()?, ""),
            Form::Core(_) => {
                panic!("the model of the API server knows strategic patches of Nodes alone: {:?}", call.kind.kind)
            }
            Form::Custom { .. } => {
                let message = "the body of the request was in an unknown format - accepted media types include: \
                    application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
                return Err(Refused::unsupported_media_type(message));
            }
        },
    }
    if object.is_object() { Ok(object) } else { Err(Refused::bad_request("the patch makes no object")) }
}

/// The API server's library takes a missing field for `null`, if it is in an object that exists.
fn test_null(object: &Value, path: &PointerBuf) -> Result<(), String> {
    let text = path.as_str();
    let parent = text.rsplit_once('/').and_then(|(parent, _)| object.pointer(parent));
    match (object.pointer(text), parent) {
        (None | Some(Value::Null), Some(_)) => Ok(()),
        _ => Err(format!("testing value {text} failed")),
    }
}

/// A list that is merged by a key, of those on Nodes that our clients patch.
fn key_of(path: &str) -> Option<&'static str> {
    (path == "status.conditions").then_some("type")
}

fn merge_strategically(value: &mut Value, patch: Value, path: &str) {
    let Value::Object(patch) = patch else { return *value = patch };
    if !value.is_object() {
        *value = Map::new().into();
    }
    for (name, patch) in patch {
        assert!(!name.starts_with('$'), "the model of the API server does not know {name} at {path:?}");
        let place = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (patch, key_of(&place)) {
            (Value::Null, _) => {
                value.as_object_mut().and_then(|fields| fields.remove(&name));
            }
            (Value::Array(patches), Some(key)) => merge_list(&mut value[&name], patches, key),
            (patch @ Value::Object(_), _) => merge_strategically(&mut value[&name], patch, &place),
            (patch, _) => value[&name] = patch,
        }
    }
}

/// An element with a new key comes before all others.
fn merge_list(list: &mut Value, patches: Vec<Value>, key: &str) {
    if !list.is_array() {
        *list = Vec::<Value>::new().into();
    }
    let Some(items) = list.as_array_mut() else { return };
    assert!(patches.len() < 2, "the model of the API server does not know the order of several patches: {patches:?}");
    for mut patch in patches {
        let at = items.iter().position(|item| item[key] == patch[key]);
        let how = patch.as_object_mut().and_then(|fields| fields.remove("$patch"));
        match (how.as_ref().map(|how| how.as_str().unwrap_or_default()), at) {
            (Some("delete"), at) => drop(at.map(|at| items.remove(at))),
            (Some(other), _) => panic!("the model of the API server does not know $patch {other:?}"),
            (None, Some(at)) => merge_strategically(&mut items[at], patch, "element"),
            (None, None) => items.insert(0, patch),
        }
    }
}
