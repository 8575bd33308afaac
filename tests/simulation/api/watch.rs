//! Watches: subscriptions to the history, of which the caller takes one event after another.

use std::{collections::VecDeque, sync::Arc};

use serde_json::{Value, json};

use super::{ApiServer, Response, kinds::Kind, refusal::Refused, request::Call, selector::Selection, store::Change};

/// A watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(u64);

/// How long a watch lasts that does not say it.
const LASTS: u32 = 1800;

/// A subscription.
pub struct Watch {
    plural: &'static str,
    api_version: String,
    kind: &'static str,
    selection: Selection,
    /// The version up to which the events are taken.
    at: u64,
    /// Objects that there were when a watch without a version began.
    first: VecDeque<Arc<Value>>,
    bookmarks: bool,
    broken: bool,
}

impl Watch {
    /// The event of a change, if the watch is about it. An object that leaves the selection is deleted for the watch.
    fn event(&self, change: &Change) -> Option<Value> {
        if change.key.plural != self.plural {
            return None;
        }
        let selected =
            |object: &Option<Arc<Value>>| object.as_ref().filter(|object| self.selection.has(object)).cloned();
        let (kind, object) = match (selected(&change.before), selected(&change.after)) {
            (None, None) => return None,
            (None, Some(new)) => ("ADDED", new),
            (Some(_), Some(new)) => ("MODIFIED", new),
            // The object as it was, in the version of the change.
            (Some(old), None) => {
                let mut old = Arc::unwrap_or_clone(old);
                old["metadata"]["resourceVersion"] = change.version.to_string().into();
                ("DELETED", Arc::new(old))
            }
        };
        Some(event(kind, Arc::unwrap_or_clone(object)))
    }
}

/// A clone of an object costs a third of what `json!` takes to copy it.
fn event(kind: &str, object: Value) -> Value {
    let fields = [("type".to_owned(), kind.into()), ("object".to_owned(), object)];
    Value::Object(fields.into_iter().collect())
}

/// An event as the API server writes it: its type first. Readers may rely on that.
pub fn line(event: &Value) -> String {
    format!("{{\"type\":{},\"object\":{}}}\n", event["type"], event["object"])
}

impl ApiServer {
    pub(super) fn watch(&mut self, call: &Call) -> Result<Response, Refused> {
        let selection = Selection::of(call)?;
        let from = call.number("resourceVersion")?;
        let seconds = call.number("timeoutSeconds")?.and_then(|seconds| u32::try_from(seconds).ok());
        let mut first = VecDeque::new();
        let at = match from {
            None | Some(0) => {
                let there = self.objects(call.kind.plural).filter(|(_, object)| selection.has(object));
                first.extend(there.map(|(_, object)| object.clone()));
                self.version()
            }
            Some(version) if version > self.version() => {
                panic!(
                    "the model of the API server does not know watches of the future: {version} of {}",
                    self.version()
                )
            }
            Some(version) => version,
        };
        let &Kind { plural, kind, .. } = call.kind;
        let bookmarks = call.parameter("allowWatchBookmarks") == Some("true");
        let api_version = call.kind.api_version();
        self.watches_begun += 1;
        let id = WatchId(self.watches_begun);
        let watch = Watch { plural, api_version, kind, selection, at, first, bookmarks, broken: false };
        self.watches.insert(id, watch);
        Ok(Response::Watch { id, seconds: seconds.filter(|seconds| *seconds > 0).unwrap_or(LASTS) })
    }

    /// Takes the next event of a watch; `None` until there is one. After an event of type `ERROR` there is none.
    pub fn next_event(&mut self, id: WatchId) -> Option<Value> {
        let watch = self.watches.get_mut(&id).filter(|watch| !watch.broken)?;
        if let Some(object) = watch.first.pop_front() {
            return Some(event("ADDED", Arc::unwrap_or_clone(object)));
        }
        if watch.at < self.store.compacted() {
            watch.broken = true;
            let message = format!("too old resource version: {} ({})", watch.at, self.store.compacted());
            return Some(json!({"type": "ERROR", "object": Refused::expired(message).body()}));
        }
        for change in self.store.changes_after(watch.at) {
            watch.at = change.version;
            if let Some(event) = watch.event(change) {
                return Some(event);
            }
        }
        None
    }

    /// Whether a watch has an event to take.
    pub fn has_event(&self, id: WatchId) -> bool {
        self.watches.get(&id).is_some_and(|watch| {
            let compacted = watch.at < self.store.compacted();
            let changed = || self.store.changes_after(watch.at).any(|change| watch.event(change).is_some());
            !watch.broken && (!watch.first.is_empty() || compacted || changed())
        })
    }

    /// A bookmark of a watch that wants some: the version up to which its events are taken.
    pub fn bookmark(&self, id: WatchId) -> Option<Value> {
        let watch = self.watches.get(&id).filter(|watch| watch.bookmarks && !watch.broken && watch.first.is_empty())?;
        let object = json!({"kind": watch.kind, "apiVersion": watch.api_version,
            "metadata": {"resourceVersion": watch.at.to_string()}});
        Some(json!({"type": "BOOKMARK", "object": object}))
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, id: WatchId) {
        self.watches.remove(&id);
    }
}
