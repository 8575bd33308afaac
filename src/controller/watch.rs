//! Watches that never end: what they bring goes to the engine, what goes wrong is said once, counted, and retried.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::ExponentialBuilder;
use futures::StreamExt as _;
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, ExponentialBackoff, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::{
    key::ObjectKey,
    watched::{Event, LeasePart, NamespacePart, NodePart, Watched, key_of},
    world::Change,
};
use crate::{
    api::{DataCenter, Host, IscsiBond, Network},
    ops::{ControllerMetrics, ReasonLabel, errors::ErrorReason},
};

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
        let Watches { changes, complaints, metrics, .. } = self.clone();
        tokio::spawn(async move {
            let pauses = ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(500))
                .with_max_delay(Duration::from_secs(10))
                .without_max_times()
                .with_jitter();
            let backoff = ExponentialBackoff::from(pauses);
            let mut stream = pin!(watcher(api, watcher::Config::default()).backoff(backoff));
            let mut unread = Unread::default();
            while let Some(step) = stream.next().await {
                let event = match step {
                    Ok(event) => event,
                    Err(error) => {
                        let reason = ErrorReason::from(&error).as_str();
                        metrics.errors.get_or_create(&ReasonLabel { operation: "watch", reason }).inc();
                        if complaints.begin(plural, error.to_string()) {
                            tracing::warn!(kind = plural, %error, "a watch has failed; it is retried");
                        }
                        if refused(&error) && changes.send(wrap(Event::Refused)).await.is_err() {
                            return;
                        }
                        continue;
                    }
                };
                // A watch that only begins to begin again has not succeeded yet.
                if !matches!(event, watcher::Event::Init) && complaints.end(plural) {
                    tracing::info!(kind = plural, "the watch works again");
                }
                let event = match event {
                    watcher::Event::Init => Event::ListBegins,
                    watcher::Event::InitApply(object) => Event::Listed(object),
                    watcher::Event::InitDone => Event::ListEnds,
                    watcher::Event::Apply(object) => Event::Applied(object),
                    watcher::Event::Delete(object) => Event::Deleted(object),
                };
                unread.look_at(plural, &event);
                if changes.send(wrap(event)).await.is_err() {
                    return;
                }
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
                let key = key_of(&bad.metadata);
                if self.0.get(&key) != Some(&bad.error) {
                    tracing::warn!(kind = plural, object = %key, error = bad.error, "an object cannot be decoded; its data center stands still");
                    self.0.insert(key, bad.error.clone());
                }
            }
            Event::Listed(object) | Event::Applied(object) | Event::Deleted(object) => {
                if !self.0.is_empty() && self.0.remove(&key_of(object.meta())).is_some() {
                    tracing::info!(kind = plural, object = %key_of(object.meta()), "the object can be decoded again, or is gone");
                }
            }
            Event::ListBegins | Event::ListEnds | Event::Refused => {}
        }
    }
}
