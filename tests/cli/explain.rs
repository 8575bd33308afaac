//! `multibond explain`, `completion` and `man`: help that needs neither a cluster nor the documentation.

use std::fs;

use crate::{multibond, run};

#[test]
fn explain_shows_a_reason_and_exits_0_and_refuses_an_unknown_one() {
    let (code, text, _) = run(&mut multibond(&["explain", "PathsFailed"]));
    assert_eq!(code, 0);
    assert!(text.starts_with("PathsFailed (Reasons of conditions)\n  Meaning"), "{text}");
    let (code, text, error) = run(&mut multibond(&["explain", "PathsFooled"]));
    assert_eq!((code, &text[..]), (1, ""));
    assert!(error.contains("`multibond explain` lists all of them"), "{error}");
}

#[test]
fn explain_lists_every_name_once_for_each_meaning() {
    let (code, text, _) = run(&mut multibond(&["explain"]));
    assert_eq!(code, 0);
    let mut lines: Vec<_> = text.lines().collect();
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert!(all > 100 && lines.len() == all, "{text}");
}

#[test]
fn each_shell_has_a_script_that_completes_subcommands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, error) = run(&mut multibond(&["completion", shell]));
        assert_eq!((code, &error[..]), (0, ""), "{shell}");
        for word in ["explain", "filename", "all-namespaces"] {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
    let (code, _, error) = run(&mut multibond(&["completion", "csh"]));
    assert_eq!(code, 1);
    assert!(error.contains("possible values: bash"), "{error}");
}

#[test]
fn every_subcommand_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    let (code, _, error) = run(&mut multibond(&["man", "--out-dir", pages.to_str().unwrap()]));
    assert_eq!((code, &error[..]), (0, ""));
    for subcommand in ["plan", "status", "check", "import-ovirt"] {
        let page = fs::read_to_string(pages.join(format!("multibond-{subcommand}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    let (code, page, _) = run(&mut multibond(&["man"]));
    assert!(code == 0 && page.contains("multibond \\- iSCSI multipath bonds"), "{page}");
}
