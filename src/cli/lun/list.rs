//! `multibond lun list`: a line for each LUN, those with a problem first.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{Found, Place, size::rounded};
use crate::{
    api::{LunAddress, first_few},
    cli::{
        Global,
        output::{self, BOLD, RED, YELLOW, columns, paint},
    },
    ops,
    status_view::luns::{LunList, LunView},
};

/// The most hosts that a line names.
const SHOWN: usize = 3;

/// Lists the LUNs of the namespace's data centers, those with a problem first
///
/// HOSTS are those that see the LUN, of those in service. PATHS are the active ones of all, on the host where the fewest
/// are active.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  multibond lun list -n frankfurt
  multibond lun list -A -o wide")]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// List all namespaces; overrides --namespace
    #[arg(short = 'A', long, env = "MULTIBOND_ALL_NAMESPACES")]
    all_namespaces: bool,
    /// The output format
    #[arg(short, long, env = "MULTIBOND_OUTPUT", value_enum, default_value = "table")]
    output: Format,
}

/// The output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// The same, with every target and host
    Wide,
    /// One JSON object
    Json,
    /// The same as YAML
    Yaml,
    /// Only the WWIDs, a line each
    Name,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> anyhow::Result<ExitCode> {
    let Arguments { place, all_namespaces, output: format } = arguments;
    let Found { luns, namespace, .. } = super::read(place, all_namespaces, global).await?;
    match format {
        Format::Json => output::print(&output::json(&luns)?)?,
        Format::Yaml => output::print(&ops::yaml(&luns)?)?,
        Format::Name => output::print(&luns.luns.iter().map(|lun| lun.wwid.clone() + "\n").collect::<String>())?,
        Format::Table | Format::Wide => {
            output::print_styled(&table(&luns, namespace.as_deref(), format == Format::Wide))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The table of one namespace, or of all.
fn table(list: &LunList, namespace: Option<&str>, wide: bool) -> String {
    let mut text = match (list.luns.is_empty(), namespace) {
        (true, Some(namespace)) => {
            format!("No host of namespace {namespace} reports a LUN; -A shows all namespaces.\n")
        }
        (true, None) => "No host reports a LUN.\n".to_owned(),
        (false, _) => {
            let shown = |row: Vec<String>| if namespace.is_some() { row[1..].to_vec() } else { row };
            let mut heads = vec!["NAMESPACE", "DATACENTER", "WWID", "STORAGE", "LUN", "SIZE", "HOSTS", "PATHS"];
            heads.extend(wide.then_some("TARGETS"));
            heads.push("PROBLEM");
            let heads = heads.into_iter().map(|head| paint(BOLD, head)).collect();
            let rows = list.luns.iter().map(|lun| row(lun, wide));
            columns(&std::iter::once(heads).chain(rows).map(shown).collect::<Vec<_>>(), "")
        }
    };
    for what in &list.unreadable {
        text += &(paint(YELLOW, "not shown: ") + what + "\n");
    }
    text
}

fn row(lun: &LunView, wide: bool) -> Vec<String> {
    let mut numbers: Vec<i64> = lun.at.iter().map(|at| at.lun).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let storage: Vec<&str> = lun.storage.iter().map(String::as_str).collect();
    let hosts = format!("{}/{}", lun.hosts.len(), lun.wanted_on());
    let paths = lun.fewest_paths().map(|host| format!("{}/{}", host.active, host.paths)).unwrap_or_default();
    let mut row = vec![
        lun.namespace.clone(),
        lun.data_center.clone(),
        lun.wwid.clone(),
        storage.join(","),
        numbers.join(","),
        rounded(lun.size_bytes),
        hosts,
        paths,
    ];
    if wide {
        let at: Vec<String> = lun.at.iter().map(LunAddress::to_string).collect();
        row.push(at.join(","));
    }
    row.push(problem(lun, if wide { usize::MAX } else { SHOWN }));
    row
}

/// What is wrong, by its cause: what hosts report, then what only their comparison shows.
fn problem(lun: &LunView, shown: usize) -> String {
    let mut found = Vec::new();
    if let Some((kind, hosts)) = lun.worst() {
        let on = first_few(&hosts, shown, |host| host.name.clone());
        found.push(paint(RED, kind.as_str()) + &format!(" on {on}"));
    }
    if lun.sizes_differ() {
        let smaller: Vec<_> = lun.hosts.iter().filter(|host| host.size_bytes != lun.size_bytes).collect();
        let on = first_few(&smaller, shown, |host| format!("{} ({})", host.name, rounded(host.size_bytes)));
        found.push(paint(RED, "smaller") + &format!(" on {on}"));
    }
    if !lun.missing_on.is_empty() {
        found.push(paint(YELLOW, "missing") + &format!(" on {}", first_few(&lun.missing_on, shown, Clone::clone)));
    }
    found.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::status_view::luns::fixture::{GIB, healthy, host, snapshot};

    fn list() -> LunList {
        let problem = json!({
            "problem": "PathsMissing", "wwid": "3600a3", "sizeBytes": 300 * GIB, "disks": 2, "active": 2, "expected": 4,
            "at": [{"target": "iqn.2003-01.org.example:array-a", "lun": 3}], "message": "…",
        });
        let grown = format!("3600a2 {} 4/4 iqn.2003-01.org.example:array-a#2", 1536 * GIB);
        let first = json!({"summary": "3/3", "healthy": [healthy(1), healthy(2), healthy(3)]});
        let second = json!({"summary": "2/3", "healthy": [healthy(1), grown], "problems": [problem]});
        let third = json!({"summary": "1/1", "healthy": [healthy(1)], "leftOut": 7});
        let hosts = vec![host("w1", &first), host("w2", &second), host("w3", &third), host("w4", &json!({}))];
        LunList::from(&snapshot(&Value::Null, hosts))
    }

    #[test]
    fn a50_luns_are_a_table_with_the_problems_first() {
        let text = output::plain(&table(&list(), Some("storage"), false));
        let expected = "\
DATACENTER  WWID    STORAGE  LUN  SIZE   HOSTS  PATHS  PROBLEM
frankfurt   3600a3  array-a  3    300Gi  2/3    2/4    PathsMissing on w2; missing on w4
frankfurt   3600a2  array-a  2    1.5Ti  2/3    4/4    smaller on w1 (200Gi); missing on w4
frankfurt   3600a1  array-a  1    100Gi  3/4    4/4    missing on w4
not shown: Host w3: 7 of its LUNs are not listed
";
        assert_eq!(text, expected);
        let wide = output::plain(&table(&list(), None, true));
        assert!(wide.starts_with("NAMESPACE  DATACENTER"), "{wide}");
        assert!(wide.contains("iqn.2003-01.org.example:array-a#3"), "{wide}");
    }

    #[test]
    fn a_namespace_without_luns_says_so() {
        let none = LunList::default();
        assert!(table(&none, Some("storage"), false).contains("-A shows all namespaces"));
        assert_eq!(table(&none, None, false), "No host reports a LUN.\n");
    }
}
