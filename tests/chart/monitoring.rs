//! Alerts and dashboard use only metrics that exist.

use std::collections::BTreeSet;
use std::fs;

use regex::Regex;
use serde_json::{Value, json};

use crate::{all_options, of_kind, rendered, root};

/// The names of all metrics, from docs/operations.md, which lists all of them.
fn metrics() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `multibond_")?.split('`').next());
    rows.map(|name| format!("multibond_{name}")).collect()
}

fn strings<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str));
            fields.values().for_each(|field| strings(field, key, found));
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, found)),
        _ => {}
    }
}

#[tokio::test]
async fn alerts_and_panels_use_only_metrics_that_exist() {
    let objects = rendered(all_options()).await;
    let [rules] = &of_kind(&objects, "PrometheusRule")[..] else { panic!("one PrometheusRule") };
    let dashboards = of_kind(&objects, "ConfigMap");
    let dashboard: Value = serde_json::from_str(dashboards[0]["data"]["multibond.json"].as_str().unwrap()).unwrap();
    let mut queries = Vec::new();
    strings(rules, "expr", &mut queries);
    let alerts = queries.len();
    strings(&dashboard, "expr", &mut queries);
    assert!(alerts >= 5 && queries.len() >= alerts + 10, "{queries:?}");

    let known = metrics();
    let name = Regex::new(r"\bmultibond_\w+").unwrap();
    for query in queries {
        let names: Vec<_> = name.find_iter(query).map(|found| found.as_str()).collect();
        assert!(!names.is_empty(), "{query}");
        for name in names {
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(known.contains(name), "{name} in {query} is none of {known:#?}");
        }
    }
}

#[tokio::test]
async fn defaults_need_no_prometheus_operator() {
    let objects = rendered(json!({})).await;
    let kinds: BTreeSet<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    for kind in ["ServiceMonitor", "PrometheusRule", "ConfigMap"] {
        assert!(!kinds.contains(kind), "{kinds:?}");
    }
}
