//! The documentation is complete: reasons, metrics, checks, timers, acceptance rows, threats; every link has a target, also in
//! the book that docs/book/build makes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use multibond::api::reason::{ConditionType, EmptyReason, EventReason, PathReason, PreparedReason, Reason};
use multibond::api::{LunProblemKind, Phase};
use multibond::check::Check;
use regex::Regex;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The words in the first column of the tables under a heading, without their quotes.
fn words_under(page: &str, heading: &str) -> Vec<String> {
    let section = page.split_once(&format!("\n## {heading}\n")).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let words = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    words.map(str::to_owned).collect()
}

#[test]
fn the_reference_has_exactly_the_conditions_and_reasons_of_the_api() {
    let words = |words: &[&dyn ToString]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    macro_rules! all {
        ($set:ident) => {
            words(&$set::ALL.iter().map(|word| word as &dyn ToString).collect::<Vec<_>>())
        };
    }
    let reference = read("docs/reference.md");
    assert_eq!(words_under(&reference, "Conditions"), all!(ConditionType));
    assert_eq!(words_under(&reference, "Reasons of conditions"), all!(Reason));
    assert_eq!(words_under(&reference, "Reasons of empty plans"), all!(EmptyReason));
    assert_eq!(words_under(&reference, "Reasons of paths"), all!(PathReason));
    assert_eq!(words_under(&reference, "Reasons of LunsHealthy"), all!(LunProblemKind));
    assert_eq!(words_under(&reference, "Reasons of HostPrepared"), all!(PreparedReason));
}

#[test]
fn the_troubleshooting_page_names_every_reason() {
    let page = read("docs/troubleshooting.md");
    let reasons = [
        Reason::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>(),
        EmptyReason::ALL.iter().map(|it| it.as_str()).collect(),
        PathReason::ALL.iter().map(|it| it.as_str()).collect(),
        LunProblemKind::ALL.iter().map(|it| it.as_str()).collect(),
        PreparedReason::ALL.iter().map(|it| it.as_str()).collect(),
    ];
    let missing: Vec<_> = reasons.concat().into_iter().filter(|it| !page.contains(&format!("`{it}`"))).collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md does not say what to do about {missing:?}");
}

#[test]
fn every_check_has_a_heading_on_the_troubleshooting_page() {
    let anchors = anchors(&read("docs/troubleshooting.md"));
    for check in Check::ALL {
        let anchor = check.anchor();
        assert!(anchors.iter().any(|known| known == anchor), "{check:?}: docs/troubleshooting.md has no {anchor}");
    }
}

#[test]
fn the_concepts_explain_every_phase() {
    let explained = words_under(&read("docs/concepts.md"), "The verdict");
    let mut phases: Vec<_> = Phase::ALL.iter().map(|phase| phase.as_str().to_owned()).collect();
    phases.sort_by_key(|phase| explained.iter().position(|word| word == phase));
    assert_eq!(explained, phases);
}

#[test]
fn the_operations_page_names_every_metric() {
    let registered =
        Regex::new(r#"(?:register(?:ed\(registry,|_with_unit\()|gauges\(encoder,|encode_descriptor\()\s*"(\w+)""#)
            .unwrap();
    let page = read("docs/operations.md");
    for (file, prefix) in [
        ("src/controller/engine/metrics.rs", "multibond"),
        ("src/controller/engine/object_metrics.rs", "multibond"),
        ("src/agent/metrics.rs", "multibond_agent"),
    ] {
        let source = read(file);
        let metrics: Vec<_> = registered.captures_iter(&source).map(|metric| metric[1].to_owned()).collect();
        assert!(metrics.len() >= 6, "{file}: {metrics:?}");
        for metric in metrics {
            let name = format!("| `{prefix}_{metric}");
            assert!(page.contains(&name), "docs/operations.md has no row that begins with {name}");
        }
    }
}

#[test]
fn every_link_has_a_target() {
    for page in pages() {
        for Link { target, file, anchor } in links(&page) {
            assert!(root().join(&file).exists(), "{page} links to {target}");
            if !anchor.is_empty() {
                let anchors = anchors(&read(&file));
                assert!(anchors.contains(&anchor), "{page} links to {target}");
            }
        }
    }
}

#[test]
fn the_book_has_every_page_once() {
    let mut in_book = pages_of_the_book();
    in_book.sort();
    let listed: BTreeSet<_> = in_book.iter().cloned().collect();
    assert_eq!(in_book.len(), listed.len(), "docs/SUMMARY.md lists a page twice: {in_book:?}");
    let pages = pages().into_iter().filter(|page| page.starts_with("docs/") && page != SUMMARY);
    let missing: Vec<_> = pages.filter(|page| !listed.contains(page)).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md does not list {missing:?}");
}

/// A directory has no page in the book: docs/book/build leaves only its name, if the link ends with `/`.
#[test]
fn every_link_of_the_book_leads_into_the_book() {
    let in_book: BTreeSet<_> = pages_of_the_book().into_iter().collect();
    for page in &in_book {
        for Link { target, file, .. } in links(page) {
            let copied = ["LICENSE", "charts/", "docs/", "examples/"].iter().any(|copied| file.starts_with(copied));
            let leads = if Path::new(&file).extension().is_some_and(|end| end == "md") {
                in_book.contains(&file)
            } else if root().join(&file).is_dir() {
                target.ends_with('/')
            } else {
                copied
            };
            assert!(leads, "{page} links to {target}, which docs/book/build does not put into the book");
        }
    }
}

#[test]
fn each_of_twenty_questions_has_a_place_for_its_answer() {
    let row = Regex::new(r"(?m)^\| (\d+) \| ([^|]+\?) \| [^|]+ \| [^|]*\]\([^|]+ \|$").unwrap();
    let page = read("docs/questions.md");
    let numbers: Vec<u32> = row.captures_iter(&page).map(|row| row[1].parse().unwrap()).collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>(), "a question, its answer in short, and a link, in each row");
}

#[test]
fn the_timers_have_the_values_of_code_and_chart() {
    let page = read("docs/timelines.md");
    let table = page.split_once("\n## The timers\n").unwrap().1.split("\n## ").next().unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(" | ").collect()).collect();
    let shown = |timer: &str| {
        let row = rows.iter().find(|row| row[0].trim_start_matches("| ") == timer);
        row.unwrap_or_else(|| panic!("docs/timelines.md has no timer {timer:?}"))[1]
    };
    let seconds = |name: &str| format!(r"\b{name}: Duration = Duration::from_secs\((\d+)\)");
    let session = "src/api/data_center.rs";
    let node = "src/controller/reconcile/node.rs";
    for (timer, file, pattern, unit) in [
        ("how often an idle connection is probed", session, r"noop_interval_seconds: (\d+),".to_owned(), "s"),
        ("how long a probe may take", session, r"noop_timeout_seconds: (\d+),".to_owned(), "s"),
        ("how long a login may take", session, r"login_timeout_seconds: (\d+),".to_owned(), "s"),
        ("from Lost to NonOperational", session, r"NON_OPERATIONAL_AFTER_SECONDS: u32 = (\d+)".to_owned(), "s"),
        ("how often the agent reads the states of sessions", "src/agent/host/events.rs", seconds("POLL_INTERVAL"), "s"),
        (
            "how long a session is lost before its path is Failed",
            "src/agent/reconcile/flapping.rs",
            seconds("LOST_AFTER"),
            "s",
        ),
        (
            "how long the agent collects changes before it reports",
            "src/agent/cluster/outbox.rs",
            seconds("COLLECT"),
            "s, 5 s while first attempts end",
        ),
        (
            "how long the controller collects changes of an object",
            "src/controller/engine/queue.rs",
            r"DEBOUNCE: Duration = Duration::from_millis\((\d+)\)".to_owned(),
            "ms",
        ),
        ("from Lost until the Node shows it", node, seconds("LOSS_SHOWN"), "s"),
        ("between two evictions", node, seconds("EVICTION_PAUSE"), "s"),
        (
            "how long an agent counts as alive",
            "src/cli/agent.rs",
            r#"default_value = "(\d+)s", value_parser = [\w:]+\)\]\s+lease_duration"#.to_owned(),
            "s",
        ),
    ] {
        let source = read(file);
        let value = Regex::new(&pattern).unwrap().captures(&source);
        let value = value.unwrap_or_else(|| panic!("{file} has nothing like {pattern}"))[1].to_owned();
        assert_eq!(shown(timer), format!("{value} {unit}"), "docs/timelines.md, {timer}: {file} has {value}");
    }
    let alerts = read("charts/multibond/files/alerts.yaml");
    for row in rows.iter().filter(|row| row[0].starts_with("| `Multibond")) {
        let name = row[0].trim_start_matches("| `").trim_end_matches('`');
        let rule = alerts.split(&format!("- alert: {name}\n")).nth(1);
        let rule = rule.unwrap_or_else(|| panic!("docs/timelines.md names {name}, which is no alert"));
        let mut rule = rule.lines().map(str::trim).take_while(|line| !line.starts_with("- alert: "));
        let waits = rule.find_map(|line| line.strip_prefix("for: ")).unwrap();
        assert_eq!(row[1], format!("`for: {waits}`"), "docs/timelines.md, {name}");
    }
}

/// The version is in `[workspace.package]` of Cargo.toml; what else has to name it names the same.
#[test]
fn the_version_is_the_same_everywhere() {
    let ours = Regex::new(
        r#"(?m)(?:multibond[:-]v?|\bref=v?|\btag: v?|targetRevision: v?|image\.version="|^(?:appV|v)ersion: "?)(\d+\.\d+\.\d+)"#,
    );
    let ours = ours.unwrap();
    let mut files = files_below(&["charts", "docs", "examples", "image"], &["md", "yaml", "yml", "tpl", "rs", "toml"]);
    files.extend([root().join("README.md"), root().join("Containerfile")]);
    let mut named = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for found in ours.captures_iter(&text) {
            assert_eq!(&found[1], VERSION, "{} names another version: {}", file.display(), &found[0]);
            named += 1;
        }
    }
    assert!(named > 10, "{named} places found: does the pattern still match them?");
    let literal = format!("\"{VERSION}\"");
    for (file, text) in sources() {
        assert!(!text.contains(&literal), "{}: use env!(\"CARGO_PKG_VERSION\")", file.display());
    }
}

/// On `OpenShift` there are kinds `network` and `dc`, and an add-on of it has `host`: kubectl takes theirs.
#[test]
fn every_kubectl_command_names_kinds_that_no_platform_owns() {
    let verb = r"kubectl (?:-\S+ )*(?:get|describe|delete|edit|patch|wait|explain|annotate|label|events)";
    let taken = Regex::new(&format!(r"{verb}\b[^|;`#\n]*[ ,](?:dc|networks?|hosts?)(?:[ ,/`]|\.spec|$)")).unwrap();
    assert!(taken.is_match("kubectl delete network san-b") && taken.is_match("`kubectl get ib,host/a`"));
    let mut files =
        files_below(&["docs", "examples", "charts", "src", "tests/testbed"], &["md", "txt", "rs", "yaml", "tpl"]);
    files.push(root().join("README.md"));
    for file in files {
        for line in fs::read_to_string(&file).unwrap().lines() {
            assert!(
                !taken.is_match(line),
                "{}: use mbdc, mbnet, mbhost, or a name with the group: {line}",
                file.display()
            );
        }
    }
}

#[test]
fn the_operations_page_names_every_event() {
    let page = read("docs/operations.md");
    let missing: Vec<_> =
        EventReason::ALL.iter().filter(|reason| !page.contains(&format!("`{}`", reason.as_str()))).collect();
    assert!(missing.is_empty(), "docs/operations.md has no row for {missing:?}");
}

#[test]
fn every_file_that_a_page_names_exists() {
    let file = Regex::new(r"`((?:src|tests|charts|crds|docs|benches|examples)/[\w./-]+)`").unwrap();
    for page in pages() {
        for named in file.captures_iter(&read(&page)) {
            assert!(root().join(&named[1]).exists(), "{page} names {}", &named[1]);
        }
    }
}

#[test]
fn every_threat_has_a_test_that_exists_or_says_why_not() {
    let page = read("docs/security.md");
    let threats = page.split_once("\n## Threat model\n").unwrap().1;
    let row = Regex::new(r"(?m)^\| (.+) \| (.+) \| (.+) \|$").unwrap();
    let name = Regex::new(r"`(\w+)`").unwrap();
    // A row of `fuzz!` is a test too.
    let function = Regex::new(r#"(?m)\bfn (\w+)\(|^ +(\w+): "[\w-]+" =>"#).unwrap();
    let sources = sources();
    let functions: BTreeSet<&str> = sources
        .iter()
        .flat_map(|(_, text)| {
            function.captures_iter(text).filter_map(|found| Some(found.get(1).or(found.get(2))?.as_str()))
        })
        .collect();
    let mut threats_found = 0;
    for row in row.captures_iter(threats).filter(|row| &row[1] != "Wants") {
        let (wants, shown_by) = (&row[1], &row[3]);
        let missing: Vec<_> = name.captures_iter(shown_by).filter(|test| !functions.contains(&test[1])).collect();
        assert!(missing.is_empty(), "docs/security.md, {wants:?}: no such test: {missing:?}");
        let is_shown = name.is_match(shown_by) || shown_by.starts_with("not tested: ");
        assert!(is_shown, "docs/security.md, {wants:?}: name a test, or write `not tested: ` and why");
        threats_found += 1;
    }
    assert!(threats_found > 20, "{threats_found} threats found: has the table another form?");
}

/// The IDs of the acceptance list's rows.
fn acceptance_rows() -> BTreeSet<String> {
    let row = Regex::new(r"(?m)^\| (A\d\db?) \|").unwrap();
    row.captures_iter(&read("docs/dev/acceptance.md")).map(|row| row[1].to_owned()).collect()
}

/// Every source file of product and tests, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let files = files_below(&["src", "tests", "benches"], &["rs"]);
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_acceptance_row_has_a_test_and_every_prefix_a_row() {
    let function = Regex::new(r"fn ((?:a\d\db?_)+)").unwrap();
    let mut proven = BTreeSet::new();
    for (_, text) in sources() {
        for ids in function.captures_iter(&text) {
            proven.extend(ids[1].split_terminator('_').map(|id| id.replacen('a', "A", 1)));
        }
    }
    assert_eq!(proven, acceptance_rows(), "left: prefixes of tests, right: rows of docs/dev/acceptance.md");
}

#[test]
fn every_cited_rule_and_row_exists() {
    let rule = Regex::new(r"(?m)^(?:## )?(\d+)\. ").unwrap();
    let mut rules = BTreeSet::new();
    let mut section = String::new();
    for line in read("docs/dev/behaviour.md").lines() {
        let Some(number) = rule.captures(line).map(|rule| rule[1].to_owned()) else { continue };
        if line.starts_with('#') {
            section = number;
            rules.insert(section.clone());
        } else {
            rules.insert(format!("{section}.{number}"));
        }
    }
    let rows = acceptance_rows();

    let citation = Regex::new(r"behaviour (\d[\d., andto]*)").unwrap();
    let number = Regex::new(r"\d+(?:\.\d+)?").unwrap();
    let cited_row = Regex::new(r"(?:\brow |//! )(A\d\db?)\b").unwrap();
    let mut cited = 0;
    for (path, text) in sources() {
        for citation in citation.captures_iter(&text) {
            for number in number.find_iter(&citation[1]) {
                cited += 1;
                assert!(rules.contains(number.as_str()), "{} cites behaviour {}", path.display(), number.as_str());
            }
        }
        for row in cited_row.captures_iter(&text) {
            assert!(rows.contains(&row[1]), "{} cites row {}", path.display(), &row[1]);
        }
    }
    assert!(cited > 10, "{cited} citations were found");
}

/// Every page, relative to the root.
fn pages() -> Vec<String> {
    let mut pages = files_below(&["docs", "examples", "charts", "tests"], &["md"]);
    pages.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|page| root().join(page)));
    pages.iter().map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()).collect()
}

/// The files below some directories of the root whose names have one of the extensions.
fn files_below(directories: &[&str], extensions: &[&str]) -> Vec<PathBuf> {
    let mut directories: Vec<_> = directories.iter().map(|directory| root().join(directory)).collect();
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| extensions.iter().any(|extension| end == *extension)) {
                files.push(path);
            }
        }
    }
    files
}

/// The list of the book's pages.
const SUMMARY: &str = "docs/SUMMARY.md";

/// The pages of the book, relative to the root.
fn pages_of_the_book() -> Vec<String> {
    let pages: Vec<_> = links(SUMMARY).into_iter().map(|link| link.file).collect();
    assert!(pages.len() > 30, "{SUMMARY} lists {pages:?}");
    pages
}

/// A link of a page to something in the project.
struct Link {
    /// As it is written.
    target: String,
    /// What it leads to, relative to the root.
    file: String,
    anchor: String,
}

fn links(page: &str) -> Vec<Link> {
    let link = Regex::new(r"\]\(([^)]+)\)").unwrap();
    let directory = Path::new(page).parent().unwrap();
    let text = read(page);
    let targets = link.captures_iter(&text).map(|link| link[1].to_owned()).filter(|link| !link.contains("://"));
    let links = targets.map(|target| {
        let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let file = if file.is_empty() { page.to_owned() } else { without_dots(&directory.join(file)) };
        Link { file, anchor: anchor.to_owned(), target }
    });
    links.collect()
}

fn without_dots(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.iter().map(|part| part.to_str().unwrap()) {
        if part == ".." {
            parts.pop().unwrap();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// The anchors of a page's headings, as Git hosters and mdBook make them.
fn anchors(page: &str) -> Vec<String> {
    let blocks = page.split("\n```").step_by(2);
    let headings = blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}
