//! The six steps from an empty data center to a bond, and a pulled cable on an open page.

use fantoccini::key::Key;

use super::console::{BARE, Console, FACTS, PULLED_CABLE, STORAGE, connected};
use super::site::{Site, condition, paths, ready};

#[tokio::test]
async fn six_steps_with_the_mouse_create_a_bond() {
    let site = Site::new("mouse").await;
    site.facts(FACTS);
    let _agents = site.agents(&["w1", "w2"]).await;
    site.apply(BARE).await;
    let console = Console::of(&site).await;
    let browser = console.browser().await;

    // 1. Add an iSCSI storage to the data center.
    browser.click("frankfurt").await;
    browser.until("h1", "frankfurt").await;
    browser.click("New").await;
    browser.fill("storage", "array-a").await;
    browser.fill("iqn", "iqn.2003-01.org.example:array-a").await;
    browser.fill("portals", "10.0.1.10\n10.0.2.10").await;
    browser.until("#preview", "4 paths added").await;
    browser.click("Create").await;
    browser.until("#storage", "iqn.2003-01.org.example:array-a").await;

    // 2. Make sure that it contains networks.
    for (name, subnet) in [("san-a", "10.0.1.0/24"), ("san-b", "10.0.2.0/24")] {
        browser.click("Networks").await;
        browser.click("New").await;
        browser.fill("name", name).await;
        browser.fill("subnets", subnet).await;
        browser.click("Create").await;
        browser.until("#networks", subnet).await;
    }

    // 3. Choose the data center; 4. its tab; 5. New; 6. the networks.
    browser.click("Data Centers").await;
    browser.click("frankfurt").await;
    browser.click("iSCSI Bonds").await;
    browser.until("#bonds", "no iSCSI bond").await;
    browser.click("New").await;
    browser.fill("name", "storage").await;
    browser.check("san-a").await;
    browser.check("san-b").await;
    browser.until("#preview", "2 paths added").await;
    browser.until("#preview", "2 paths retire").await;
    browser.until("#preview", "10.0.2.10:3260 through san-b (ens2f1)").await;
    browser.until("#preview", "1 host on the default network: worker-2").await;
    browser.click("Create").await;

    // The open page shows when the hosts are connected.
    browser.until("#bonds-storage", "2/2 2/2 ✓ Ready").await;
    let host = site.until("connected", "Host", "worker-1", ready).await;
    assert_eq!(paths(&host), ["10.0.1.10:3260 ens2f0 Connected", "10.0.2.10:3260 ens2f1 Connected"]);
    browser.close().await;
}

#[tokio::test]
async fn the_steps_to_a_bond_work_with_the_keyboard() {
    let site = Site::new("keyboard").await;
    site.facts(FACTS);
    let _agents = site.agents(&["w1", "w2"]).await;
    site.apply(&[BARE, STORAGE].concat()).await;
    let console = Console::of(&site).await;
    let browser = console.browser().await;
    let (enter, space) = (Key::Enter.to_string(), " ");

    browser.tab_to("frankfurt").await;
    browser.press(&enter).await;
    browser.until("h1", "frankfurt").await;
    browser.tab_to("iSCSI Bonds").await;
    browser.press(&enter).await;
    browser.until("#bonds", "no iSCSI bond").await;
    browser.tab_to("New").await;
    browser.press(&enter).await;
    browser.until("h1", "New iSCSI Bond").await;
    // The first field has the focus.
    browser.press("storage").await;
    browser.tab_to("san-a").await;
    browser.press(space).await;
    browser.tab_to("san-b").await;
    browser.press(space).await;
    browser.until("#preview", "4 paths added").await;
    browser.tab_to("Create").await;
    browser.press(&enter).await;
    browser.until("#bonds-storage", "2/2 4/4 ✓ Ready").await;
    let bond = site.get("IscsiBond", "storage").await;
    assert_eq!(bond["spec"]["networks"], serde_json::json!(["san-a", "san-b"]));
    browser.close().await;
}

#[tokio::test]
async fn an_open_page_shows_a_pulled_cable() {
    let (site, _agents) = connected("cable").await;
    let console = Console::of(&site).await;
    let browser = console.browser().await;
    browser.go(&console.page(&site, "hosts/worker-1")).await;
    browser.until("#head", "✓ Up").await;
    browser.run("window.loadedOnce = true").await;
    // A person is about to click a button.
    browser.run("window.held = document.querySelector('#head .toolbar a'); held.focus()").await;

    site.faults(PULLED_CABLE);
    browser.until("#head", "▲ Degraded").await;
    browser.until("#paths", "✕ Failed PortalUnreachable").await;
    browser.until("#paths", "next attempt within").await;

    site.faults("faults: []");
    browser.until("#head", "✓ Up").await;
    assert_eq!(browser.run("return window.loadedOnce").await, true, "the page was loaded again");
    let same = browser.run("return held.isConnected && document.activeElement === held").await;
    assert_eq!(same, true, "another element has taken the button's place");
    browser.close().await;
}

#[tokio::test]
async fn a_dead_portal_is_shown_beside_the_portal_and_under_wrong() {
    let (site, _agents) = connected("portal").await;
    // Both hosts are on both fabrics.
    site.facts(&FACTS.replace("192.168.1.22/24", "10.0.1.22/24', '10.0.2.22/24"));
    let on_both = |host: &serde_json::Value| paths(host).len() == 4 && ready(host);
    site.until("on both fabrics", "Host", "worker-2", on_both).await;
    site.faults("faults: [{portal: '10.0.1.11:3260', fault: Unreachable}]");
    let fails = |center: &serde_json::Value| condition(center, "PortalsReachable")["status"] == "False";
    site.until("the portal fails", "DataCenter", "frankfurt", fails).await;

    let console = Console::of(&site).await;
    let browser = console.browser().await;
    browser.go(&console.page(&site, "storage")).await;
    browser.until("#storage", "10.0.1.11 ✕ 0/2 hosts").await;
    browser.until("#storage", "10.0.1.10 ✓ 2/2 hosts").await;
    let form = "edit/storage?storage=array-a&target=iqn.2003-01.org.example%3Aarray-a";
    browser.go(&console.page(&site, form)).await;
    browser.until("form", "10.0.1.11: 0/2 hosts").await;
    browser.go(&format!("{}/?show=wrong", console.origin())).await;
    browser.until("#data-centers", "10.0.1.11").await;
    site.faults("faults: []");
    browser.go(&console.page(&site, "storage")).await;
    browser.until("#storage", "10.0.1.11 ✓ 2/2 hosts").await;
    browser.close().await;
}
