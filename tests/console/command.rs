//! The command's arguments.

use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use multibond_testbed::eventually;

use super::browser::Browser;
use super::console::{BARE, Console};
use super::site::{PATIENCE, Site};

#[tokio::test]
async fn the_browser_is_signed_in_without_the_token_in_any_argument() {
    let (one, other) = (Site::new("one").await, Site::new("other").await);
    one.apply(BARE).await;
    other.apply(BARE).await;
    // Replaces the desktop's xdg-open: it writes its arguments to a file.
    let desktop = tempfile::tempdir().unwrap();
    let (program, arguments) = (desktop.path().join("xdg-open"), desktop.path().join("arguments"));
    fs::write(&program, format!("#!/bin/sh\necho \"$@\" >{}\n", arguments.display())).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let path = env::var_os("PATH").unwrap();
    let path = env::join_paths([desktop.path().to_owned()].into_iter().chain(env::split_paths(&path))).unwrap();
    let runtime = ("XDG_RUNTIME_DIR", desktop.path().into());

    let console = Console::with(&one, &["--all-namespaces", "--open"], &[("PATH", path), runtime]).await;
    let opened = eventually("the browser is opened", PATIENCE, async || {
        let opened = fs::read_to_string(&arguments).unwrap_or_default().trim().to_owned();
        if opened.ends_with("open.html") { Ok(opened) } else { Err(opened) }
    })
    .await;
    let token = console.url.split('=').nth(1).unwrap();
    assert!(!opened.contains(token), "every user of the machine can read {opened}");
    assert!(fs::read_to_string(&opened).unwrap().contains(&console.url));

    let browser = Browser::light().await;
    browser.go(&format!("file://{opened}")).await;
    browser.until("#data-centers", &one.namespace).await;
    browser.until("#data-centers", &other.namespace).await;
    browser.close().await;
}

#[tokio::test]
async fn without_a_browser_the_address_is_printed() {
    let site = Site::new("no-desktop").await;
    let console = Console::with(&site, &["--open"], &[("PATH", OsString::from("/nowhere"))]).await;
    eventually("it says so", PATIENCE, async || {
        let log = console.process.log();
        if log.contains("the browser cannot be opened") { Ok(()) } else { Err(log) }
    })
    .await;
    let browser = console.browser().await;
    browser.close().await;
}
