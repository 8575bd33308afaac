//! The values: each has an explanation and a place in the schema, and wrong ones are refused with a clear message.

use std::env;
use std::fmt::Write as _;
use std::fs;

use multibond_testbed::render_chart;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{SYSTEM, chart};

/// A value of the chart, as `values.yaml` explains it.
struct Entry {
    /// Such as `controller.replicas`.
    path: Vec<String>,
    explanation: String,
}

/// The values in `values.yaml`: a key with a comment above it is a value; a key without one is a group.
fn entries() -> Vec<Entry> {
    let text = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let (mut entries, mut path, mut comment) = (Vec::<Entry>::new(), Vec::<String>::new(), Vec::new());
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let content = line.trim();
        if let Some(words) = content.strip_prefix('#') {
            comment.push(words.trim().to_owned());
        } else if content.is_empty() {
            // A comment before a blank line is about the whole file.
            comment.clear();
        } else if let Some((key, _)) = content.split_once(':').filter(|_| !content.starts_with("- ")) {
            path.truncate(indent / 2);
            path.push(key.to_owned());
            let inside =
                entries.last().is_some_and(|entry| path.len() > entry.path.len() && path.starts_with(&entry.path));
            if !comment.is_empty() {
                entries.push(Entry { path: path.clone(), explanation: std::mem::take(&mut comment).join(" ") });
            } else if !inside {
                assert!(content.ends_with(':'), "{} is not explained in values.yaml", path.join("."));
            }
        }
    }
    entries
}

fn defaults() -> Value {
    serde_saphyr::from_str(&fs::read_to_string(chart().join("values.yaml")).unwrap()).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap()
}

#[test]
fn the_readme_explains_every_value_as_values_yaml_does() {
    let defaults = defaults();
    let mut table = "| Value | Default | What it is |\n|---|---|---|\n".to_owned();
    for Entry { path, explanation } in entries() {
        let default = path.iter().fold(&defaults, |value, key| &value[key]);
        let explanation = explanation.replace('|', "\\|");
        writeln!(table, "| `{}` | `{default}` | {explanation} |", path.join(".")).unwrap();
    }
    let file = chart().join("README.md");
    let readme = fs::read_to_string(&file).unwrap();
    let (before, _) = readme.split_once("## Values\n").unwrap();
    let expected = format!("{before}## Values\n\n{table}");
    if env::var_os("BLESS").is_some() {
        fs::write(file, expected).unwrap();
    } else {
        assert!(
            readme == expected,
            "the table in the chart's README is made from the comments in values.yaml, and these have changed: run \
             `make readme` and commit the difference"
        );
    }
}

#[test]
fn the_schema_has_exactly_the_values_of_values_yaml() {
    /// Compares the keys of values with those of the schema, recursively.
    fn compare(path: &str, values: &Value, schema: &Value, root: &Value) {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
            None => schema,
        };
        let (Some(values), Some(known)) = (values.as_object(), schema["properties"].as_object()) else { return };
        assert_eq!(schema["additionalProperties"], false, "{path}: a typo would pass");
        // Fields of Kubernetes' own types, such as resources, need no default.
        let expected = known.keys().filter(|key| *key != "global" && !path.ends_with(".resources"));
        let missing: Vec<_> = expected.filter(|key| !values.contains_key(*key)).collect();
        assert!(missing.is_empty(), "{path}: in the schema only: {missing:?}");
        for (key, value) in values {
            let known = known.get(key).unwrap_or_else(|| panic!("{path}.{key} is not in values.schema.json"));
            compare(&format!("{path}.{key}"), value, known, root);
        }
    }
    let schema = schema();
    compare("", &defaults(), &schema, &schema);
}

#[rstest]
#[case::a_typo(json!({"crds": {"instal": false}}), "additional properties 'instal' not allowed")]
#[case::an_unknown_group(json!({"controler": {}}), "additional properties 'controler' not allowed")]
#[case::a_text_for_a_number(json!({"controller": {"replicas": "two"}}), "at '/controller/replicas': got string, want integer")]
#[case::zero_replicas(json!({"controller": {"replicas": 0}}), "at '/controller/replicas': minimum: got 0, want 1")]
#[case::a_text_for_a_switch(json!({"rbac": {"aggregate": "yes"}}), "at '/rbac/aggregate': got string, want boolean")]
#[case::an_unknown_format(json!({"log": {"format": "xml"}}), "at '/log/format': value must be one of 'text', 'json'")]
#[case::a_number_without_unit(json!({"controller": {"deletionTimeout": "120"}}), "at '/controller/deletionTimeout': '120' does not match pattern")]
#[case::a_port_out_of_range(json!({"agent": {"port": 70000}}), "at '/agent/port': maximum")]
#[case::a_tag_as_digest(json!({"image": {"digest": "latest"}}), "at '/image/digest': 'latest' does not match pattern")]
#[case::a_bare_ipv6_address(json!({"listenAddress": "::"}), "at '/listenAddress': '::' does not match pattern")]
#[case::a_word_for_an_address(json!({"agent": {"listenAddress": "localhost"}}), "at '/agent/listenAddress': 'localhost' does not match pattern")]
#[case::unknown_host_tools(json!({"agent": {"hostTools": "chroot=opt"}}), "at '/agent/hostTools': 'chroot=opt' does not match pattern")]
#[case::a_volume_without_a_name(json!({"agent": {"extraVolumes": [{"emptyDir": {}}]}}), "at '/agent/extraVolumes/0': missing property 'name'")]
#[case::a_controller_on_loopback(json!({"controller": {"listenAddress": "127.0.0.1"}}), "kubelet could not reach a controller")]
#[case::both_on_loopback(json!({"listenAddress": "[::1]"}), "kubelet could not reach a controller")]
#[case::an_invalid_account_name(json!({"agent": {"serviceAccount": {"name": "A B"}}}), "at '/agent/serviceAccount/name'")]
#[case::an_address_for_a_subnet(json!({"portals": {"allowed": ["10.0.1.10"]}}), "at '/portals/allowed/0': '10.0.1.10' does not match pattern")]
#[case::no_subnet_at_all(json!({"portals": {"byNamespace": {"a": ["fd00:::/64"]}}}), "at '/portals/byNamespace/a/0': 'fd00:::/64' does not match")]
#[case::an_unknown_alert(json!({"monitoring": {"rules": {"alerts": {"MultibondHostLosst": {"enabled": false}}}}}), "MultibondHostLosst")]
#[case::a_duration_without_unit(json!({"monitoring": {"rules": {"alerts": {"MultibondHostLost": {"for": "30"}}}}}), "for': '30' does not match pattern")]
#[case::a_namespace_without_subnets(json!({"portals": {"byNamespace": {"a": []}}}), "at '/portals/byNamespace/a': minItems: got 0, want 1")]
#[tokio::test]
async fn a_wrong_value_is_refused_with_its_path_and_the_expected_form(#[case] values: Value, #[case] words: &str) {
    let refused = render_chart(&chart(), SYSTEM, &values).await.unwrap_err().to_string();
    assert!(refused.contains(words), "{refused}");
}
