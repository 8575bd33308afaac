//! Names that users, clusters and other versions of the program rely on. `tests/literals.txt` lists every one of them.
//!
//! A name that is missing was renamed or removed: that breaks somebody, so the program must change back. A name that is
//! new gets a line in the file.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use multibond::{
    api::{self, LunProblemKind, Phase, condition, reason::*},
    check::Check,
    cli,
    planner::{Objects, plan_all},
};
use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What was found, as `section: name`.
#[derive(Default)]
struct Found(BTreeSet<String>);

impl Found {
    fn add(&mut self, section: &str, name: impl AsRef<str>) {
        self.0.insert(format!("{section}: {}", name.as_ref()));
    }

    fn add_all<T: AsRef<str>>(&mut self, section: &str, names: impl IntoIterator<Item = T>) {
        for name in names {
            self.add(section, name);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a directory whose names end like this, with their texts.
fn files(directory: &str, endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut pending = vec![root().join(directory)];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

#[test]
fn no_name_that_others_rely_on_is_renamed() {
    let mut found = Found::default();
    names_in_the_cluster(&mut found);
    closed_sets(&mut found);
    command_line(&mut found, &cli::command(), "multibond");
    metrics(&mut found);
    chart(&mut found);
    documentation(&mut found);
    test_ids(&mut found);
    found.add("revision of a plan", revision_of_a_plan());

    let text = fs::read_to_string(root().join("tests/literals.txt")).unwrap();
    let listed: BTreeSet<String> = text.lines().filter(|line| line.contains(": ")).map(str::to_owned).collect();
    let missing: Vec<_> = listed.difference(&found.0).collect();
    let new: Vec<_> = found.0.difference(&listed).filter(|name| !name.starts_with("anchor: ")).collect();
    assert!(missing.is_empty() && new.is_empty(), "missing: {missing:#?}\nnot listed in tests/literals.txt: {new:#?}");
}

fn names_in_the_cluster(found: &mut Found) {
    found.add("API group", api::GROUP);
    found.add("API version", api::VERSION);
    found.add("finalizer", api::FINALIZER);
    found.add("lease", api::LEADER_LEASE);
    found.add("lease prefix", api::AGENT_LEASE_PREFIX);
    found.add_all("field manager", [api::CONTROLLER_MANAGER, api::AGENT_MANAGER, api::CONSOLE_MANAGER]);
    found.add("label", api::MADE_FOR_LABEL);
    found.add_all("annotation", [api::NODE_GONE_ANNOTATION, api::OVIRT_NAME_ANNOTATION]);
    found.add("node condition", api::NODE_CONDITION);
    found.add("taint", api::NODE_TAINT);
    // Records of open-iscsi on the hosts; an agent of another version must know them as its own.
    let record_prefix = Regex::new(r#"const \w+: &str = "(mb\.)";"#).unwrap();
    for (_, text) in files("src/agent", &[".rs"]) {
        found.add_all("record prefix", record_prefix.captures_iter(&text).map(|prefix| prefix[1].to_owned()));
    }
    for crd in api::crds() {
        let names = crd.spec.names;
        found.add("kind", &names.kind);
        found.add("plural", &names.plural);
        found.add_all("short name", names.short_names.unwrap_or_default());
    }
    // All other names of our API group in the sources and the chart.
    let qualified = Regex::new(r"multibond\.dev/[A-Za-z-]+[A-Za-z]").unwrap();
    for (_, text) in files("src", &[".rs"]).into_iter().chain(files("charts", &[".yaml", ".tpl"])) {
        let names = qualified.find_iter(&text).map(|name| name.as_str()).filter(|name| !name.ends_with("/v"));
        found.add_all("qualified name", names);
    }
}

fn closed_sets(found: &mut Found) {
    macro_rules! set {
        ($section:literal, $set:ident) => {
            found.add_all($section, $set::ALL.iter().map(|word| word.as_str()));
        };
    }
    set!("condition type", ConditionType);
    set!("reason", Reason);
    set!("reason of an empty plan", EmptyReason);
    set!("reason of a path", PathReason);
    set!("reason of HostPrepared", PreparedReason);
    set!("reason of LunsHealthy", LunProblemKind);
    set!("event reason", EventReason);
    set!("phase", Phase);
    let statuses = [condition::Status::True, condition::Status::False, condition::Status::Unknown];
    found.add_all("condition status", statuses.map(condition::Status::as_str));
}

fn command_line(found: &mut Found, command: &clap::Command, name: &str) {
    found.add("command", name);
    // A positional argument has no name that a user types.
    for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
        let flag = match (argument.get_long(), argument.get_short()) {
            (Some(long), Some(short)) => format!("--{long} -{short}"),
            (Some(long), None) => format!("--{long}"),
            (None, short) => format!("-{}", short.unwrap_or_default()),
        };
        let variable = argument.get_env().map(|name| format!(" {}", name.to_string_lossy())).unwrap_or_default();
        found.add("flag", format!("{name} {flag}{variable}"));
        let values = argument.get_possible_values();
        found.add_all("flag value", values.iter().map(|value| format!("{name} {flag} {}", value.get_name())));
    }
    for subcommand in command.get_subcommands() {
        command_line(found, subcommand, &format!("{name} {}", subcommand.get_name()));
    }
}

/// The sources are read, because a family of metrics without a member is not written out.
fn metrics(found: &mut Found) {
    let prefix = Regex::new(r#"sub_registry_with_prefix\("(\w+)"\)"#).unwrap();
    let metric =
        Regex::new(r#"(?:register(?:ed\(\s*registry,|_with_unit\()|gauges\(encoder,|encode_descriptor\()\s*"(\w+)""#)
            .unwrap();
    let labels = Regex::new(r"(?s)EncodeLabelSet\)\]\s*pub(?:\([a-z]+\))? struct \w+ \{(.*?)\n\}").unwrap();
    let field = Regex::new(r"pub(?:\([a-z]+\))? (?:r#)?(\w+):").unwrap();
    for (_, text) in files("src", &[".rs"]) {
        for prefix in prefix.captures_iter(&text) {
            found.add_all("metric", metric.captures_iter(&text).map(|name| format!("{}_{}", &prefix[1], &name[1])));
        }
        for labels in labels.captures_iter(&text) {
            found.add_all("metric label", field.captures_iter(&labels[1]).map(|label| label[1].to_owned()));
        }
    }
}

fn chart(found: &mut Found) {
    fn keys(found: &mut Found, values: &Value, path: &str) {
        for (key, value) in values.as_object().into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            keys(found, value, &path);
            found.add("chart value", path);
        }
    }
    let values = fs::read_to_string(root().join("charts/multibond/values.yaml")).unwrap();
    keys(found, &serde_saphyr::from_str(&values).unwrap(), "");
    let name = Regex::new(r"(?m)^\s*name: (multibond[a-z-]*)$").unwrap();
    for (_, text) in files("charts/multibond/templates", &[".yaml"]) {
        found.add_all("object of the chart", name.captures_iter(&text).map(|name| name[1].to_owned()));
    }
}

fn documentation(found: &mut Found) {
    for check in Check::ALL {
        let id = serde_json::to_value(check).unwrap();
        found.add("check", format!("{} {}", id.as_str().unwrap(), check.anchor()));
    }
    // The list has the headings that the program, the chart or a page links to: such links are in the hands of users.
    for (path, text) in files("docs", &[".md"]) {
        let page = path.file_name().unwrap().to_string_lossy();
        found.add_all("anchor", text.lines().filter_map(anchor_of).map(|anchor| format!("{page}#{anchor}")));
    }
}

/// The anchor that a heading gets.
fn anchor_of(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim().to_lowercase();
    Some(heading.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c)).collect::<String>().replace(' ', "-"))
}

/// The list of behaviours that tests cite.
fn test_ids(found: &mut Found) {
    let id = Regex::new(r"fn (a[0-9]{2})_").unwrap();
    for (_, text) in files("tests", &[".rs"]).into_iter().chain(files("src", &[".rs"])) {
        found.add_all("test", id.captures_iter(&text).map(|id| id[1].to_owned()));
    }
}

/// The text that is hashed is tested beside the function; this is one hash as an agent sees it.
fn revision_of_a_plan() -> String {
    fn object<T: DeserializeOwned>(kind: &str, name: &str, spec: &Value, status: &Value) -> T {
        let metadata = json!({"namespace": "ns", "name": name});
        let version = Path::new(api::GROUP).join(api::VERSION);
        serde_json::from_value(
            json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec, "status": status}),
        )
        .unwrap()
    }
    let target = json!({"iqn": "iqn.2003-01.org.example:a", "chap": {"secretRef": {"name": "chap"}},
        "portals": [{"address": "10.0.1.10"}, {"address": "fd00:2::10", "port": 3261, "tpgt": 2}]});
    let interfaces =
        json!([{"name": "ens1", "addresses": ["10.0.1.21/24"]}, {"name": "ens2", "addresses": ["fd00:2::21/64"]}]);
    let objects = Objects {
        data_centers: vec![object(
            "DataCenter",
            "dc",
            &json!({"storage": [{"name": "s", "targets": [target]}]}),
            &json!({}),
        )],
        networks: vec![
            object("Network", "san-a", &json!({"dataCenter": "dc", "subnets": ["10.0.1.0/24"]}), &json!({})),
            object("Network", "san-b", &json!({"dataCenter": "dc", "subnets": ["fd00:2::/64"]}), &json!({})),
        ],
        bonds: vec![object(
            "IscsiBond",
            "bond",
            &json!({"dataCenter": "dc", "networks": ["san-a", "san-b"]}),
            &json!({}),
        )],
        hosts: vec![object(
            "Host",
            "host",
            &json!({"dataCenter": "dc", "nodeName": "host"}),
            &json!({"interfaces": interfaces}),
        )],
        ..Objects::default()
    };
    plan_all(&objects).hosts[0].plan.revision.to_string()
}
