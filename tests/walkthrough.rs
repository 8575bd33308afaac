//! `make demo`, its description in the README, and the page *Your first array*: the test runs the commands that they show and
//! compares the output.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what serves a test fails it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multibond_testbed::{Process, eventually};
use regex::Regex;
use tempfile::TempDir;

/// Long enough for a busy machine; nothing waits this long when it works.
const PATIENCE: Duration = Duration::from_secs(120);
/// What to do about a page that shows something else.
const HINT: &str = "is that intended? UPDATE_README=1 cargo test --test walkthrough writes it into the page";
/// The last words of a demo that stays.
const STAYS: &str = "Ctrl-C ends everything";
/// Where the README says that the demo is; another demo at the same time has another directory.
const PLACE: &str = "~/.cache/multibond/demo";

/// A demo with all of its temporary files in a directory of its own.
struct Demo {
    process: Process,
    home: TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let demo = Path::new(env!("CARGO_BIN_EXE_multibond")).with_file_name("demo");
        assert!(demo.exists(), "{} is not built: `cargo build --workspace --bins`", demo.display());
        let home = TempDir::new().unwrap();
        let cache = std::env::var_os("MULTIBOND_CACHE").map(|cache| ("MULTIBOND_CACHE", PathBuf::from(cache)));
        let environment = [("TMPDIR", home.path().to_owned())].into_iter().chain(cache);
        Demo { process: Process::spawn(demo, arguments, environment, "demo").unwrap(), home }
    }

    /// Waits until its log contains a text.
    async fn says(&self, words: &str) -> String {
        eventually(&format!("the demo says {words:?}"), PATIENCE, async || {
            let said = self.process.log();
            if said.contains(words) || !self.process.alive() { Ok(said) } else { Err(said) }
        })
        .await
    }

    /// What it has started carries the directory of its temporary files in its environment.
    async fn nothing_is_left(&self) {
        eventually("nothing runs, and no file is left", PATIENCE, async || {
            let running = running_with(self.home.path());
            let files = fs::read_dir(self.home.path()).unwrap().count();
            if running.is_empty() && files == 0 { Ok(()) } else { Err(format!("{files} files, {running:#?}")) }
        })
        .await;
    }
}

/// The command lines of the processes that have a path in their environment.
fn running_with(path: &Path) -> Vec<String> {
    let path = path.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let ours = processes.filter(|process| {
        fs::read(process.join("environ")).is_ok_and(|environ| String::from_utf8_lossy(&environ).contains(path))
    });
    ours.map(|process| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    })
    .collect()
}

#[tokio::test]
async fn demo_without_a_terminal_succeeds_and_leaves_nothing() {
    let demo = Demo::start(&[]);
    let status = demo.process.exited(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}\n{}", demo.process.log());
    assert!(!demo.process.log().contains(STAYS), "it does not stay without a terminal");
    demo.nothing_is_left().await;
}

#[tokio::test]
async fn ctrl_c_while_the_demo_starts_leaves_nothing() {
    let demo = Demo::start(&["--stay"]);
    eventually("an API server runs", PATIENCE, async || {
        let running = running_with(demo.home.path());
        if running.iter().any(|line| line.contains("--etcd-servers")) { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
    let status = demo.process.interrupt(PATIENCE).await.unwrap();
    assert_eq!(status.code(), Some(130), "{}", demo.process.log());
    demo.nothing_is_left().await;
}

#[tokio::test]
async fn readme_and_first_array_show_the_real_output() {
    let demo = Demo::start(&["--stay"]);
    let said = demo.says(STAYS).await;
    let place = Regex::new("KUBECONFIG=(.*)/kubeconfig ").unwrap();
    let place = place.captures(&said).unwrap_or_else(|| panic!("{said}"))[1].to_owned();
    let mut tour = Tour { said: said.replace(&place, PLACE), place, exports: String::new() };

    tour.page("README.md", root()).await;
    tour.run("multibond check", root()).await;
    // The tour leaves its hosts, which would keep their nodes.
    tour.run("kubectl delete mbhost --all", root()).await;
    let files = TempDir::new().unwrap();
    tour.page("docs/first-data-center.md", files.path()).await;

    let status = demo.process.interrupt(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}");
    demo.nothing_is_left().await;
    let place = tour.place.replace('~', &std::env::var("HOME").unwrap());
    assert!(!Path::new(&place).exists(), "{place} is still there");
}

/// Somebody who follows a page in a second terminal.
struct Tour {
    /// What the demo has said.
    said: String,
    /// Where the demo is.
    place: String,
    /// The variables that the pages have exported so far.
    exports: String,
}

impl Tour {
    /// Writes the files that a page shows into a directory, runs its commands there, and compares their output.
    async fn page(&mut self, page: &str, directory: &Path) {
        let file = root().join(page);
        let text = fs::read_to_string(&file).unwrap();
        for (name, content) in shown_files(&text) {
            fs::write(directory.join(name), content).unwrap();
        }
        let update = std::env::var_os("UPDATE_README").is_some();
        let mut outputs = Vec::new();
        for Step { command, output: shown } in steps(&text) {
            let output = match command.split(' ').next().unwrap() {
                "make" => self.said.clone(),
                "export" => {
                    self.exports.extend([&command.replace(PLACE, &self.place), "; "]);
                    String::new()
                }
                // What was written last may not be there yet; a person would not see the difference.
                _ if ["kubectl get ", "multibond status"].iter().any(|reads| command.starts_with(reads)) => {
                    self.settled(&command, directory, (!update).then_some(&shown)).await
                }
                _ => self.run(&command, directory).await,
            };
            let as_shown = masked(&output) == masked(&shown);
            assert!(update || as_shown, "{page}: `{command}` prints\n{output}\nand not\n{shown}\n{HINT}");
            outputs.push(output);
        }
        if update {
            fs::write(file, with_outputs(&text, &outputs)).unwrap();
        }
    }

    /// What a command prints that only reads: as soon as it is what is shown, or after a while.
    async fn settled(&self, command: &str, directory: &Path, shown: Option<&String>) -> String {
        for _ in 0..15 {
            let output = self.run(command, directory).await;
            if shown.is_some_and(|shown| masked(&output) == masked(shown)) {
                return output;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.run(command, directory).await
    }

    /// Runs a command as a person does; it must succeed.
    async fn run(&self, command: &str, directory: &Path) -> String {
        let command = format!("{}{}", self.exports, command.replace(PLACE, &self.place));
        let output =
            tokio::process::Command::new("bash").args(["-c", &command]).current_dir(directory).output().await.unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A command, and what it prints.
struct Step {
    command: String,
    output: String,
}

/// What a page shows: commands that begin with `$ ` in blocks of the language `console`, and their output below them.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (line, inside) in lines(page) {
        match (inside, line.strip_prefix("$ ")) {
            (true, Some(command)) => steps.push(Step { command: command.to_owned(), output: String::new() }),
            (true, None) => steps.last_mut().unwrap().output.extend([line, "\n"]),
            (false, _) => {}
        }
    }
    assert!(steps.len() > 8, "the page shows {} commands", steps.len());
    steps
}

/// The page with other outputs of its commands.
fn with_outputs(page: &str, outputs: &[String]) -> String {
    let mut outputs = outputs.iter();
    let mut written = String::new();
    for (line, inside) in lines(page) {
        if !inside || line.starts_with("$ ") {
            written.extend([line, "\n"]);
        }
        if inside && line.starts_with("$ ") {
            let output = outputs.next().unwrap().trim_end();
            written.extend(output.lines().flat_map(|line| [line.trim_end(), "\n"]));
        }
    }
    written
}

/// The lines of a page, and whether each is in a block of the language `console`.
fn lines(page: &str) -> impl Iterator<Item = (&str, bool)> {
    page.lines().scan(false, |inside, line| {
        let fence = line.starts_with("```");
        *inside = if fence { line == "```console" } else { *inside };
        Some((line, *inside && !fence))
    })
}

/// The files that a page shows: blocks whose first line is a comment with nothing but the file's name.
fn shown_files(page: &str) -> Vec<(&str, &str)> {
    let blocks = page.split("\n```").skip(1).step_by(2);
    let file = blocks.filter_map(|block| {
        let content = block.split_once('\n')?.1;
        let name = content.lines().next()?.strip_prefix("# ")?;
        (name.contains('.') && !name.contains([' ', '/'])).then_some((name, content))
    });
    file.collect()
}

/// The project's directory.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A text without ages and durations, and without what they do to the width of columns.
fn masked(text: &str) -> String {
    let time = Regex::new(r"\b\d+(\.\d+)? ?(s|m|h|d|m\d+s)\b").unwrap();
    let spaces = Regex::new(r" +").unwrap();
    let lines = text.trim_end().lines().map(|line| {
        let line = time.replace_all(line, "TIME");
        spaces.replace_all(&line, " ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}
