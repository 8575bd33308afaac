//! What the agent wants of the API server beside its Hosts: writing a status, and reading Secrets.

use std::{sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::Value;
use thiserror::Error;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{hosts, secrets::Secrets, situation::SecretState};
use crate::{
    api::{AGENT_MANAGER, Host},
    ops::errors::brief,
};

/// How long the API server may take for one answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Why the API server did not do what it was asked for.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// There is no such object.
    #[error("there is none")]
    NotFound,
    /// It may not be done.
    #[error("{0}")]
    Forbidden(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<kube::Error> for ClusterError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_not_found() => ClusterError::NotFound,
            kube::Error::Api(status) if status.is_forbidden() => ClusterError::Forbidden(status.message),
            error => ClusterError::Failed(brief(&error)),
        }
    }
}

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
    secrets: Secrets,
}

impl KubeCluster {
    /// `requests` bounds the writes at once of all that share it: beyond a few more only make each slower.
    #[must_use]
    pub fn new(client: Client, requests: Arc<Semaphore>) -> Self {
        KubeCluster { secrets: Secrets::new(client.clone()), client, requests }
    }
}

impl Cluster for KubeCluster {
    async fn write_status(&self, namespace: &str, name: &str, patch: &Value) -> Result<Host, ClusterError> {
        let _turn = self.requests.acquire().await.map_err(|closed| ClusterError::Failed(closed.to_string()))?;
        let api: Api<Host> = Api::namespaced(self.client.clone(), namespace);
        let parameters = PatchParams { field_manager: Some(AGENT_MANAGER.into()), ..PatchParams::default() };
        in_time(api.patch_status(name, &parameters, &Patch::Merge(patch))).await.map(hosts::trimmed)
    }

    fn secret(&self, namespace: &str, name: &Arc<str>) -> watch::Receiver<SecretState> {
        self.secrets.follow(namespace, name)
    }
}

/// A request that ends. What was carried out though its answer did not come is seen in a watch.
pub(super) async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
    match timeout(PATIENCE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ClusterError::Failed(format!("no answer from the API server in {} s", PATIENCE.as_secs()))),
    }
}
