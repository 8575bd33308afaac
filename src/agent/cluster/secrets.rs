//! Watches of the Secrets with CHAP credentials that a plan names.
//!
//! Agents may read Secrets by name, and may not list them. A watch with the name as field selector is allowed by a rule
//! with that name in `resourceNames`, and shows a changed Secret at once. Where only `get` is granted, the Secret is
//! read again every half minute.

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
    runtime::reflector::ObjectRef,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{ClusterError, with_timeout};
use crate::{
    agent::types::credentials::{Credentials, SecretState},
    ops::log_once::LogOnce,
};

/// The interval at which a Secret is read that cannot be watched, or could not be read.
const READ_EVERY: Duration = Duration::from_secs(30);
/// A watch without events ends after this time. The API server ends it earlier (290 s), unless the connection is dead.
const WATCH_TIMEOUT: Duration = Duration::from_secs(300);
/// The pause between two watches.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// The watched Secrets. Each is watched once, even for many agents of one process.
#[derive(Clone)]
pub struct SecretWatches {
    client: Client,
    senders: Arc<Mutex<HashMap<ObjectRef<Secret>, watch::Sender<SecretState>>>>,
}

impl SecretWatches {
    /// No watches yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        SecretWatches { client, senders: Arc::default() }
    }

    /// Watches a Secret for as long as a receiver lives.
    #[must_use]
    pub fn watch(&self, secret: &ObjectRef<Secret>) -> watch::Receiver<SecretState> {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = senders.get(secret) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(SecretState::Unread);
        senders.insert(secret.clone(), sender.clone());
        tokio::spawn(self.clone().follow(secret.clone(), sender));
        receiver
    }

    async fn follow(self, secret: ObjectRef<Secret>, sender: watch::Sender<SecretState>) {
        let namespace = secret.namespace.as_deref().unwrap_or_default();
        let name = &secret.name;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let mut log = SecretLog::new(namespace, name);
        loop {
            tokio::select! {
                () = sender.closed() => {}
                pause = read_and_watch(&api, name, &sender, &mut log) => {
                    sleep(pause).await;
                    continue;
                }
            }
            let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
            // There may be a new receiver since the last one was dropped.
            if sender.receiver_count() == 0 {
                senders.remove(&secret);
                return;
            }
        }
    }
}

/// Reads a Secret and watches it until the watch ends. Returns the pause before the next call.
async fn read_and_watch(
    api: &Api<Secret>,
    name: &str,
    sender: &watch::Sender<SecretState>,
    log: &mut SecretLog,
) -> Duration {
    let version = match with_timeout(api.get_opt(name)).await {
        Ok(secret) => {
            set(sender, log.state_of(secret.as_ref()));
            secret.and_then(|secret| secret.metadata.resource_version).unwrap_or_else(|| "0".to_owned())
        }
        Err(error) => {
            let is_forbidden = matches!(error, ClusterError::Forbidden(_));
            // Credentials that were read before stay valid, so that logins work while the API server is away.
            if is_forbidden || !matches!(&*sender.borrow(), SecretState::Read(_)) {
                set(sender, SecretState::Unusable);
            }
            log.follow.failed(error);
            return READ_EVERY;
        }
    };
    let only_this = WatchParams::default().fields(&format!("metadata.name={name}"));
    let events = match with_timeout(api.watch(&only_this, &version)).await {
        Ok(events) => events,
        Err(error) => {
            log.follow.failed(format_args!("it may be read and not be watched: {error}"));
            return READ_EVERY;
        }
    };
    log.follow.recovered();
    pin_mut!(events);
    // A watch does not end by itself when the connection was lost without a notice.
    while let Ok(Some(event)) = timeout(WATCH_TIMEOUT, events.next()).await {
        match event {
            Ok(WatchEvent::Added(secret) | WatchEvent::Modified(secret)) => {
                set(sender, log.state_of(Some(&secret)));
            }
            Ok(WatchEvent::Deleted(_)) => set(sender, log.state_of(None)),
            Ok(WatchEvent::Bookmark(_)) => {}
            Ok(WatchEvent::Error(_)) | Err(_) => break,
        }
    }
    WATCH_PAUSE
}

/// The log lines about one Secret. What is wrong with it is only there: a Host's status is read by people who may not
/// read the Secret, and must not tell them whether it exists, or of what type it is.
struct SecretLog {
    follow: LogOnce,
    use_it: LogOnce,
}

impl SecretLog {
    fn new(namespace: &str, name: &str) -> Self {
        SecretLog {
            follow: LogOnce::new(format!("follow the Secret {namespace}/{name}")),
            use_it: LogOnce::new(format!("use the Secret {namespace}/{name}")),
        }
    }

    fn state_of(&mut self, secret: Option<&Secret>) -> SecretState {
        let Some(secret) = secret else {
            self.use_it.failed("there is none");
            return SecretState::Unusable;
        };
        match Credentials::from_secret(secret) {
            Ok(credentials) => {
                self.use_it.recovered();
                SecretState::Read(credentials)
            }
            Err(error) => {
                self.use_it.failed(error);
                SecretState::Unusable
            }
        }
    }
}

fn set(sender: &watch::Sender<SecretState>, state: SecretState) {
    sender.send_if_modified(|known| {
        let differs = *known != state;
        *known = state;
        differs
    });
}
