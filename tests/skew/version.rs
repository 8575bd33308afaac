//! The versions that run side by side.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use super::site;

/// The first version. A later version must work beside it, so it is built as it was.
pub const FIRST: &str = "957c92c700542b4c2f367d87ae08b05ef7b1690f";

/// A version: its program and its chart.
pub struct Version {
    pub name: &'static str,
    pub multibond: PathBuf,
    pub chart: PathBuf,
}

impl Version {
    /// What is in the tree.
    pub fn current() -> &'static Version {
        static CURRENT: OnceLock<Version> = OnceLock::new();
        CURRENT.get_or_init(|| Version {
            name: "current",
            multibond: site::multibond(),
            chart: Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/multibond"),
        })
    }

    /// The first version. It is built at the first use, and kept in the target directory.
    pub fn first() -> &'static Version {
        static FIRST: OnceLock<Version> = OnceLock::new();
        FIRST.get_or_init(build)
    }
}

fn build() -> Version {
    let test = env::current_exe().unwrap();
    // The test is in target/debug/deps.
    let directory = test.ancestors().nth(3).unwrap().join("skew").join(&FIRST[..7]);
    let (source, target) = (directory.join("source"), directory.join("target"));
    if !source.exists() {
        extract(&source);
    }
    println!("building {FIRST} in {}: minutes at the first time", directory.display());
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--locked", "--quiet", "--bin", "multibond", "--target-dir"]).arg(&target);
    assert!(build.current_dir(&source).status().unwrap().success(), "cannot build {}", source.display());
    Version { name: "first", multibond: target.join("debug/multibond"), chart: source.join("charts/multibond") }
}

/// Puts the files of the first version into a directory.
fn extract(source: &Path) {
    let git = || {
        let mut git = Command::new("git");
        git.arg("-C").arg(env!("CARGO_MANIFEST_DIR"));
        git
    };
    let known = git().args(["cat-file", "-e", &format!("{FIRST}^{{commit}}")]).stderr(Stdio::null()).status();
    assert!(
        known.is_ok_and(|status| status.success()),
        "this clone does not have commit {FIRST}, the first version, which this test builds: run \
         `git fetch --unshallow` in it, or clone the repository with its history"
    );
    let unpacked = source.with_extension("new");
    let _ = fs::remove_dir_all(&unpacked);
    fs::create_dir_all(&unpacked).unwrap();
    let mut archive = git().args(["archive", FIRST]).stdout(Stdio::piped()).spawn().unwrap();
    let mut unpack = Command::new("tar");
    unpack.args(["-x", "-C"]).arg(&unpacked).stdin(archive.stdout.take().unwrap());
    assert!(unpack.status().unwrap().success() && archive.wait().unwrap().success());
    fs::rename(unpacked, source).unwrap();
}
