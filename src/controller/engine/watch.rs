//! The watches. They end with the engine; a watch that fails is logged once, counted, and started again.

use std::{
    collections::HashSet,
    fmt::Debug,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use kube::{Api, Client, Resource, runtime::watcher};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::Instant};

use super::metrics::{ControllerMetrics, ReasonLabel};
use crate::{
    api::{DataCenter, Host, IscsiBond, LeasePart, NamespacePart, Network, NodePart, ObjectKey},
    controller::store::{
        Change,
        watched::{Event, Watched},
    },
    ops::{
        Tasks,
        backoff::Backoff,
        errors::{ErrorReason, brief},
        log_once::LastErrors,
        watch_from_list,
    },
};

/// The length of one request of a watch, in seconds. If a connection dies without notice, a new request shows the
/// missed changes after this time and five seconds more.
const WATCH_LASTS: u32 = 30;

/// The pauses before a watch that has failed is started again.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(10) };

/// After this many refusals in a row a list counts as refused: an API server that has just started may not know its roles
/// yet.
const REFUSALS: u32 = 3;

/// The watches that do not work at present, with their last errors. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WatchErrors(Arc<Mutex<LastErrors<&'static str>>>);

impl WatchErrors {
    /// One line for each watch that does not work.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().iter().map(|(plural, error)| format!("watching {plural}: {error}")).collect()
    }

    fn lock(&self) -> MutexGuard<'_, LastErrors<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The dependencies of the watches.
#[derive(Clone)]
pub(crate) struct Watches {
    pub client: Client,
    /// The namespace of the leases.
    pub namespace: String,
    pub changes: mpsc::Sender<Change>,
    pub errors: WatchErrors,
    pub metrics: ControllerMetrics,
    pub tasks: Tasks,
}

/// Whether the list is refused: the kind does not exist, or this controller may not read it.
fn refused(error: &watcher::Error) -> bool {
    let reason = ErrorReason::from(error);
    matches!(error, watcher::Error::InitialListFailed(_))
        && matches!(reason, ErrorReason::NotFound | ErrorReason::Forbidden)
}

impl Watches {
    /// Starts all watches. They end when the receiver of the changes is dropped.
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
        self.tasks.spawn(async move {
            let mut failures = 0_u32;
            let mut undecodable = UndecodableObjects::default();
            let mut events = pin!(watch_from_list(api, watcher::Config::default().timeout(WATCH_LASTS), RETRY));
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(event) => {
                        // `Init` comes before the first answer of the API server.
                        if !matches!(event, watcher::Event::Init) {
                            failures = 0;
                            if watches.errors.lock().recovered(&plural) {
                                tracing::info!(kind = plural, "the watch works again");
                            }
                        }
                        let event = Event::new(event, Instant::now());
                        undecodable.log_once(plural, &event);
                        event
                    }
                    Err(error) => {
                        failures += 1;
                        watches.failed(plural, &error);
                        Event::Fails { refused: failures >= REFUSALS && refused(&error) }
                    }
                };
                if watches.changes.send(wrap(event)).await.is_err() {
                    return;
                }
            }
        });
    }

    fn failed(&self, plural: &'static str, error: &watcher::Error) {
        let reason = ErrorReason::from(error).as_str();
        self.metrics.errors.get_or_create(&ReasonLabel { operation: "watch", reason }).inc();
        if self.errors.lock().failed(plural, brief(error)) {
            tracing::warn!(kind = plural, error = brief(error), "a watch has failed; trying again");
        }
    }
}

/// Logs once that an object cannot be decoded, and once that it can be decoded again.
#[derive(Default)]
struct UndecodableObjects {
    errors: LastErrors<ObjectKey>,
    /// The objects of the list in progress.
    listed: HashSet<ObjectKey>,
}

impl UndecodableObjects {
    fn log_once<K: Resource<DynamicType = ()>>(&mut self, plural: &'static str, event: &Event<Watched<K>>) {
        if let Event::Listed(object) = event {
            self.listed.insert(ObjectKey::of(object.meta()));
        }
        match event {
            Event::Listed(Watched::Bad(bad)) | Event::Applied(Watched::Bad(bad)) => {
                let key = ObjectKey::of(&bad.metadata);
                if self.errors.failed(key.clone(), &bad.error) {
                    tracing::warn!(kind = plural, object = %key, error = bad.error, "an object cannot be decoded; its data center is frozen");
                }
            }
            Event::Listed(Watched::Good { object, status_error: Some(error) })
            | Event::Applied(Watched::Good { object, status_error: Some(error) }) => {
                let key = ObjectKey::of(object.meta());
                if self.errors.failed(key.clone(), error) {
                    tracing::warn!(kind = plural, object = %key, error, "a part of an object's status cannot be decoded, and counts as absent");
                }
            }
            Event::Listed(object) | Event::Applied(object) | Event::Deleted(object) => {
                let key = ObjectKey::of(object.meta());
                if self.errors.recovered(&key) {
                    recovered(plural, &key);
                }
            }
            Event::ListBegins(_) => self.listed.clear(),
            // Nobody has told that the others are gone.
            Event::ListEnds => {
                let listed = std::mem::take(&mut self.listed);
                self.errors.forget(|key| listed.contains(key)).iter().for_each(|key| recovered(plural, key));
            }
            Event::Fails { .. } => {}
        }
    }
}

fn recovered(plural: &'static str, key: &ObjectKey) {
    tracing::info!(kind = plural, object = %key, "the object can be decoded again, or is gone");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::fixtures::{object, read};

    #[test]
    fn a_list_without_an_object_that_could_not_be_decoded_ends_its_error() {
        let network = |subnets: &Value| object("Network", "n", &json!({"dataCenter": "dc", "subnets": subnets}));
        let bad = || read::<Watched<Network>>(network(&json!(7)));
        let mut objects = UndecodableObjects::default();
        let mut errors = |event: Event<Watched<Network>>| {
            objects.log_once("networks", &event);
            objects.errors.iter().count()
        };
        assert_eq!(errors(Event::Applied(bad())), 1);
        for (listed, expected) in [(Some(bad()), 1), (None, 0)] {
            errors(Event::ListBegins(Instant::now()));
            if let Some(object) = listed {
                errors(Event::Listed(object));
            }
            assert_eq!(errors(Event::ListEnds), expected);
        }
    }
}
