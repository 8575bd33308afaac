//! Pages that are open are kept up to date: server-sent events, each with the parts that have changed.

use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::watch;

use super::fragment::{Fragment, Update, fingerprint, updates};
use super::router::Route;
use super::state::Console;

/// Changes come in bursts: at most this often a page is made anew.
const PAUSE: Duration = Duration::from_millis(200);

/// The stream of a page's changes, for a browser that shows the state with the fingerprint `seen`. Each event's id is the
/// fingerprint of the state that it leads to: a browser that comes back says which one it was.
pub fn follow(console: Arc<Console>, route: Route, seen: String) -> Response {
    let end = console.shutdown.clone().cancelled_owned();
    let events = changes(console, route, seen).map(|Batch { fingerprint, updates }| {
        serde_json::to_string(&updates).map(|json| Event::default().id(fingerprint).data(json))
    });
    Sse::new(events.take_until(end)).keep_alive(KeepAlive::default()).into_response()
}

/// What takes a page to another state.
struct Batch {
    /// Of that state.
    fingerprint: String,
    /// What changes.
    updates: Vec<Update>,
}

/// What a page that is open shows.
enum Shown {
    /// It says so itself.
    Fingerprint(String),
    /// What it has been sent.
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
                // A page whose object is gone says so, and is no error.
                let parts = route.page(&console.cache.model().await).parts;
                let updates = match &shown {
                    Shown::Fingerprint(seen) if *seen == fingerprint(&parts) => Vec::new(),
                    Shown::Fingerprint(_) => updates(&[], &parts),
                    Shown::Fragments(before) => updates(before, &parts),
                };
                let batch = (!updates.is_empty()).then(|| Batch { fingerprint: fingerprint(&parts), updates });
                shown = Shown::Fragments(parts);
                if let Some(batch) = batch {
                    return Some((batch, (console, route, changes, shown)));
                }
            }
        },
    )
}

/// Waits for a change, and then for the end of its burst.
async fn next(changes: &mut watch::Receiver<u64>) -> Option<()> {
    changes.changed().await.ok()?;
    tokio::time::sleep(PAUSE).await;
    changes.mark_unchanged();
    Some(())
}
