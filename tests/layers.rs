//! The layers of `src/`: imports point down, never up and never in a cycle, and the modules that decide are pure.
//!
//! One crate keeps the top level small; this test does what crates would do. docs/dev/architecture.md has the picture.
#![allow(clippy::unwrap_used, reason = "what serves a test fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// Each room and the other rooms that it may import from; a layer consists of rooms. A module belongs to the room with
/// the longest name that is a prefix of its own.
const ROOMS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("ops", &[]),
    ("planner", &["api"]),
    ("status_view", &["api"]),
    ("controller::store", &["api", "ops"]),
    ("controller::index", &["api", "ops", "planner", "controller::store"]),
    ("controller::reconcile", &["api", "ops", "planner", "controller::store", "controller::index"]),
    (
        "controller::engine",
        &["api", "ops", "planner", "controller::store", "controller::index", "controller::reconcile"],
    ),
    ("controller", &["api", "ops", "planner", "controller::store", "controller::engine"]),
    ("agent::types", &["api", "ops"]),
    ("agent::metrics", &["api", "ops"]),
    ("agent::host", &["api", "ops"]),
    ("agent::initiator", &["api", "ops", "agent::types", "agent::host"]),
    ("agent::reconcile", &["api", "ops", "agent::types", "agent::initiator"]),
    ("agent::cluster", &["api", "ops", "agent::types", "agent::metrics", "agent::reconcile"]),
    ("agent", &["api", "ops"]),
    ("check", &["api", "ops", "planner"]),
    ("console", &["api", "ops", "planner", "status_view"]),
    ("cli", &["api", "ops", "planner", "status_view", "controller", "agent", "check", "console"]),
];

/// Modules that decide: they have no client, no clock and no async.
const PURE: &[&str] = &["planner", "controller::index", "controller::reconcile", "agent::reconcile", "check::judge"];

/// What takes time, chance or tasks from the machine, in the layers that a simulation drives: it could not repeat them.
const OF_THE_MACHINE: &str = r"\bTimestamp::now\b|\bSystemTime\b|std::time::Instant|\btokio::spawn\b|\bset\.spawn\b|\bthread::|\bRandomState::new\b|\bgetrandom\b|\btime_of_day\b";

/// Where that is right: a real host, files, a fleet of another process, and what is for people or is only compared.
const ON_THE_MACHINE: &[&str] = &[
    "agent::host",
    "agent::initiator::open_iscsi",
    "agent::initiator::simulated::files",
    // The age that is computed for a scrape.
    "agent::metrics",
    // A key that never decides an order.
    "agent::types::credentials",
    // The subcommand `release`, a process of its own.
    "controller::release",
];

/// The source of each module, by its path in the crate, such as `planner::view`. Unit tests are left out.
type Sources = BTreeMap<String, String>;

fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Sources::new();
    read_directory(&root, &root, &mut sources);
    sources
}

fn read_directory(root: &Path, directory: &Path, sources: &mut Sources) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_directory(root, &path, sources);
        } else if let Some(module) = module_of(path.strip_prefix(root).unwrap()) {
            sources.insert(module, without_tests(&fs::read_to_string(&path).unwrap()));
        }
    }
}

/// `agent/host/mod.rs` is `agent::host`; programs, tests and fixtures are in no room.
fn module_of(path: &Path) -> Option<String> {
    let path = path.to_str()?.strip_suffix(".rs")?;
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.last() == Some(&"mod") {
        parts.pop();
    }
    let left_out = ["main", "lib", "bin", "fuzz", "tests", "fixtures", "fixture"];
    (!parts.is_empty() && !parts.iter().any(|part| left_out.contains(part))).then(|| parts.join("::"))
}

/// Code without comments and without what is compiled for tests only.
fn without_tests(source: &str) -> String {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    // Visibility is no import.
    let code = code.replace("(in crate::", "(in ");
    code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().replace("#[cfg(test)]\n", "#[cfg(test)] ")
}

static USE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^\s*(?:pub(?:\([a-z ]+\))? )?use ([^;]+);").unwrap());
static INLINE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bcrate(?:::\w+)+").unwrap());

/// The paths that a module's code names: each leaf of its `use` items, and each `crate::…` in between.
fn paths_in(source: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for found in USE.captures_iter(source) {
        let tree: String = found[1].split_whitespace().collect::<Vec<_>>().join(" ");
        leaves("", &tree, &mut paths);
    }
    let rest = USE.replace_all(source, "");
    paths.extend(INLINE.find_iter(&rest).map(|path| path.as_str().to_owned()));
    paths
}

/// Expands `a::{b, c::{d, e}}` to `a::b`, `a::c::d`, `a::c::e`.
fn leaves(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default().trim();
        paths.push(format!("{prefix}{name}").trim_end_matches("::self").to_owned());
        return;
    };
    let inner = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let prefix = format!("{prefix}{}", head.trim());
    let mut depth = 0;
    let mut start = 0;
    for (at, sign) in inner.char_indices().chain([(inner.len(), ',')]) {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inner[start..at].trim();
                if !part.is_empty() {
                    leaves(&prefix, part, paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The modules that each module imports from. A name that a module re-exports leads to the module that has it.
fn imports(sources: &Sources) -> BTreeMap<String, BTreeSet<String>> {
    let reexports: BTreeMap<&str, Vec<String>> = sources
        .iter()
        .map(|(module, source)| {
            let paths = paths_in(source).into_iter().filter_map(|path| absolute(sources, module, &path));
            (module.as_str(), paths.collect())
        })
        .collect();
    let mut imports = BTreeMap::new();
    for (module, source) in sources {
        let targets = paths_in(source).into_iter().filter_map(|path| {
            let path = absolute(sources, module, &path)?;
            let (mut target, mut name) = split(sources, &path)?;
            // A few steps are enough, because no name is re-exported more often than that.
            for _ in 0..3 {
                let next = reexports[target.as_str()].iter().find(|other| {
                    !name.is_empty() && other.rsplit("::").next() == name.split("::").next() && **other != path
                });
                let Some((to, rest)) = next.and_then(|next| split(sources, next)) else { break };
                (target, name) = (to, rest);
            }
            (target != *module).then_some(target)
        });
        imports.insert(module.clone(), targets.collect());
    }
    imports
}

/// A path from the crate's root: `super::x`, `self::x`, a child's `x::y`; none for what is another crate's.
fn absolute(sources: &Sources, module: &str, path: &str) -> Option<String> {
    if let Some(path) = path.strip_prefix("crate::") {
        return Some(path.to_owned());
    }
    let (mut base, mut rest) = (module.to_owned(), path);
    if let Some(path) = rest.strip_prefix("self::") {
        rest = path;
    }
    while let Some(path) = rest.strip_prefix("super::") {
        base = base.rsplit_once("::").map(|(parent, _)| parent.to_owned()).unwrap_or_default();
        rest = path;
    }
    let full = if base.is_empty() { rest.to_owned() } else { format!("{base}::{rest}") };
    (rest != path || sources.contains_key(&format!("{module}::{}", rest.split("::").next()?))).then_some(full)
}

/// The module in a path, and what is left of the path.
fn split(sources: &Sources, path: &str) -> Option<(String, String)> {
    let mut module = path;
    loop {
        if sources.contains_key(module) {
            return Some((module.to_owned(), path[module.len()..].trim_start_matches("::").to_owned()));
        }
        module = module.rsplit_once("::")?.0;
    }
}

fn room(module: &str) -> Option<&'static str> {
    let within = |room: &&str| is_within(module, room);
    ROOMS.iter().map(|(room, _)| *room).filter(within).max_by_key(|room| room.len())
}

fn is_within(module: &str, room: &str) -> bool {
    module == room || module.strip_prefix(room).is_some_and(|rest| rest.starts_with("::"))
}

/// Imports that the layers do not allow, in words.
fn wrong_arrows(sources: &Sources) -> Vec<String> {
    let mut wrong = Vec::new();
    for (module, targets) in imports(sources) {
        let Some(from) = room(&module) else {
            wrong.push(format!("{module} is in no room: add it to ROOMS"));
            continue;
        };
        let allowed = ROOMS.iter().find(|(room, _)| *room == from).unwrap().1;
        for target in targets {
            let to = room(&target).unwrap_or_default();
            // A folder may name its own parts, as its `mod.rs` does; its parts name their folder only where allowed.
            if !is_within(to, from) && !allowed.iter().any(|room| is_within(to, room)) {
                wrong.push(format!("{module} imports {target}: {from} must not know {to}"));
            }
        }
    }
    wrong
}

/// Groups of modules that import each other. That a part names something of its own folder's `mod.rs` does not count.
fn circles(sources: &Sources) -> Vec<Vec<String>> {
    let mut imports = imports(sources);
    for (module, targets) in &mut imports {
        targets.retain(|target| !is_within(module, target));
    }
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        imports.keys().map(|module| (module, reachable(&imports, module))).collect();
    let mut circles = BTreeSet::new();
    for (module, reached) in &reach {
        let circle: Vec<String> =
            reached.iter().filter(|other| reach[**other].contains(module)).map(ToString::to_string).collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reachable<'a>(imports: &'a BTreeMap<String, BTreeSet<String>>, from: &String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = imports[from].iter().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(&imports[module]);
        }
    }
    reached
}

/// Sources made of module names and their code.
fn small(modules: &[(&str, &str)]) -> Sources {
    modules.iter().map(|(module, source)| ((*module).to_owned(), without_tests(source))).collect()
}

#[test]
fn imports_point_down() {
    let wrong = wrong_arrows(&sources());
    assert!(wrong.is_empty(), "docs/dev/architecture.md has the layers:\n{}", wrong.join("\n"));
}

#[test]
fn no_modules_import_each_other_in_a_cycle() {
    let circles: Vec<String> = circles(&sources()).iter().map(|circle| circle.join(" <-> ")).collect();
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn pure_modules_have_no_client_no_clock_and_no_async() {
    let impure = Regex::new(r"\.await\b|\basync\b|\btokio::|\bClient\b|\bApi::|::now\(\)|\bSystemTime\b").unwrap();
    let sources = sources();
    for room in PURE {
        assert!(sources.keys().any(|module| is_within(module, room)), "there is no {room}");
    }
    let pure = sources.iter().filter(|(module, _)| PURE.iter().any(|room| is_within(module, room)));
    let found: Vec<String> = pure
        .flat_map(|(module, source)| {
            impure.find_iter(source).map(move |word| format!("{module} has {}", word.as_str()))
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn controller_and_agent_take_time_chance_and_tasks_from_their_platform() {
    let machine = Regex::new(OF_THE_MACHINE).unwrap();
    let sources = sources();
    let driven = sources.iter().filter(|(module, _)| {
        ["controller", "agent"].iter().any(|layer| is_within(module, layer))
            && !ON_THE_MACHINE.iter().any(|room| is_within(module, room))
    });
    let found: Vec<String> = driven
        .flat_map(|(module, source)| {
            machine.find_iter(source).map(move |word| format!("{module} has {}", word.as_str()))
        })
        .collect();
    assert!(found.is_empty(), "ops::Platform has them:\n{}", found.join("\n"));
}

#[test]
fn every_listed_module_exists() {
    let sources = sources();
    let missing: Vec<&str> = ROOMS
        .iter()
        .map(|(room, _)| *room)
        .filter(|room| !sources.keys().any(|module| is_within(module, room)))
        .collect();
    assert!(missing.is_empty(), "ROOMS names {missing:?}");
}

#[test]
fn reversed_import_is_named() {
    let modules = small(&[
        ("api", "pub struct Host;"),
        ("planner", "use crate::{api::Host, controller::{engine::{Engine, Queue}}};"),
        ("controller", "mod engine;"),
        ("controller::engine", "use crate::planner; pub struct Engine;"),
    ]);
    assert_eq!(
        wrong_arrows(&modules),
        ["planner imports controller::engine: planner must not know controller::engine"]
    );
}

#[test]
fn import_is_found_in_every_syntax() {
    for source in [
        "use crate::planner::View;",
        "pub(crate) use crate::planner::{self as p};",
        "use super::{planner};",
        "fn f() -> crate::planner::View { todo() }",
    ] {
        let modules = small(&[("api", source), ("planner", "pub struct View;")]);
        assert_eq!(wrong_arrows(&modules), ["api imports planner: api must not know planner"], "{source}");
    }
    let comment = "//! The planner (`crate::planner`) reads it.\n#[cfg(test)]\nmod tests { use crate::planner::View; }";
    let modules = small(&[("api", comment), ("planner", "pub struct View;")]);
    assert_eq!(wrong_arrows(&modules), Vec::<String>::new());
}

#[test]
fn import_cycle_is_found_through_a_re_export() {
    let modules = small(&[
        ("planner", "mod plan;\nmod view;\npub use plan::Plan;\npub use view::View;"),
        ("planner::plan", "use super::View; pub struct Plan;"),
        ("planner::view", "use super::Plan; pub struct View;"),
    ]);
    assert_eq!(circles(&modules), [["planner::plan", "planner::view"]]);
}

#[test]
fn file_maps_to_the_module_of_the_compiler() {
    for (file, module) in [
        ("api/mod.rs", Some("api")),
        ("api/host.rs", Some("api::host")),
        ("main.rs", None),
        ("bin/multibond-node.rs", None),
        ("agent/reconcile/tests.rs", None),
    ] {
        assert_eq!(module_of(&PathBuf::from(file)).as_deref(), module, "{file}");
    }
}
