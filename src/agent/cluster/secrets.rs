//! Secrets with CHAP credentials, for as long as a plan names them.
//!
//! Agents may read Secrets by name and not list them. A watch with the name as field selector is allowed by a rule with
//! that name in `resourceNames`, and tells of a corrected or rotated Secret at once; where only `get` is granted, it is
//! read now and then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{WatchEvent, WatchParams},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{ClusterError, in_time};
use crate::{
    agent::credentials::{Credentials, SecretState},
    ops::log_once::LogOnce,
};

/// How often a Secret is read that cannot be watched, or not be read.
const READ_EVERY: Duration = Duration::from_secs(30);
/// Longer than the API server is asked to let a watch last (290 s).
const WATCH_LASTS: Duration = Duration::from_secs(300);
/// The pause between two watches.
const WATCH_AGAIN_AFTER: Duration = Duration::from_secs(1);

type Key = (String, Arc<str>);

/// The Secrets that are followed, each once, however many agents of one process want to know.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
    followed: Arc<Mutex<HashMap<Key, watch::Sender<SecretState>>>>,
}

impl Secrets {
    /// None yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Secrets { client, followed: Arc::default() }
    }

    /// A Secret, for as long as the receiver lives.
    #[must_use]
    pub fn follow(&self, namespace: &str, name: &Arc<str>) -> watch::Receiver<SecretState> {
        let key = (namespace.to_owned(), name.clone());
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = followed.get(&key) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(SecretState::Unread);
        followed.insert(key.clone(), sender.clone());
        tokio::spawn(self.clone().keep(key, sender));
        receiver
    }

    async fn keep(self, key: Key, sender: watch::Sender<SecretState>) {
        let (namespace, name) = &key;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let mut log = LogOnce::new(format!("follow the Secret {namespace}/{name}"));
        loop {
            tokio::select! {
                () = sender.closed() => {}
                pause = read_and_watch(&api, &key, &sender, &mut log) => {
                    sleep(pause).await;
                    continue;
                }
            }
            let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody may have come back between the last receiver's end and this lock.
            if sender.receiver_count() == 0 {
                followed.remove(&key);
                return;
            }
        }
    }
}

/// Reads a Secret and watches it until the watch ends; returns how long to wait before the next time.
async fn read_and_watch(
    api: &Api<Secret>,
    (namespace, name): &Key,
    sender: &watch::Sender<SecretState>,
    log: &mut LogOnce,
) -> Duration {
    let missing = || SecretState::Unusable(format!("there is none in namespace {namespace}"));
    let version = match in_time(api.get_opt(name)).await {
        Ok(secret) => {
            set(sender, secret.as_ref().map_or_else(missing, read));
            secret.and_then(|secret| secret.metadata.resource_version).unwrap_or_else(|| "0".to_owned())
        }
        Err(error) => {
            let is_forbidden = matches!(error, ClusterError::Forbidden(_));
            // What was read before stays valid: an API server that is away must not cost a login.
            if is_forbidden || !matches!(&*sender.borrow(), SecretState::Read(_)) {
                set(sender, SecretState::Unusable(format!("it cannot be read: {error}")));
            }
            log.failed(error);
            return READ_EVERY;
        }
    };
    let only_this = WatchParams::default().fields(&format!("metadata.name={name}"));
    let events = match in_time(api.watch(&only_this, &version)).await {
        Ok(events) => events,
        Err(error) => {
            log.failed(format_args!("it may be read and not be watched: {error}"));
            return READ_EVERY;
        }
    };
    log.recovered();
    pin_mut!(events);
    // A watch whose server has vanished without a word never ends by itself.
    while let Ok(Some(event)) = timeout(WATCH_LASTS, events.next()).await {
        match event {
            Ok(WatchEvent::Added(secret) | WatchEvent::Modified(secret)) => set(sender, read(&secret)),
            Ok(WatchEvent::Deleted(_)) => set(sender, missing()),
            Ok(WatchEvent::Bookmark(_)) => {}
            Ok(WatchEvent::Error(_)) | Err(_) => break,
        }
    }
    WATCH_AGAIN_AFTER
}

fn read(secret: &Secret) -> SecretState {
    match Credentials::from_secret(secret) {
        Ok(credentials) => SecretState::Read(credentials),
        Err(why) => SecretState::Unusable(why),
    }
}

fn set(sender: &watch::Sender<SecretState>, state: SecretState) {
    sender.send_if_modified(|known| {
        let differs = *known != state;
        *known = state;
        differs
    });
}
