//! Each alert fires when it should and not else: unit tests of promtool over the rules as the chart renders them.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{all_options, of_kind, rendered};

/// An alert, its input (a series, and its values every 30 seconds), the minute of the evaluation, and whether it fires then.
const CASES: &[(&str, &str, &str, u32, bool)] = &[
    ("MultibondHostLost", r#"multibond_hosts{namespace="f",data_center="f",phase="Lost"}"#, "1x20", 5, true),
    ("MultibondHostLost", r#"multibond_hosts{namespace="f",data_center="f",phase="Lost"}"#, "0x9 1 0x9", 5, false),
    (
        "MultibondHostNonOperational",
        r#"multibond_hosts{namespace="f",data_center="f",phase="NonOperational"}"#,
        "2x20",
        5,
        true,
    ),
    ("MultibondHostNonOperational", r#"multibond_hosts{namespace="f",data_center="f",phase="Up"}"#, "2x20", 5, false),
    ("MultibondHostDegraded", r#"multibond_hosts{namespace="f",data_center="f",phase="Degraded"}"#, "1x60", 20, true),
    (
        "MultibondHostDegraded",
        r#"multibond_hosts{namespace="f",data_center="f",phase="Degraded"}"#,
        "1x10 0x50",
        20,
        false,
    ),
    (
        "MultibondLunWithoutPath",
        r#"multibond_lun_problems{namespace="f",data_center="f",problem="NoActivePath"}"#,
        "1x20",
        5,
        true,
    ),
    (
        "MultibondLunWithoutPath",
        r#"multibond_lun_problems{namespace="f",data_center="f",problem="PathsMissing"}"#,
        "1x20",
        5,
        false,
    ),
    (
        "MultibondLunProblem",
        r#"multibond_lun_problems{namespace="f",data_center="f",problem="PathsMissing"}"#,
        "1x60",
        20,
        true,
    ),
    (
        "MultibondLunProblem",
        r#"multibond_lun_problems{namespace="f",data_center="f",problem="SizeDiffers"}"#,
        "0x60",
        20,
        false,
    ),
    ("MultibondPathsFlapping", r#"multibond_agent_session_losses_total{node="w1",instance="a"}"#, "0+1x90", 40, true),
    (
        "MultibondPathsFlapping",
        r#"multibond_agent_session_losses_total{node="w1",instance="a"}"#,
        "0x60 1x40",
        40,
        false,
    ),
    (
        "MultibondTargetsHeld",
        r#"multibond_condition{kind="IscsiBond",namespace="f",name="b",type="NetworksResolved",status="False"}"#,
        "1x40",
        10,
        true,
    ),
    (
        "MultibondTargetsHeld",
        r#"multibond_condition{kind="IscsiBond",namespace="f",name="b",type="NetworksResolved",status="True"}"#,
        "1x40",
        10,
        false,
    ),
    (
        "MultibondBondNotReady",
        r#"multibond_condition{kind="IscsiBond",namespace="f",name="b",type="Ready",status="Unknown"}"#,
        "1x60",
        20,
        true,
    ),
    (
        "MultibondBondNotReady",
        r#"multibond_condition{kind="Host",namespace="f",name="b",type="Ready",status="False"}"#,
        "1x60",
        20,
        false,
    ),
    (
        "MultibondDataCenterProblem",
        r#"multibond_condition{kind="DataCenter",namespace="f",name="f",type="HostsMade",status="False"}"#,
        "1x60",
        20,
        true,
    ),
    (
        "MultibondDataCenterProblem",
        r#"multibond_condition{kind="DataCenter",namespace="f",name="f",type="Ready",status="True"}"#,
        "1x60",
        20,
        false,
    ),
    (
        "MultibondHostNotPrepared",
        r#"multibond_condition{kind="Host",namespace="f",name="w",type="HostPrepared",status="False"}"#,
        "1x90",
        40,
        true,
    ),
    (
        "MultibondHostNotPrepared",
        r#"multibond_condition{kind="Host",namespace="f",name="w",type="HostPrepared",status="False"}"#,
        "1x30 _x60",
        40,
        false,
    ),
    ("MultibondAgentSilent", r#"multibond_hosts{namespace="f",data_center="f",phase="Unknown"}"#, "60x60", 20, true),
    (
        "MultibondAgentSilent",
        r#"multibond_hosts{namespace="f",data_center="f",phase="Unknown"}"#,
        "60x5 0x60",
        20,
        false,
    ),
    ("MultibondObjectsFrozen", "multibond_undecodable_objects", "1x60", 20, true),
    ("MultibondObjectsFrozen", "multibond_undecodable_objects", "0x60", 20, false),
    ("MultibondNoLeader", r#"multibond_leader{pod="a"}"#, "0x20", 5, true),
    ("MultibondNoLeader", r#"multibond_leader{pod="a"}"#, "1x20", 5, false),
];

/// The cases of an alert that compares two series.
const PATHS: &[(&str, bool)] = &[("3x60", true), ("4x60", false)];

/// A unit test of promtool.
fn case(alert: &str, series: &[(String, &str)], minute: u32, fires: bool) -> Value {
    let series: Vec<Value> =
        series.iter().map(|(series, values)| json!({"series": series, "values": values})).collect();
    let expected = if fires { json!([{"labels": "{}", "value": 1}]) } else { json!([]) };
    json!({
        "interval": "30s",
        "input_series": series,
        "promql_expr_test": [{
            "expr": format!("count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}})"),
            "eval_time": format!("{minute}m"),
            "exp_samples": expected,
        }],
    })
}

async fn groups() -> Value {
    let objects = rendered(all_options()).await;
    of_kind(&objects, "PrometheusRule").remove(0)["spec"]["groups"].take()
}

fn rules(groups: &Value) -> &Vec<Value> {
    groups[0]["rules"].as_array().unwrap()
}

#[tokio::test]
async fn every_alert_has_a_runbook_and_a_severity() {
    let page = fs::read_to_string(crate::root().join("docs/troubleshooting.md")).unwrap();
    let anchors: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    for rule in rules(&groups().await) {
        let runbook = rule["annotations"]["runbook_url"].as_str().unwrap();
        let anchor = runbook.strip_prefix("https://wiki.example/storage#").unwrap_or_else(|| panic!("{runbook}"));
        assert!(anchors.contains(anchor), "docs/troubleshooting.md has no {anchor}");
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{rule}");
    }
}

#[tokio::test]
async fn single_alerts_are_changed_or_left_out_by_values() {
    let all = rules(&groups().await).clone();
    let alerts = json!({
        "MultibondHostDegraded": {"severity": "info", "for": "1h"},
        "MultibondPathsFlapping": {"for": "5m"},
        "MultibondNoLeader": {"enabled": false},
    });
    let mut values = all_options();
    values["monitoring"]["rules"]["alerts"] = alerts;
    let objects = rendered(values).await;
    let changed = of_kind(&objects, "PrometheusRule").remove(0)["spec"]["groups"].take();
    let changed = rules(&changed);
    let named = |rules: &[Value], name: &str| rules.iter().find(|rule| rule["alert"] == name).cloned();
    for rule in &all {
        let name = rule["alert"].as_str().unwrap();
        let mut expected = Some(rule.clone());
        match (name, &mut expected) {
            ("MultibondHostDegraded", Some(rule)) => {
                rule["labels"]["severity"] = json!("info");
                rule["for"] = json!("1h");
            }
            ("MultibondPathsFlapping", Some(rule)) => rule["for"] = json!("5m"),
            ("MultibondNoLeader", expected) => *expected = None,
            _ => {}
        }
        assert_eq!(named(changed, name), expected, "{name}");
    }
}

#[test]
fn the_schema_knows_the_names_of_all_alerts() {
    let read = |file: &str| fs::read_to_string(crate::root().join("charts/multibond").join(file)).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let rules = &schema["properties"]["monitoring"]["properties"]["rules"];
    let known = &rules["properties"]["alerts"]["propertyNames"]["enum"];
    let alerts = read("files/alerts.yaml");
    let alerts: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(*known, json!(alerts));
}

#[tokio::test]
async fn every_alert_fires_when_it_should_and_not_else() {
    let groups = groups().await;
    let of_bond = |name: &str| format!("multibond_bond_paths_{name}{{namespace=\"f\",data_center=\"f\",bond=\"b\"}}");
    let mut tests: Vec<Value> = CASES
        .iter()
        .map(|(alert, series, values, minute, fires)| case(alert, &[((*series).to_owned(), values)], *minute, *fires))
        .collect();
    for (connected, fires) in PATHS {
        let series = [(of_bond("desired"), "4x60"), (of_bond("connected"), *connected)];
        tests.push(case("MultibondPathsMissing", &series, 20, *fires));
    }
    let ways = |fires: bool| {
        let of_one = CASES.iter().filter(move |case| case.4 == fires).map(|case| case.0);
        of_one.chain(["MultibondPathsMissing"]).collect::<BTreeSet<_>>()
    };
    let alerts: BTreeSet<_> = rules(&groups).iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    assert_eq!(
        (&alerts, &alerts),
        (&ways(true), &ways(false)),
        "each alert has a case that fires it, and one that does not"
    );

    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("left out: promtool is missing (tests/packages.sh install alerts; make test does it)");
        return;
    }
    let directory = TempDir::new().unwrap();
    let write = |name: &str, value: Value| fs::write(directory.path().join(name), value.to_string()).unwrap();
    write("rules.yaml", json!({"groups": groups}));
    write("tests.yaml", json!({"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": tests}));
    let run = Command::new("promtool").args(["test", "rules", "tests.yaml"]).current_dir(directory.path()).output();
    let run = run.unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(run.status.success(), "{}\n{}", said(&run.stdout), said(&run.stderr));
}
