//! `multibond plan`, as people and pipelines use it.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use rstest::rstest;
use serde_json::Value;

use super::{data, multibond, run};

fn plan() -> Command {
    multibond(&["plan"])
}

fn stdin(text: impl Into<Vec<u8>>) -> (i32, String, String) {
    run(plan().args(["-f", "-"]).write_stdin(text.into()))
}

const NETWORK: &str = "apiVersion: multibond.dev/v1alpha1\nkind: Network\nmetadata: {name: a}\nspec: {dataCenter: f}\n";
const DATA_CENTER: &str = "apiVersion: multibond.dev/v1alpha1\nkind: DataCenter\nmetadata: {name: f}\nspec: {}\n";

#[test]
fn a33_a_directory_gives_each_host_with_its_paths_and_every_problem() {
    let (code, stdout, stderr) = run(plan().arg("-f").arg(data("frankfurt")));
    assert_eq!((code, stderr.as_str()), (2, ""));
    insta::assert_snapshot!("table", stdout);
}

#[test]
fn a33_json_and_yaml_say_the_same() {
    let (code, json, stderr) = run(plan().args(["-o", "json", "-f"]).arg(data("frankfurt")));
    assert_eq!((code, stderr.as_str()), (2, ""));
    insta::assert_snapshot!("json", json);
    let (code, yaml, stderr) = run(plan().args(["-o", "yaml", "-f"]).arg(data("frankfurt")));
    assert_eq!((code, stderr.as_str()), (2, ""));
    insta::assert_snapshot!("yaml", yaml);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), json);
}

#[rstest]
fn a09_the_order_of_files_and_documents_does_not_matter(#[values("table", "json", "yaml")] format: &str) {
    let names = ["data-center.yaml", "networks.yaml", "hosts.yaml", "bonds.yml", "others.json"];
    let expected = run(plan().args(["-o", format, "-f"]).arg(data("frankfurt")));
    for turn in 0..names.len() {
        let mut command = plan();
        command.args(["-o", format]);
        for at in 0..names.len() {
            command.arg("-f").arg(data("frankfurt").join(names[(at + turn) % names.len()]));
        }
        assert_eq!(run(&mut command), expected, "turned by {turn}");
    }
    // The same documents in reverse order, in one stream.
    let text: Vec<String> =
        names[..4].iter().map(|name| fs::read_to_string(data("frankfurt").join(name)).unwrap()).collect();
    let all = text.join("---\n");
    let mut documents: Vec<&str> = all.split("---\n").collect();
    documents.reverse();
    let reversed = run(plan().args(["-o", format, "-f", "-"]).write_stdin(documents.join("---\n")));
    assert_eq!(reversed, expected, "reversed");
}

#[test]
fn a_plan_without_problems_exits_with_0() {
    let (code, stdout, stderr) = stdin(format!("{NETWORK}---\n{DATA_CENTER}"));
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "No hosts.\nNo problems.\n", ""));
}

#[rstest]
#[case::hosts_of_two_kinds("HostsDiffer", "[{name: ens1, networks: [san-a]}]")]
#[case::a_network_to_come("NetworkNotCarried", "[{name: ens1, networks: [san-a, san-b]}]")]
fn a62_what_may_be_meant_is_a_warning_and_the_exit_code_is_0(#[case] reason: &str, #[case] interfaces: &str) {
    let object = |kind: &str, name: &str, spec: &str| {
        format!("---\napiVersion: multibond.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let networks = if reason == "HostsDiffer" { "[san-a, san-b]" } else { "[san-a, san-b, san-c]" };
    let network = |name: &str| object("Network", name, "{dataCenter: f}");
    let host = |name: &str, interfaces: &str| {
        object("Host", name, &format!("{{dataCenter: f, nodeName: {name}, interfaces: {interfaces}}}"))
    };
    let objects = [
        object("DataCenter", "f", "{}"),
        network("san-a") + &network("san-b") + &network("san-c"),
        object("IscsiBond", "storage", &format!("{{dataCenter: f, networks: {networks}}}")),
        host("one", "[{name: ens1, networks: [san-a]}, {name: ens2, networks: [san-b]}]"),
        host("other", interfaces),
    ]
    .concat();
    let (code, stdout, stderr) = stdin(objects.clone());
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.contains(&format!("No problems.\n1 warning:\n  IscsiBond default/storage: {reason}\n")), "{stdout}");

    let (_, stdout, _) = run(plan().args(["-o", "json", "-f", "-"]).write_stdin(objects));
    let output: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&output["problems"], &output["warnings"][0]["reason"]), (&Value::Array(Vec::new()), &reason.into()));
}

#[test]
fn invalid_input_exits_with_1_prints_no_plan_and_names_every_finding() {
    let wrong =
        NETWORK.replace("{dataCenter: f}", "{dataCenter: F, mtu: 1}") + "---\n" + &DATA_CENTER.replace("{}", "[]");
    let (code, stdout, stderr) = stdin(wrong);
    assert_eq!((code, stdout.as_str()), (1, ""));
    insta::assert_snapshot!("findings", stderr);
}

#[rstest]
#[case::no_argument(&["plan"], "--filename")]
#[case::unknown_flag(&["plan", "--fast"], "--fast")]
#[case::standard_input_twice(&["plan", "-f", "-", "-f", "-"], "standard input (-f -) is given 2 times")]
#[case::unknown_format(&["plan", "-f", "-", "-o", "wide"], "table, json, yaml")]
#[case::bad_namespace(&["plan", "-f", "-", "-n", "A_b"], "lower-case letters")]
#[case::unknown_command(&["paln"], "paln")]
#[case::no_command(&[], "Usage")]
fn usage_errors_exit_with_1(#[case] arguments: &[&str], #[case] says: &str) {
    let (code, stdout, stderr) = run(&mut multibond(arguments));
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains(says), "{stderr}");
}

#[rstest]
#[case(&["--help"])]
#[case(&["--version"])]
#[case(&["plan", "--help"])]
fn help_and_version_exit_with_0(#[case] arguments: &[&str]) {
    let (code, stdout, stderr) = run(&mut multibond(arguments));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("multibond"), "{stdout}");
}

#[test]
fn flags_are_environment_variables_too() {
    let mut command = plan();
    command.env("MULTIBOND_FILENAME", "-").env("MULTIBOND_OUTPUT", "json").env("MULTIBOND_NAMESPACE", "elsewhere");
    let (code, stdout, _) = run(command.write_stdin(NETWORK));
    let output: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &output["problems"][0]["namespace"]), (2, &"elsewhere".into()));
}

#[test]
fn the_namespace_flag_applies_to_objects_without_a_namespace() {
    let there = DATA_CENTER.replace("{name: f}", "{name: f, namespace: there}");
    let (code, _, _) = run(plan().args(["-n", "there", "-f", "-"]).write_stdin(format!("{NETWORK}---\n{there}")));
    assert_eq!(code, 0);
    let (code, stdout, _) = stdin(format!("{NETWORK}---\n{there}"));
    assert_eq!(code, 2);
    assert!(stdout.contains("Network default/a: DataCenterNotFound"), "{stdout}");
}

#[test]
fn the_same_object_twice_is_an_error_that_names_both_places() {
    let (code, stdout, stderr) = stdin(format!("{NETWORK}---\n{DATA_CENTER}---\n{NETWORK}"));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(
        stderr.contains("document 3 (from line 10): Network default/a: given already in standard input, document 1"),
        "{stderr}"
    );
}

#[test]
fn other_kinds_are_not_validated() {
    let others = "apiVersion: apps/v1\nkind: Host\nmetadata: {name: A B}\nspec: {a: 1, a: 2}\n---\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
    assert_eq!(stdin(others).0, 0);
}

#[rstest]
#[case::version(
    "apiVersion: multibond.dev/v1\nkind: Host\n",
    "apiVersion: found \"multibond.dev/v1\"; allowed: multibond.dev/v1alpha1"
)]
#[case::kind(
    "apiVersion: multibond.dev/v1alpha1\nkind: Bond\n",
    "kind: found \"Bond\"; allowed in multibond.dev: DataCenter, Network, Host, IscsiBond"
)]
#[case::no_kind("apiVersion: v1\n", "kind: missing")]
#[case::no_version("kind: Host\n", "apiVersion: missing")]
#[case::empty_kind("apiVersion: v1\nkind: \"\"\n", "kind: found \"\"")]
#[case::number("apiVersion: 1\nkind: Host\n", "apiVersion: found 1")]
#[case::list("- a\n", "expected an object with apiVersion and kind, found a list")]
#[case::text("hello\n", "expected an object with apiVersion and kind, found \"hello\"")]
#[case::syntax("a: [\n", "line")]
#[case::tab("a:\n\tb: 1\n", "line 2")]
#[case::after_the_end("a: 1\n...\nb: 2\n", "line 3: text after the end of a document (`...`)")]
#[case::items_of_a_list("apiVersion: v1\nkind: List\nitems: 3\n", "items: expected a list, found 3")]
#[case::no_items("apiVersion: v1\nkind: List\n", "items: missing")]
fn input_that_is_not_a_kubernetes_object_is_an_error(#[case] text: &str, #[case] says: &str) {
    let (code, stdout, stderr) = stdin(text);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.starts_with("standard input, document 1") && stderr.contains(says), "{stderr}");
}

#[rstest]
#[case::nothing("")]
#[case::blank("\n\n")]
#[case::comments("# a\n---\n# b\n")]
#[case::null("~\n")]
#[case::list_without_items("apiVersion: v1\nkind: List\nitems: []\n")]
#[case::list_of_null("apiVersion: v1\nkind: List\nitems: null\n")]
#[case::typed_list_of_null("apiVersion: multibond.dev/v1alpha1\nkind: HostList\nitems: ~\n")]
fn empty_input_is_an_error(#[case] text: &str) {
    // A pipeline must not pass because the program before `plan` has failed.
    let (code, stdout, stderr) = stdin(text);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("the input is empty"), "{stderr}");
}

#[test]
fn a_list_is_read_as_its_items_and_findings_name_the_item() {
    let list = |spec: &str| {
        format!(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: multibond.dev/v1alpha1\n  kind: DataCenter\n  metadata: {{name: f}}\n  spec: {{}}\n- apiVersion: multibond.dev/v1alpha1\n  kind: Network\n  metadata: {{name: a}}\n  spec: {spec}\n"
        )
    };
    assert_eq!(stdin(list("{dataCenter: f}")).0, 0);
    let (code, _, stderr) = stdin(list("{dataCenter: f, dataCenter: F}"));
    assert_eq!(code, 1);
    let prefix = "standard input, document 1 (from line 1), items[1]: Network default/a: spec.dataCenter: ";
    assert!(
        stderr.contains(&format!("{prefix}given twice")) && stderr.contains(&format!("{prefix}found \"F\"")),
        "{stderr}"
    );
}

#[test]
fn items_of_a_typed_list_need_no_kind() {
    let list = "apiVersion: multibond.dev/v1alpha1\nkind: NetworkList\nmetadata: {resourceVersion: \"1\"}\nitems:\n- metadata: {name: a}\n  spec: {dataCenter: f}\n";
    assert_eq!(stdin(format!("{list}---\n{DATA_CENTER}")).0, 0);
}

#[test]
fn a_finding_names_its_field_once() {
    let expressions = "{hosts: {nodeSelector: {matchExpressions: [{key: a, operator: In}]}}}";
    let (code, _, stderr) = stdin(DATA_CENTER.replace("{}", expressions));
    assert_eq!((code, stderr.matches("matchExpressions").count()), (1, 1), "{stderr}");
}

#[test]
fn a_data_center_in_a_namespace_in_deletion_is_deleting() {
    let host =
        "apiVersion: multibond.dev/v1alpha1\nkind: Host\nmetadata: {name: w}\nspec: {dataCenter: f, nodeName: w}\n";
    let namespace =
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, deletionTimestamp: \"2026-01-31T12:00:00Z\"}\n";
    let (_, stdout, _) = stdin(format!("{host}---\n{DATA_CENTER}---\n{namespace}"));
    assert!(stdout.contains("0 paths (DataCenterDeleting)"), "{stdout}");
    let (_, stdout, _) = stdin(format!("{host}---\n{DATA_CENTER}"));
    assert!(!stdout.contains("DataCenterDeleting"), "{stdout}");
}

#[rstest]
#[case::type_of_status("nothing", "status: expected an object")]
#[case::type_of_interfaces("{interfaces: {}}", "status.interfaces: expected a list")]
#[case::interface_without_a_name("{interfaces: [{mtu: 1}]}", "status.interfaces[0].name: missing")]
#[case::source(
    "{networks: [{name: a, interface: b, source: Guess}]}",
    "status.networks[0].source: found \"Guess\"; allowed: one of Spec, Subnet"
)]
#[case::unknown_field("{intrefaces: []}", "status.intrefaces: unknown field")]
#[case::negative_mtu("{interfaces: [{name: a, mtu: -1}]}", "status.interfaces[0].mtu: found -1")]
fn a_malformed_status_of_a_host_is_a_finding(#[case] status: &str, #[case] says: &str) {
    let host =
        "apiVersion: multibond.dev/v1alpha1\nkind: Host\nmetadata: {name: w}\nspec: {dataCenter: f, nodeName: w}\n";
    let (code, _, stderr) = stdin(format!("{host}status: {status}\n"));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(says), "{stderr}");
}

#[test]
fn status_fields_that_a_plan_ignores_are_not_validated() {
    let host = "apiVersion: multibond.dev/v1alpha1\nkind: Host\nmetadata: {name: w}\nspec: {dataCenter: f, nodeName: w}\nstatus: {phase: Flying, connections: 7}\n";
    assert_eq!(stdin(format!("{host}---\n{DATA_CENTER}")).0, 0);
}

#[test]
fn directories_are_read_recursively_only_with_a_flag() {
    let (code, _, stderr) = run(plan().args(["-R", "-f"]).arg(data("frankfurt")));
    assert_eq!(code, 1);
    assert!(stderr.contains("below/broken.yaml, document 1 (from line 1): line "), "{stderr}");
}

#[test]
fn unreadable_input_is_named_and_the_rest_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("binary.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    fs::create_dir(directory.path().join("empty")).unwrap();
    let mut command = plan();
    command.args(["-f", "-", "-f"]).arg(directory.path().join("absent.yaml"));
    command.arg("-f").arg(directory.path()).arg("-f").arg(directory.path().join("empty"));
    let (code, stdout, stderr) = run(command.write_stdin("a: [\n"));
    assert_eq!((code, stdout.as_str()), (1, ""));
    for says in [
        "standard input, document 1",
        "absent.yaml: No such file",
        "binary.yaml: not UTF-8",
        "empty: no file ends in",
        "4 findings",
    ] {
        assert!(stderr.contains(says), "{says}: {stderr}");
    }
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_accepted() {
    let text = format!("\u{feff}{NETWORK}---\n{DATA_CENTER}").replace('\n', "\r\n");
    assert_eq!(stdin(text), (0, "No hosts.\nNo problems.\n".to_owned(), String::new()));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Process::new(env!("CARGO_BIN_EXE_multibond"))
        .args(["plan", "-o", "json", "-f"])
        .arg(data("frankfurt"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(2), ""));
}

#[rstest]
#[case::flow("[".repeat(100_000))]
#[case::objects("{\"a\":".repeat(100_000))]
#[case::block((0..2_000).fold(String::new(), |text, depth| text + &" ".repeat(depth) + "a:\n"))]
fn deep_nesting_is_a_finding(#[case] text: String) {
    let (code, _, stderr) = stdin(text);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.starts_with("standard input, document 1"), "{stderr}");
}

#[test]
fn an_alias_bomb_is_a_finding() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = level - 1;
        writeln!(text, "a{level}: &a{level} [{}]", vec![format!("*a{before}"); 9].join(", ")).unwrap();
    }
    let start = Instant::now();
    assert_eq!(stdin(text).0, 1);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn ten_megabytes_are_read() {
    let mut text = DATA_CENTER.to_owned();
    for number in 0..30_000 {
        writeln!(
            text,
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c-{number}\ndata:\n  key: {}",
            "x".repeat(260)
        )
        .unwrap();
    }
    assert!(text.len() > 10_000_000);
    assert_eq!(stdin(text).0, 0);
}

/// Adds one mistake to a valid data center, and checks the problem that is reported.
#[rstest]
#[case::data_center_of_a_network(
    "Network",
    "lost",
    "{dataCenter: munich}",
    "Network default/lost: DataCenterNotFound",
    "no DataCenter munich"
)]
#[case::data_center_of_a_bond(
    "IscsiBond",
    "lost",
    "{dataCenter: munich}",
    "IscsiBond default/lost: DataCenterNotFound",
    "no DataCenter munich"
)]
#[case::data_center_of_a_host(
    "Host",
    "lost",
    "{dataCenter: munich, nodeName: lost}",
    "Host default/lost: DataCenterNotFound",
    "no DataCenter munich"
)]
#[case::unknown_network(
    "IscsiBond",
    "typo",
    "{dataCenter: f, networks: [san-a, sna-b]}",
    "IscsiBond default/typo: NetworkNotFound",
    "sna-b"
)]
#[case::network_of_another(
    "IscsiBond",
    "cross",
    "{dataCenter: g, networks: [san-a]}",
    "IscsiBond default/cross: NetworkInOtherDataCenter",
    "san-a"
)]
#[case::second_host_of_a_node(
    "Host",
    "twin",
    "{dataCenter: f, nodeName: worker-1}",
    "Host default/worker-1: NodeClaimed",
    "default/twin"
)]
#[case::no_network("Host", "bare", "{dataCenter: g, nodeName: bare}", "Host default/bare: NoNetwork", "array-g")]
#[case::network_without_a_path(
    "IscsiBond",
    "vain",
    "{dataCenter: f, networks: [san-a, san-c]}",
    "IscsiBond default/vain: NetworkWithoutPath",
    "san-c"
)]
#[case::one_target_twice(
    "DataCenter",
    "h",
    "{storage: [{name: a, targets: [{iqn: iqn.2003-01.org.example, portals: [{address: a}]}]}, {name: b, targets: [{iqn: iqn.2003-01.org.example, portals: [{address: b}]}]}]}",
    "DataCenter default/h: DuplicateTarget",
    "iqn.2003-01.org.example"
)]
#[case::one_portal_twice(
    "DataCenter",
    "h",
    "{storage: [{name: a, targets: [{iqn: iqn.2003-01.org.example, portals: [{address: \"fd00::1\"}, {address: \"FD00:0::1\"}]}]}]}",
    "DataCenter default/h: DuplicatePortal",
    "fd00::1"
)]
#[case::unknown_pin(
    "DataCenter",
    "h",
    "{storage: [{name: a, targets: [{iqn: iqn.2003-01.org.example, portals: [{address: a, network: nowhere}]}]}]}",
    "DataCenter default/h: PortalNetworkNotFound",
    "nowhere"
)]
#[case::link_local_portal(
    "DataCenter",
    "h",
    "{storage: [{name: a, targets: [{iqn: iqn.2003-01.org.example, portals: [{address: 169.254.3.4}]}]}]}",
    "DataCenter default/h: UselessPortal",
    "169.254.3.4"
)]
#[case::name_outside_of_the_rfc(
    "DataCenter",
    "h",
    "{storage: [{name: a, targets: [{iqn: \"iqn.2003-01.org.example:lun_1\", portals: [{address: a}]}]}]}",
    "DataCenter default/h: InvalidTargetName",
    "lun_1"
)]
fn a_mistake_across_objects_is_a_problem_of_the_object_that_is_wrong(
    #[case] kind: &str,
    #[case] name: &str,
    #[case] spec: &str,
    #[case] problem: &str,
    #[case] culprit: &str,
) {
    let good = fs::read_to_string(data("good.yaml")).unwrap();
    let (code, stdout, _) = stdin(good.clone());
    assert_eq!(code, 0, "{stdout}");
    let mistake =
        format!("apiVersion: multibond.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n");
    let (code, stdout, stderr) = stdin(format!("{good}---\n{mistake}"));
    assert_eq!(code, 2, "{stdout}{stderr}");
    let (_, problems) = stdout.split_once(" problem").unwrap();
    assert!(problems.contains(problem), "{stdout}");
    assert!(problems.contains(culprit), "{stdout}");
}

#[rstest]
#[case("iqn.2003-01.org.example:..")]
#[case("iqn.2003-01.org.example:../../../../../srv/walked-out")]
#[case("iqn.2003-01.org.example:array/lun-1")]
fn a65_a_target_name_that_leaves_its_directory_is_invalid_input(#[case] name: &str) {
    let spec = format!("{{storage: [{{name: a, targets: [{{iqn: \"{name}\", portals: [{{address: 10.0.1.10}}]}}]}}]}}");
    let (code, _, stderr) = stdin(DATA_CENTER.replace("{}", &spec));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("spec.storage[0].targets[0].iqn") && stderr.contains(name), "{stderr}");
}

#[test]
fn every_useless_portal_is_a_problem() {
    let useless =
        ["fe80::211:32ff:fe2d:5bf5", "169.254.3.4", "0.0.0.0", "::", "127.0.0.1", "224.0.0.1", "255.255.255.255"];
    let portals: Vec<String> = useless.iter().map(|address| format!("{{address: \"{address}\"}}")).collect();
    let spec = format!(
        "{{storage: [{{name: nas, targets: [{{iqn: \"iqn.2000-01.com.example:nas\", portals: [{}]}}]}}]}}",
        portals.join(", ")
    );
    let (code, stdout, stderr) = stdin(DATA_CENTER.replace("{}", &spec));
    assert_eq!((code, stderr.as_str()), (2, ""));
    assert_eq!(stdout.matches("UselessPortal").count(), useless.len(), "{stdout}");
}
