//! `multibond plan` refuses what the API server refuses: the table of `tests/cli/data/schema-examples/`.

use super::schema_examples::{self, Example, findings};

#[test]
fn a02_valid_examples_are_accepted() {
    let examples: Vec<Example> = schema_examples::all().into_iter().filter(|example| example.accepted).collect();
    let mut wrong = Vec::new();
    for (example, found) in examples.iter().zip(findings(&examples)) {
        if !found.is_empty() {
            wrong.push(format!("{}\n  {}", example.name, found.join("\n  ")));
        }
    }
    assert!(wrong.is_empty(), "refused, though valid:\n{}", wrong.join("\n"));
}

#[test]
fn a02_invalid_examples_are_refused_with_field_and_allowed_form() {
    let examples: Vec<Example> = schema_examples::all().into_iter().filter(|example| !example.accepted).collect();
    let mut wrong = Vec::new();
    for (example, found) in examples.iter().zip(findings(&examples)) {
        let Example { name, field, says, .. } = example;
        let said = |line: &String| line.contains(&format!(" {field}")) && line.contains(says.as_str());
        if !found.iter().any(said) {
            wrong.push(format!("{name}\n  expected {field}: {says}\n  {}", found.join("\n  ")));
        }
    }
    assert!(wrong.is_empty(), "{} not refused as they should be:\n{}", wrong.len(), wrong.join("\n"));
}
