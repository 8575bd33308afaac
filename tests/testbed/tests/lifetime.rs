//! When the process that started a control plane ends, for any reason, no process and no file is left.
#![allow(clippy::unwrap_used, reason = "what serves a test fails it")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use multibond_testbed::eventually;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

/// Starts a control plane in a process of its own, with all its files under `home`.
fn start(home: &TempDir) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
    command.arg("start").env("TMPDIR", home.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until it prints its kubeconfig as a shell command. Returns the path.
fn kubeconfig(parent: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(parent.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim().strip_prefix("export KUBECONFIG=").unwrap().to_owned()
}

/// The command lines of all processes that contain `home`: those of the control plane and of its watchdog do.
fn running(home: &Path) -> Vec<String> {
    let home = home.to_str().unwrap();
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    processes.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(home)).collect()
}

async fn nothing_is_left(home: &TempDir) {
    eventually("nothing runs, and no file is left", SOON, async || {
        let (running, files) = (running(home.path()), fs::read_dir(home.path()).unwrap().count());
        if running.is_empty() && files == 0 { Ok(()) } else { Err(format!("{files} files, {running:#?}")) }
    })
    .await;
}

fn signal(parent: &Child, signal: Signal) {
    kill_process(Pid::from_child(parent), signal).unwrap();
}

#[tokio::test]
async fn nothing_is_left_of_a_parent_that_is_killed() {
    let home = tempfile::tempdir().unwrap();
    let mut parent = start(&home);
    assert!(fs::exists(kubeconfig(&mut parent)).unwrap());
    for component in ["etcd", "kube-apiserver", "kube-controller-manager", "watchdog"] {
        assert!(running(home.path()).iter().any(|line| line.contains(component)), "{component} should run");
    }
    signal(&parent, Signal::KILL);
    parent.wait().unwrap();
    nothing_is_left(&home).await;
}

#[tokio::test]
async fn nothing_is_left_of_a_parent_that_is_killed_while_it_starts() {
    let home = tempfile::tempdir().unwrap();
    let mut parent = start(&home);
    eventually("the API server runs", SOON, async || {
        let running = running(home.path());
        if running.iter().any(|line| line.contains("--etcd-servers")) { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
    signal(&parent, Signal::KILL);
    parent.wait().unwrap();
    nothing_is_left(&home).await;
}

#[tokio::test]
async fn nothing_is_left_after_ctrl_c() {
    let home = tempfile::tempdir().unwrap();
    let mut parent = start(&home);
    kubeconfig(&mut parent);
    signal(&parent, Signal::INT);
    assert!(parent.wait().unwrap().success());
    nothing_is_left(&home).await;
}

#[tokio::test]
async fn a_component_that_cannot_start_says_why_and_keeps_its_logs() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
    let output =
        command.args(["start", "--api-server-arg=--no-such-flag"]).env("TMPDIR", home.path()).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("kube-apiserver is not ready") && error.contains("unknown flag: --no-such-flag"), "{error}");
    let kept = error.lines().find_map(|line| line.split_once("logs are kept in ")).unwrap().1;
    assert!(fs::read_to_string(Path::new(kept).join("kube-apiserver.log")).unwrap().contains("--no-such-flag"));
    eventually("the database is not kept", SOON, async || {
        if Path::new(kept).join("control-plane-1/etcd").exists() { Err("it is there") } else { Ok(()) }
    })
    .await;
}
