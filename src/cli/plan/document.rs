//! Splits text into documents, reads YAML and JSON as kubectl does, and finds every key that is given twice.
//!
//! kubectl converts YAML to JSON with a YAML 1.1 reader, so `yes` and `on` are booleans, `010` is 8 and `1e3` is a number.
//! This reader does the same for booleans, integers, floats, null, quoted texts, anchors and merge keys. Known
//! differences: booleans are accepted in any case (`yEs`); `.nan` and custom tags are refused, where kubectl fails later;
//! and a key given twice is a finding, as for the API server, whereas kubectl takes the last one.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::field_path::FieldPath;

/// The largest depth of a document: far deeper than any kind of Kubernetes.
const DEPTH: usize = 256;

/// A document and its position in the file.
#[derive(Debug, PartialEq)]
pub struct Document {
    /// The number of the document in its file, from 1; empty documents do not count.
    pub number: usize,
    /// The line on which it starts, from 1; unknown for JSON.
    pub line: Option<usize>,
    /// The content, or the syntax error.
    pub content: Result<Content, String>,
}

/// The content of a document.
#[derive(Debug, Default, PartialEq)]
pub struct Content {
    /// As JSON.
    pub value: Value,
    /// Paths of keys that are given twice.
    pub duplicates: Vec<String>,
}

/// The documents of a file, without the empty ones.
pub fn read(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Most JSON is YAML too, but not tabs and several objects in a row; and the JSON reader is faster.
    if text.trim_start().starts_with('{')
        && let Ok(documents) = json(text)
    {
        return documents;
    }
    let mut documents: Vec<Document> = Vec::new();
    for (line, part) in parts(text) {
        let content = yaml(part, line);
        if !matches!(&content, Ok(content) if content.value.is_null()) {
            documents.push(Document { number: documents.len() + 1, line: Some(line), content });
        }
    }
    documents
}

fn json(text: &str) -> Result<Vec<Document>, serde_json::Error> {
    let mut documents = Vec::new();
    // The stream finds where each document ends; `Deserializer::end` counts the lines of the whole rest each time.
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut start = 0;
    while stream.next().transpose()?.is_some() {
        let end = stream.byte_offset();
        let mut content = Content::default();
        let mut reader = serde_json::Deserializer::from_str(&text[start..end]);
        content.value =
            Strict { path: FieldPath::Root, duplicates: &mut content.duplicates }.deserialize(&mut reader)?;
        documents.push(Document { number: documents.len() + 1, line: None, content: Ok(content) });
        start = end;
    }
    Ok(documents)
}

/// The parts of a YAML text between the `---` lines, each with the line on which it starts. A part includes the marker
/// that begins it, because content may follow on the same line. Directives belong to the next part.
fn parts(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut at, mut blank) = (0, 1, 0, true);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marker = is_marker(line, "---");
        if marker && !blank {
            parts.push((start_line, &text[start..at]));
        }
        if marker {
            (start, start_line, blank) = (at, number + 1, false);
        }
        blank &= has_no_content(line);
        at += line.len();
    }
    parts.push((start_line, &text[start..]));
    parts
}

/// Whether a line is this marker (`---` or `...`).
fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether a line is empty, a comment or a directive.
fn has_no_content(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with(['#', '%'])
}

/// The document up to the line `...` that ends it, if there is one. The error is the offset of the first line with content
/// after that end.
fn before_dots(text: &str) -> Result<&str, usize> {
    let (mut at, mut end) = (0, None);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line, "...") {
            end.get_or_insert(at);
        } else if end.is_some() && !has_no_content(line) {
            return Err(number);
        }
        at += line.len();
    }
    Ok(&text[..end.unwrap_or(text.len())])
}

/// Reads one document that starts on this line.
fn yaml(text: &str, line: usize) -> Result<Content, String> {
    // The visitor finds all keys that are given twice. The limits admit the `kubectl get` of a large cluster.
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        legacy_octal_numbers: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        budget: serde_saphyr::budget! {
            max_depth: DEPTH,
            max_nodes: 20_000_000,
            max_events: 50_000_000,
        },
    };
    let text = before_dots(text).map_err(|after| {
        let line = line + after;
        format!("line {line}: text after the end of a document (`...`), which kubectl ignores; put `---` before it")
    })?;
    let mut content = Content::default();
    let seed = Strict { path: FieldPath::Root, duplicates: &mut content.duplicates };
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| seed.deserialize(reader));
    content.value = read.map_err(|error| explain(&error, line))?;
    Ok(content)
}

/// The message of a YAML error, with the line in the file instead of the line in the document.
fn explain(error: &serde_saphyr::Error, line: usize) -> String {
    let message = match error.without_snippet() {
        serde_saphyr::Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            format!("nested too deeply: more than {DEPTH} lists and objects in each other")
        }
        other => other.to_string(),
    };
    let Some(location) = error.location() else { return message };
    let place = format!(" at line {}, column {}", location.line(), location.column());
    let message = message.replace(&place, "");
    let line = line + usize::try_from(location.line()).unwrap_or_default().saturating_sub(1);
    format!("line {line}, column {}: {message}", location.column())
}

/// Reads a value as JSON, and collects the keys that are given twice.
struct Strict<'a> {
    path: FieldPath<'a>,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        Number::from_i128(value).map(Value::Number).ok_or_else(|| E::custom(format_args!("{value} is too large")))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        Number::from_u128(value).map(Value::Number).ok_or_else(|| E::custom(format_args!("{value} is too large")))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom(format_args!("{value} is not a number of JSON")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) =
            items.next_element_seed(Strict { path: self.path.index(list.len()), duplicates: self.duplicates })?
        {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Strict { path: self.path, duplicates: self.duplicates })? {
            // Keys in JSON are texts: `1: a` and `on: b` become "1" and "true".
            let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
            let path = self.path.field(&key);
            if map.contains_key(&key) {
                self.duplicates.push(path.to_string());
            }
            let value = entries.next_value_seed(Strict { path, duplicates: self.duplicates })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fuzz::{Parsed, fuzz, lossy};

    fn values(text: &str) -> Vec<Value> {
        read(text).into_iter().map(|document| document.content.unwrap().value).collect()
    }

    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        // The same list is put to kubectl in tests/cli_cluster/plan.rs.
        let readings: Vec<(String, Value)> =
            serde_json::from_str(include_str!("../../../tests/cli/data/yaml-readings.json")).unwrap();
        let differ = readings.into_iter().filter_map(|(yaml, expected)| {
            let read = values(&format!("value: {yaml}")).remove(0)["value"].take();
            let same = read == expected || (read.is_number() && read.as_f64() == expected.as_f64());
            (!same).then(|| format!("{yaml}: {read} instead of {expected}"))
        });
        assert_eq!(differ.collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn documents_have_a_line_and_a_number_that_skips_empty_ones() {
        let text = "# head\n---\n---\na: 1\n--- # second\n\nb: 2\n---\n# nothing\n---\nc: |\n  ---\n  text\n...\n";
        let places: Vec<_> = read(text).into_iter().map(|document| (document.number, document.line)).collect();
        assert_eq!(places, [(1, Some(3)), (2, Some(5)), (3, Some(10))]);
        assert_eq!(values(text), [json!({"a": 1}), json!({"b": 2}), json!({"c": "---\ntext\n"})]);
    }

    #[test]
    fn content_beside_a_marker_and_directives_before_it_are_read() {
        assert_eq!(values("%YAML 1.2\n--- {a: 1}\n---\tb\n"), [json!({"a": 1}), json!("b")]);
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_are_accepted() {
        assert_eq!(values("\u{feff}a: b\r\n---\r\nc: |\r\n  d\r\n"), [json!({"a": "b"}), json!({"c": "d\n"})]);
    }

    #[test]
    fn json_may_have_tabs_and_several_objects_in_a_row() {
        assert_eq!(values("{\n\t\"a\": 1\n}\n{\"b\": 2}"), [json!({"a": 1}), json!({"b": 2})]);
    }

    #[test]
    fn yaml_in_braces_is_still_yaml() {
        assert_eq!(values("{a: 1}\n---\n{b: 2}"), [json!({"a": 1}), json!({"b": 2})]);
    }

    #[test]
    fn text_after_the_end_of_a_document_is_an_error() {
        assert_eq!(values("a: 1\n...\n# nothing\n...\n%YAML 1.2\n---\nb: 2\n"), [json!({"a": 1}), json!({"b": 2})]);
        let documents = read("a: 1\n---\nb: 2\n...\n\nc: 3\n---\nd: 4\n");
        assert_eq!(documents.len(), 3);
        let error = documents[1].content.as_ref().unwrap_err();
        assert!(error.starts_with("line 6: ") && error.contains("put `---` before it"), "{error}");
    }

    #[test]
    fn every_key_given_twice_is_found_and_the_last_value_wins() {
        for text in ["{a: 1, b: [{c: 1, c: 2}], a: 2}", r#"{"a": 1, "b": [{"c": 1, "c": 2}], "a": 2}"#] {
            let Content { value, duplicates } = read(text).remove(0).content.unwrap();
            assert_eq!(duplicates, ["b[0].c", "a"], "{text}");
            assert_eq!(value, json!({"a": 2, "b": [{"c": 2}]}), "{text}");
        }
    }

    #[test]
    fn a_syntax_error_names_the_line_and_leaves_the_other_documents() {
        let documents = read("a: 1\n---\nb:\n  c: [\n---\nd: 4\n");
        assert_eq!(documents.len(), 3);
        let error = documents[1].content.as_ref().unwrap_err();
        assert!(error.starts_with("line 4"), "{error}");
        assert!(documents[2].content.is_ok());
    }

    #[test]
    fn a_long_text_is_not_repeated_without_end_by_aliases() {
        let bomb = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(90_000));
        let error = read(&bomb).remove(0).content.unwrap_err();
        assert!(error.contains("ScalarBytes"), "{error}");
    }

    fuzz! {
        any_yaml_is_read: "yaml" => |input| {
            let documents = read(&lossy(input));
            let values: Vec<Value> =
                documents.iter().filter_map(|document| Some(document.content.as_ref().ok()?.value.clone())).collect();
            for value in values.iter().filter(|value| !value.is_null()) {
                let written = crate::ops::yaml(value).unwrap();
                let again = read(&written).remove(0).content.unwrap();
                assert_eq!((again.value, again.duplicates), (value.clone(), Vec::new()), "a round trip of {written:?}");
            }
            let size: usize = values.iter().map(|value| value.to_string().len()).sum();
            assert!(size < 100 * input.len() + 10_000_000, "{size}");
            Parsed::new().printed(documents.into_iter().filter_map(|document| document.content.err()))
        };
    }
}
