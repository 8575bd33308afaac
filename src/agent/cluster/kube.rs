//! The cluster over a real API server.

use std::sync::Arc;

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use super::{Cluster, ClusterError, hosts, in_time, secrets::Secrets};
use crate::{
    agent::credentials::SecretState,
    api::{AGENT_MANAGER, Host},
};

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
