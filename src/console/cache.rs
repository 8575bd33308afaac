//! The objects of the cluster, kept up to date by watches.
//!
//! This is not kube's `reflector`, for two reasons. Its store is ready only after a complete list, but a kind that the
//! person may not read must not keep the page waiting: here a refused list counts, and the page shows the refusal. And
//! it has no place for an object that cannot be decoded: here the page names it, and shows all others.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::events::v1::Event;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::model::Model;
use crate::api::{DataCenter, GROUP, Host, IscsiBond, Network, Readable, VERSION};
use crate::ops::{backoff::Backoff, watch_from_list};
use crate::status_view::Snapshot;

/// The pauses before a watch that has failed is started again.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(10) };

/// The objects of the cluster. Clones share them.
#[derive(Clone)]
pub struct Cache {
    state: Arc<RwLock<State>>,
    /// The number of changes so far.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    data_centers: Store<DataCenter>,
    networks: Store<Network>,
    bonds: Store<IscsiBond>,
    hosts: Store<Host>,
    events: Store<Event>,
}

/// Namespace and name of an object.
type Key = (String, String);

/// The objects of a kind.
struct Store<K> {
    objects: BTreeMap<Key, Entry<K>>,
    /// The objects of the list in progress.
    incoming: BTreeMap<Key, Entry<K>>,
    /// Why the watch fails at the moment.
    failure: Option<String>,
    /// The first list has ended, with success or failure.
    listed: bool,
}

/// An object, and why it or a part of its status cannot be decoded.
struct Entry<K> {
    object: Option<Arc<K>>,
    error: Option<String>,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Store { objects: BTreeMap::new(), incoming: BTreeMap::new(), failure: None, listed: false }
    }
}

impl<K: Resource<DynamicType = ()>> Store<K> {
    fn apply(&mut self, event: Result<watcher::Event<Readable<K>>, watcher::Error>) {
        match event {
            Ok(watcher::Event::Init) => self.incoming.clear(),
            Ok(watcher::Event::InitApply(object)) => drop(self.incoming.insert(key(object.meta()), decoded(object))),
            Ok(watcher::Event::InitDone) => {
                self.objects = std::mem::take(&mut self.incoming);
                (self.failure, self.listed) = (None, true);
            }
            Ok(watcher::Event::Apply(object)) => drop(self.objects.insert(key(object.meta()), decoded(object))),
            Ok(watcher::Event::Delete(object)) => drop(self.objects.remove(&key(object.meta()))),
            Err(error) => (self.failure, self.listed) = (Some(explain::<K>(&error)), true),
        }
    }

    /// The objects that can be decoded.
    fn readable(&self) -> Vec<Arc<K>> {
        self.objects.values().filter_map(|entry| entry.object.clone()).collect()
    }

    /// One line for each reason why something is not shown.
    fn unreadable(&self) -> impl Iterator<Item = String> {
        let broken = self.objects.iter().filter_map(|((_, name), entry)| {
            entry.error.as_ref().map(|error| format!("{} {name}: {error}", K::kind(&())))
        });
        self.failure.iter().cloned().chain(broken)
    }
}

fn decoded<K: Resource<DynamicType = ()>>(Readable { object, status_error }: Readable<K>) -> Entry<K> {
    match object {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            Entry { object: Some(Arc::new(object)), error: status_error }
        }
        Err(invalid) => Entry { object: None, error: Some(invalid.error) },
    }
}

fn key(metadata: &kube::api::ObjectMeta) -> Key {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// The message of the API server if there is one, else the error of the watch.
fn explain<K: Resource<DynamicType = ()>>(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.message.clone(),
        _ => format!("watching {}: {error}", K::plural(&())),
    }
}

impl Cache {
    /// Starts the watches of one namespace, or of all.
    pub fn start(client: &Client, namespace: Option<&str>) -> Cache {
        let cache = Cache { state: Arc::default(), changes: watch::Sender::new(0) };
        let ours = watcher::Config::default().fields(&format!("regarding.apiVersion={GROUP}/{VERSION}"));
        cache.watch(client, namespace, watcher::Config::default(), |state| &mut state.data_centers);
        cache.watch(client, namespace, watcher::Config::default(), |state| &mut state.networks);
        cache.watch(client, namespace, watcher::Config::default(), |state| &mut state.bonds);
        cache.watch(client, namespace, watcher::Config::default(), |state| &mut state.hosts);
        cache.watch(client, namespace, ours, |state| &mut state.events);
        cache
    }

    fn watch<K>(
        &self,
        client: &Client,
        namespace: Option<&str>,
        config: watcher::Config,
        store: fn(&mut State) -> &mut Store<K>,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let api: Api<Readable<K>> = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let cache = self.clone();
        tokio::spawn(async move {
            let mut events = pin!(watch_from_list(api, config, RETRY));
            while let Some(event) = events.next().await {
                store(&mut cache.write()).apply(event);
                cache.changes.send_modify(|count| *count += 1);
            }
        });
    }

    /// Receives a value for each change from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The current objects. Waits until each kind has been listed, or its list was refused.
    pub async fn model(&self) -> Model {
        let mut changes = self.changes();
        // It fails only when the sender is gone, and `self` holds the sender.
        let _ = changes.wait_for(|_| self.read().listed()).await;
        self.read().model()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn listed(&self) -> bool {
        let State { data_centers, networks, bonds, hosts, events } = self;
        data_centers.listed && networks.listed && bonds.listed && hosts.listed && events.listed
    }

    fn model(&self) -> Model {
        let State { data_centers, networks, bonds, hosts, events } = self;
        let unreadable =
            data_centers.unreadable().chain(networks.unreadable()).chain(bonds.unreadable()).chain(hosts.unreadable());
        let snapshot = Snapshot {
            data_centers: data_centers.readable(),
            networks: networks.readable(),
            bonds: bonds.readable(),
            hosts: hosts.readable(),
            unreadable: unreadable.chain(events.unreadable()).collect(),
        };
        Model::new(snapshot, events.readable())
    }
}
