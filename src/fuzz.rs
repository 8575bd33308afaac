//! Any text from outside is read or refused: one harness for the parsers of foreign text.
//!
//! Tools, the kernel, the API of an engine and people write what these parsers read. A parser has a row in the unit tests
//! of its module:
//!
//! ```text
//! fuzz! {
//!     any_swaps_are_read: "swaps" => |input| Parsed::new().texts(swapped(&lossy(input)));
//! }
//! ```
//!
//! The row gets the files of `tests/corpus/swaps/`, mutations of them, and bytes by chance. It says what came out, and the
//! harness checks it: no panic, no more text than came in, no control characters in what people see, no separators in
//! what becomes part of a path, and no time out of proportion. A row may check more, such as a round trip.
//!
//! An input that a row has failed for is added to the corpus as a file. `MULTIBOND_ROUNDS` makes the tests longer, and
//! proptest's `PROPTEST_CASES` is the number of inputs of a round. A test finds files that read foreign text and have no row.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestError, TestRunner},
};
use regex::Regex;

use crate::ops::for_terminal;

/// The folders in which text from outside is read.
const FOLDERS: [&str; 5] = ["agent/host", "agent/initiator/open_iscsi", "agent/types", "cli/import", "cli/plan"];
/// How code reads text and takes it apart.
const READS: &str =
    r"from_utf8|\.lines\(\)|split_(ascii_)?whitespace\(|fs::read\(|read_to_string|Deserializer::from_str";
/// Files that match and need no row, and why.
const WITHOUT_ROW: [(&str, &str); 3] = [
    ("agent/host/run_tool.rs", "it returns the whole output of a tool, which others take apart"),
    ("cli/import/ovirt/engine.rs", "cli/import/ovirt.rs has its row"),
    ("cli/plan/input.rs", "it returns the whole text of a file, which document.rs takes apart"),
];

/// The number of inputs of a row, for each round.
const INPUTS: u32 = 200;
/// The longest input that shows whether a parser takes time in proportion.
const LONG: usize = 256 * 1024;
/// Much longer than a parser needs for 256 KiB, and much shorter than one needs that compares everything with everything.
const LONG_LIMIT: Duration = Duration::from_secs(20);
/// How much longer than the input the output may be: a byte that is no text becomes a character of three bytes.
const GROWTH: usize = 4;
/// What a parser may say about an empty input.
const ROOM: usize = 4096;

/// Pieces that parsers take for something special.
const PIECES: [&[u8]; 40] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"\x1b[31m",
    b"\x1b]0;title\x07",
    b"\xc2\x9b",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"/",
    b"..",
    b"../../etc/nologin",
    b"\\",
    b"\\040",
    b"\\777",
    b"\"",
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"=",
    b"#",
    b"-",
    b"- ",
    b"---\n",
    b"+1",
    b"-1",
    b"01",
    b"65536",
    b"4294967296",
    b"18446744073709551616",
    b"1e999",
    b"<NULL>",
    b"&a *a",
    b"$(id)",
];

/// What a parser has made of an input.
#[derive(Debug, Default)]
pub struct Parsed {
    texts: Vec<String>,
    shown: Vec<String>,
    printed: Vec<String>,
    path_parts: Vec<String>,
}

impl Parsed {
    /// Nothing yet.
    pub fn new() -> Self {
        Parsed::default()
    }

    /// Adds texts that the parser returns. They are only as long as the input.
    pub fn texts<T: ToString>(mut self, texts: impl IntoIterator<Item = T>) -> Self {
        self.texts.extend(texts.into_iter().map(|text| text.to_string()));
        self
    }

    /// Adds texts that people see on a terminal, in a status or in a log: each is one line.
    pub fn shown<T: ToString>(mut self, texts: impl IntoIterator<Item = T>) -> Self {
        self.shown.extend(texts.into_iter().map(|text| text.to_string()));
        self
    }

    /// Adds what a subcommand prints about the input, one message for each thing that it found.
    pub fn printed<T: ToString>(mut self, messages: impl IntoIterator<Item = T>) -> Self {
        self.printed.extend(messages.into_iter().map(|message| for_terminal(&message.to_string())));
        self
    }

    /// Adds texts that become the name of a file or directory.
    pub fn path_parts<T: ToString>(mut self, texts: impl IntoIterator<Item = T>) -> Self {
        self.path_parts.extend(texts.into_iter().map(|text| text.to_string()));
        self
    }

    fn check(&self, input: &[u8]) {
        let size: usize = [&self.texts, &self.shown, &self.path_parts].into_iter().flatten().map(String::len).sum();
        let most = GROWTH * input.len() + ROOM;
        assert!(size <= most, "{} bytes became {size}, more than {most}", input.len());
        for message in &self.printed {
            assert!(message.len() <= most, "{} bytes became a message of {}", input.len(), message.len());
            let is_obeyed = |letter: char| letter.is_control() && !['\n', '\t', '\u{1b}'].contains(&letter);
            assert!(!message.contains(is_obeyed), "a terminal would obey {message:?}");
        }
        for text in &self.shown {
            assert!(!text.chars().any(char::is_control), "a text that is shown has a control character: {text:?}");
        }
        for part in &self.path_parts {
            let leaves = ["", ".", ".."].contains(&part.as_str()) || part.contains(['/', '\0']);
            assert!(!leaves, "a part of a path leaves its place: {part:?}");
        }
    }
}

/// The input as text, as the parsers of the agent read it.
pub fn lossy(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// One test for each parser of a module; see the module's documentation.
macro_rules! fuzz {
    ($($test:ident: $corpus:literal => $parse:expr;)+) => {
        $(
            #[test]
            fn $test() {
                $crate::fuzz::run($corpus, $parse);
            }
        )+
    };
}
pub(crate) use fuzz;

/// Gives a parser the corpus, a long input, and inputs by chance.
pub fn run(corpus: &str, parse: impl Fn(&[u8]) -> Parsed) {
    let files = read_corpus(corpus);
    for input in &files {
        parse(input).check(input);
        check_time(input, &parse);
    }
    check_time(&files.concat(), &parse);
    let cases = multibond_testbed::cases(INPUTS) * multibond_testbed::rounds(1);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let ran = TestRunner::new(config).run(&any_input(files), |input| {
        parse(&input).check(&input);
        Ok(())
    });
    if let Err(TestError::Fail(reason, input)) = ran {
        panic!("{reason}\nfor the input below; add it to tests/corpus/{corpus}/:\n{}", input.escape_ascii());
    }
    assert!(ran.is_ok(), "{ran:?}");
}

fn read_corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Repeats an input until it is long.
fn check_time(input: &[u8], parse: impl Fn(&[u8]) -> Parsed) {
    // Shorter where `PROPTEST_CASES` asks for fewer inputs.
    let length = LONG * multibond_testbed::cases(INPUTS).min(INPUTS) as usize / INPUTS as usize;
    let long = input.repeat(length / input.len().max(1));
    let start = Instant::now();
    parse(&long).check(&long);
    let taken = start.elapsed();
    assert!(taken < LONG_LIMIT, "{} bytes took {taken:?}", long.len());
}

/// A change of an input. Positions are drawn before the length is known.
#[derive(Clone, Debug)]
enum Mutation {
    Insert(Index, Vec<u8>),
    Replace(Index, Vec<u8>),
    Remove(Index, Index),
    Repeat(Index, Index),
}

impl Mutation {
    fn apply(&self, input: &mut Vec<u8>) {
        let at = |index: &Index, input: &Vec<u8>| index.index(input.len() + 1);
        match self {
            Mutation::Insert(index, piece) => {
                let at = at(index, input);
                input.splice(at..at, piece.iter().copied());
            }
            Mutation::Replace(index, piece) => {
                let at = at(index, input);
                let end = (at + piece.len()).min(input.len());
                input.splice(at..end, piece.iter().copied());
            }
            Mutation::Remove(from, to) => {
                let (from, to) = ordered(at(from, input), at(to, input));
                input.drain(from..to);
            }
            Mutation::Repeat(from, to) => {
                let (from, to) = ordered(at(from, input), at(to, input));
                let piece = input[from..to].to_vec();
                input.splice(to..to, piece);
            }
        }
    }
}

fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn any_input(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let mutated = (select(corpus), vec(any_mutation(), 1..6)).prop_map(|(mut input, mutations)| {
        for mutation in &mutations {
            mutation.apply(&mut input);
        }
        input
    });
    let pieces = vec(any_piece(), 0..40).prop_map(|pieces| pieces.concat());
    prop_oneof![6 => mutated, 1 => vec(any::<u8>(), 0..300), 1 => pieces]
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    prop_oneof![
        (index(), any_piece()).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        (index(), any_piece()).prop_map(|(at, piece)| Mutation::Replace(at, piece)),
        (index(), index()).prop_map(|(from, to)| Mutation::Remove(from, to)),
        (index(), index()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
    ]
}

fn any_piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => select(PIECES.to_vec()).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..4),
        1 => any::<char>().prop_map(|letter| letter.to_string().into_bytes()),
    ]
}

#[test]
#[should_panic(expected = "a text that is shown has a control character")]
fn a_parser_that_shows_control_characters_is_found() {
    run("uevent", |input| Parsed::new().shown([lossy(input)]));
}

#[test]
#[should_panic(expected = "a part of a path leaves its place")]
fn a_parser_that_leaves_its_directory_is_found() {
    run("uevent", |input| Parsed::new().path_parts([lossy(input).replace('\0', "x")]));
}

#[test]
fn every_file_that_reads_foreign_text_has_a_row() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let reads = Regex::new(READS).unwrap();
    let mut files = Vec::new();
    for folder in FOLDERS {
        add_files(&source.join(folder), &mut files);
    }
    files.extend(FOLDERS.iter().map(|folder| source.join(format!("{folder}.rs"))).filter(|file| file.exists()));
    let missing: Vec<PathBuf> = files
        .into_iter()
        .filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            // The tests of a folder may be in a file of their own.
            let beside = fs::read_to_string(file.with_file_name("tests.rs")).unwrap_or_default();
            let has_row = text.contains("fuzz! {") || (text.contains("mod tests;") && beside.contains("fuzz! {"));
            reads.is_match(&code) && !has_row
        })
        .map(|file| file.strip_prefix(&source).unwrap().to_owned())
        .collect();
    let expected: Vec<PathBuf> = WITHOUT_ROW.iter().map(|(file, _)| file.into()).collect();
    assert_eq!(missing, expected, "left: files without a row of fuzz!, right: those that need none");
}

/// The files of a folder, sorted; without what is only for tests.
fn add_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.ends_with("tests") {
            continue;
        }
        if path.is_dir() {
            add_files(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs")
            && !["tests.rs", "fixtures.rs"].iter().any(|name| path.ends_with(name))
        {
            files.push(path);
        }
    }
}
