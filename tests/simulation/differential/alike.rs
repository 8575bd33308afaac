//! Whether two answers are alike: equal but for what each server draws itself. Uids and versions must be equal in the
//! sense that the same one of the model always stands for the same one of the real server.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// How many characters end a generated name.
const SUFFIX: usize = 5;

/// Which uid and version of the model stands for which of the real server.
#[derive(Default)]
pub struct Twins {
    there: BTreeMap<String, String>,
    back: BTreeMap<String, String>,
    /// When the deletion of an object began on the real server, by its uid in the model.
    deletions: BTreeMap<String, Value>,
}

impl Twins {
    /// Learns that two texts stand for each other. The error says what they stood for before.
    fn learn(&mut self, model: &str, real: &str) -> Result<(), String> {
        let there = self.there.entry(model.to_owned()).or_insert_with(|| real.to_owned());
        let back = self.back.entry(real.to_owned()).or_insert_with(|| model.to_owned());
        if there == real && back == model {
            return Ok(());
        }
        Err(format!("{model} of the model stood for {there}, and {real} of the real server for {back}"))
    }

    /// An object of the real server, with the uids of the model.
    pub fn back(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.back.get(text).map_or_else(|| value.clone(), |twin| Value::from(&**twin)),
            Value::Array(items) => items.iter().map(|item| self.back(item)).collect(),
            Value::Object(fields) => {
                let all = fields.iter().filter(|(name, _)| *name != "managedFields");
                Value::Object(all.map(|(name, value)| (name.clone(), self.back(value))).collect())
            }
            other => other.clone(),
        }
    }

    /// Forgets what the version of an object stood for.
    pub fn replace(&mut self, model: &Value, real: &Value) {
        for field in ["uid", "resourceVersion"] {
            let text = |object: &Value| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let (mut ours, mut theirs) = (text(model), text(real));
            if field == "resourceVersion" {
                (ours, theirs) = (version(&ours), version(&theirs));
            }
            self.there.insert(ours.clone(), theirs.clone());
            self.back.insert(theirs, ours);
        }
    }

    /// A body for the real server, with the uids and versions of the real server.
    pub fn translated(&self, body: &Value) -> Value {
        self.translate(body, "")
    }

    fn translate(&self, value: &Value, field: &str) -> Value {
        match value {
            Value::String(text) => {
                let is_uid = text.len() == 36;
                let key = if field == "resourceVersion" { version(text) } else { text.clone() };
                let twin = self.there.get(&key).filter(|_| is_uid || field == "resourceVersion");
                twin.map_or_else(|| value.clone(), |twin| Value::from(twin.trim_start_matches("version ")))
            }
            Value::Array(items) => items.iter().map(|item| self.translate(item, "")).collect(),
            Value::Object(fields) => {
                // The real server takes another time for a change, even if it does not store it.
                let deletion = fields.get("uid").and_then(Value::as_str).and_then(|uid| self.deletions.get(uid));
                let translated = |(name, value): (&String, &Value)| match deletion {
                    Some(deletion) if name == "deletionTimestamp" => (name.clone(), deletion.clone()),
                    _ => (name.clone(), self.translate(value, name)),
                };
                Value::Object(fields.iter().map(translated).collect())
            }
            other => other.clone(),
        }
    }
}

fn version(text: &str) -> String {
    format!("version {text}")
}

/// Compares an answer of the model with one of the real server. An error is the first difference.
pub fn compare(twins: &mut Twins, model: &Value, real: &Value) -> Result<(), String> {
    let (model, real) = (plain(model), plain(real));
    walk(Some(twins), &model, &real, "")
}

/// Compares without uids and versions.
pub fn looks_alike(model: &Value, real: &Value) -> Result<(), String> {
    walk(None, &plain(model), &plain(real), "")
}

/// Without what only a real server has.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let is_status = fields.get("kind").is_some_and(|kind| kind == "Status");
            let is_namespace = fields.get("kind").is_some_and(|kind| kind == "Namespace");
            let is_ours = |name: &str| match name {
                "managedFields" | "deprecatedSource" => false,
                // The texts of messages are the model's own.
                "message" => !(is_status || fields.contains_key("field") && fields.contains_key("reason")),
                "continue" => fields.get(name).is_none_or(|token| token != ""),
                _ => true,
            };
            let all = fields.iter().filter(|(name, value)| is_ours(name) && !value.is_null());
            let mut all: Map<_, _> = all.map(|(name, value)| (name.clone(), plain(value))).collect();
            if is_namespace && let Some(Value::Object(status)) = all.get_mut("status") {
                // The namespace controller tells of its progress, and each time makes a version.
                let ends = status.get("phase").is_some_and(|phase| phase == "Terminating");
                status.remove("conditions");
                if ends && let Some(Value::Object(metadata)) = all.get_mut("metadata") {
                    metadata.remove("resourceVersion");
                }
            }
            Value::Object(all)
        }
        Value::Array(items) => {
            let mut items: Vec<_> = items.iter().map(plain).collect();
            if items.iter().all(|item| item.get("field").is_some() && item.get("reason").is_some()) {
                items.sort_by_key(Value::to_string);
                items.dedup();
            }
            Value::Array(items)
        }
        other => other.clone(),
    }
}

fn walk(mut twins: Option<&mut Twins>, model: &Value, real: &Value, path: &str) -> Result<(), String> {
    let name = path.rsplit('.').next().unwrap_or_default();
    match (model, real) {
        (Value::String(_), Value::String(_)) if matches!(name, "creationTimestamp" | "deletionTimestamp") => Ok(()),
        (Value::String(_), Value::String(_)) if path == ".metadata.continue" => Ok(()),
        (Value::String(model), Value::String(real)) if matches!(name, "uid" | "resourceVersion") => {
            // The version of a list is not that of an object.
            let Some(twins) = twins.filter(|_| !model.is_empty()) else { return Ok(()) };
            let both = if name == "uid" { (model.clone(), real.clone()) } else { (version(model), version(real)) };
            twins.learn(&both.0, &both.1).map_err(|why| format!("{path}: {why}"))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            if let (Some(twins), Some(uid), Some(deletion)) =
                (twins.as_deref_mut(), ours.get("uid").and_then(Value::as_str), theirs.get("deletionTimestamp"))
            {
                twins.deletions.insert(uid.to_owned(), deletion.clone());
            }
            let is_list = ours.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
            for name in ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name))) {
                let place = format!("{path}.{name}");
                let (Some(one), Some(other)) = (ours.get(name), theirs.get(name)) else {
                    return Err(format!(
                        "{place}: {} in the model, {} in the real server",
                        shown(ours.get(name)),
                        shown(theirs.get(name))
                    ));
                };
                if name == "name"
                    && let Some(Value::String(prefix)) = ours.get("generateName")
                {
                    is_generated(prefix, one, other).map_err(|why| format!("{place}: {why}"))?;
                    continue;
                }
                let twins = twins.as_deref_mut().filter(|_| !(is_list && name == "metadata"));
                walk(twins, one, other, &place)?;
            }
            Ok(())
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (at, (one, other)) in ours.iter().zip(theirs).enumerate() {
                walk(twins.as_deref_mut(), one, other, &format!("{path}.{at}"))?;
            }
            Ok(())
        }
        _ if model == real => Ok(()),
        _ => Err(format!("{path}: {model} in the model, {real} in the real server")),
    }
}

/// Each server draws the end of a generated name itself.
fn is_generated(prefix: &str, model: &Value, real: &Value) -> Result<(), String> {
    let parts = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        let (start, end) = name.split_at_checked(name.len().saturating_sub(SUFFIX)).unwrap_or_default();
        (prefix.starts_with(start), start.to_owned(), end.len())
    };
    let (ours, theirs) = (parts(model), parts(real));
    if ours.0 && ours == theirs { Ok(()) } else { Err(format!("{model} in the model, {real} in the real server")) }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "missing".to_owned(), Value::to_string)
}
