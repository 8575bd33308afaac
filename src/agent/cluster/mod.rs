//! The API server as the agent uses it: Hosts and Secrets to read, statuses and a lease to write.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::runtime::reflector::ObjectRef;
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::{sync::watch, time::timeout};

use super::types::{HostId, credentials::SecretState};
use crate::{api::Host, ops::errors::brief};

pub mod hosts;
mod kube_cluster;
pub mod lease;
pub mod liveness;
pub(super) mod node_owner;
pub mod outbox;
mod secrets;

pub use self::kube_cluster::KubeCluster;

/// The timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a request to the API server failed.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The object does not exist.
    #[error("there is none")]
    NotFound,
    /// The request is not allowed.
    #[error("{}", brief(.0))]
    Forbidden(#[source] kube::Error),
    /// The server did not answer within 30 seconds.
    #[error("no answer from the API server in {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
    /// The answer is an object that this version cannot decode.
    #[error("the answer cannot be decoded: {0}")]
    Undecodable(String),
    /// Any other failure.
    #[error("{}", brief(.0))]
    Failed(#[source] kube::Error),
}

impl From<kube::Error> for ClusterError {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.is_not_found() => ClusterError::NotFound,
            kube::Error::Api(status) if status.is_forbidden() => ClusterError::Forbidden(error),
            _ => ClusterError::Failed(error),
        }
    }
}

/// The API server, as the agent's loop uses it. Tests have another one.
pub trait Cluster: Send + Sync + 'static {
    /// Replaces fields of the status of the Host with this uid; `null` removes a field. A Host that was created since
    /// with the same name is not changed. Returns the Host with its new version.
    fn write_status(
        &self,
        host: &HostId,
        fields: &Map<String, Value>,
    ) -> impl Future<Output = Result<Host, ClusterError>> + Send;

    /// Watches a Secret for as long as the receiver lives.
    fn secret(&self, secret: &ObjectRef<Secret>) -> watch::Receiver<SecretState>;

    /// A path fails because of this Secret, which somebody may be about to correct: a change of it should be seen soon.
    fn secret_failed(&self, secret: &ObjectRef<Secret>);
}

/// Limits the time of a request. If the server has carried it out without an answer in time, a watch shows the result.
async fn with_timeout<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
    match timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ClusterError::Timeout),
    }
}
