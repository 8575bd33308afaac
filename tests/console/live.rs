//! A page of a thousand hosts: the time until it is shown, and what one change redraws.

use std::{collections::BTreeSet, time::Instant};

use futures::{StreamExt as _, stream};
use kube::{
    Api,
    api::{DynamicObject, ListParams, PostParams},
};
use multibond_testbed::eventually;
use serde_json::json;

use super::console::{BARE, Console, STORAGE};
use super::site::{PATIENCE, Site};

const HOSTS: usize = 1000;

#[tokio::test]
async fn a_change_of_one_host_redraws_only_its_row() {
    let site = Site::new("thousand").await;
    site.apply(&[BARE, STORAGE].concat()).await;
    let api = site.api("Host").await;
    let make = |number: usize| {
        let name = format!("host-{number:04}");
        let host = json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Host", "metadata": {"name": name},
            "spec": {"dataCenter": "frankfurt", "nodeName": format!("{}-{name}", site.namespace)}});
        let api = api.clone();
        async move { api.create(&PostParams::default(), &serde_json::from_value(host).unwrap()).await.map(drop) }
    };
    stream::iter((0..HOSTS).map(make)).buffer_unordered(32).for_each(async |made| made.unwrap()).await;
    // Wait until the controller has processed each of them, and has nothing left to write.
    eventually("each host has its plan", PATIENCE, async || {
        let hosts = api.list(&ListParams::default()).await.unwrap().items;
        let without = hosts.iter().filter(|host| host.data["status"]["plan"].is_null()).count();
        if without == 0 { Ok(()) } else { Err(format!("{without} hosts have none")) }
    })
    .await;

    let console = Console::of(&site).await;
    let browser = console.browser().await;
    let begin = Instant::now();
    browser.go(&console.page(&site, "hosts")).await;
    let took = begin.elapsed();
    // The page may be complete before the browser has painted anything.
    let painted = eventually("the page is painted", PATIENCE, async || {
        let at = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime";
        browser.run(at).await.as_f64().ok_or("nothing is")
    })
    .await;
    println!("{HOSTS} hosts were seen first after {painted} ms, and all there after {took:?}");

    let rows = "return document.querySelectorAll('#hosts tbody tr').length";
    assert_eq!(browser.run(rows).await, HOSTS + 2);
    let before = versions(&api).await;
    // Ages change all the time, so they are left out.
    let watch = "window.drawn = new Set(); const rows = document.querySelector('#hosts tbody'); new MutationObserver(changes => changes.map(it => it.target).filter(it => !it.closest?.('time') && !it.parentElement?.closest('time')).forEach(it => drawn.add((it.closest ? it : it.parentElement).closest('tr')?.id ?? 'rows'))).observe(rows, {subtree: true, childList: true, attributes: true, characterData: true})";
    browser.run(watch).await;
    site.patch("Host", "host-0500", json!({"spec": {"maintenance": true}})).await;
    browser.until("#hosts-host-0500", "Maintenance").await;
    let again: BTreeSet<String> = serde_json::from_value(browser.run("return [...drawn]").await).unwrap();
    // The controller may have written the status of other hosts meanwhile.
    let after = versions(&api).await;
    let changed: BTreeSet<String> = after.difference(&before).map(|(name, _)| format!("hosts-{name}")).collect();
    assert!(again.contains("hosts-host-0500") && again.is_subset(&changed), "{again:?} of {changed:?}");
    assert!(again.len() < HOSTS / 2, "{} rows were drawn again", again.len());

    // When a row is removed, the other rows and the focus stay where they are.
    browser.run("window.held = document.querySelector('#hosts-host-0502 a'); held.focus()").await;
    site.delete("Host", "host-0501").await;
    eventually("the row is gone", PATIENCE, async || {
        let row = browser.run("return document.getElementById('hosts-host-0501')?.innerText").await;
        if row.is_null() { Ok(()) } else { Err(row) }
    })
    .await;
    assert_eq!(browser.run("return document.activeElement === held").await, true, "the focus is elsewhere");

    browser.click("Maintenance 1").await;
    browser.until("#hosts", "host-0500").await;
    assert_eq!(browser.run(rows).await, 1);
    browser.close().await;
}

/// The hosts with their resource versions.
async fn versions(api: &Api<DynamicObject>) -> BTreeSet<(String, String)> {
    let hosts = api.list(&ListParams::default()).await.unwrap().items;
    hosts.into_iter().map(|host| (host.metadata.name.unwrap(), host.metadata.resource_version.unwrap())).collect()
}
