//! Access control: only the browser that has opened the printed address gets pages, and no other site can use it.
//!
//! A request passes four checks. Its `Host` is an address and not a name, which stops DNS rebinding: an attacker lets a
//! name of theirs point to this machine. It carries the session cookie, which a browser gets once, for the printed
//! token. If it changes something, its `Origin` is the console, and its form carries a key that only pages of the
//! console know.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, ORIGIN, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

/// Pages load only the style and the script of the console, and no other page may embed them.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Headers of every response.
const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // With `no-referrer` browsers would send `Origin: null` with the forms of the console.
    (REFERRER_POLICY, "same-origin"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The page that a browser gets with its session cookie.
const SIGNED_IN: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<title>Multibond console</title>\n\
                         <meta http-equiv=\"refresh\" content=\"0; url=/\">\n</head>\n\
                         <body>\n<p><a href=\"/\">Open the console</a></p>\n</body>\n</html>\n";

/// The console's secrets.
pub struct Access {
    port: u16,
    /// The hash of the printed token; `None` once it has been redeemed.
    token: Mutex<Option<[u8; 32]>>,
    /// The value of the session cookie.
    session: String,
    /// The key that the forms of the console carry.
    form_key: String,
}

impl Access {
    /// Generates new secrets, and returns them with the token to print.
    ///
    /// # Errors
    /// If the operating system gives no random numbers.
    pub fn new(port: u16) -> Result<(Access, String), getrandom::Error> {
        let token = random()?;
        let access = Access { port, token: Mutex::new(Some(digest(&token))), session: random()?, form_key: random()? };
        Ok((access, token))
    }

    /// The key that each form of the console carries.
    pub fn form_key(&self) -> &str {
        &self.form_key
    }

    /// Whether this is the key of the console's forms.
    pub fn is_form_key(&self, key: &str) -> bool {
        same(key, &self.form_key)
    }

    /// The name of the cookie. Browsers send cookies to all ports of a host, so each console needs its own name.
    fn cookie(&self) -> String {
        format!("multibond-console-{}", self.port)
    }

    /// Whether the request names an IP address or `localhost`, and the port of this console.
    fn host_is_ours(&self, host: &Authority) -> bool {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        let literal = name.parse::<IpAddr>().is_ok() || name == "localhost";
        literal && host.port_u16().unwrap_or(80) == self.port
    }

    fn has_session(&self, headers: &HeaderMap) -> bool {
        let name = self.cookie();
        let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
        let mut values = cookies.flat_map(|header| header.split("; ")).filter_map(|cookie| cookie.split_once('='));
        values.any(|(its_name, value)| its_name == name && same(value, &self.session))
    }

    /// Whether this is the printed token, used for the first time.
    fn redeem(&self, token: &str) -> bool {
        let mut unused = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let right = *unused == Some(digest(token));
        if right {
            *unused = None;
        }
        right
    }

    /// Decides about a request. A token that is redeemed does not work a second time.
    fn admit(&self, request: &Request) -> Admission {
        let headers = request.headers();
        let host = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let Some(host) = host.filter(|host| self.host_is_ours(host)) else {
            return Admission::Refused(Refusal::Host);
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
            if origin != Some(&format!("http://{host}")) {
                return Admission::Refused(Refusal::Origin);
            }
        }
        match token_of(request) {
            Some(token) if self.redeem(&token) => Admission::TokenRedeemed,
            Some(_) => Admission::Refused(Refusal::InvalidToken),
            None if self.has_session(headers) => Admission::Granted,
            None => Admission::Refused(Refusal::NoSession),
        }
    }

    /// Gives the browser its session cookie, and sends it to the first page.
    ///
    /// A page sends it there, and not a redirect. A browser that comes from a file does not send a `SameSite=Strict`
    /// cookie along a redirect, because the way began elsewhere; from a page of the console it does.
    fn start_session(&self) -> Response {
        let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie(), self.session);
        let html = (CONTENT_TYPE, "text/html; charset=utf-8".to_owned());
        (StatusCode::OK, [html, (SET_COOKIE, cookie)], SIGNED_IN).into_response()
    }
}

/// The decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    /// It belongs to the session of the browser, and is answered.
    Granted,
    /// It has brought the printed token: the browser gets the session cookie.
    TokenRedeemed,
    /// It gets no page.
    Refused(Refusal),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The `Host` header is not an address of this console.
    Host,
    /// It changes something, and does not come from a page of the console.
    Origin,
    /// Its token is wrong, or was redeemed before.
    InvalidToken,
    /// It has no session cookie.
    NoSession,
}

impl Refusal {
    fn response(self) -> Response {
        let (status, text) = match self {
            Refusal::Host => (
                StatusCode::FORBIDDEN,
                "The console answers only at the address that `multibond console` has printed, and at no other name.\n",
            ),
            Refusal::Origin => (StatusCode::FORBIDDEN, "The console accepts changes only from its own pages.\n"),
            Refusal::InvalidToken => (
                StatusCode::FORBIDDEN,
                "This address works only once, and it has been used. Continue in the browser that opened it, or start \
                 `multibond console` again.\n",
            ),
            Refusal::NoSession => (
                StatusCode::UNAUTHORIZED,
                "Open the address that `multibond console` has printed: it signs this browser in.\n",
            ),
        };
        (status, text).into_response()
    }
}

/// Answers what is not admitted, and sets the security headers on every response.
pub async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let mut response = match access.admit(&request) {
        Admission::Granted => next.run(request).await,
        Admission::TokenRedeemed => access.start_session(),
        Admission::Refused(refusal) => refusal.response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn token_of(request: &Request) -> Option<String> {
    let query = request.uri().query().filter(|_| request.uri().path() == "/")?;
    form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token").map(|(_, token)| token.into_owned())
}

/// 256 random bits as hexadecimal digits.
fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Compares hashes, so that the duration of the comparison tells nothing about the secret.
fn same(a: &str, b: &str) -> bool {
    digest(a) == digest(b)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
        let request = headers
            .iter()
            .fold(Request::builder().method(method).uri(path), |it, (name, value)| it.header(*name, *value));
        request.body(Body::empty()).unwrap()
    }

    fn access() -> (Access, String) {
        Access::new(4711).unwrap()
    }

    fn cookie(access: &Access) -> String {
        format!("other=1; {}={}", access.cookie(), access.session)
    }

    #[test]
    fn the_token_lets_in_once() {
        let (access, token) = access();
        let first = request("GET", &format!("/?token={token}"), &[("host", "127.0.0.1:4711")]);
        assert_eq!(access.admit(&first), Admission::TokenRedeemed);
        assert_eq!(access.admit(&first), Admission::Refused(Refusal::InvalidToken));
        let set = access.start_session();
        let set = set.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{set}");
    }

    #[test]
    fn a_wrong_token_does_not_use_up_the_right_one() {
        let (access, token) = access();
        let host = [("host", "127.0.0.1:4711")];
        assert_eq!(access.admit(&request("GET", "/?token=guess", &host)), Admission::Refused(Refusal::InvalidToken));
        assert_eq!(access.admit(&request("GET", &format!("/?token={token}"), &host)), Admission::TokenRedeemed);
    }

    #[test]
    fn a_page_needs_the_cookie_of_this_console() {
        let (access, _) = access();
        let wrong = format!("{}=0000", access.cookie());
        let right = cookie(&access);
        for (cookie, expected) in [
            ("", Admission::Refused(Refusal::NoSession)),
            (&wrong, Admission::Refused(Refusal::NoSession)),
            (&right, Admission::Granted),
        ] {
            let request = request("GET", "/", &[("host", "127.0.0.1:4711"), ("cookie", cookie)]);
            assert_eq!(access.admit(&request), expected, "{cookie}");
        }
    }

    #[test]
    fn a_host_name_is_refused() {
        let (access, _) = access();
        let cookie = cookie(&access);
        let refused = ["evil.example:4711", "127.0.0.1.evil.example:4711", "127.0.0.1:80", "127.0.0.1", ""];
        for host in refused {
            let request = request("GET", "/", &[("host", host), ("cookie", &cookie)]);
            assert_eq!(access.admit(&request), Admission::Refused(Refusal::Host), "{host}");
        }
        for host in ["127.0.0.1:4711", "localhost:4711", "[::1]:4711"] {
            let request = request("GET", "/", &[("host", host), ("cookie", &cookie)]);
            assert_eq!(access.admit(&request), Admission::Granted, "{host}");
        }
    }

    #[test]
    fn a_change_must_come_from_a_page_of_the_console() {
        let (access, _) = access();
        let cookie = cookie(&access);
        let with = |origin: &[(&str, &str)]| {
            let headers = [&[("host", "127.0.0.1:4711"), ("cookie", &cookie)], origin].concat();
            access.admit(&request("POST", "/new/data-center", &headers))
        };
        assert_eq!(with(&[("origin", "http://127.0.0.1:4711")]), Admission::Granted);
        assert_eq!(with(&[]), Admission::Refused(Refusal::Origin));
        for origin in ["null", "http://evil.example", "http://127.0.0.1:4712", "https://127.0.0.1:4711"] {
            assert_eq!(with(&[("origin", origin)]), Admission::Refused(Refusal::Origin), "{origin}");
        }
    }

    #[test]
    fn two_consoles_share_no_secret() {
        let ((one, token), (other, other_token)) = (access(), access());
        assert_ne!(token, other_token);
        assert_ne!(one.session, other.session);
        assert!(one.is_form_key(one.form_key()) && !one.is_form_key(other.form_key()));
    }
}
