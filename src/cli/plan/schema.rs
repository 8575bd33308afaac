//! Validates one object against its structural schema as the API server does, with messages for people.
//!
//! This is a walker of our own instead of a JSON Schema library: the API server drops nulls, fills in defaults, and knows
//! list maps and sets, so a library would need most of these passes around it; and its messages ("does not match
//! ^(iqn…") do not help a person. It supports the keywords that our schemas use; a test holds them to it.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde_json::{Map, Value};

use super::field_path::FieldPath;
use crate::api::text_rule::TextRule;

/// The kind of rule that is violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Strict field validation: an unknown field, or a field that is given twice.
    Field,
    /// A wrong type, or a missing value. CEL rules cannot be evaluated on such an object.
    Type,
    /// A value of the right type that is not allowed.
    Value,
}

/// A reason for which the API server refuses an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, such as `spec.storage[0].name`; empty for the whole object.
    pub field: String,
    /// The value that was found, and the allowed ones.
    pub message: String,
    /// The kind of rule.
    pub rule: Rule,
}

/// Compiled patterns, by their text. `None` is a pattern that does not compile; our schemas have none.
#[derive(Default)]
pub struct Patterns(HashMap<String, Option<Regex>>);

impl Patterns {
    fn matches(&mut self, pattern: &str, text: &str) -> bool {
        if !self.0.contains_key(pattern) {
            self.0.insert(pattern.to_owned(), Regex::new(pattern).ok());
        }
        self.0.get(pattern).and_then(Option::as_ref).is_some_and(|pattern| pattern.is_match(text))
    }
}

/// Validates a value, and changes it to what the API server would store: without nulls, with defaults.
pub fn check(
    schema: &JSONSchemaProps,
    value: &mut Value,
    path: FieldPath<'_>,
    patterns: &mut Patterns,
) -> Vec<Violation> {
    let mut walk = Walk { patterns, violations: Vec::new() };
    walk.value(schema, value, path);
    walk.violations
}

struct Walk<'a> {
    patterns: &'a mut Patterns,
    violations: Vec<Violation>,
}

impl Walk<'_> {
    fn violation(&mut self, rule: Rule, path: FieldPath<'_>, message: String) {
        self.violations.push(Violation { field: path.to_string(), message, rule });
    }

    fn value(&mut self, schema: &JSONSchemaProps, value: &mut Value, path: FieldPath<'_>) {
        if let (Some("integer"), Some(number)) = (schema.type_.as_deref(), whole(value)) {
            *value = number.into();
            return self.integer(schema, number, path);
        }
        match (schema.type_.as_deref(), &mut *value) {
            (Some("object"), Value::Object(fields)) => self.object(schema, fields, path),
            (Some("array"), Value::Array(items)) => self.array(schema, items, path),
            (Some("string"), Value::String(text)) => self.string(schema, text, path),
            (Some("boolean"), Value::Bool(_)) | (None, _) => {}
            (Some(expected), found) => {
                let message = format!("expected {}, found {}{}", article(expected), show(found), allowed(schema));
                self.violation(Rule::Type, path, message);
            }
        }
    }

    fn object(&mut self, schema: &JSONSchemaProps, fields: &mut Map<String, Value>, path: FieldPath<'_>) {
        static NONE: std::collections::BTreeMap<String, JSONSchemaProps> = std::collections::BTreeMap::new();
        let known = schema.properties.as_ref().unwrap_or(&NONE);
        let others = match &schema.additional_properties {
            Some(JSONSchemaPropsOrBool::Schema(values)) => Some(&**values),
            Some(JSONSchemaPropsOrBool::Bool(_)) | None => None,
        };
        let anything = schema.x_kubernetes_preserve_unknown_fields == Some(true);
        // None of our fields is nullable: null means absent.
        fields.retain(|name, value| !value.is_null() || !(known.contains_key(name) || others.is_some()));
        for (name, property) in known {
            if let (Some(default), false) = (&property.default, fields.contains_key(name)) {
                fields.insert(name.clone(), default.0.clone());
            }
        }
        for name in schema.required.iter().flatten().filter(|name| !fields.contains_key(*name)) {
            let form = known.get(name).map(allowed).unwrap_or_default();
            self.violation(Rule::Type, path.field(name), format!("missing, but required{form}"));
        }
        let limit = schema.max_properties.map(|most| (fields.len(), most));
        if let Some((found, most)) = limit.filter(|(found, most)| exceeds(*found, *most)) {
            self.violation(
                Rule::Value,
                path,
                format!("{found} entries, but at most {most} are allowed{}", allowed(schema)),
            );
        }
        for (name, value) in fields.iter_mut() {
            match known.get(name).or(others) {
                Some(property) => self.value(property, value, path.field(name)),
                None if anything => {}
                None => {
                    let names = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    self.violation(Rule::Field, path.field(name), format!("unknown field; allowed here: {names}"));
                }
            }
        }
    }

    fn array(&mut self, schema: &JSONSchemaProps, items: &mut [Value], path: FieldPath<'_>) {
        if let Some(most) = schema.max_items.filter(|most| exceeds(items.len(), *most)) {
            let message = format!("{} entries, but at most {most} are allowed{}", items.len(), allowed(schema));
            self.violation(Rule::Type, path, message);
        }
        if let Some(least) = schema.min_items.filter(|least| exceeds_least(items.len(), *least)) {
            let message = format!("{} entries, but at least {least} needed{}", items.len(), allowed(schema));
            self.violation(Rule::Value, path, message);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
            for (index, value) in items.iter_mut().enumerate() {
                self.value(item, value, path.index(index));
            }
        }
        match schema.x_kubernetes_list_type.as_deref() {
            Some("set") => self.unique(items, path, Value::to_string, show),
            Some("map") => {
                let keys = schema.x_kubernetes_list_map_keys.as_deref().unwrap_or_default();
                let shown = |item: &Value| {
                    keys.iter().map(|key| format!("{key} {}", show(&item[key]))).collect::<Vec<_>>().join(", ")
                };
                self.unique(items, path, shown, shown);
            }
            _ => {}
        }
    }

    /// Reports items with the same key as an earlier item.
    fn unique(
        &mut self,
        items: &[Value],
        path: FieldPath<'_>,
        key: impl Fn(&Value) -> String,
        shown: impl Fn(&Value) -> String,
    ) {
        let mut seen = HashMap::new();
        let mut said = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let key = key(item);
            if let Some(first) = seen.get(&key) {
                if said.insert(key) {
                    let message = format!("{} is listed already, at [{first}]; list it once", shown(item));
                    self.violation(Rule::Value, path.index(index), message);
                }
            } else {
                seen.insert(key, index);
            }
        }
    }

    fn string(&mut self, schema: &JSONSchemaProps, text: &str, path: FieldPath<'_>) {
        let length = text.chars().count();
        let form = allowed(schema);
        if let Some(most) = schema.max_length.filter(|most| exceeds(length, *most)) {
            let message = format!("found a text of {length} characters, but at most {most} are allowed{form}");
            return self.violation(Rule::Type, path, message);
        }
        let found = show_text(text);
        let allowed_words = schema.enum_.iter().flatten().filter_map(|word| word.0.as_str()).collect::<Vec<_>>();
        if !allowed_words.is_empty() && !allowed_words.contains(&text) {
            let words = allowed_words.join(", ");
            return self.violation(Rule::Value, path, format!("found {found}; allowed: one of {words}"));
        }
        let too_short = schema.min_length.is_some_and(|least| exceeds_least(length, least));
        let no_match = schema.pattern.as_ref().is_some_and(|pattern| !self.patterns.matches(pattern, text))
            || schema.any_of.as_ref().is_some_and(|forms| !forms.iter().any(|form| self.has_form(form, text)));
        let no_time = schema.format.as_deref() == Some("date-time") && text.parse::<jiff::Timestamp>().is_err();
        if no_time {
            self.violation(Rule::Value, path, format!("found {found}; allowed: a time such as 2026-01-31T12:00:00Z"));
        } else if too_short || no_match {
            self.violation(Rule::Value, path, format!("found {found}{form}"));
        }
        for rule in schema.x_kubernetes_validations.iter().flatten() {
            let pattern = TextRule::read(&rule.rule).and_then(|rule| rule.is_about(text));
            if pattern.is_some_and(|pattern| !self.patterns.matches(pattern, text)) {
                let message = rule.message.as_deref().unwrap_or(&rule.rule);
                self.violation(Rule::Value, path, format!("found {found}; {message}"));
            }
        }
    }

    /// Whether a text has one of the forms of an `anyOf`.
    fn has_form(&mut self, form: &JSONSchemaProps, text: &str) -> bool {
        form.pattern.as_ref().is_none_or(|pattern| self.patterns.matches(pattern, text))
            && form.enum_.as_ref().is_none_or(|words| words.iter().any(|word| word.0 == text))
    }

    fn integer(&mut self, schema: &JSONSchemaProps, number: i64, path: FieldPath<'_>) {
        #[expect(clippy::cast_precision_loss, reason = "the bounds of our schemas are far below 2^53")]
        let float = number as f64;
        let form = allowed(schema);
        if let Some(most) = schema.maximum.filter(|most| float > *most) {
            self.violation(Rule::Value, path, format!("found {number}, which is more than {most}{form}"));
        }
        if let Some(least) = schema.minimum.filter(|least| float < *least) {
            self.violation(Rule::Value, path, format!("found {number}, which is less than {least}{form}"));
        }
    }
}

/// The number as an integer, also if it is written as `3260.0` or `1e3`: JSON does not distinguish them.
fn whole(value: &Value) -> Option<i64> {
    let exact = |float: &f64| float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    value.as_i64().or_else(|| value.as_f64().filter(exact).map(|float| float as i64))
}

fn exceeds(found: usize, most: i64) -> bool {
    i64::try_from(found).is_ok_and(|found| found > most)
}

fn exceeds_least(found: usize, least: i64) -> bool {
    i64::try_from(found).is_ok_and(|found| found < least)
}

/// The allowed form, as `kubectl explain` shows it.
fn allowed(schema: &JSONSchemaProps) -> String {
    schema.description.as_ref().map(|text| format!("; allowed: {text}")).unwrap_or_default()
}

fn article(kind: &str) -> &'static str {
    match kind {
        "object" => "an object",
        "array" => "a list",
        "string" => "a text",
        "integer" => "an integer",
        "boolean" => "true or false",
        _ => "another type",
    }
}

/// A value in a message.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => show_text(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A text in quotes, shortened if it is long.
fn show_text(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{:?}", format!("{}…", &text[..cut])),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;

    /// Keywords that the walker validates, or that need no validation.
    const KNOWN: [&str; 24] = [
        "additionalProperties",
        "anyOf",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
        // About merging of changes, not about validity.
        "x-kubernetes-map-type",
        // Only in the schema of metadata.
        "x-kubernetes-preserve-unknown-fields",
    ];

    fn walk(schema: &Value, path: &str) {
        for (keyword, value) in schema.as_object().unwrap() {
            assert!(KNOWN.contains(&keyword.as_str()), "{path}: nothing checks {keyword}");
            match keyword.as_str() {
                "properties" => {
                    value
                        .as_object()
                        .unwrap()
                        .iter()
                        .for_each(|(name, schema)| walk(schema, &format!("{path}.{name}")));
                }
                "items" | "additionalProperties" => walk(value, path),
                "anyOf" => {
                    let [sentence, pattern] = value.as_array().unwrap().as_slice() else { panic!("{path}: {value}") };
                    walk(pattern, path);
                    assert_eq!(sentence.as_object().unwrap().keys().collect::<Vec<_>>(), ["enum"], "{path}");
                }
                "type" => {
                    assert_ne!(article(value.as_str().unwrap()), "another type", "{path}: nothing checks {value}");
                }
                "pattern" => assert!(Regex::new(value.as_str().unwrap()).is_ok(), "{path}: {value}"),
                "format" => {
                    // The numbers have bounds of their own.
                    assert!(["int32", "int64", "date-time"].contains(&value.as_str().unwrap()), "{path}: {value}");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_of_our_schemas_is_checked() {
        for crd in api::crds() {
            let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            walk(&serde_json::to_value(schema).unwrap(), &crd.spec.names.kind);
        }
        walk(&serde_json::to_value(&*super::super::metadata::SCHEMA).unwrap(), "metadata");
    }
}
