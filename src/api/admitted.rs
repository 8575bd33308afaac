//! What the schema admits, the types decode: an object that the API server takes and this program cannot read freezes its
//! data center.

use jiff::civil::Date;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    strategy::Union,
    string::string_regex,
};
use serde_json::{Map, Value, json};

use super::{DataCenter, Host, IscsiBond, Network, crds};

/// The schema of a kind.
fn schema_of(kind: &str) -> JSONSchemaProps {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap()
}

/// Why an object cannot be decoded.
fn error(kind: &str, mut object: Value) -> Option<String> {
    object["apiVersion"] = json!("multibond.dev/v1alpha1");
    object["kind"] = json!(kind);
    object["metadata"] = json!({"name": "any"});
    match kind {
        "DataCenter" => serde_json::from_value::<DataCenter>(object).err(),
        "Network" => serde_json::from_value::<Network>(object).err(),
        "Host" => serde_json::from_value::<Host>(object).err(),
        "IscsiBond" => serde_json::from_value::<IscsiBond>(object).err(),
        other => panic!("{other} is a new kind: add it"),
    }
    .map(|error| error.to_string())
}

/// The smallest and the largest value of an integer. Without a maximum the API server admits every 64-bit integer.
#[expect(clippy::cast_possible_truncation, reason = "bounds are whole numbers far below 2^53")]
fn range(schema: &JSONSchemaProps) -> (i64, i64) {
    (schema.minimum.map_or(i64::MIN, |least| least as i64), schema.maximum.map_or(i64::MAX, |most| most as i64))
}

/// Values that the schema admits, and more: CEL rules are not looked at.
fn admitted(schema: &JSONSchemaProps) -> BoxedStrategy<Value> {
    if let Some(words) = &schema.enum_ {
        return Union::new(words.iter().map(|word| Just(word.0.clone()))).boxed();
    }
    match schema.type_.as_deref() {
        Some("object") => object(schema),
        Some("array") => {
            let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items else { panic!("a list without items") };
            let least = usize::try_from(schema.min_items.unwrap_or(0)).unwrap();
            vec(admitted(items), least..least + 3).prop_map(Value::Array).boxed()
        }
        Some("string") => text(schema),
        Some("boolean") => any::<bool>().prop_map(Value::Bool).boxed(),
        Some("integer") => {
            let (least, most) = range(schema);
            prop_oneof![Just(least), Just(most), least..=most].prop_map(|number| json!(number)).boxed()
        }
        other => panic!("the type {other:?} is new: add it"),
    }
}

fn object(schema: &JSONSchemaProps) -> BoxedStrategy<Value> {
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        return btree_map("[a-z]{1,5}", admitted(values), 0..3)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()))
            .boxed();
    }
    let required = schema.required.clone().unwrap_or_default();
    let fields = schema.properties.clone().unwrap_or_default().into_iter().filter(|(name, _)| name != "metadata");
    let fields: Vec<BoxedStrategy<Option<(String, Value)>>> = fields
        .map(|(name, schema)| {
            let is_required = required.contains(&name);
            let field = admitted(&schema).prop_map(move |value| (name.clone(), value));
            if is_required { field.prop_map(Some).boxed() } else { prop::option::of(field).boxed() }
        })
        .collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect::<Map<_, _>>())).boxed()
}

fn text(schema: &JSONSchemaProps) -> BoxedStrategy<Value> {
    let longest = schema.max_length.map_or(usize::MAX, |most| usize::try_from(most).unwrap());
    // The other form of a text is a sentence, which is no value.
    let form = schema.any_of.as_ref().map_or(schema, |forms| &forms[1]);
    let pattern = form.pattern.as_deref().unwrap_or("^.{0,8}$");
    let pattern = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$')).unwrap();
    // Repetitions without an end are cut, so that texts stay short.
    let pattern = pattern.replace('*', "{0,3}").replace(")+", "){1,3}").replace("]+", "]{1,3}");
    let texts = string_regex(&pattern).unwrap().prop_filter("longer than maxLength", move |text| text.len() <= longest);
    match schema.format.as_deref() {
        None => texts.prop_map(Value::String).boxed(),
        // The API server's check of this format looks at the days of each month.
        Some("date-time") => {
            let is_a_day = |text: &String| text[..10].parse::<Date>().is_ok();
            texts.prop_filter("no such day", is_a_day).prop_map(Value::String).boxed()
        }
        Some(other) => panic!("the format {other} is new: add it"),
    }
}

fn everything_admitted_decodes(kind: &'static str) {
    proptest!(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(multibond_testbed::cases(300)) }, |(object in admitted(&schema_of(kind)))| {
        prop_assert_eq!(error(kind, object), None);
    });
}

#[test]
fn every_data_center_that_the_schema_admits_decodes() {
    everything_admitted_decodes("DataCenter");
}

#[test]
fn every_network_that_the_schema_admits_decodes() {
    everything_admitted_decodes("Network");
}

#[test]
fn every_host_that_the_schema_admits_decodes() {
    everything_admitted_decodes("Host");
}

#[test]
fn every_bond_that_the_schema_admits_decodes() {
    everything_admitted_decodes("IscsiBond");
}

/// Every integer of a schema, with its path: `[]` is an element of a list.
fn integers(path: &str, schema: &JSONSchemaProps, found: &mut Vec<(String, JSONSchemaProps)>) {
    if schema.type_.as_deref() == Some("integer") {
        found.push((path.to_owned(), schema.clone()));
    }
    for (name, property) in schema.properties.iter().flatten() {
        integers(&format!("{path}/{name}"), property, found);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        integers(&format!("{path}/[]"), items, found);
    }
}

/// An object with this value at a path, and else only what is required, with the simplest values.
fn with_value_at(path: &[&str], schema: &JSONSchemaProps, value: &Value) -> Value {
    let Some((first, rest)) = path.split_first() else { return value.clone() };
    if *first == "[]" {
        let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items else { panic!("a list without items") };
        return json!([with_value_at(rest, items, value)]);
    }
    let mut object = simplest(schema);
    object[*first] = with_value_at(rest, &schema.properties.as_ref().unwrap()[*first], value);
    object
}

fn simplest(schema: &JSONSchemaProps) -> Value {
    if let Some(word) = schema.enum_.iter().flatten().next() {
        return word.0.clone();
    }
    match schema.type_.as_deref() {
        Some("object") => {
            let required = schema.required.iter().flatten();
            let properties = schema.properties.as_ref();
            let of = |name: &String| (name.clone(), simplest(&properties.unwrap()[name]));
            Value::Object(required.filter(|name| *name != "metadata").map(of).collect())
        }
        Some("array") => json!([]),
        Some("string") if schema.format.as_deref() == Some("date-time") => json!("2026-01-01T00:00:00Z"),
        Some("string") => json!("x"),
        Some("integer") => json!(range(schema).0),
        Some("boolean") => json!(false),
        other => panic!("the type {other:?} is new: add it"),
    }
}

#[test]
fn every_integer_has_the_range_of_its_rust_type() {
    let mut seen = 0;
    for kind in ["DataCenter", "Network", "Host", "IscsiBond"] {
        let (schema, mut found) = (schema_of(kind), Vec::new());
        integers("", &schema, &mut found);
        seen += found.len();
        for (path, integer) in found {
            let steps: Vec<&str> = path.split('/').skip(1).collect();
            let decodes = |number: i128| {
                let number = i64::try_from(number)
                    .map_or_else(|_| json!(number.to_string().parse::<f64>().unwrap()), |it| json!(it));
                error(kind, with_value_at(&steps, &schema, &number)).is_none()
            };
            let (least, most) = range(&integer);
            assert!(decodes(least.into()) && decodes(most.into()), "{kind} {path}: {least} to {most} is too wide");
            // What users write may have a narrower range than the type, and a plan has it from them.
            if steps[0] == "status" && !steps.contains(&"session") {
                assert!(!decodes(i128::from(most) + 1), "{kind} {path}: {most} is not the largest");
                assert_eq!(least, 0, "{kind} {path}");
            }
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn times_that_are_not_timestamps_are_refused_by_the_pattern() {
    let schema = schema_of("Host");
    let status = &schema.properties.unwrap()["status"];
    let conditions = &status.properties.as_ref().unwrap()["conditions"];
    let Some(JSONSchemaPropsOrArray::Schema(items)) = &conditions.items else { panic!("a list without items") };
    let pattern = items.properties.as_ref().unwrap()["lastTransitionTime"].pattern.clone().unwrap();
    let pattern = regex::Regex::new(&pattern).unwrap();
    for time in ["1970-01-01T00:00:00Z", "2026-11-30T07:00:00.123456Z", "2026-11-30T07:00:00+05:30"] {
        assert!(pattern.is_match(time), "{time}");
    }
    for time in
        ["9999-12-31T23:59:59-14:00", "2026-11-30T07:00:00+99:99", "2026-11-30T07:00:60Z", "2026-11-30t07:00:00z"]
    {
        assert!(!pattern.is_match(time), "{time}");
    }
}
