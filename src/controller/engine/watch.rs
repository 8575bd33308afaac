//! Watches that never end: what they bring goes to the engine, what goes wrong is said once, counted, and retried.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::StreamExt as _;
use kube::{
    Api, Client, Resource,
    runtime::watcher::{self, watcher},
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::{
    api::{DataCenter, Host, IscsiBond, LeasePart, NamespacePart, Network, NodePart, ObjectKey},
    controller::store::{
        Change,
        watched::{Event, Watched},
    },
    ops::{
        ControllerMetrics, ReasonLabel,
        errors::{ErrorReason, brief},
    },
};

/// How long one request of a watch lasts, in seconds. It is also how long, with five seconds more, the controller may be
/// blind when a connection has died and nobody has said so: it goes on with what it knew.
const WATCH_LASTS: u32 = 30;

/// Before a watch that has failed is begun anew; doubled with each failure in a row...
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// ...up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How many times in a row a list must be refused: an API server that has just started may not know its roles yet.
const REFUSALS: u32 = 3;

/// What each watch last complained of, by the plural of its kind; nothing while it works.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaints(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Complaints {
    /// One line per watch that does not work.
    pub(crate) fn lines(&self) -> Vec<String> {
        let complaints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.iter().map(|(plural, error)| format!("watching {plural}: {error}")).collect()
    }

    /// Whether this is news.
    fn begin(&self, plural: &'static str, error: String) -> bool {
        let mut complaints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.insert(plural, error).is_none()
    }

    fn end(&self, plural: &'static str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(plural).is_some()
    }
}

/// Everything a watch needs besides its kind.
#[derive(Clone)]
pub(crate) struct Watches {
    pub client: Client,
    /// Where the leases are.
    pub namespace: String,
    pub changes: mpsc::Sender<Change>,
    pub complaints: Complaints,
    pub metrics: ControllerMetrics,
}

/// Whether asking again is not enough: the kind does not exist, or it may not be read.
fn refused(error: &watcher::Error) -> bool {
    let reason = ErrorReason::from(error);
    matches!(error, watcher::Error::InitialListFailed(_))
        && matches!(reason, ErrorReason::NotFound | ErrorReason::Forbidden)
}

impl Watches {
    /// Starts them all; they end when the receiver of the changes does.
    pub(crate) fn start(self) {
        let all = self.client.clone();
        self.watch::<DataCenter>(Api::all(all.clone()), "datacenters", Change::DataCenter);
        self.watch::<Network>(Api::all(all.clone()), "networks", Change::Network);
        self.watch::<IscsiBond>(Api::all(all.clone()), "iscsibonds", Change::Bond);
        self.watch::<Host>(Api::all(all.clone()), "hosts", Change::Host);
        self.watch::<NodePart>(Api::all(all.clone()), "nodes", Change::Node);
        self.watch::<NamespacePart>(Api::all(all.clone()), "namespaces", Change::Namespace);
        self.watch::<LeasePart>(Api::namespaced(all, &self.namespace), "leases", Change::Lease);
    }

    fn watch<K>(&self, api: Api<Watched<K>>, plural: &'static str, wrap: fn(Event<Watched<K>>) -> Change)
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
    {
        let watches = self.clone();
        tokio::spawn(async move {
            let mut pauses = pauses();
            let mut failures = 0_u32;
            let mut unread = Unread::default();
            loop {
                let mut stream = pin!(watcher(api.clone(), watcher::Config::default().timeout(WATCH_LASTS)));
                let error = loop {
                    let event = match stream.next().await {
                        Some(Ok(event)) => event,
                        Some(Err(error)) => break error,
                        None => return,
                    };
                    // A watch that only begins to begin again has not succeeded yet.
                    if !matches!(event, watcher::Event::Init) {
                        pauses = self::pauses();
                        failures = 0;
                        if watches.complaints.end(plural) {
                            tracing::info!(kind = plural, "the watch works again");
                        }
                    }
                    let event = event.into();
                    unread.look_at(plural, &event);
                    if watches.changes.send(wrap(event)).await.is_err() {
                        return;
                    }
                };
                failures += 1;
                let reason = ErrorReason::from(&error).as_str();
                watches.metrics.errors.get_or_create(&ReasonLabel { operation: "watch", reason }).inc();
                if watches.complaints.begin(plural, brief(&error)) {
                    tracing::warn!(kind = plural, error = brief(&error), "a watch has failed; it is retried");
                }
                let refused = failures >= REFUSALS && refused(&error);
                if watches.changes.send(wrap(Event::Fails { refused })).await.is_err() {
                    return;
                }
                // Then with a new list: a watch that is taken up again says nothing until something changes.
                tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
            }
        });
    }
}

/// Objects that cannot be decoded, and why: each is said once.
#[derive(Default)]
struct Unread(HashMap<ObjectKey, String>);

impl Unread {
    fn look_at<K: Resource<DynamicType = ()>>(&mut self, plural: &'static str, event: &Event<Watched<K>>) {
        match event {
            Event::Listed(Watched::Bad(bad)) | Event::Applied(Watched::Bad(bad)) => {
                let key = ObjectKey::of(&bad.metadata);
                if self.0.get(&key) != Some(&bad.error) {
                    tracing::warn!(kind = plural, object = %key, error = bad.error, "an object cannot be decoded; its data center stands still");
                    self.0.insert(key, bad.error.clone());
                }
            }
            Event::Listed(object) | Event::Applied(object) | Event::Deleted(object) => {
                if !self.0.is_empty() && self.0.remove(&ObjectKey::of(object.meta())).is_some() {
                    tracing::info!(kind = plural, object = %ObjectKey::of(object.meta()), "the object can be decoded again, or is gone");
                }
            }
            Event::ListBegins | Event::ListEnds | Event::Fails { .. } => {}
        }
    }
}

fn pauses() -> impl Iterator<Item = Duration> + Send {
    let pauses = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
    pauses.without_max_times().with_jitter().build()
}
