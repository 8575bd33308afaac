//! `multibond enter` with real namespaces: it enters the host and becomes a tool.
#![allow(clippy::unwrap_used, reason = "what serves a test fails it")]

use std::fs;
use std::path::Path;
use std::process::Command;

use assert_cmd::assert::{Assert, OutputAssertExt as _};
use rstest::rstest;

/// Runs a script as the root of namespaces of its own; `$enter` in it is the command.
fn as_root(script: &str, directory: &Path) -> Assert {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "--net", "/bin/sh", "-euc", script]).current_dir(directory);
    command.env("enter", concat!(env!("CARGO_BIN_EXE_multibond"), " enter")).env("LC_ALL", "C").assert()
}

#[test]
fn a_tool_runs_in_the_namespaces_of_the_process_with_its_output() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"
        namespaces='readlink /proc/self/ns/mnt /proc/self/ns/net'
        mkfifo entered
        unshare --mount --net /bin/sh -c "$namespaces >theirs; echo >entered; exec sleep 600" &
        trap "kill $!" EXIT
        read _ <entered
        $namespaces >ours
        $enter $! -- /bin/sh -c "$namespaces; pwd; echo \$* >&2; exit 7" sh --version -- x
    "#;
    let assert = as_root(script, directory.path());
    let namespaces = |of| fs::read_to_string(directory.path().join(of)).unwrap();
    let (ours, theirs) = (namespaces("ours"), namespaces("theirs"));
    assert!(ours.lines().zip(theirs.lines()).all(|(ours, theirs)| ours != theirs), "{ours}{theirs}");
    assert.code(7).stdout(theirs + "/\n").stderr("--version -- x\n");
}

#[test]
fn with_another_root_the_tool_is_searched_for_there() {
    let directory = tempfile::tempdir().unwrap();
    let script = r"
        mkdir -p host/usr host/tools
        cp --no-dereference /bin /lib /lib64 host
        mount --rbind /usr host/usr
        printf '#!/bin/sh\npwd; ls\n' >host/tools/tool
        chmod +x host/tools/tool
        PATH=/tools:/bin $enter $PWD/host tool
    ";
    as_root(script, directory.path()).code(0).stdout("/\nbin\nlib\nlib64\ntools\nusr\n").stderr("");
}

#[rstest]
#[case::no_process("4194305", "true", 125, "cannot open /proc/4194305/ns/net: No such file or directory")]
#[case::no_directory("/no/host", "true", 125, "cannot enter /no/host: No such file or directory")]
#[case::no_tool("/", "no-such-tool", 127, "there is no no-such-tool")]
#[case::no_program("/", "/etc/passwd", 126, "cannot start /etc/passwd: Permission denied")]
fn an_error_before_the_tool_runs_does_not_show_its_arguments(
    #[case] place: &str,
    #[case] tool: &str,
    #[case] code: i32,
    #[case] message: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let assert = as_root(&format!("$enter {place} {tool} secret"), directory.path()).code(code).stdout("");
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(said.starts_with(message) && !said.contains("secret"), "{said}");
}

#[test]
fn missing_permission_to_enter_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let assert = as_root("setpriv --bounding-set=-all $enter / true", directory.path());
    assert.code(125).stderr("cannot enter /: Operation not permitted (os error 1)\n");
}
