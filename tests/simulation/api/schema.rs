//! The schemas of our own kinds: which fields there are, and which value a missing one gets.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::{metadata, rules::Rule};

/// A structural schema. A keyword that is not here fails the reading of the CRD.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schema {
    /// `object`, `array`, `string`, `integer` or `boolean`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub properties: BTreeMap<String, Schema>,
    pub additional_properties: Option<Box<Schema>>,
    pub items: Option<Box<Schema>>,
    #[serde(default)]
    pub required: Vec<String>,
    #[serde(rename = "enum", default)]
    pub allowed: Vec<Value>,
    pattern: Option<String>,
    /// The pattern, compiled by [`Schema::prepared`].
    #[serde(skip)]
    pub regex: Option<Regex>,
    /// A text has one of these forms.
    #[serde(default)]
    pub any_of: Vec<Form>,
    pub min_length: Option<usize>,
    pub max_length: Option<usize>,
    pub min_items: Option<usize>,
    pub max_items: Option<usize>,
    pub max_properties: Option<usize>,
    pub minimum: Option<i64>,
    pub maximum: Option<i64>,
    default: Option<Value>,
    #[serde(rename = "x-kubernetes-list-type")]
    pub list_type: Option<ListType>,
    #[serde(rename = "x-kubernetes-list-map-keys", default)]
    pub list_keys: Vec<String>,
    #[serde(rename = "x-kubernetes-validations", default)]
    pub rules: Vec<Rule>,
    // They say nothing that a pattern or a range does not say, or are for people.
    #[serde(rename = "format")]
    _format: Option<String>,
    #[serde(rename = "title")]
    _title: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "x-kubernetes-map-type")]
    _map_type: Option<String>,
}

/// A form of a text.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Form {
    /// It matches this pattern.
    Pattern { pattern: Pattern },
    /// It is one of these words.
    Words {
        #[serde(rename = "enum")]
        words: Vec<String>,
    },
}

impl Form {
    /// Whether a text has this form.
    pub fn is_of(&self, text: &str) -> bool {
        match self {
            Form::Pattern { pattern } => pattern.0.is_match(text),
            Form::Words { words } => words.iter().any(|word| word == text),
        }
    }
}

/// A pattern that is compiled when it is read.
#[derive(Deserialize)]
#[serde(from = "String")]
pub struct Pattern(Regex);

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Pattern(metadata::regex(&text))
    }
}

/// What the elements of a list are to each other.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ListType {
    /// No element twice.
    Set,
    /// No two elements with the same keys.
    Map,
    /// The list is one value.
    Atomic,
}

impl Schema {
    /// Compiles the patterns.
    #[must_use]
    pub fn prepared(mut self) -> Self {
        self.prepare();
        self
    }

    fn prepare(&mut self) {
        self.regex = self.pattern.as_deref().map(metadata::regex);
        let parts = self.properties.values_mut();
        parts
            .chain(self.items.as_deref_mut())
            .chain(self.additional_properties.as_deref_mut())
            .for_each(Schema::prepare);
    }

    /// The schema of a field of an object.
    pub fn field(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(self.additional_properties.as_deref())
    }

    /// Brings a whole object into the form that is stored: without fields that the schema does not have, without `null`,
    /// and with defaults.
    pub fn decode(&self, object: &mut Value) {
        if let Some(fields) = object.as_object_mut() {
            let of_every_kind = |name: &str| matches!(name, "apiVersion" | "kind" | "metadata");
            fields.retain(|name, _| of_every_kind(name) || self.field(name).is_some());
            for (name, value) in fields.iter_mut().filter(|(name, _)| !of_every_kind(name)) {
                self.field(name).into_iter().for_each(|schema| schema.prune(value));
            }
        }
        self.drop_nulls(object);
        self.set_defaults(object);
    }

    /// Calls `visit` with each value below this one and its schema.
    fn each_child(&self, value: &mut Value, visit: impl Fn(&Schema, &mut Value)) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.field(name).into_iter().for_each(|schema| visit(schema, value));
                }
            }
            Value::Array(items) => {
                let Some(schema) = self.items.as_deref() else { return };
                for item in items {
                    visit(schema, item);
                }
            }
            _ => {}
        }
    }

    fn prune(&self, value: &mut Value) {
        if let Value::Object(fields) = value {
            fields.retain(|name, _| self.field(name).is_some());
        }
        self.each_child(value, Schema::prune);
    }

    /// No field of ours is nullable: `null` stands for a missing field.
    fn drop_nulls(&self, value: &mut Value) {
        if let Value::Object(fields) = value {
            fields.retain(|name, value| {
                !value.is_null() || self.properties.get(name).is_none_or(|schema| schema.default.is_some())
            });
        }
        self.each_child(value, Schema::drop_nulls);
    }

    /// Sets the fields that are missing and have a default.
    pub fn set_defaults(&self, value: &mut Value) {
        if let Value::Object(fields) = value {
            for (name, schema) in &self.properties {
                if let Some(default) = &schema.default
                    && fields.get(name).is_none_or(Value::is_null)
                {
                    fields.insert(name.clone(), default.clone());
                }
            }
        }
        self.each_child(value, Schema::set_defaults);
    }
}
