//! Plans and problems as text: for people, and for programs.

use serde::Serialize;

use crate::api::reason::EmptyReason;
use crate::api::{CarriedNetwork, PlannedPath};
use crate::planner::{PlanReport, PlannedHost, Problem};

use super::super::output::columns;

/// `plan -o json` and `-o yaml`.
#[derive(Serialize)]
pub struct Output<'a> {
    hosts: Vec<HostOutput<'a>>,
    problems: Vec<ProblemOutput<'a>>,
    warnings: Vec<ProblemOutput<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HostOutput<'a> {
    namespace: &'a str,
    name: &'a str,
    data_center: &'a str,
    reason: Option<EmptyReason>,
    hold: Vec<&'a str>,
    revision: &'a str,
    networks: &'a [CarriedNetwork],
    paths: Vec<PathOutput<'a>>,
}

/// A path; through the default network, `interface` and `network` are null rather than absent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PathOutput<'a> {
    target: &'a str,
    portal: &'a str,
    tpgt: u16,
    interface: Option<&'a str>,
    network: Option<&'a str>,
    storage: &'a str,
    bonds: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chap_secret: Option<&'a str>,
}

#[derive(Serialize)]
struct ProblemOutput<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    reason: &'static str,
    message: &'a str,
}

impl<'a> From<&'a PlanReport> for Output<'a> {
    fn from(PlanReport { hosts, problems }: &'a PlanReport) -> Self {
        let (warnings, problems) = problems.iter().partition::<Vec<_>, _>(|problem| problem.is_warning());
        let printed = |problems: Vec<&'a Problem>| problems.into_iter().map(Into::into).collect();
        Output {
            hosts: hosts.iter().map(Into::into).collect(),
            problems: printed(problems),
            warnings: printed(warnings),
        }
    }
}

impl<'a> From<&'a PlannedHost> for HostOutput<'a> {
    fn from(PlannedHost { namespace, name, data_center, plan }: &'a PlannedHost) -> Self {
        HostOutput {
            namespace,
            name,
            data_center,
            reason: plan.reason,
            hold: plan.hold.iter().map(AsRef::as_ref).collect(),
            revision: &plan.revision,
            networks: &plan.networks,
            paths: plan.paths.iter().map(Into::into).collect(),
        }
    }
}

impl<'a> From<&'a PlannedPath> for PathOutput<'a> {
    fn from(path: &'a PlannedPath) -> Self {
        let PlannedPath { target, portal, tpgt, interface, network, storage, bonds, chap_secret } = path;
        PathOutput {
            target,
            portal,
            tpgt: *tpgt,
            interface: interface.as_deref(),
            network: network.as_deref(),
            storage,
            bonds: bonds.iter().map(AsRef::as_ref).collect(),
            chap_secret: chap_secret.as_deref(),
        }
    }
}

impl<'a> From<&'a Problem> for ProblemOutput<'a> {
    fn from(Problem { kind, namespace, name, reason, message }: &'a Problem) -> Self {
        ProblemOutput { kind: kind.as_str(), namespace, name, reason, message }
    }
}

/// For people: each host with its paths, then the problems, then the warnings.
pub fn table(report: &PlanReport) -> String {
    let hosts: Vec<String> = report.hosts.iter().map(|host| heading(host) + &paths(host) + "\n").collect();
    let hosts = if hosts.is_empty() { "No hosts.\n".to_owned() } else { hosts.concat() };
    let (warnings, problems) = report.problems.iter().partition::<Vec<_>, _>(|problem| problem.is_warning());
    let problems = if problems.is_empty() { "No problems.\n".to_owned() } else { list("problem", &problems) };
    let warnings = if warnings.is_empty() { String::new() } else { list("warning", &warnings) };
    hosts + &problems + &warnings
}

fn list(word: &str, problems: &[&Problem]) -> String {
    let plural = if problems.len() == 1 { "" } else { "s" };
    let lines: String = problems.iter().copied().map(problem).collect();
    format!("{} {word}{plural}:\n{lines}", problems.len())
}

fn problem(Problem { kind, namespace, name, reason, message }: &Problem) -> String {
    format!("  {kind} {namespace}/{name}: {reason}\n    {message}\n")
}

fn heading(PlannedHost { namespace, name, data_center, plan }: &PlannedHost) -> String {
    let count = match plan.paths.len() {
        1 => "1 path".to_owned(),
        count => format!("{count} paths"),
    };
    let reason = plan.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let revision = &plan.revision;
    let mut lines =
        vec![format!("Host {namespace}/{name} in data center {data_center}: {count}{reason}, revision {revision}")];
    let carried: Vec<String> =
        plan.networks.iter().map(|network| format!("{} on {}", network.name, network.interface)).collect();
    if !carried.is_empty() {
        lines.push(format!("  carries {}", carried.join(", ")));
    }
    lines.extend(plan.hold.iter().map(|target| format!("  held as it is: {target}")));
    lines.extend(plan.no_network.iter().map(|target| format!("  without a network: {target}")));
    lines.join("\n") + "\n"
}

fn paths(PlannedHost { plan, .. }: &PlannedHost) -> String {
    if plan.paths.is_empty() {
        return String::new();
    }
    let head = ["TARGET", "PORTAL", "INTERFACE", "NETWORK", "STORAGE", "BONDS"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(plan.paths.iter().map(row)).collect();
    columns(&rows, "  ")
}

fn row(path: &PlannedPath) -> Vec<String> {
    // Group tag 1 is what every portal has that says nothing else.
    let portal = if path.tpgt == 1 { path.portal.to_string() } else { format!("{},{}", path.portal, path.tpgt) };
    let bonds = if path.bonds.is_empty() { "-".to_owned() } else { path.bonds.join(",") };
    vec![
        path.target.to_string(),
        portal,
        path.interface.as_deref().unwrap_or("-").to_owned(),
        path.network.as_deref().unwrap_or("(default)").to_owned(),
        path.storage.to_string(),
        bonds,
    ]
}
