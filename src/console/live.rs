//! Keeps open pages up to date by server-sent events, each with the fragments that have changed.

use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::watch;

use super::fragment::{Fragment, Update, fingerprint, updates};
use super::router::Route;
use super::state::Console;

/// Debounce: changes come in bursts, and a page is redrawn at most this often.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// The stream of a page's changes, for a browser that shows the state with the fingerprint `seen`. The id of each event
/// is the fingerprint of the new state: a browser that reconnects sends it as `Last-Event-ID`.
pub fn follow(console: Arc<Console>, route: Route, seen: String) -> Response {
    let end = console.shutdown.clone().cancelled_owned();
    let events = changes(console, route, seen).map(|Batch { fingerprint, updates }| {
        serde_json::to_string(&updates).map(|json| Event::default().id(fingerprint).data(json))
    });
    Sse::new(events.take_until(end)).keep_alive(KeepAlive::default()).into_response()
}

/// The updates that lead to a new state of the page.
struct Batch {
    /// The fingerprint of the new state.
    fingerprint: String,
    /// The changed elements.
    updates: Vec<Update>,
}

/// The state that the browser shows.
enum Shown {
    /// Known by its fingerprint only, after the browser has connected.
    Fingerprint(String),
    /// The state that was sent last.
    Fragments(Vec<Fragment>),
}

fn changes(console: Arc<Console>, route: Route, seen: String) -> impl Stream<Item = Batch> {
    let mut changes = console.cache.changes();
    changes.mark_changed();
    stream::unfold(
        (console, route, changes, Shown::Fingerprint(seen)),
        |(console, route, mut changes, mut shown)| async {
            loop {
                next(&mut changes).await?;
                // When the object of the page is deleted, the page says so, and the stream goes on.
                let fragments = route.page(&console.cache.model().await).fragments;
                let updates = match &shown {
                    Shown::Fingerprint(seen) if *seen == fingerprint(&fragments) => Vec::new(),
                    Shown::Fingerprint(_) => updates(&[], &fragments),
                    Shown::Fragments(before) => updates(before, &fragments),
                };
                let batch = (!updates.is_empty()).then(|| Batch { fingerprint: fingerprint(&fragments), updates });
                shown = Shown::Fragments(fragments);
                if let Some(batch) = batch {
                    return Some((batch, (console, route, changes, shown)));
                }
            }
        },
    )
}

/// Waits for a change, and then for the rest of its burst.
async fn next(changes: &mut watch::Receiver<u64>) -> Option<()> {
    changes.changed().await.ok()?;
    tokio::time::sleep(DEBOUNCE).await;
    changes.mark_unchanged();
    Some(())
}
