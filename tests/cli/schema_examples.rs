//! `tests/cli/data/schema-examples/`: objects that the API server accepts or refuses, as data. One test compares
//! `multibond plan` with it, another one the API server.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A file of examples.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    base: Value,
    accepted: Vec<Rule>,
    refused: Vec<Rule>,
}

/// Values of a field that are all accepted, or all refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    field: String,
    #[serde(default)]
    values: Vec<Value>,
    /// Whole documents instead of a field's values.
    #[serde(default)]
    documents: Vec<String>,
    /// The field of the finding, where it is not `field`.
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    says: String,
}

/// One document, and whether it is accepted.
pub struct Example {
    /// Names the example in the message of a failed test.
    pub name: String,
    pub kind: String,
    /// YAML or JSON.
    pub document: String,
    pub accepted: bool,
    /// The field that the finding must name, if it is refused.
    pub field: String,
    /// A text that the finding must contain.
    pub says: String,
}

/// Every example of every file.
pub fn all() -> Vec<Example> {
    let mut files: Vec<_> = directory().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

/// The valid object of each file.
pub fn bases() -> Vec<Value> {
    directory().map(|entry| suite(&entry.unwrap().path()).base).collect()
}

fn directory() -> fs::ReadDir {
    fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/data/schema-examples")).unwrap()
}

fn suite(file: &Path) -> Suite {
    serde_saphyr::from_str(&fs::read_to_string(file).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn read(file: &Path) -> Vec<Example> {
    let Suite { base, accepted, refused } = suite(file);
    let kind = base["kind"].as_str().unwrap().to_owned();
    let whole = Example {
        name: format!("{kind}: base"),
        kind: kind.clone(),
        document: base.to_string(),
        accepted: true,
        field: String::new(),
        says: String::new(),
    };
    let verdicts = accepted.into_iter().map(|rule| (true, rule)).chain(refused.into_iter().map(|rule| (false, rule)));
    let examples = verdicts.flat_map(|(accepted, rule)| {
        let Rule { field, values, documents, at, says } = rule;
        assert!(!values.is_empty() || !documents.is_empty(), "{kind}: {field} without values");
        let edited = values.into_iter().map(|value| {
            let mut object = base.clone();
            set(&mut object, &field, expand(value.clone()));
            (
                format!("{kind}: {field}: {}", value.to_string().chars().take(100).collect::<String>()),
                object.to_string(),
            )
        });
        let given = documents.iter().map(|text| (format!("{kind}: {text}"), text.clone()));
        edited
            .chain(given)
            .map(|(name, document)| Example {
                name,
                kind: kind.clone(),
                document,
                accepted,
                field: at.clone().unwrap_or_else(|| field.clone()),
                says: says.clone(),
            })
            .collect::<Vec<_>>()
    });
    std::iter::once(whole).chain(examples).collect()
}

/// Expands a placeholder value; `None` means that the field is absent.
fn expand(value: Value) -> Option<Value> {
    let count = |count: &Value| usize::try_from(count.as_u64().unwrap()).unwrap();
    if value.get("$absent").is_some() {
        None
    } else if let Some(repeat) = value.get("$repeat") {
        Some(repeat[0].as_str().unwrap().repeat(count(&repeat[1])).into())
    } else if let Some(times) = value.get("$times") {
        let template = times[0].to_string();
        let item = |number: usize| serde_json::from_str(&template.replace('#', &number.to_string())).unwrap();
        Some(Value::Array((1..=count(&times[1])).map(item).collect()))
    } else {
        Some(value)
    }
}

/// Sets a field such as `spec.storage[0].name`, or removes it.
pub fn set(object: &mut Value, field: &str, value: Option<Value>) {
    let (parent, name) = field.rsplit_once('.').unwrap_or(("", field));
    let steps = parent.replace('[', ".").replace(']', "");
    let mut at = object;
    for step in steps.split('.').filter(|step| !step.is_empty()) {
        at = match step.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => at.as_object_mut().unwrap().entry(step).or_insert_with(|| Value::Object(Map::new())),
        };
    }
    let fields = at.as_object_mut().unwrap_or_else(|| panic!("{field}: {parent} is no object"));
    match value {
        Some(value) => fields.insert(name.to_owned(), value),
        None => fields.remove(name),
    };
}

/// The findings of `multibond plan` on each example: one run for all, with a file for each.
pub fn findings(examples: &[Example]) -> Vec<Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let file = |index: usize| directory.path().join(format!("{index:04}.yaml"));
    for (index, example) in examples.iter().enumerate() {
        fs::write(file(index), in_its_own_namespace(&example.document, index)).unwrap();
    }
    let plan =
        Command::new(env!("CARGO_BIN_EXE_multibond")).args(["plan", "-f"]).arg(directory.path()).output().unwrap();
    let stderr = String::from_utf8(plan.stderr).unwrap();
    assert_eq!(plan.status.code() == Some(1), !stderr.is_empty(), "{stderr}");
    assert!(stderr.is_empty() || plan.stdout.is_empty(), "a plan in spite of findings");
    let of = |index: usize| {
        let prefix = format!("{}, document 1", file(index).display());
        stderr.lines().filter(|line| line.starts_with(&prefix)).map(str::to_owned).collect()
    };
    (0..examples.len()).map(of).collect()
}

/// The same document, so that its name is not used twice.
fn in_its_own_namespace(document: &str, index: usize) -> String {
    let Ok(mut object) = serde_json::from_str::<Value>(document) else { return document.to_owned() };
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.entry("namespace").or_insert_with(|| format!("n-{index}").into());
    }
    object.to_string()
}
