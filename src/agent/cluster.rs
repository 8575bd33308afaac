//! What the agent wants of the API server beside its Hosts: writing a status, and reading Secrets.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::Value;
use thiserror::Error;
use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};

use super::{complaint::Complaint, credentials::Credentials, hosts, situation::SecretState};
use crate::api::{AGENT_MANAGER, Host};

/// How often a Secret is read again that may be read and not watched, or that could not be read.
const SECRET_REREAD: Duration = Duration::from_secs(30);

/// Why the API server did not do what it was asked for.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ClusterError(pub String);

/// The API server, as the agent's loop sees it.
pub trait Cluster: Send + Sync + 'static {
    /// Writes the agent's fields of a Host's status, by a JSON merge patch, and returns the Host as it is then.
    fn write_status(
        &self,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> impl Future<Output = Result<Host, ClusterError>> + Send;

    /// A Secret, for as long as the receiver lives.
    fn secret(&self, namespace: &str, name: &Arc<str>) -> watch::Receiver<SecretState>;
}

/// A real API server.
#[derive(Clone)]
pub struct KubeCluster {
    client: Client,
    requests: Arc<Semaphore>,
    secrets: Arc<Mutex<HashMap<SecretKey, watch::Sender<SecretState>>>>,
}

type SecretKey = (String, Arc<str>);

impl KubeCluster {
    /// `requests` bounds the writes at once of all that share it: beyond a few more only make each slower.
    #[must_use]
    pub fn new(client: Client, requests: Arc<Semaphore>) -> Self {
        KubeCluster { client, requests, secrets: Arc::default() }
    }
}

impl Cluster for KubeCluster {
    async fn write_status(&self, namespace: &str, name: &str, patch: &Value) -> Result<Host, ClusterError> {
        let _turn = self.requests.acquire().await.map_err(|closed| ClusterError(closed.to_string()))?;
        let api: Api<Host> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PatchParams { field_manager: Some(AGENT_MANAGER.into()), ..PatchParams::default() };
        let written = api.patch_status(name, &parameters, &Patch::Merge(patch)).await;
        written.map(hosts::trimmed).map_err(|error| ClusterError(error.to_string()))
    }

    fn secret(&self, namespace: &str, name: &Arc<str>) -> watch::Receiver<SecretState> {
        let key = (namespace.to_owned(), name.clone());
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(followed) = secrets.get(&key) {
            return followed.subscribe();
        }
        let (sender, receiver) = watch::channel(SecretState::Unread);
        secrets.insert(key.clone(), sender.clone());
        tokio::spawn(self.clone().follow_secret(key, sender));
        receiver
    }
}

impl KubeCluster {
    /// Follows a Secret for as long as somebody wants to know of it.
    async fn follow_secret(self, key: SecretKey, sender: watch::Sender<SecretState>) {
        loop {
            tokio::select! {
                () = sender.closed() => {}
                () = read_and_watch(&self.client, &key, &sender) => continue,
            }
            let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody may have come back between the last receiver's end and this lock.
            if sender.receiver_count() == 0 {
                secrets.remove(&key);
                return;
            }
        }
    }
}

/// Reads a Secret, then watches it until the watch ends. `watch` with the name as field selector is allowed by a rule
/// with this name in `resourceNames`, and `list` is not needed; where `watch` is not granted, it is read now and then.
async fn read_and_watch(client: &Client, (namespace, name): &SecretKey, sender: &watch::Sender<SecretState>) {
    let mut complaint = Complaint::about(format!("follow the Secret {namespace}/{name}"));
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let version = match api.get_opt(name).await {
        Ok(Some(secret)) => {
            publish(sender, Some(&secret), namespace);
            secret.metadata.resource_version.unwrap_or_default()
        }
        Ok(None) => {
            publish(sender, None, namespace);
            String::from("0")
        }
        Err(error) => {
            // What was read before stays valid: an API server that is away must not cost a login.
            if !matches!(&*sender.borrow(), SecretState::Read(_)) || is_forbidden(&error) {
                set(sender, SecretState::Unusable(format!("it cannot be read: {error}")));
            }
            complaint.raise(error);
            return sleep(SECRET_REREAD).await;
        }
    };
    let only_this = WatchParams::default().fields(&format!("metadata.name={name}"));
    let events = match api.watch(&only_this, &version).await {
        Ok(events) => events,
        Err(error) => {
            complaint.raise(error);
            return sleep(SECRET_REREAD).await;
        }
    };
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(WatchEvent::Added(secret) | WatchEvent::Modified(secret)) => publish(sender, Some(&secret), namespace),
            Ok(WatchEvent::Deleted(_)) => publish(sender, None, namespace),
            Ok(WatchEvent::Bookmark(_)) => {}
            Ok(WatchEvent::Error(_)) | Err(_) => break,
        }
    }
    sleep(Duration::from_secs(1)).await;
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_forbidden())
}

fn publish(sender: &watch::Sender<SecretState>, secret: Option<&Secret>, namespace: &str) {
    let state = match secret.map(Credentials::from_secret) {
        None => SecretState::Unusable(format!("there is none in namespace {namespace}")),
        Some(Ok(credentials)) => SecretState::Read(credentials),
        Some(Err(why)) => SecretState::Unusable(why),
    };
    set(sender, state);
}

fn set(sender: &watch::Sender<SecretState>, state: SecretState) {
    sender.send_if_modified(|known| {
        let differs = *known != state;
        *known = state;
        differs
    });
}
