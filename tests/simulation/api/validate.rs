//! Validation against the schema of a kind.

use serde_json::Value;

use super::{
    refusal::Cause,
    schema::{ListType, Schema},
};

/// Causes after which the API server does not evaluate rules.
const BLOCKING: [&str; 5] =
    ["FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid"];

/// What is wrong with an object. What an update leaves as it was may be wrong (ratcheting).
pub fn validate(schema: &Schema, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    check(schema, object, old, "", &mut causes);
    if causes.iter().any(|cause| BLOCKING.contains(&cause.reason)) {
        let message = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        causes.push(Cause::new("FieldValueInvalid", "<nil>", message));
    } else {
        check_rules(schema, object, old, "", &mut causes);
    }
    causes
}

fn check(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    if old == Some(value) && !path.is_empty() {
        return;
    }
    let fits = match value {
        Value::Object(_) => schema.kind == "object",
        Value::Array(_) => schema.kind == "array",
        Value::String(_) => schema.kind == "string",
        Value::Number(number) => schema.kind == "integer" && (number.is_i64() || number.is_u64()),
        Value::Bool(_) => schema.kind == "boolean",
        Value::Null => false,
    };
    if !fits {
        causes.push(Cause::new("FieldValueTypeInvalid", path, format!("must be of type {}", schema.kind)));
        return;
    }
    let mut add = |reason, message: &str| causes.push(Cause::new(reason, path, message));
    if !schema.allowed.is_empty() && !schema.allowed.contains(value) {
        add("FieldValueNotSupported", "it is none of the values that are allowed");
    }
    match value {
        Value::String(text) => {
            let length = text.chars().count();
            if schema.max_length.is_some_and(|most| length > most) {
                add("FieldValueTooLong", "it is too long");
            }
            if schema.min_length.is_some_and(|least| length < least) {
                add("FieldValueInvalid", "it is too short");
            }
            if schema.regex.as_ref().is_some_and(|pattern| !pattern.is_match(text)) {
                add("FieldValueInvalid", "it does not match the pattern");
            }
            if !schema.any_of.is_empty() && !schema.any_of.iter().any(|form| form.is_of(text)) {
                let message = format!("{path:?} must validate at least one schema (anyOf)");
                causes.push(Cause::new("FieldValueInvalid", "<nil>", message));
                causes.push(Cause::new("FieldValueNotSupported", path, "it has none of the forms that are allowed"));
            }
        }
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or(i64::MAX);
            if schema.minimum.is_some_and(|least| number < least) {
                add("FieldValueInvalid", "it is too small");
            }
            if schema.maximum.is_some_and(|most| number > most) {
                add("FieldValueInvalid", "it is too large");
            }
        }
        Value::Array(items) => {
            if schema.max_items.is_some_and(|most| items.len() > most) {
                add("FieldValueTooMany", "it has too many items");
            }
            if schema.min_items.is_some_and(|least| items.len() < least) {
                add("FieldValueInvalid", "it has too few items");
            }
            for (at, item) in items.iter().enumerate() {
                if items[..at].iter().any(|before| is_same(schema, before, item)) {
                    causes.push(Cause::new("FieldValueDuplicate", format!("{path}[{at}]"), "it is there twice"));
                }
            }
        }
        Value::Object(fields) => {
            if schema.max_properties.is_some_and(|most| fields.len() > most) {
                add("FieldValueTooMany", "it has too many fields");
            }
            for name in schema.required.iter().filter(|name| !fields.contains_key(*name)) {
                causes.push(Cause::new("FieldValueRequired", join(path, name), "it is required"));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    each_part(schema, value, old, path, &mut |schema, value, old, path| check(schema, value, old, path, causes));
}

fn check_rules(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    if old == Some(value) && !path.is_empty() {
        return;
    }
    for rule in schema.rules.iter().filter(|rule| !rule.holds(value, old)) {
        let place = if path.is_empty() { "<nil>" } else { path };
        causes.push(Cause::new("FieldValueInvalid", place, format!("{rule:?} does not hold")));
    }
    each_part(schema, value, old, path, &mut |schema, value, old, path| check_rules(schema, value, old, path, causes));
}

/// Is told a schema, a value, what that was before, and its path.
type Visit<'a> = dyn FnMut(&Schema, &Value, Option<&Value>, &str) + 'a;

/// The parts of a value with their schemas, what they were, and their paths. Elements are the same as before if their keys
/// are; without keys the API server does not compare them.
fn each_part(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, visit: &mut Visit<'_>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(schema) = schema.field(name) {
                    visit(schema, value, old.and_then(|old| old.get(name)), &join(path, name));
                }
            }
        }
        Value::Array(items) => {
            let Some(of_item) = schema.items.as_deref() else { return };
            let before = old.and_then(Value::as_array).filter(|_| schema.list_type == Some(ListType::Map));
            for (at, item) in items.iter().enumerate() {
                let old = before.and_then(|before| before.iter().find(|old| is_same(schema, old, item)));
                visit(of_item, item, old, &format!("{path}[{at}]"));
            }
        }
        _ => {}
    }
}

/// Whether two elements of a list are the same element.
fn is_same(schema: &Schema, one: &Value, other: &Value) -> bool {
    match schema.list_type {
        Some(ListType::Set) => one == other,
        Some(ListType::Map) => schema.list_keys.iter().all(|key| one.get(key) == other.get(key)),
        Some(ListType::Atomic) | None => false,
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
