//! What the cluster says, kept up to date by watches.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures::StreamExt as _;
use k8s_openapi::api::events::v1::Event;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::model::Model;
use crate::api::{DataCenter, GROUP, Host, IscsiBond, Network, VERSION};
use crate::status_view::Snapshot;

/// What the cluster says. Clones share it.
#[derive(Clone)]
pub struct Cache {
    state: Arc<RwLock<State>>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    data_centers: Kept<DataCenter>,
    networks: Kept<Network>,
    bonds: Kept<IscsiBond>,
    hosts: Kept<Host>,
    events: Kept<Event>,
}

/// Namespace and name.
type Key = (String, String);

/// The objects of a kind.
struct Kept<K> {
    objects: BTreeMap<Key, Result<Arc<K>, String>>,
    /// What a list that is under way has brought.
    incoming: BTreeMap<Key, Result<Arc<K>, String>>,
    /// Why the watch does not work.
    failure: Option<String>,
    /// Whether a first list has ended, well or not.
    settled: bool,
}

impl<K> Default for Kept<K> {
    fn default() -> Self {
        Kept { objects: BTreeMap::new(), incoming: BTreeMap::new(), failure: None, settled: false }
    }
}

impl<K: Resource<DynamicType = ()>> Kept<K> {
    fn take(&mut self, event: Result<watcher::Event<DeserializeGuard<K>>, watcher::Error>) {
        match event {
            Ok(watcher::Event::Init) => self.incoming.clear(),
            Ok(watcher::Event::InitApply(object)) => drop(self.incoming.insert(key(object.meta()), readable(object))),
            Ok(watcher::Event::InitDone) => {
                self.objects = std::mem::take(&mut self.incoming);
                (self.failure, self.settled) = (None, true);
            }
            Ok(watcher::Event::Apply(object)) => drop(self.objects.insert(key(object.meta()), readable(object))),
            Ok(watcher::Event::Delete(object)) => drop(self.objects.remove(&key(object.meta()))),
            Err(error) => (self.failure, self.settled) = (Some(explain::<K>(&error)), true),
        }
    }

    fn good(&self) -> Vec<Arc<K>> {
        self.objects.values().filter_map(|object| object.as_ref().ok().cloned()).collect()
    }

    /// What is not shown, and why.
    fn missing(&self) -> impl Iterator<Item = String> {
        let broken = self.objects.iter().filter_map(|((_, name), object)| {
            object.as_ref().err().map(|error| format!("{} {name}: {error}", K::kind(&())))
        });
        self.failure.iter().cloned().chain(broken)
    }
}

fn readable<K: Resource<DynamicType = ()>>(DeserializeGuard(object): DeserializeGuard<K>) -> Result<Arc<K>, String> {
    object
        .map(|mut object| {
            object.meta_mut().managed_fields = None;
            Arc::new(object)
        })
        .map_err(|broken| broken.error)
}

fn key(metadata: &kube::api::ObjectMeta) -> Key {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// The API server's own words, where it has any.
fn explain<K: Resource<DynamicType = ()>>(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.message.clone(),
        _ => format!("watching {}: {error}", K::plural(&())),
    }
}

impl Cache {
    /// Starts the watches, of one namespace or of all.
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
        kept: fn(&mut State) -> &mut Kept<K>,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let api: Api<DeserializeGuard<K>> = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let cache = self.clone();
        tokio::spawn(async move {
            let mut events = pin!(watcher(api, config).default_backoff());
            while let Some(event) = events.next().await {
                kept(&mut cache.write()).take(event);
                cache.changes.send_modify(|count| *count += 1);
            }
        });
    }

    /// Tells of changes from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Everything that is known, once each kind has been listed or has been refused.
    pub async fn model(&self) -> Model {
        let mut changes = self.changes();
        // The sender is our own, and lives.
        let _ = changes.wait_for(|_| self.read().settled()).await;
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
    fn settled(&self) -> bool {
        let State { data_centers, networks, bonds, hosts, events } = self;
        data_centers.settled && networks.settled && bonds.settled && hosts.settled && events.settled
    }

    fn model(&self) -> Model {
        let State { data_centers, networks, bonds, hosts, events } = self;
        let missing = data_centers.missing().chain(networks.missing()).chain(bonds.missing()).chain(hosts.missing());
        let snapshot = Snapshot {
            data_centers: data_centers.good(),
            networks: networks.good(),
            bonds: bonds.good(),
            hosts: hosts.good(),
            unreadable: missing.chain(events.missing()).collect(),
        };
        Model::new(snapshot, events.good())
    }
}
