//! What the agent wants of the API server beside its Hosts: writing a status, and reading Secrets.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use thiserror::Error;
use tokio::{sync::watch, time::timeout};

use super::credentials::SecretState;
use crate::{api::Host, ops::errors::brief};

pub mod hosts;
mod kube;
pub mod lease;
pub(super) mod node_owner;
pub mod outbox;
mod secrets;

pub use self::kube::KubeCluster;

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

impl From<::kube::Error> for ClusterError {
    fn from(error: ::kube::Error) -> Self {
        match error {
            ::kube::Error::Api(status) if status.is_not_found() => ClusterError::NotFound,
            ::kube::Error::Api(status) if status.is_forbidden() => ClusterError::Forbidden(status.message),
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

/// A request that ends. What was carried out though its answer did not come is seen in a watch.
pub(super) async fn in_time<T>(request: impl Future<Output = ::kube::Result<T>>) -> Result<T, ClusterError> {
    match timeout(PATIENCE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ClusterError::Failed(format!("no answer from the API server in {} s", PATIENCE.as_secs()))),
    }
}
