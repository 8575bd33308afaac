//! A browser that the test controls.

use std::time::Duration;

use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use multibond_testbed::{Process, eventually};
use regex::Regex;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// Long enough for a busy machine: a passing test never waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The address of chromedriver, which all tests of this binary share.
async fn driver() -> &'static str {
    static DRIVER: OnceCell<(Process, String)> = OnceCell::const_new();
    let start = async || {
        let process = Process::spawn("chromedriver", ["--port=0"], [("LC_ALL", "C.UTF-8")], "chromedriver");
        let process = process.unwrap_or_else(|error| {
            panic!("the console is tested in a browser: install chromium and chromium-driver ({error:#})")
        });
        let started = Regex::new(r"started successfully on port (\d+)").unwrap();
        let url = eventually("the driver listens", PATIENCE, async || {
            let log = process.log();
            started.captures(&log).map(|port| format!("http://127.0.0.1:{}", &port[1])).ok_or(log)
        })
        .await;
        (process, url)
    };
    &DRIVER.get_or_init(start).await.1
}

/// A browser with a profile of its own.
pub struct Browser(pub Client);

impl Browser {
    /// A browser that prefers light pages.
    pub async fn light() -> Browser {
        Browser::start("--blink-settings=preferredColorScheme=1").await
    }

    /// A browser that prefers dark pages.
    pub async fn dark() -> Browser {
        Browser::start("--blink-settings=preferredColorScheme=0").await
    }

    async fn start(scheme: &str) -> Browser {
        // Tests may run as root and in small containers, where the sandbox and /dev/shm do not work.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
            "--hide-scrollbars",
        ];
        let arguments: Vec<&str> = arguments.into_iter().chain([scheme]).collect();
        let capabilities = json!({"goog:chromeOptions": {"args": arguments}});
        let Value::Object(capabilities) = capabilities else { unreachable!() };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        Browser(builder.capabilities(capabilities).connect(driver().await).await.unwrap())
    }

    pub async fn go(&self, url: &str) {
        self.0.goto(url).await.unwrap();
    }

    /// Clicks the link or button with this text, and waits for the new page if it leads to one.
    pub async fn click(&self, text: &str) {
        let path = format!(
            "//*[self::a or self::button or self::summary][normalize-space()={text:?} or @aria-label={text:?} or starts-with(normalize-space(), concat({text:?}, ' '))]"
        );
        let element = self.find(&format!("a link or button {text:?}"), Locator::XPath(&path)).await;
        let leads_away = "window.left = arguments[0].matches('a[href], form button:not([type=button])'); return left";
        let leads_away = self.0.execute(leads_away, vec![json!(element)]).await.unwrap();
        element.click().await.unwrap();
        if leads_away == true {
            let there = "return !window.left && document.readyState === 'complete'";
            eventually(&format!("the page behind {text:?}"), PATIENCE, async || {
                match self.0.execute(there, Vec::new()).await {
                    Ok(Value::Bool(true)) => Ok(()),
                    _ => Err(self.text("main").await),
                }
            })
            .await;
        }
    }

    /// Chooses the box with this value.
    pub async fn check(&self, value: &str) {
        let selector = format!("input[value={value:?}]");
        self.find("a choice", Locator::Css(&selector)).await.click().await.unwrap();
    }

    /// Fills a field.
    pub async fn fill(&self, name: &str, text: &str) {
        let field = self.find(&format!("the field {name}"), Locator::Id(name)).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    async fn find(&self, what: &str, locator: Locator<'_>) -> fantoccini::elements::Element {
        eventually(what, PATIENCE, async || match self.0.find(locator).await {
            Ok(element) => Ok(element),
            Err(_) => Err(self.text("main").await),
        })
        .await
    }

    /// The text of an element; empty when there is none.
    pub async fn text(&self, selector: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        let text = self.0.execute(script, vec![json!(selector)]).await.unwrap_or_default();
        text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Waits until the text of an element contains the words, without reloading the page.
    pub async fn until(&self, selector: &str, words: &str) {
        eventually(&format!("{selector} says {words:?}"), PATIENCE, async || {
            let text = self.text(selector).await;
            if text.contains(words) { Ok(()) } else { Err(format!("{text}\n{}", self.text("main").await)) }
        })
        .await;
    }

    /// Runs a script, and returns its result.
    pub async fn run(&self, script: &str) -> Value {
        self.0.execute(script, Vec::new()).await.unwrap()
    }

    /// Presses keys in the element that has the focus.
    pub async fn press(&self, keys: &str) {
        self.0.active_element().await.unwrap().send_keys(keys).await.unwrap();
    }

    /// Presses Tab until the element with this text, label or name has the focus.
    pub async fn tab_to(&self, what: &str) {
        let focused = "const it = document.activeElement; return [it.innerText, it.getAttribute('aria-label'), it.value, it.name].map(it => (it ?? '').trim()).join('\\n')";
        let mut seen = Vec::new();
        for _ in 0..60 {
            self.press(&Key::Tab.to_string()).await;
            let text = self.run(focused).await.as_str().unwrap().to_owned();
            if text.lines().any(|line| line == what || line.starts_with(&format!("{what} "))) {
                return;
            }
            seen.push(text);
        }
        panic!("Tab does not lead to {what:?}, but to {seen:#?}");
    }

    /// The accessibility violations that axe-core finds on the page.
    pub async fn violations(&self) -> Vec<String> {
        self.0.execute(include_str!("axe-core/axe.min.js"), Vec::new()).await.unwrap();
        let script = "const done = arguments[arguments.length - 1]; axe.run().then(result => done(result.violations.map(it => `${it.id}: ${it.help}: ${it.nodes.map(node => node.html + ' ' + node.failureSummary).join('; ')}`)))";
        let found = self.0.execute_async(script, Vec::new()).await.unwrap();
        found.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
    }

    pub async fn close(self) {
        self.0.close().await.unwrap();
    }
}
