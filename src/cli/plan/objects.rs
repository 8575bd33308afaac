//! Turns documents into objects: picks the objects of our kinds, validates them as the API server does, and applies
//! defaults.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::core::cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::document::{self, Content};
use super::field_path::FieldPath;
use super::input::Source;
use super::metadata;
use super::schema::{self, Patterns, Rule, Violation, show};
use crate::api::{self, GROUP, VERSION, text_rule::TextRule};
use crate::planner::Objects;

/// The fields of a Host's status that the planner reads. Plans depend on no other status, and on `agent` only problems.
const STATUS_READ: [&str; 4] = ["agent", "dataCenter", "interfaces", "networks"];

/// The location of an object in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SourceLocation {
    source: String,
    document: usize,
    line: Option<usize>,
    item: Option<usize>,
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.source, self.document)?;
        if let Some(line) = self.line {
            write!(f, " (from line {line})")?;
        }
        self.item.map_or(Ok(()), |item| write!(f, ", items[{item}]"))
    }
}

/// Reads documents, and collects their objects and all findings.
pub struct ManifestReader {
    namespace: String,
    kinds: Vec<KindSchema>,
    rules: Validator,
    patterns: Patterns,
    seen: BTreeMap<(String, String, String), SourceLocation>,
    objects: Objects,
    findings: Vec<String>,
    /// The number of objects of any kind.
    pub found: usize,
}

/// The schema and rules of one of our kinds.
struct KindSchema {
    name: String,
    /// The schema without the status.
    schema: JSONSchemaProps,
    status: JSONSchemaProps,
    /// The CEL rules that are no [`TextRule`], compiled for the first object.
    rules: Option<CompiledSchema>,
}

impl KindSchema {
    fn new(crd: CustomResourceDefinition) -> Option<KindSchema> {
        let version = crd.spec.versions.into_iter().find(|version| version.name == VERSION)?;
        let mut schema = version.schema?.open_api_v3_schema?;
        let fields = schema.properties.as_mut()?;
        // Every object has these; they are validated separately.
        fields.extend(["apiVersion", "kind", "metadata"].map(|name| (name.to_owned(), JSONSchemaProps::default())));
        let status = fields.insert("status".to_owned(), JSONSchemaProps::default())?;
        Some(KindSchema { name: crd.spec.names.kind, schema, status, rules: None })
    }
}

impl ManifestReader {
    /// A reader that puts objects without a namespace into this one.
    pub fn new(namespace: String) -> Self {
        ManifestReader {
            namespace,
            kinds: api::crds().into_iter().filter_map(KindSchema::new).collect(),
            rules: Validator::new(),
            patterns: Patterns::default(),
            seen: BTreeMap::new(),
            objects: Objects::default(),
            findings: Vec::new(),
            found: 0,
        }
    }

    /// The objects, or the findings. A finding names the location, the object, the field, what was found and what is
    /// allowed.
    pub fn finish(self) -> Result<Objects, Vec<String>> {
        if self.findings.is_empty() { Ok(self.objects) } else { Err(self.findings) }
    }

    /// Adds a finding.
    pub fn report(&mut self, finding: impl fmt::Display) {
        self.findings.push(finding.to_string());
    }

    /// Reads all documents of a source.
    pub fn read(&mut self, source: &Source, text: &str) {
        for document in document::read(text) {
            let location = SourceLocation {
                source: source.to_string(),
                document: document.number,
                line: document.line,
                item: None,
            };
            match document.content {
                Err(error) => self.report(format_args!("{location}: {error}")),
                // A kustomization needs no kind, and does not concern us.
                Ok(content) if source.is_kustomization() && content.value.get("kind").is_none() => self.found += 1,
                Ok(content) => self.object(&location, content),
            }
        }
    }

    fn object(&mut self, location: &SourceLocation, Content { mut value, duplicates }: Content) {
        let Value::Object(object) = &mut value else {
            let found = show(&value);
            return self.report(format_args!("{location}: expected an object with apiVersion and kind, found {found}"));
        };
        let mut findings = Vec::new();
        let word = |name: &str| object.get(name).and_then(Value::as_str).filter(|word| !word.is_empty());
        let (Some(version), Some(kind)) = (word("apiVersion"), word("kind")) else {
            for (name, example) in [("apiVersion", "multibond.dev/v1alpha1"), ("kind", "DataCenter")] {
                if word(name).is_none() {
                    let found = object.get(name).map_or("missing".to_owned(), |found| format!("found {}", show(found)));
                    findings.push(format!("{location}: {name}: {found}; every object needs one, such as {example}"));
                }
            }
            self.findings.extend(findings);
            return;
        };
        let (version, kind) = (version.to_owned(), kind.to_owned());
        if let Some(item_kind) = kind.strip_suffix("List") {
            match object.get_mut("items") {
                Some(Value::Array(items)) => {
                    return self.list(location, &version, item_kind, std::mem::take(items), &duplicates);
                }
                // As for kubectl, null means no items.
                Some(Value::Null) => return,
                Some(found) => {
                    let found = show(found);
                    return self.report(format_args!("{location}: items: expected a list, found {found}"));
                }
                None if version == "v1" && item_kind.is_empty() => {
                    return self.report(format_args!("{location}: items: missing; a List has them, [] if it is empty"));
                }
                // A kind whose name only ends so, such as an AllowList.
                None => {}
            }
        }
        self.found += 1;
        let group = version.split('/').next().unwrap_or_default();
        if version == "v1" && kind == "Namespace" {
            self.namespace(&value);
        } else if group == GROUP {
            match self.kinds.iter().position(|known| known.name == kind) {
                Some(known) if version == format!("{GROUP}/{VERSION}") => {
                    self.ours(location, known, value, &duplicates);
                }
                Some(_) => self.report(format_args!(
                    "{location}: {kind}: apiVersion: found {version:?}; allowed: {GROUP}/{VERSION}"
                )),
                None => {
                    let names = self.kinds.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>().join(", ");
                    self.report(format_args!("{location}: kind: found {kind:?}; allowed in {GROUP}: {names}"));
                }
            }
        }
    }

    fn list(
        &mut self,
        location: &SourceLocation,
        version: &str,
        item_kind: &str,
        items: Vec<Value>,
        duplicates: &[String],
    ) {
        for (index, mut value) in items.into_iter().enumerate() {
            // Items of a typed list, such as a HostList, need no apiVersion and kind.
            if let (Value::Object(item), false) = (&mut value, item_kind.is_empty()) {
                item.entry("apiVersion").or_insert_with(|| version.into());
                item.entry("kind").or_insert_with(|| item_kind.into());
            }
            let prefix = format!("items[{index}].");
            let duplicates = duplicates.iter().filter_map(|path| path.strip_prefix(&prefix)).map(str::to_owned);
            let content = Content { value, duplicates: duplicates.collect() };
            self.object(&SourceLocation { item: Some(index), ..location.clone() }, content);
        }
    }

    /// Notes a namespace in deletion: its data centers are deleted with it.
    fn namespace(&mut self, value: &Value) {
        let metadata = &value["metadata"];
        if let (Some(name), false) = (metadata["name"].as_str(), metadata["deletionTimestamp"].is_null()) {
            self.objects.terminating_namespaces.insert(name.to_owned());
        }
    }

    fn ours(&mut self, location: &SourceLocation, kind: usize, mut value: Value, duplicates: &[String]) {
        let mut violations: Vec<Violation> = duplicates.iter().map(|path| twice(path)).collect();
        violations.extend(self.check(kind, &mut value));
        let name = value["metadata"]["name"].as_str().unwrap_or("without a name").to_owned();
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let object = format!("{} {namespace}/{name}", self.kinds[kind].name);
        if violations.is_empty() {
            if let Err(error) = self.keep(kind, value) {
                violations.push(Violation { field: String::new(), message: error.to_string(), rule: Rule::Type });
            }
            let key = (self.kinds[kind].name.clone(), namespace, name);
            if let Some(first) = self.seen.get(&key) {
                let message = format!("{location}: {object}: given already in {first}; give each object once");
                self.report(message);
            } else {
                self.seen.insert(key, location.clone());
            }
        }
        for Violation { field, message, .. } in violations {
            let colon = if field.is_empty() { "" } else { ": " };
            self.report(format_args!("{location}: {object}: {field}{colon}{message}"));
        }
    }

    /// Validates an object as the API server does; the value becomes what the API server would store.
    fn check(&mut self, kind: usize, value: &mut Value) -> Vec<Violation> {
        let KindSchema { name, schema, status: status_schema, rules: _ } = &self.kinds[kind];
        let mut violations = Vec::new();
        let Value::Object(object) = value else { return violations };

        let mut metadata = object.remove("metadata").filter(|metadata| !metadata.is_null()).unwrap_or(json!({}));
        let shape =
            schema::check(&metadata::SCHEMA, &mut metadata, FieldPath::Root.field("metadata"), &mut self.patterns);
        if shape.is_empty() {
            violations.extend(metadata::check(&metadata));
        }
        violations.extend(shape);

        let status = object.remove("status").filter(|status| !status.is_null());
        let about = [("apiVersion", object.remove("apiVersion")), ("kind", object.remove("kind"))];
        violations.extend(schema::check(schema, value, FieldPath::Root, &mut self.patterns));

        let Value::Object(object) = value else { return violations };
        object.extend(about.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        if let Value::Object(metadata) = &mut metadata {
            let named = metadata.get("namespace").is_some_and(|namespace| namespace != "");
            if !named {
                metadata.insert("namespace".to_owned(), self.namespace.clone().into());
            }
        }
        object.insert("metadata".to_owned(), metadata);
        if let Some(mut status) = status {
            let is_host = name == "Host";
            let found = schema::check(status_schema, &mut status, FieldPath::Root.field("status"), &mut self.patterns);
            violations.extend(found.into_iter().filter(|violation| matters(violation, is_host)));
            if let (Value::Object(fields), true) = (status, is_host) {
                let read: Map<_, _> =
                    fields.into_iter().filter(|(name, _)| STATUS_READ.contains(&name.as_str())).collect();
                object.insert("status".to_owned(), Value::Object(read));
            }
        }
        if !violations.iter().any(|violation| violation.rule == Rule::Type) {
            violations.extend(self.evaluate(kind, value));
        }
        violations
    }

    /// Evaluates the CEL rules but those about texts, which [`schema::check`] has. Transition rules do not apply: there is no
    /// earlier object.
    fn evaluate(&mut self, kind: usize, value: &Value) -> Vec<Violation> {
        let KindSchema { schema, rules, .. } = &mut self.kinds[kind];
        let rules = rules.get_or_insert_with(|| {
            let mut schema = serde_json::to_value(schema).unwrap_or_default();
            drop_text_rules(&mut schema);
            compile_schema(&schema)
        });
        let Err(errors) = self.rules.validate_compiled(rules, value, None) else { return Vec::new() };
        let violation = |error: kube::core::cel::ValidationError| Violation {
            field: error.field_path,
            message: match error.kind {
                ErrorKind::ValidationFailure => error.message,
                _ => format!("the rule {:?} cannot be evaluated: {}", error.rule, error.message),
            },
            rule: Rule::Value,
        };
        errors.into_iter().map(violation).collect()
    }

    fn keep(&mut self, kind: usize, value: Value) -> Result<(), serde_json::Error> {
        fn put<T: DeserializeOwned>(into: &mut Vec<T>, value: Value) -> Result<(), serde_json::Error> {
            into.push(serde_json::from_value(value)?);
            Ok(())
        }
        let Objects { data_centers, networks, bonds, hosts, terminating_namespaces: _ } = &mut self.objects;
        match self.kinds[kind].name.as_str() {
            "DataCenter" => put(data_centers, value),
            "Network" => put(networks, value),
            "IscsiBond" => put(bonds, value),
            _ => put(hosts, value),
        }
    }
}

/// Takes the rules about texts out of a schema.
fn drop_text_rules(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            if let Some(Value::Array(rules)) = keywords.get_mut("x-kubernetes-validations") {
                rules.retain(|rule| rule["rule"].as_str().and_then(TextRule::read).is_none());
            }
            keywords.values_mut().for_each(drop_text_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_text_rules),
        _ => {}
    }
}

fn twice(path: &str) -> Violation {
    let message = "given twice; give it once".to_owned();
    Violation { field: path.to_owned(), message, rule: Rule::Field }
}

/// Whether a violation in a status matters. On apply the API server drops the status but still refuses unknown fields;
/// and the fields that the planner reads must be valid.
fn matters(violation: &Violation, is_host: bool) -> bool {
    let read = |name: &&'static str| {
        let rest = violation.field.strip_prefix("status.").and_then(|field| field.strip_prefix(*name));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    violation.rule == Rule::Field || (is_host && (violation.field == "status" || STATUS_READ.iter().any(read)))
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, mem};

    use super::*;
    use crate::{
        fuzz::{Parsed, fuzz, lossy},
        planner::plan_all,
    };

    fuzz! {
        any_manifest_is_planned_or_refused: "manifests" => {
            // One reader for all inputs: to compile the schemas takes much longer than to read an input.
            let reader = RefCell::new(ManifestReader::new("default".to_owned()));
            move |input: &[u8]| {
                let mut reader = reader.borrow_mut();
                reader.seen.clear();
                reader.read(&Source::Stdin, &lossy(input));
                let objects = mem::take(&mut reader.objects);
                let findings = mem::take(&mut reader.findings);
                if findings.is_empty() {
                    Parsed::new().printed(plan_all(&objects).problems.iter().map(|found| format!("{found:?}")))
                } else {
                    Parsed::new().printed(findings)
                }
            }
        };
    }
}
