//! [`Cluster`] over a real API server.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::PatchParams, runtime::reflector::ObjectRef};
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, watch};

use super::{Cluster, ClusterError, hosts, secrets::SecretWatches, with_timeout};
use crate::{
    agent::types::{HostId, credentials::SecretState},
    api::{AGENT_MANAGER, Host, Readable},
    ops::{Tasks, patch::status_patch},
};

/// A real API server.
#[derive(Clone)]
pub struct KubeCluster {
    client: Client,
    requests: Arc<Semaphore>,
    secrets: SecretWatches,
}

impl KubeCluster {
    /// `requests` bounds the concurrent writes of all clusters that share it: more than a few only make each slower.
    #[must_use]
    pub fn new(client: Client, requests: Arc<Semaphore>, tasks: Tasks) -> Self {
        KubeCluster { secrets: SecretWatches::new(client.clone(), tasks), client, requests }
    }
}

impl Cluster for KubeCluster {
    async fn write_status(&self, host: &HostId, fields: &Map<String, Value>) -> Result<Host, ClusterError> {
        // The semaphore is never closed, so there always is a permit.
        let _permit = self.requests.acquire().await.ok();
        let api: Api<Readable<Host>> = Api::namespaced(self.client.clone(), &host.namespace);
        let params = PatchParams { field_manager: Some(AGENT_MANAGER.into()), ..PatchParams::default() };
        let patch = status_patch(Some(&host.uid), fields)?;
        let written = with_timeout(api.patch_status(&host.name, &params, &patch)).await?;
        written.object.map(hosts::trimmed).map_err(|invalid| ClusterError::Undecodable(invalid.error))
    }

    fn secret(&self, secret: &ObjectRef<Secret>) -> watch::Receiver<SecretState> {
        self.secrets.watch(secret)
    }

    fn secret_failed(&self, secret: &ObjectRef<Secret>) {
        self.secrets.failed(secret);
    }
}
