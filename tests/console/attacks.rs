//! Attacks on a running console: all of them are refused, and nothing is changed.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::header::{CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, SET_COOKIE};
use http::{HeaderMap, Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::console::{BARE, BOND, Console, STORAGE};
use super::site::Site;

/// A response.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

async fn send(method: Method, url: &str, headers: &[(http::HeaderName, &str)], body: &str) -> Answer {
    let client = Client::builder(TokioExecutor::new()).build_http::<String>();
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let (parts, body) = client.request(request.body(body.to_owned()).unwrap()).await.unwrap().into_parts();
    let body = to_bytes(Body::new(body), usize::MAX).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.into()).unwrap() }
}

async fn get(url: &str, headers: &[(http::HeaderName, &str)]) -> Answer {
    send(Method::GET, url, headers, "").await
}

/// Opens the printed address, and returns the session cookie.
async fn enter(console: &Console) -> String {
    let answer = get(&console.url, &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.body.contains("content=\"0; url=/\""), "{}", answer.body);
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

/// The key in a form of the console.
fn form_key(page: &str) -> String {
    let rest = page.split("name=\"form-key\" value=\"").nth(1).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn no_page_without_the_token_or_with_a_used_one() {
    let site = Site::new("token").await;
    site.apply(&[BARE, STORAGE, BOND].concat()).await;
    let (console, other) = (Console::of(&site).await, Console::of(&site).await);
    for path in ["/", "/console.js", "/dc/any/any/bonds", "/nothing", "/?token=0000"] {
        let answer = get(&format!("{}{path}", console.origin()), &[]).await;
        assert!([401, 403].contains(&answer.status.as_u16()), "{path}: {}", answer.status);
        assert!(!answer.body.contains("frankfurt"), "{}", answer.body);
    }
    let cookie = enter(&console).await;
    assert_eq!(get(&console.url, &[]).await.status, StatusCode::FORBIDDEN, "the token works twice");
    assert!(get(&format!("{}/", console.origin()), &[(COOKIE, &cookie)]).await.body.contains("frankfurt"));

    // The cookie of another console, with its own name and with this console's name.
    let theirs = enter(&other).await;
    let forged = format!("{}={}", cookie.split('=').next().unwrap(), theirs.split('=').nth(1).unwrap());
    for cookie in [&theirs, &forged] {
        let answer = get(&format!("{}/", console.origin()), &[(COOKIE, cookie)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_host_name_that_points_to_this_machine_is_refused() {
    let site = Site::new("rebinding").await;
    let console = Console::of(&site).await;
    let cookie = enter(&console).await;
    let port = console.origin().rsplit(':').next().unwrap();
    for host in [format!("evil.example:{port}"), format!("127.0.0.1.evil.example:{port}"), "127.0.0.1:1".to_owned()] {
        let answer = get(&format!("{}/", console.origin()), &[(HOST, &host), (COOKIE, &cookie)]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{host}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let site = Site::new("forgery").await;
    site.apply(&[BARE, STORAGE, BOND].concat()).await;
    let console = Console::of(&site).await;
    let cookie = enter(&console).await;
    let url = console.page(&site, "delete/bond?name=storage");
    let form = get(&url, &[(COOKIE, &cookie)]).await;
    let policy = form.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let key = form_key(&form.body);

    let right = format!("form-key={key}");
    let cases = [
        ("a page of another site", "http://evil.example", cookie.as_str(), right.as_str()),
        ("another port of this machine", "http://127.0.0.1:1", &cookie, &right),
        ("a page without an origin", "null", &cookie, &right),
        ("no key", console.origin(), &cookie, ""),
        ("a wrong key", console.origin(), &cookie, "form-key=0000"),
        ("no cookie", console.origin(), "", &right),
    ];
    for (who, origin, cookie, body) in cases {
        let answer = send(Method::POST, &url, &[(ORIGIN, origin), (COOKIE, cookie)], body).await;
        assert!(answer.status.is_client_error(), "{who}: {}", answer.status);
    }
    let answer = send(Method::POST, &url, &[(COOKIE, &cookie)], &right).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "no origin at all");
    assert_eq!(site.get("IscsiBond", "storage").await["metadata"]["name"], "storage");

    let answer = send(Method::POST, &url, &[(ORIGIN, console.origin()), (COOKIE, &cookie)], &right).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    site.until_gone("IscsiBond", "storage").await;
}

#[tokio::test]
async fn a_script_in_a_description_is_shown_and_never_runs() {
    let script = r#"</textarea><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"' onfocus=window.hacked=1 autofocus="#;
    let site = Site::new("script").await;
    site.apply(&[BARE, STORAGE, BOND].concat()).await;
    let written = serde_json::json!({"spec": {"description": script}});
    for (kind, name) in [("DataCenter", "frankfurt"), ("Network", "san-a"), ("IscsiBond", "storage")] {
        site.patch(kind, name, written.clone()).await;
    }
    let console = Console::of(&site).await;
    let browser = console.browser().await;
    let pages = [
        "storage",
        "networks",
        "bonds/storage",
        "edit/bond?name=storage",
        "edit/network?name=san-a",
        "edit/data-center",
    ];
    for page in pages {
        browser.go(&console.page(&site, page)).await;
        let shown = "return [...document.querySelectorAll('input, textarea')].map(it => it.value).join() + document.body.innerText";
        assert!(browser.run(shown).await.as_str().unwrap().contains("<script>window.hacked=1</script>"), "{page}");
        assert_eq!(browser.run("return window.hacked ?? null").await, serde_json::Value::Null, "{page}");
    }
    // The same for a page that is open while the object changes.
    browser.go(&console.page(&site, "bonds/storage")).await;
    site.patch("IscsiBond", "storage", serde_json::json!({"spec": {"description": format!("later {script}")}})).await;
    browser.until(".description", "later").await;
    assert_eq!(browser.run("return window.hacked ?? null").await, serde_json::Value::Null);
    browser.close().await;
}

#[tokio::test]
async fn ctrl_c_ends_the_console_while_a_page_is_open() {
    let site = Site::new("ends").await;
    let console = Console::of(&site).await;
    let browser = console.browser().await;
    let status = console.process.interrupt(Duration::from_secs(20)).await.unwrap();
    assert!(status.success(), "{status}");
    browser.until("#offline", "does not answer").await;
    browser.close().await;
}
