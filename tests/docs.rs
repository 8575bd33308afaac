//! What the documentation says is complete, and leads somewhere.
#![allow(clippy::unwrap_used, reason = "what serves a test fails it")]

use std::fs;
use std::path::{Path, PathBuf};

use multibond::api::Phase;
use multibond::api::reason::{ConditionType, EmptyReason, PathReason, PreparedReason, Reason};
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
fn the_reference_explains_every_condition_and_every_reason_and_no_other() {
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
    assert_eq!(words_under(&reference, "Reasons of HostPrepared"), all!(PreparedReason));
}

#[test]
fn the_troubleshooting_page_names_every_reason() {
    let page = read("docs/troubleshooting.md");
    let reasons = [
        Reason::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>(),
        EmptyReason::ALL.iter().map(|it| it.as_str()).collect(),
        PathReason::ALL.iter().map(|it| it.as_str()).collect(),
        PreparedReason::ALL.iter().map(|it| it.as_str()).collect(),
    ];
    let missing: Vec<_> = reasons.concat().into_iter().filter(|it| !page.contains(&format!("`{it}`"))).collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md does not say what to do about {missing:?}");
}

#[test]
fn every_line_of_a_check_leads_to_a_heading_of_the_troubleshooting_page() {
    let anchors: Vec<_> = read("docs/troubleshooting.md").lines().filter_map(anchor_of).collect();
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
    let registered = Regex::new(r#"register(?:ed\(registry,|_with_unit\()\s*"(\w+)""#).unwrap();
    let page = read("docs/operations.md");
    for (file, prefix) in [("src/ops/metrics.rs", "multibond"), ("src/agent/metrics.rs", "multibond_agent")] {
        let source = read(file);
        let metrics: Vec<_> = registered.captures_iter(&source).map(|metric| metric[1].to_owned()).collect();
        assert!(metrics.len() > 6, "{file}: {metrics:?}");
        for metric in metrics {
            let name = format!("| `{prefix}_{metric}");
            assert!(page.contains(&name), "docs/operations.md has no row that begins with {name}");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)]+)\)").unwrap();
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    let docs = docs.map(|path| format!("docs/{}", path.file_name().unwrap().to_string_lossy()));
    let others = ["README.md", "examples/README.md", "examples/gitops/README.md", "charts/multibond/README.md"]
        .map(str::to_owned);
    for page in docs.chain(others) {
        let text = read(&page);
        for target in link.captures_iter(&text).map(|link| link[1].to_owned()).filter(|link| !link.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if file.is_empty() { root().join(&page) } else { beside(&page).join(file) };
            assert!(file.exists(), "{page} links to {target}");
            if !anchor.is_empty() {
                let anchors: Vec<_> = fs::read_to_string(&file).unwrap().lines().filter_map(anchor_of).collect();
                assert!(anchors.iter().any(|known| known == anchor), "{page} links to {target}");
            }
        }
    }
}

/// The version is in `[workspace.package]` of Cargo.toml; what else has to name it names the same.
#[test]
fn the_version_is_the_same_everywhere() {
    let ours = Regex::new(
        r#"(?m)(?:multibond[:-]v?|\bref=v?|\btag: v?|targetRevision: v?|image\.version="|^(?:appV|v)ersion: "?)(\d+\.\d+\.\d+)"#,
    );
    let ours = ours.unwrap();
    let mut files = vec![root().join("README.md"), root().join("Containerfile")];
    ["charts", "docs", "examples", "image"]
        .iter()
        .for_each(|directory| text_files(&root().join(directory), &mut files));
    let mut named = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for found in ours.captures_iter(&text) {
            assert_eq!(&found[1], VERSION, "{} names another version: {}", file.display(), &found[0]);
            named += 1;
        }
    }
    assert!(named > 10, "{named} places found: does the pattern still match them?");
    let mut sources = Vec::new();
    ["src", "tests", "benches"].iter().for_each(|directory| text_files(&root().join(directory), &mut sources));
    let literal = format!("\"{VERSION}\"");
    for file in sources {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&literal), "{}: use env!(\"CARGO_PKG_VERSION\")", file.display());
    }
}

/// The files below a directory that people write.
fn text_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text_files(&path, files);
        } else if path
            .extension()
            .is_some_and(|end| ["md", "yaml", "yml", "tpl", "rs", "toml"].iter().any(|it| end == *it))
        {
            files.push(path);
        }
    }
}

fn beside(page: &str) -> PathBuf {
    root().join(Path::new(page).parent().unwrap())
}

/// The anchor that a heading gets.
fn anchor_of(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim().to_lowercase();
    Some(heading.chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect::<String>().replace(' ', "-"))
}
