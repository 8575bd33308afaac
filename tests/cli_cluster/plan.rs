//! `multibond plan` compared with a real API server: both accept and refuse the same objects.

use futures::stream::{self, StreamExt as _};
use kube::Client;
use multibond::api::{GROUP, VERSION};
use serde_json::{Value, json};

use super::{
    cluster,
    schema_examples::{self, Example, findings},
};

/// Whether the API server would accept a document with strict field validation; the error is its message.
pub(super) async fn dry_run(client: &Client, namespace: &str, example: &Example) -> Result<(), String> {
    let plural = example.kind.to_lowercase() + "s";
    let uri = format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{plural}?dryRun=All&fieldValidation=Strict");
    let form = if example.document.starts_with('{') { "application/json" } else { "application/yaml" };
    let request = http::Request::post(uri).header("content-type", form).body(example.document.clone().into_bytes());
    match client.request_text(request.unwrap()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => Err(status.message.clone()),
        Err(error) => panic!("{}: {error}", example.name),
    }
}

/// The examples on which the API server and `multibond plan` disagree.
async fn differences(examples: &[Example]) -> Vec<String> {
    let cluster = cluster().await;
    let client = cluster.client().await.unwrap();
    let namespace = cluster.namespace("verdicts").await.unwrap();
    let verdicts = stream::iter(examples).map(|example| dry_run(&client, &namespace, example)).buffered(8);
    let verdicts: Vec<_> = verdicts.collect().await;
    let compared = examples.iter().zip(verdicts).zip(findings(examples));
    compared
        .filter_map(|((example, server), plan)| match (server, plan.is_empty()) {
            (Ok(()), true) | (Err(_), false) => None,
            (Ok(()), false) => {
                Some(format!("{}\n  accepted by the API server, but\n  {}", example.name, plan.join("\n  ")))
            }
            (Err(message), true) => Some(format!("{}\n  accepted by plan, but: {message}", example.name)),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a02_the_api_server_gives_every_example_the_verdict_of_the_table() {
    let cluster = cluster().await;
    let client = cluster.client().await.unwrap();
    let namespace = cluster.namespace("table").await.unwrap();
    let mut wrong = Vec::new();
    for example in schema_examples::all() {
        match dry_run(&client, &namespace, &example).await {
            Ok(()) if example.accepted => {}
            Err(_) if !example.accepted => {}
            Ok(()) => wrong.push(format!("{}: accepted", example.name)),
            Err(message) => wrong.push(format!("{}: refused: {message}", example.name)),
        }
    }
    assert!(wrong.is_empty(), "{} differ from the table:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a33_every_field_with_every_odd_value_gets_the_same_verdict_from_both() {
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(1.0),
        json!(1.5),
        json!(70000),
        json!(1e30),
        json!(""),
        json!("x"),
        json!("X"),
        json!("1"),
        json!("a b"),
        json!("x".repeat(5000)),
        json!([]),
        json!([null]),
        json!([""]),
        json!(["x", "x"]),
        json!([[]]),
        json!([{}]),
        json!({}),
        json!({"x": null}),
        json!({"x": "y"}),
        json!({"x": {}}),
    ];
    let mut examples = Vec::new();
    for base in schema_examples::bases() {
        for pointer in pointers(&base) {
            for value in &odd {
                let mut object = base.clone();
                *object.pointer_mut(&pointer).unwrap() = value.clone();
                examples.push(Example {
                    name: format!(
                        "{} {pointer} {}",
                        base["kind"],
                        value.to_string().chars().take(60).collect::<String>()
                    ),
                    kind: base["kind"].as_str().unwrap().to_owned(),
                    document: object.to_string(),
                    accepted: false,
                    field: String::new(),
                    says: String::new(),
                });
            }
        }
    }
    let found = differences(&examples).await;
    assert!(found.is_empty(), "{} of {} differ:\n{}", found.len(), examples.len(), found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_reads_yaml_as_multibond_does() {
    let readings: Vec<(String, Value)> = serde_json::from_str(include_str!("../cli/data/yaml-readings.json")).unwrap();
    let head = "apiVersion: multibond.dev/v1alpha1\nkind: Host\nmetadata: {name: a}\nspec:\n";
    let document = |(yaml, _): &(String, Value)| format!("{head}  value: {}\n", yaml.replace('\n', "\n  "));
    let all: Vec<String> = readings.iter().map(document).collect();
    let args = ["create", "--dry-run=client", "--validate=false", "--output=json", "--filename=-"];
    let read = cluster().await.kubectl(args, &all.join("---\n")).await.unwrap().success().unwrap();
    let read: Vec<Value> = serde_json::Deserializer::from_str(&read).into_iter().map(Result::unwrap).collect();
    assert_eq!(read.len(), readings.len());
    let differ = readings.iter().zip(&read).filter_map(|((yaml, expected), read)| {
        let read = &read["spec"]["value"];
        let same = read == expected || (read.is_number() && read.as_f64() == expected.as_f64());
        (!same).then(|| format!("{yaml}: {read} instead of {expected}"))
    });
    assert_eq!(differ.collect::<Vec<_>>(), [""; 0]);
}

/// JSON pointers to every value in an object except `apiVersion` and `kind`, which are no part of the schema.
fn pointers(object: &Value) -> Vec<String> {
    fn walk(value: &Value, at: &str, found: &mut Vec<String>) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.replace('/', "~1"), value)).collect(),
            Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
            _ => Vec::new(),
        };
        for (name, child) in children {
            let pointer = format!("{at}/{name}");
            walk(child, &pointer, found);
            found.push(pointer);
        }
    }
    let mut found = Vec::new();
    walk(object, "", &mut found);
    found.retain(|pointer| pointer != "/apiVersion" && pointer != "/kind");
    found
}
