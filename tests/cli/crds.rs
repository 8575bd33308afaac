//! `multibond crds`, and the schemas that it writes.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use multibond::api;

use super::multibond;

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crds")
}

fn files_in(directory: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn committed_crds_match_the_types() {
    let written = tempfile::tempdir().unwrap();
    multibond(&["crds", "--out-dir"]).arg(written.path()).assert().success().stdout("");
    assert!(
        files_in(written.path()) == files_in(&committed()),
        "crds/ is not what `multibond crds` writes: run `cargo run -- crds --out-dir crds` and commit the difference"
    );
}

#[test]
fn printed_crds_parse_back() {
    let output = multibond(&["crds"]).assert().success().get_output().stdout.clone();
    let read: Vec<CustomResourceDefinition> =
        serde_saphyr::from_multiple(std::str::from_utf8(&output).unwrap()).unwrap();
    assert_eq!(read, api::crds());
}

#[test]
fn no_text_is_a_boolean_or_number_in_yaml_1_1() {
    // YAML 1.1, which Kubernetes tools read: booleans and numbers that YAML 1.2 takes for texts must be quoted.
    let suspicious = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"];
    for (name, text) in files_in(&committed()) {
        for (number, line) in text.lines().enumerate() {
            let value = line.rsplit_once(": ").map_or(line.trim_start_matches(['-', ' ']), |(_, value)| value);
            let allowed =
                line.contains("default: false") || line.contains("served: true") || line.contains("storage: true");
            let read_otherwise = suspicious.contains(&value.to_lowercase().as_str());
            assert!(allowed || !read_otherwise, "{name}:{}: {line}", number + 1);
            assert!(!line.ends_with(".0"), "{name}:{}: a bound written as a float: {line}", number + 1);
        }
    }
}

#[test]
fn a01_every_field_has_a_description() {
    fn walk(schema: &JSONSchemaProps, path: &str, missing: &mut Vec<String>) {
        for (name, property) in schema.properties.iter().flatten() {
            let path = format!("{path}.{name}");
            if property
                .description
                .as_ref()
                .is_none_or(|text| text.trim().is_empty() || text.replace("\n\n", "").contains('\n'))
            {
                missing.push(path.clone());
            }
            walk(property, &path, missing);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            walk(items, path, missing);
        }
    }
    let mut missing = Vec::new();
    for crd in api::crds() {
        let root = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        assert!(root.description.is_some(), "{}", crd.spec.names.kind);
        walk(root, &crd.spec.names.kind, &mut missing);
    }
    assert!(missing.is_empty(), "fields without a description, or with one that is cut into lines: {missing:#?}");
}
