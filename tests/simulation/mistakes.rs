//! Ten known mistakes, as patches of the product: the simulation must find each of them.
//!
//! A patch is the output of `git diff`, with a sentence about the mistake in front. It is found by its text and not by its
//! line numbers, so that it applies until the lines that it shows have changed.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// Within how many seeds each must be found.
const WITHIN: u64 = 200;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

struct Mistake {
    name: String,
    /// What is wrong, in a sentence.
    what: String,
    /// The files that it changes, as they are then.
    files: BTreeMap<PathBuf, String>,
}

impl Mistake {
    /// Applies a patch to the files of this tree.
    fn read(patch: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(patch).map_err(|error| format!("{}: {error}", patch.display()))?;
        let mut mistake = Mistake {
            name: patch.file_stem().unwrap().to_string_lossy().into_owned(),
            what: text.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" "),
            files: BTreeMap::new(),
        };
        for (file, before, after) in hunks(&text) {
            let content = match mistake.files.remove(&file) {
                Some(changed) => changed,
                None => {
                    fs::read_to_string(root().join(&file)).map_err(|error| format!("{}: {error}", file.display()))?
                }
            };
            let places = content.matches(&before).count();
            if places != 1 {
                let (name, file) = (&mistake.name, file.display());
                return Err(format!("{name}: expected this once in {file}, found it {places} times:\n{before}"));
            }
            mistake.files.insert(file, content.replacen(&before, &after, 1));
        }
        Ok(mistake)
    }
}

/// The hunks of a patch: the file, and its lines before and after.
fn hunks(patch: &str) -> Vec<(PathBuf, String, String)> {
    let mut hunks = Vec::new();
    let mut file = None;
    for line in patch.lines() {
        if let Some(name) = line.strip_prefix("+++ b/") {
            file = Some(PathBuf::from(name));
        } else if line.starts_with("@@") {
            hunks.extend(file.clone().map(|file| (file, String::new(), String::new())));
        } else if let Some((_, before, after)) = hunks.last_mut() {
            match (line.get(..1), line.get(1..)) {
                (Some("-"), Some(rest)) if !rest.starts_with("-- a/") => before.extend([rest, "\n"]),
                (Some("+"), Some(rest)) => after.extend([rest, "\n"]),
                (Some(" "), Some(rest)) => {
                    before.extend([rest, "\n"]);
                    after.extend([rest, "\n"]);
                }
                // An editor may have removed the space.
                (None, None) => {
                    before.push('\n');
                    after.push('\n');
                }
                _ => {}
            }
        }
    }
    hunks
}

fn mistakes() -> Result<Vec<Mistake>, String> {
    let entries = fs::read_dir(root().join("tests/simulation/mistakes")).unwrap();
    let mut patches: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    patches.sort();
    patches.iter().map(|patch| Mistake::read(patch)).collect()
}

/// Makes `to` a copy of a directory. A file that is the same already keeps its time, so that little is compiled again.
fn copy(from: &Path, to: &Path, changed: &BTreeMap<PathBuf, String>) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, copied) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !["target", ".git"].iter().any(|name| entry.file_name() == *name) {
            copy(&source, &copied, changed);
        } else if kind.is_file() {
            let content = changed.get(source.strip_prefix(root()).unwrap()).cloned().map(String::into_bytes);
            let content = content.unwrap_or_else(|| fs::read(&source).unwrap());
            if fs::read(&copied).ok().as_ref() != Some(&content) {
                fs::write(&copied, content).unwrap();
            }
        }
    }
}

/// Compiles the simulation with a mistake. The copy and what is compiled stay for the next one.
fn compiled(mistake: &Mistake) -> PathBuf {
    // `deps/simulation-...` in the directory of the profile in the target directory.
    let place = env::current_exe().unwrap().ancestors().nth(3).unwrap().join("mistakes");
    let tree = place.join("tree");
    copy(root(), &tree, &mistake.files);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(&tree).env("CARGO_TARGET_DIR", place.join("target"));
    cargo.args(["test", "--quiet", "--locked", "--test", "simulation", "--no-run", "--message-format=json"]);
    let output = cargo.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let messages = told.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut messages: Vec<_> = messages.collect();
    if !output.status.success() {
        let errors = messages.iter().filter(|message| message["message"]["level"] == "error");
        let errors: Vec<&str> = errors.filter_map(|error| error["message"]["rendered"].as_str()).collect();
        panic!("{} does not compile: {}{}", mistake.name, errors.concat(), String::from_utf8_lossy(&output.stderr));
    }
    messages.retain(|message| message["target"]["name"] == "simulation");
    messages.iter().find_map(|message| message["executable"].as_str()).unwrap().into()
}

#[test]
fn a59_each_planted_mistake_can_still_be_made() {
    let mistakes = mistakes().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(mistakes.len(), 10);
    for Mistake { name, what, files } in mistakes {
        assert!(what.ends_with('.') && !files.is_empty(), "{name}: a sentence and a patch are expected");
    }
}

/// `SIMULATION_MISTAKE` is the name of the only one, or a part of its name.
#[test]
#[ignore = "it compiles the product ten times; `make simulate-mistakes` runs it"]
fn a59_each_planted_mistake_is_found() {
    let only = env::var("SIMULATION_MISTAKE").unwrap_or_default();
    let mistakes = mistakes().unwrap_or_else(|error| panic!("{error}"));
    let mut missed = Vec::new();
    for mistake in mistakes.iter().filter(|mistake| mistake.name.contains(&only)) {
        println!("{}: {}", mistake.name, mistake.what);
        let program = compiled(mistake);
        let began = Instant::now();
        match super::seeds::first_failure(&program, WITHIN) {
            Some((seed, violation)) => {
                println!("  seed {seed} after {:.0} s: {violation}", began.elapsed().as_secs_f64());
            }
            None => missed.push(mistake.name.clone()),
        }
    }
    assert!(missed.is_empty(), "not found within {WITHIN} seeds: {missed:?}");
}
