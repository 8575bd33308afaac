//! The argument `-f`: which files to read, and their text.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// A source of manifests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Source {
    /// Whether this is the file that configures kustomize, which need not be an object.
    pub fn is_kustomization(&self) -> bool {
        matches!(self, Source::File(path) if path.file_stem().is_some_and(|stem| stem.eq_ignore_ascii_case("kustomization")))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::Stdin => f.write_str("standard input"),
        }
    }
}

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// An error of the operating system.
    #[error("{name}: {source}")]
    Io {
        /// The file, directory or stream.
        name: String,
        /// The error.
        source: io::Error,
    },
    /// The bytes are not text.
    #[error("{0}: not UTF-8: a manifest is a text file")]
    NotText(Source),
    /// A directory without manifests; the second field is a hint.
    #[error("{0}: no file ends in .yaml, .yml or .json{1}")]
    NothingIn(PathBuf, &'static str),
}

impl Unreadable {
    fn io(name: impl fmt::Display, source: io::Error) -> Self {
        Unreadable::Io { name: name.to_string(), source }
    }
}

/// The sources for an argument of `-f`: a file, `-`, or the manifests of a directory, sorted by name.
pub fn sources(argument: &Path, recursive: bool) -> Result<Vec<Source>, Unreadable> {
    if argument == Path::new("-") {
        return Ok(vec![Source::Stdin]);
    }
    let metadata = fs::metadata(argument).map_err(|error| Unreadable::io(argument.display(), error))?;
    if !metadata.is_dir() {
        return Ok(vec![Source::File(argument.to_owned())]);
    }
    let mut files = Vec::new();
    collect(argument, recursive, &mut files)?;
    if files.is_empty() {
        let hint = if recursive { "" } else { "; directories in it are read with -R" };
        return Err(Unreadable::NothingIn(argument.to_owned(), hint));
    }
    files.sort();
    Ok(files.into_iter().map(Source::File).collect())
}

fn collect(directory: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> Result<(), Unreadable> {
    let failed = |error| Unreadable::io(directory.display(), error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        // Links to files are followed: a mounted ConfigMap consists of them. Links to directories could be circular.
        if entry.file_type().map_err(failed)?.is_dir() {
            if recursive {
                collect(&path, recursive, files)?;
            }
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
            && is_readable(&path)
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether a path in a directory is read: not a pipe, which could block for ever. A path without readable metadata is
/// read, so that its error is reported.
fn is_readable(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |found| found.is_file())
}

/// The text of a source.
pub fn text(source: &Source) -> Result<String, Unreadable> {
    let mut bytes = Vec::new();
    match source {
        Source::File(path) => bytes = fs::read(path).map_err(|error| Unreadable::io(source, error))?,
        Source::Stdin => {
            io::stdin().lock().read_to_end(&mut bytes).map_err(|error| Unreadable::io(source, error))?;
        }
    }
    String::from_utf8(bytes).map_err(|_| Unreadable::NotText(source.clone()))
}
