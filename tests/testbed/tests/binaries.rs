//! Binaries are prepared once, from the first source that has them. Go and curl are replaced by scripts that record how
//! they were called.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what serves a test fails it")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use multibond_testbed::Tool;
use tempfile::TempDir;

const GO: &str = r#"#!/bin/sh
case "$1" in
env) echo "${GO_VERSION:-go1.26.0}"; exit ;;
build) ;;
*) exit 2 ;;
esac
while [ $# -gt 1 ]; do [ "$1" = -o ] && target=$2; shift; done
[ "$1" = "$FAILS" ] && { echo "no required module provides package $1" >&2; exit 1; }
echo "$1" >> "$MULTIBOND_CACHE/built"
sleep 0.1
echo "the program" > "$target"
"#;

const CURL_WITHOUT_INTERNET: &str = "#!/bin/sh\necho 'curl: (6) Could not resolve host' >&2\nexit 6\n";

/// A machine with an empty cache and only the given programs.
struct Machine(TempDir);

impl Machine {
    fn new(programs: &[(&str, &str)]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        let bin = machine.path("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(machine.path("cache")).unwrap();
        fs::create_dir_all(machine.path("tmp")).unwrap();
        for name in ["sh", "cat", "rm", "sleep", "tar"] {
            symlink(find(name), bin.join(name)).unwrap();
        }
        for (name, script) in programs {
            fs::write(bin.join(name), script).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn fetch(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
        command.arg("fetch").env_remove("KUBEBUILDER_ASSETS").stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("PATH", self.path("bin")).env("TMPDIR", self.path("tmp"));
        command.env("MULTIBOND_CACHE", self.path("cache")).env("RUST_BACKTRACE", "0");
        command
    }

    fn built(&self) -> Vec<String> {
        let built = fs::read_to_string(self.path("cache/built")).unwrap_or_default();
        built.lines().map(str::to_owned).collect()
    }
}

fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.is_file()).expect(program)
}

fn directory(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{}", stderr(output));
    PathBuf::from(String::from_utf8(output.stdout.clone()).unwrap().trim())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn complete(directory: &Path) -> bool {
    Tool::CONTROL_PLANE.iter().all(|tool| directory.join(tool.name()).is_file())
}

#[test]
fn binaries_are_built_once_without_internet() {
    let machine = Machine::new(&[("go", GO), ("curl", CURL_WITHOUT_INTERNET)]);
    let first = machine.fetch().output().unwrap();
    assert!(complete(&directory(&first)));
    assert_eq!(machine.built().len(), Tool::CONTROL_PLANE.len());
    for word in ["Could not resolve host", "kube-apiserver v", "built in"] {
        assert!(stderr(&first).contains(word), "{word}: {}", stderr(&first));
    }

    let second = machine.fetch().output().unwrap();
    assert_eq!(directory(&second), directory(&first));
    assert_eq!((stderr(&second).as_str(), machine.built().len()), ("", Tool::CONTROL_PLANE.len()));
}

#[test]
fn two_concurrent_processes_build_once() {
    let machine = Machine::new(&[("go", GO), ("curl", CURL_WITHOUT_INTERNET)]);
    let started: Vec<_> = (0..3).map(|_| machine.fetch().spawn().unwrap()).collect();
    for child in started {
        assert!(complete(&directory(&child.wait_with_output().unwrap())));
    }
    assert_eq!(machine.built().len(), Tool::CONTROL_PLANE.len());
}

#[test]
fn binaries_from_kubebuilder_assets_are_not_built() {
    let machine = Machine::new(&[("go", GO)]);
    let assets = machine.path("assets");
    fs::create_dir(&assets).unwrap();
    for name in ["etcd", "kube-apiserver", "kubectl"] {
        fs::write(assets.join(name), "").unwrap();
    }
    let output = machine.fetch().env("KUBEBUILDER_ASSETS", &assets).output().unwrap();
    let cache = directory(&output);
    assert!(!cache.join("etcd").exists() && cache.join("helm").exists());
    assert_eq!(machine.built(), ["k8s.io/kubernetes/cmd/kube-controller-manager", "helm.sh/helm/v4/cmd/helm"]);

    for tool in Tool::CONTROL_PLANE {
        fs::write(assets.join(tool.name()), "").unwrap();
    }
    let output = machine.fetch().env("KUBEBUILDER_ASSETS", &assets).output().unwrap();
    assert_eq!(directory(&output), assets);
}

#[test]
fn missing_go_and_curl_are_reported_in_one_line() {
    let machine = Machine::new(&[]);
    let output = machine.fetch().output().unwrap();
    assert!(!output.status.success());
    let error = stderr(&output);
    let line = error.lines().find(|line| line.starts_with("Error: ")).expect(&error);
    assert!(line.contains("install Go") && line.contains("kube-apiserver"), "{error}");
    assert!(error.contains("there is no `curl`"), "{error}");
}

#[test]
fn a_go_that_is_too_old_is_refused() {
    let machine = Machine::new(&[("go", GO)]);
    let output = machine.fetch().env("GO_VERSION", "go1.19.8").output().unwrap();
    assert!(!output.status.success() && stderr(&output).contains("go1.19.8 is too old"), "{}", stderr(&output));
    assert_eq!(machine.built(), [""; 0]);
}

#[test]
fn failed_build_names_its_cause_and_resumes_next_time() {
    let machine = Machine::new(&[("go", GO)]);
    let output = machine.fetch().env("FAILS", "k8s.io/kubernetes/cmd/kubectl").output().unwrap();
    assert!(!output.status.success() && stderr(&output).contains("no required module"), "{}", stderr(&output));

    assert!(complete(&directory(&machine.fetch().output().unwrap())));
    assert_eq!(machine.built().len(), Tool::CONTROL_PLANE.len());
}
