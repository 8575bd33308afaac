//! Forms: the preview before a change, and the errors of the API server after it.

use fantoccini::key::Key;
use multibond_testbed::eventually;

use super::browser::Browser;
use super::console::{BARE, BOND, Console, STORAGE, connected};
use super::site::{PATIENCE, Site};

/// The manifest, once it contains the words. It is folded, and each new preview replaces it.
async fn manifest_with(browser: &Browser, words: &str) -> String {
    let text = "return document.getElementById('manifest')?.textContent ?? ''";
    eventually(&format!("the manifest says {words:?}"), PATIENCE, async || {
        let manifest = browser.run(text).await.as_str().unwrap().to_owned();
        if manifest.contains(words) { Ok(manifest) } else { Err(manifest) }
    })
    .await
}

#[tokio::test]
async fn a_form_creates_a_data_center_and_its_manifest_can_be_copied() {
    let site = Site::new("form").await;
    let console = Console::of(&site).await;
    let browser = console.browser().await;
    browser.click("New").await;
    browser.fill("namespace", &site.namespace).await;
    browser.fill("name", "vienna").await;
    browser.check("Never").await;
    let manifest = manifest_with(&browser, "defaultNetwork: Never").await;
    browser.click("As YAML").await;
    browser.click("Copy").await;
    browser.until("#preview", "Copied").await;
    // The details stay open while their content changes.
    for name in ["linz", "vienna"] {
        browser.fill("name", name).await;
        manifest_with(&browser, &format!("name: {name}")).await;
    }
    assert_eq!(browser.run("return document.querySelector('#preview details').open").await, true);
    browser.until("#preview", "Copy").await;
    // Paste it into an element that the test can read.
    browser.run("document.body.append(Object.assign(document.createElement('textarea'), {id: 'paper'}))").await;
    browser.fill("paper", &format!("{}v", char::from(Key::Control))).await;
    assert_eq!(browser.run("return document.getElementById('paper').value").await, manifest);

    browser.click("Create").await;
    browser.until("h1", "vienna").await;
    let made = site.get("DataCenter", "vienna").await;
    assert_eq!(made["spec"]["defaultNetwork"], "Never");
    site.kubectl(&["delete", "datacenter", "vienna"], "").await;
    // The copied manifest describes the object that the form has created.
    site.apply(&manifest).await;
    assert_eq!(site.get("DataCenter", "vienna").await["spec"], made["spec"]);
    browser.close().await;
}

#[tokio::test]
async fn an_unfolded_manifest_stays_unfolded_while_the_preview_grows() {
    let (site, _agents) = connected("unfolded").await;
    let console = Console::of(&site).await;
    let browser = console.browser().await;
    browser.go(&console.page(&site, "edit/bond?name=storage")).await;
    browser.check("san-b").await;
    manifest_with(&browser, "- san-a\n").await;
    browser.click("As YAML").await;
    browser.check("san-b").await;
    browser.check("san-a").await;
    manifest_with(&browser, "- san-b\n").await;
    browser.until("#preview", "2 paths retire").await;
    assert_eq!(browser.run("return document.querySelector('#preview details').open").await, true);
    browser.close().await;
}

#[tokio::test]
async fn without_a_clipboard_the_manifest_is_selected() {
    let site = Site::new("clipboard").await;
    site.apply(BARE).await;
    let console = Console::of(&site).await;
    let browser = console.browser().await;
    browser.go(&console.page(&site, "new/bond")).await;
    browser.fill("name", "storage").await;
    let manifest = manifest_with(&browser, "name: storage").await;
    browser.click("As YAML").await;
    browser.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})").await;
    browser.click("Copy").await;
    browser.until("#preview", "Selected").await;
    assert_eq!(browser.run("return getSelection().toString()").await, manifest.trim_end());
    browser.close().await;
}

#[tokio::test]
async fn errors_of_the_api_server_are_shown_at_the_field() {
    let site = Site::new("refused").await;
    site.apply(&[BARE, STORAGE, BOND].concat()).await;
    let console = Console::of(&site).await;
    let browser = console.browser().await;
    browser.go(&console.page(&site, "new/storage")).await;
    browser.fill("storage", "Array_A").await;
    browser.fill("iqn", "not-an-iqn").await;
    browser.fill("portals", "10.0.1.300").await;
    browser.click("Create").await;
    browser.until("#portals-wrong", "an IPv4 address such as 10.0.1.5").await;
    browser.until(".errors", "some validation rules were not checked").await;
    browser.fill("portals", "10.0.1.10").await;
    browser.click("Create").await;
    for (id, words) in [("storage", "Array_A"), ("iqn", "not-an-iqn")] {
        browser.until(&format!("#{id}-wrong"), words).await;
        let invalid = format!("return document.getElementById('{id}').getAttribute('aria-invalid')");
        assert_eq!(browser.run(&invalid).await, "true", "{id}");
    }

    browser.go(&console.page(&site, "new/bond")).await;
    browser.fill("name", "storage").await;
    browser.click("Create").await;
    browser.until("#name-wrong", "already exists").await;
    browser.close().await;
}

#[tokio::test]
async fn a_form_does_not_overwrite_a_change_by_somebody_else() {
    let site = Site::new("meanwhile").await;
    site.apply(&[BARE, STORAGE, BOND].concat()).await;
    let console = Console::of(&site).await;
    let browser = console.browser().await;
    browser.go(&console.page(&site, "edit/bond?name=storage")).await;
    site.patch("IscsiBond", "storage", serde_json::json!({"spec": {"networks": ["san-b"]}})).await;
    browser.fill("description", "mine").await;
    browser.click("Save").await;
    browser.until(".errors", "Somebody has changed storage in the meantime").await;
    assert_eq!(site.get("IscsiBond", "storage").await["spec"]["networks"], serde_json::json!(["san-b"]));

    browser.go(&console.page(&site, "edit/bond?name=storage")).await;
    browser.fill("description", "mine").await;
    browser.check("san-b").await;
    browser.click("Save").await;
    browser.until("#bonds-storage", "none").await;
    let bond = site.get("IscsiBond", "storage").await;
    assert_eq!((&bond["spec"]["description"], &bond["spec"]["networks"]), (&"mine".into(), &serde_json::json!([])));
    browser.close().await;
}

#[tokio::test]
async fn a_removal_shows_its_consequences_first() {
    let (site, _agents) = connected("removal").await;
    let console = Console::of(&site).await;
    let browser = console.browser().await;

    browser.go(&console.page(&site, "networks")).await;
    browser.click("Remove san-b").await;
    browser.until("main", "It is removed from the bonds that name it: storage.").await;
    browser.until("#preview", "2 paths retire").await;
    browser.click("Remove").await;
    browser.until("#networks", "san-a").await;
    site.until_gone("Network", "san-b").await;
    assert_eq!(site.get("IscsiBond", "storage").await["spec"]["networks"], serde_json::json!(["san-a"]));

    browser.go(&console.page(&site, "delete/data-center")).await;
    browser.until("main", "Its bonds are deleted too: storage.").await;
    browser.until("main", "2 other hosts stay, Unassigned").await;
    browser.click("Remove").await;
    browser.until("h1", "Data Centers").await;
    site.until_gone("IscsiBond", "storage").await;
    browser.close().await;
}

#[tokio::test]
async fn a_host_goes_into_maintenance_and_is_activated_again() {
    let (site, _agents) = connected("maintenance").await;
    let console = Console::of(&site).await;
    let browser = console.browser().await;
    for (button, phase) in [("Maintenance", "Maintenance"), ("Activate", "Up")] {
        browser.go(&console.page(&site, "hosts/worker-1")).await;
        browser.click(button).await;
        browser.check("yes").await;
        browser.until("#preview", if phase == "Up" { "4 paths added" } else { "4 paths retire" }).await;
        browser.click("Save").await;
        browser.until("#hosts-worker-1", phase).await;
    }
    browser.close().await;
}

#[tokio::test]
async fn a_viewer_sees_everything_and_gets_the_refusal_of_a_change() {
    let site = Site::new("viewer").await;
    site.apply(&[BARE, STORAGE, BOND].concat()).await;
    let console = Console::of_role(&site, "multibond-viewer").await;
    let browser = console.browser().await;
    browser.click("frankfurt").await;
    browser.until("#storage", "array-a").await;
    browser.click("iSCSI Bonds").await;
    browser.until("#bonds", "storage").await;
    assert_eq!(browser.text("#unreadable").await, "");

    browser.click("Edit storage").await;
    browser.check("san-a").await;
    browser.click("Save").await;
    browser.until(".errors", "cannot update resource \"iscsibonds\"").await;
    browser.go(&console.page(&site, "delete/network?name=san-a")).await;
    browser.click("Remove").await;
    browser.until(".errors", "cannot delete resource \"networks\"").await;
    let bond = site.get("IscsiBond", "storage").await;
    assert_eq!(bond["spec"]["networks"], serde_json::json!(["san-a", "san-b"]));
    browser.close().await;
}
