//! Who may talk to the console: the browser that was given the token, and no page of another site in it.
//!
//! Four doors, each of them closed by default: the `Host` must be an address and not a name (a name that an attacker
//! lets point to this machine is DNS rebinding), a session cookie must be there (got once, for the token that was
//! printed), what changes something must come from our own pages (`Origin`), and must carry what only they know.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

/// Nothing but our own style and script, and nobody may frame us.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// On every response.
const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // Not `no-referrer`: browsers then send `Origin: null` with our own forms.
    (REFERRER_POLICY, "same-origin"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The console's secrets.
pub struct Access {
    port: u16,
    /// A hash of the printed token, until it is used.
    token: Mutex<Option<[u8; 32]>>,
    /// The cookie's value.
    session: String,
    /// What our own forms carry.
    form_key: String,
}

impl Access {
    /// New secrets, and the token to print.
    ///
    /// # Errors
    /// When the operating system has no random numbers.
    pub fn new(port: u16) -> anyhow::Result<(Access, String)> {
        let token = random()?;
        let access = Access { port, token: Mutex::new(Some(digest(&token))), session: random()?, form_key: random()? };
        Ok((access, token))
    }

    /// What a form carries, to show that one of our pages has made it.
    pub fn form_key(&self) -> &str {
        &self.form_key
    }

    /// Whether one of our pages has made a form.
    pub fn is_form_key(&self, key: &str) -> bool {
        same(key, &self.form_key)
    }

    /// Cookies know hosts and no ports: two consoles on one machine need two names.
    fn cookie(&self) -> String {
        format!("multibond-console-{}", self.port)
    }

    /// Whether the request was addressed to an address of this machine, rather than to a name that points to it.
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

    /// Takes the printed token, once.
    fn redeem(&self, token: &str) -> bool {
        let mut unused = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let right = *unused == Some(digest(token));
        if right {
            *unused = None;
        }
        right
    }

    fn judge(&self, request: &Request) -> Result<(), Refusal> {
        let headers = request.headers();
        let host = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let host = host.filter(|host| self.host_is_ours(host)).ok_or(Refusal::Host)?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
            if origin != Some(&format!("http://{host}")) {
                return Err(Refusal::Origin);
            }
        }
        if let Some(token) = token_of(request) {
            return if self.redeem(&token) { Err(Refusal::Welcome) } else { Err(Refusal::UsedToken) };
        }
        if self.has_session(headers) { Ok(()) } else { Err(Refusal::NoSession) }
    }

    /// The answer to who gets no page, or gets in.
    fn answer(&self, refusal: Refusal) -> Response {
        match refusal {
            Refusal::Welcome => {
                let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie(), self.session);
                (StatusCode::SEE_OTHER, [(LOCATION, "/".to_owned()), (SET_COOKIE, cookie)]).into_response()
            }
            Refusal::Host => (
                StatusCode::FORBIDDEN,
                "The console answers to the address that `multibond console` has printed, and to no other name.\n",
            )
                .into_response(),
            Refusal::Origin => {
                (StatusCode::FORBIDDEN, "Changes are taken from the console's own pages only.\n").into_response()
            }
            Refusal::UsedToken => (
                StatusCode::FORBIDDEN,
                "This address has been used, and works once. Go on in the browser that has opened it, or start \
                 `multibond console` again.\n",
            )
                .into_response(),
            Refusal::NoSession => (
                StatusCode::UNAUTHORIZED,
                "Open the address that `multibond console` has printed: it lets this browser in.\n",
            )
                .into_response(),
        }
    }
}

/// Why a request does not get to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It has brought the token: it gets the cookie, and then comes again.
    Welcome,
    /// It is addressed to somebody else.
    Host,
    /// It wants to change something, and comes from elsewhere.
    Origin,
    /// It brings a token that is wrong, or used.
    UsedToken,
    /// It has no cookie.
    NoSession,
}

/// Lets in who may come in, and puts our headers on every response.
pub async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let mut response = match access.judge(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => access.answer(refusal),
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

/// 256 bits nobody can guess, as hexadecimal digits.
fn random() -> anyhow::Result<String> {
    let mut halves = [[0; 16]; 2];
    for half in &mut halves {
        getrandom::fill(half).context("the operating system has no random numbers")?;
    }
    let [first, second] = halves.map(u128::from_be_bytes);
    Ok(format!("{first:032x}{second:032x}"))
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Compares hashes: how long that takes tells nothing about the secret.
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
        assert_eq!(access.judge(&first), Err(Refusal::Welcome));
        assert_eq!(access.judge(&first), Err(Refusal::UsedToken));
        let set = access.answer(Refusal::Welcome);
        let set = set.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{set}");
    }

    #[test]
    fn a_wrong_token_does_not_use_up_the_right_one() {
        let (access, token) = access();
        let host = [("host", "127.0.0.1:4711")];
        assert_eq!(access.judge(&request("GET", "/?token=guess", &host)), Err(Refusal::UsedToken));
        assert_eq!(access.judge(&request("GET", &format!("/?token={token}"), &host)), Err(Refusal::Welcome));
    }

    #[test]
    fn a_page_needs_the_cookie_of_this_console() {
        let (access, _) = access();
        let wrong = format!("{}=0000", access.cookie());
        let right = cookie(&access);
        for (cookie, expected) in [("", Err(Refusal::NoSession)), (&wrong, Err(Refusal::NoSession)), (&right, Ok(()))] {
            let request = request("GET", "/", &[("host", "127.0.0.1:4711"), ("cookie", cookie)]);
            assert_eq!(access.judge(&request), expected, "{cookie}");
        }
    }

    #[test]
    fn a_name_that_points_to_this_machine_is_refused() {
        let (access, _) = access();
        let cookie = cookie(&access);
        let refused = ["evil.example:4711", "127.0.0.1.evil.example:4711", "127.0.0.1:80", "127.0.0.1", ""];
        for host in refused {
            let request = request("GET", "/", &[("host", host), ("cookie", &cookie)]);
            assert_eq!(access.judge(&request), Err(Refusal::Host), "{host}");
        }
        for host in ["127.0.0.1:4711", "localhost:4711", "[::1]:4711"] {
            let request = request("GET", "/", &[("host", host), ("cookie", &cookie)]);
            assert_eq!(access.judge(&request), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_change_must_come_from_our_own_pages() {
        let (access, _) = access();
        let cookie = cookie(&access);
        let with = |origin: &[(&str, &str)]| {
            let headers = [&[("host", "127.0.0.1:4711"), ("cookie", &cookie)], origin].concat();
            access.judge(&request("POST", "/new/data-center", &headers))
        };
        assert_eq!(with(&[("origin", "http://127.0.0.1:4711")]), Ok(()));
        assert_eq!(with(&[]), Err(Refusal::Origin));
        for origin in ["null", "http://evil.example", "http://127.0.0.1:4712", "https://127.0.0.1:4711"] {
            assert_eq!(with(&[("origin", origin)]), Err(Refusal::Origin), "{origin}");
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
