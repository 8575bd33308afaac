//! Every page, light and dark, wide and narrow: axe-core finds no violation, nothing overflows, and docs/console.md
//! gets its pictures.

use std::path::Path;

use super::browser::Browser;
use super::console::{Console, PULLED_CABLE, connected};

/// The pages, and the name of their picture in docs/console.md.
const PAGES: [(&str, Option<&str>); 11] = [
    ("storage", None),
    ("networks", None),
    ("bonds", Some("bonds")),
    ("hosts", Some("hosts")),
    ("events", None),
    ("bonds/storage", None),
    ("hosts/worker-1", Some("host")),
    ("new/storage", None),
    ("edit/bond?name=storage", Some("form")),
    ("delete/network?name=san-b", None),
    ("delete/data-center", None),
];

#[tokio::test]
async fn every_page_is_accessible_and_fits_wide_and_narrow_screens() {
    let (site, _agents) = connected("looks").await;
    // The pages must show states of each colour.
    site.faults(PULLED_CABLE);
    site.until_phase("worker-1", "Degraded").await;

    for (mode, browser) in [("light", Browser::light().await), ("dark", Browser::dark().await)] {
        let console = Console::of(&site).await;
        browser.go(&console.url).await;
        browser.until("#data-centers", "Degraded").await;
        for (width, size) in [(1280, "wide"), (400, "narrow")] {
            browser.0.set_window_size(width, 900).await.unwrap();
            for (page, picture) in PAGES {
                browser.go(&console.page(&site, page)).await;
                browser.until("h1", "").await;
                if page.starts_with("edit") && mode == "light" {
                    browser.check("san-a").await;
                    browser.until("#preview", "2 paths retire").await;
                }
                assert_eq!(browser.violations().await, [""; 0], "{page}, {mode}, {size}");
                let out = "return document.documentElement.scrollWidth > innerWidth";
                assert_eq!(browser.run(out).await, false, "{page} is wider than a {size} screen");
                if let Some(picture) = picture {
                    keep(&browser, &format!("{picture}-{mode}-{size}"), (mode, size) == ("light", "wide")).await;
                }
            }
        }
        browser.close().await;
    }
}

/// Saves a picture with the test results, and those of the documentation also in docs/ if `UPDATE_DOCS` is set.
async fn keep(browser: &Browser, name: &str, documented: bool) {
    let picture = browser.0.screenshot().await.unwrap();
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console");
    std::fs::create_dir_all(&results).unwrap();
    std::fs::write(results.join(format!("{name}.png")), &picture).unwrap();
    if documented && std::env::var_os("UPDATE_DOCS").is_some() {
        let name = name.trim_end_matches("-light-wide");
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/console");
        std::fs::create_dir_all(&docs).unwrap();
        std::fs::write(docs.join(format!("{name}.png")), picture).unwrap();
    }
}
