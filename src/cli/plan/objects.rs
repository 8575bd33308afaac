//! Documents to objects: which are ours, whether the API server would take them, and what it would store.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::core::cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::document::{self, Content};
use super::input::Source;
use super::metadata;
use super::path::Path;
use super::schema::{self, Finding, Patterns, Rule, show};
use crate::api::{self, GROUP, VERSION};
use crate::planner::Objects;

/// What the planner reads of a Host's status; the rest of it, and every other status, says nothing to a plan.
const STATUS_READ: [&str; 3] = ["dataCenter", "interfaces", "networks"];

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    source: String,
    document: usize,
    line: Option<usize>,
    item: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.source, self.document)?;
        if let Some(line) = self.line {
            write!(f, " (from line {line})")?;
        }
        self.item.map_or(Ok(()), |item| write!(f, ", items[{item}]"))
    }
}

/// Reads documents, and collects the objects and everything that is wrong with them.
pub struct Reader {
    namespace: String,
    kinds: Vec<Kind>,
    rules: Validator,
    patterns: Patterns,
    seen: BTreeMap<(String, String, String), Place>,
    objects: Objects,
    findings: Vec<String>,
    /// Objects of whatever kind.
    pub found: usize,
}

/// One of our kinds.
struct Kind {
    name: String,
    /// The schema without the status, which is checked by rules of its own.
    schema: JSONSchemaProps,
    status: JSONSchemaProps,
    /// The rules in CEL, once there is an object to evaluate them on.
    rules: Option<CompiledSchema>,
}

impl Kind {
    fn new(crd: CustomResourceDefinition) -> Option<Kind> {
        let version = crd.spec.versions.into_iter().find(|version| version.name == VERSION)?;
        let mut schema = version.schema?.open_api_v3_schema?;
        let fields = schema.properties.as_mut()?;
        // Every object has these; what they say is checked apart.
        fields.extend(["apiVersion", "kind", "metadata"].map(|name| (name.to_owned(), JSONSchemaProps::default())));
        let status = fields.insert("status".to_owned(), JSONSchemaProps::default())?;
        Some(Kind { name: crd.spec.names.kind, schema, status, rules: None })
    }
}

impl Reader {
    /// A reader that puts objects without a namespace into this one.
    pub fn new(namespace: String) -> Self {
        Reader {
            namespace,
            kinds: api::crds().into_iter().filter_map(Kind::new).collect(),
            rules: Validator::new(),
            patterns: Patterns::default(),
            seen: BTreeMap::new(),
            objects: Objects::default(),
            findings: Vec::new(),
            found: 0,
        }
    }

    /// The objects, or the findings: where, which object, which field, what was found and what is allowed.
    pub fn finish(self) -> Result<Objects, Vec<String>> {
        if self.findings.is_empty() { Ok(self.objects) } else { Err(self.findings) }
    }

    /// Notes something that is wrong with the input.
    pub fn complain(&mut self, finding: impl fmt::Display) {
        self.findings.push(finding.to_string());
    }

    /// Reads all documents of a source.
    pub fn read(&mut self, source: &Source, text: &str) {
        for document in document::read(text) {
            let place =
                Place { source: source.to_string(), document: document.number, line: document.line, item: None };
            match document.content {
                Err(error) => self.complain(format_args!("{place}: {error}")),
                // It need not say what it is, and says nothing to us.
                Ok(content) if source.is_kustomization() && content.value.get("kind").is_none() => self.found += 1,
                Ok(content) => self.object(&place, content),
            }
        }
    }

    fn object(&mut self, place: &Place, Content { mut value, duplicates }: Content) {
        let Value::Object(object) = &mut value else {
            let found = show(&value);
            return self.complain(format_args!("{place}: expected an object with apiVersion and kind, found {found}"));
        };
        let mut findings = Vec::new();
        let word = |name: &str| object.get(name).and_then(Value::as_str).filter(|word| !word.is_empty());
        let (Some(version), Some(kind)) = (word("apiVersion"), word("kind")) else {
            for (name, example) in [("apiVersion", "multibond.dev/v1alpha1"), ("kind", "DataCenter")] {
                if word(name).is_none() {
                    let found = object.get(name).map_or("missing".to_owned(), |found| format!("found {}", show(found)));
                    findings.push(format!("{place}: {name}: {found}; every object needs one, such as {example}"));
                }
            }
            self.findings.extend(findings);
            return;
        };
        let (version, kind) = (version.to_owned(), kind.to_owned());
        if let Some(item_kind) = kind.strip_suffix("List") {
            match object.get_mut("items") {
                Some(Value::Array(items)) => {
                    return self.list(place, &version, item_kind, std::mem::take(items), &duplicates);
                }
                // For kubectl null is no item, too: such a list says nothing, and nothing is found in it.
                Some(Value::Null) => return,
                Some(found) => {
                    let found = show(found);
                    return self.complain(format_args!("{place}: items: expected a list, found {found}"));
                }
                None if version == "v1" && item_kind.is_empty() => {
                    return self.complain(format_args!("{place}: items: missing; a List has them, [] if it is empty"));
                }
                // A kind that is only called so, such as an AllowList.
                None => {}
            }
        }
        self.found += 1;
        let group = version.split('/').next().unwrap_or_default();
        if version == "v1" && kind == "Namespace" {
            self.namespace(&value);
        } else if group == GROUP {
            match self.kinds.iter().position(|known| known.name == kind) {
                Some(known) if version == format!("{GROUP}/{VERSION}") => self.ours(place, known, value, &duplicates),
                Some(_) => self.complain(format_args!(
                    "{place}: {kind}: apiVersion: found {version:?}; allowed: {GROUP}/{VERSION}"
                )),
                None => {
                    let names = self.kinds.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>().join(", ");
                    self.complain(format_args!("{place}: kind: found {kind:?}; allowed in {GROUP}: {names}"));
                }
            }
        }
    }

    fn list(&mut self, place: &Place, version: &str, item_kind: &str, items: Vec<Value>, duplicates: &[String]) {
        for (index, mut value) in items.into_iter().enumerate() {
            // Items of a typed list, such as a HostList, need not say what they are.
            if let (Value::Object(item), false) = (&mut value, item_kind.is_empty()) {
                item.entry("apiVersion").or_insert_with(|| version.into());
                item.entry("kind").or_insert_with(|| item_kind.into());
            }
            let prefix = format!("items[{index}].");
            let duplicates = duplicates.iter().filter_map(|path| path.strip_prefix(&prefix)).map(str::to_owned);
            let content = Content { value, duplicates: duplicates.collect() };
            self.object(&Place { item: Some(index), ..place.clone() }, content);
        }
    }

    /// A namespace that is being deleted takes its data centers with it.
    fn namespace(&mut self, value: &Value) {
        let metadata = &value["metadata"];
        if let (Some(name), false) = (metadata["name"].as_str(), metadata["deletionTimestamp"].is_null()) {
            self.objects.terminating_namespaces.insert(name.to_owned());
        }
    }

    fn ours(&mut self, place: &Place, kind: usize, mut value: Value, duplicates: &[String]) {
        let mut findings: Vec<Finding> = duplicates.iter().map(|path| twice(path)).collect();
        findings.extend(self.check(kind, &mut value));
        let name = value["metadata"]["name"].as_str().unwrap_or("without a name").to_owned();
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let object = format!("{} {namespace}/{name}", self.kinds[kind].name);
        if findings.is_empty() {
            if let Err(error) = self.keep(kind, value) {
                findings.push(Finding { field: String::new(), message: error.to_string(), rule: Rule::Type });
            }
            let key = (self.kinds[kind].name.clone(), namespace, name);
            if let Some(first) = self.seen.get(&key) {
                let message = format!("{place}: {object}: given already in {first}; give each object once");
                self.complain(message);
            } else {
                self.seen.insert(key, place.clone());
            }
        }
        for Finding { field, message, .. } in findings {
            let colon = if field.is_empty() { "" } else { ": " };
            self.complain(format_args!("{place}: {object}: {field}{colon}{message}"));
        }
    }

    /// What the API server would refuse; the value becomes what it would store.
    fn check(&mut self, kind: usize, value: &mut Value) -> Vec<Finding> {
        let Kind { name, schema, status: status_schema, rules: _ } = &self.kinds[kind];
        let mut findings = Vec::new();
        let Value::Object(object) = value else { return findings };

        let mut metadata = object.remove("metadata").filter(|metadata| !metadata.is_null()).unwrap_or(json!({}));
        let shape = schema::check(&metadata::SCHEMA, &mut metadata, Path::Root.field("metadata"), &mut self.patterns);
        if shape.is_empty() {
            findings.extend(metadata::check(&metadata));
        }
        findings.extend(shape);

        let status = object.remove("status").filter(|status| !status.is_null());
        let about = [("apiVersion", object.remove("apiVersion")), ("kind", object.remove("kind"))];
        findings.extend(schema::check(schema, value, Path::Root, &mut self.patterns));

        let Value::Object(object) = value else { return findings };
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
            let found = schema::check(status_schema, &mut status, Path::Root.field("status"), &mut self.patterns);
            findings.extend(found.into_iter().filter(|finding| matters(finding, is_host)));
            if let (Value::Object(fields), true) = (status, is_host) {
                let read: Map<_, _> =
                    fields.into_iter().filter(|(name, _)| STATUS_READ.contains(&name.as_str())).collect();
                object.insert("status".to_owned(), Value::Object(read));
            }
        }
        if !findings.iter().any(|finding| finding.rule == Rule::Type) {
            findings.extend(self.evaluate(kind, value));
        }
        findings
    }

    /// The rules in CEL. Those that compare with an earlier object do not apply: there is none.
    fn evaluate(&mut self, kind: usize, value: &Value) -> Vec<Finding> {
        let Kind { schema, rules, .. } = &mut self.kinds[kind];
        let rules = rules.get_or_insert_with(|| compile_schema(&serde_json::to_value(schema).unwrap_or_default()));
        let Err(errors) = self.rules.validate_compiled(rules, value, None) else { return Vec::new() };
        let finding = |error: kube::core::cel::ValidationError| Finding {
            field: error.field_path,
            message: match error.kind {
                ErrorKind::ValidationFailure => error.message,
                _ => format!("the rule {:?} cannot be evaluated: {}", error.rule, error.message),
            },
            rule: Rule::Value,
        };
        errors.into_iter().map(finding).collect()
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

fn twice(path: &str) -> Finding {
    let message = "given twice; give it once".to_owned();
    Finding { field: path.to_owned(), message, rule: Rule::Field }
}

/// Whether a finding in a status matters: the API server takes every status on apply, because it drops it, but no
/// fields that it does not know; and what the planner reads must be readable.
fn matters(finding: &Finding, is_host: bool) -> bool {
    let read = |name: &&'static str| {
        let rest = finding.field.strip_prefix("status.").and_then(|field| field.strip_prefix(*name));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    finding.rule == Rule::Field || (is_host && (finding.field == "status" || STATUS_READ.iter().any(read)))
}
