//! The command's arguments.

use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use multibond_testbed::eventually;

use super::console::{BARE, Console};
use super::site::{PATIENCE, Site};

#[tokio::test]
async fn the_browser_opens_the_printed_address_and_shows_all_namespaces() {
    let (one, other) = (Site::new("one").await, Site::new("other").await);
    one.apply(BARE).await;
    other.apply(BARE).await;
    // Replaces the desktop's xdg-open: it writes the address to a file.
    let desktop = tempfile::tempdir().unwrap();
    let (program, opened) = (desktop.path().join("xdg-open"), desktop.path().join("opened"));
    fs::write(&program, format!("#!/bin/sh\necho \"$1\" >{}\n", opened.display())).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let path = env::var_os("PATH").unwrap();
    let path = env::join_paths([desktop.path().to_owned()].into_iter().chain(env::split_paths(&path))).unwrap();

    let console = Console::with(&one, &["--all-namespaces", "--open"], &[("PATH", path)]).await;
    eventually("the browser is opened", PATIENCE, async || {
        let address = fs::read_to_string(&opened).unwrap_or_default();
        if address.trim() == console.url { Ok(()) } else { Err(address) }
    })
    .await;
    let browser = console.browser().await;
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
