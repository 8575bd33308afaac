//! Clients of a control plane, by user and by tool.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::process::Command;

use super::ControlPlane;
use super::credentials::GUEST_LOOPBACK;
use crate::binaries::{Binaries, Tool};
use crate::command::{Output, run};

impl ControlPlane {
    /// The binaries that it runs.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The process id of the API server, for measurements; `None` while it does not run.
    #[must_use]
    pub fn api_server_id(&self) -> Option<u32> {
        super::lock(&self.api_server).as_ref().map(crate::Process::id)
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.credentials.file("kubeconfig")
    }

    /// A kubeconfig that authenticates with `token`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn kubeconfig_for_token(&self, token: &str) -> Result<PathBuf> {
        self.new_kubeconfig(&json!({"token": token}))
    }

    /// The content of a kubeconfig that authenticates with `token` from within a [`crate::Guest`].
    ///
    /// # Errors
    /// If it cannot be put together.
    pub fn kubeconfig_in_guests(&self, token: &str) -> Result<String> {
        self.credentials.kubeconfig_in_guests(self.port, &json!({"token": token}))
    }

    /// The content of a kubeconfig for the kubelet of a Node, in a [`crate::Guest`].
    pub(crate) fn kubeconfig_of_kubelet(&self, node: &str) -> Result<String> {
        let user = self.credentials.impersonated(&format!("system:node:{node}"), &["system:nodes"]);
        self.credentials.kubeconfig_in_guests(self.port, &user)
    }

    /// The address of the API server for a [`crate::Guest`].
    pub(crate) fn address_in_guests(&self) -> String {
        format!("{GUEST_LOOPBACK}:{}", self.port)
    }

    /// A kubeconfig of any user in any groups, by impersonation.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn kubeconfig_as(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        self.new_kubeconfig(&self.credentials.impersonated(user, groups))
    }

    fn new_kubeconfig(&self, user: &Value) -> Result<PathBuf> {
        let number = self.next_number();
        self.credentials.write_kubeconfig(&format!("kubeconfig-{number}"), self.port, user)
    }

    /// A new client of the administrator.
    ///
    /// # Errors
    /// If it cannot be set up. Does not check whether the server answers.
    pub async fn client(&self) -> Result<Client> {
        client(&self.kubeconfig()).await
    }

    /// A new client that authenticates with `token`.
    ///
    /// # Errors
    /// If it cannot be set up.
    pub async fn client_for_token(&self, token: &str) -> Result<Client> {
        client(&self.kubeconfig_for_token(token)?).await
    }

    /// A new client of any user in any groups, by impersonation.
    ///
    /// # Errors
    /// If it cannot be set up.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client> {
        client(&self.kubeconfig_as(user, groups)?).await
    }

    /// A token of a service account, valid for a week: longer than any demo runs. With `bound_node` it is like that of
    /// a pod on this Node: policies see the Node's name, and the token becomes invalid with the Node.
    ///
    /// # Errors
    /// If the account or the Node does not exist.
    pub async fn service_account_token(
        &self,
        namespace: &str,
        account: &str,
        bound_node: Option<&str>,
    ) -> Result<String> {
        let client = self.client().await?;
        let bound_object_ref = match bound_node {
            None => None,
            Some(name) => {
                let node = Api::<Node>::all(client.clone()).get(name).await?;
                Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Node".to_owned()),
                    name: Some(name.to_owned()),
                    uid: node.metadata.uid,
                })
            }
        };
        let spec =
            TokenRequestSpec { audiences: Vec::new(), bound_object_ref, expiration_seconds: Some(7 * 24 * 3600) };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
        Ok(answer.status.context("the API server answered a TokenRequest without a token")?.token)
    }

    /// Creates a namespace and returns its name: `prefix`, a dash, and a unique suffix.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let metadata = ObjectMeta {
            generate_name: Some(format!("{prefix}-")),
            labels: Some(BTreeMap::from([("multibond-testbed".to_owned(), "true".to_owned())])),
            ..ObjectMeta::default()
        };
        let namespaces: Api<Namespace> = Api::all(self.client().await?);
        let namespace = Namespace { metadata, ..Namespace::default() };
        namespaces.create(&PostParams::default(), &namespace).await?.metadata.name.context("a namespace without a name")
    }

    /// Runs kubectl as the administrator, with `stdin` as its standard input. A failed command is not an error here.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn kubectl<A>(&self, args: A, stdin: &str) -> Result<Output>
    where
        A: IntoIterator<Item: AsRef<OsStr>>,
    {
        self.kubectl_as(&self.kubeconfig(), args, stdin).await
    }

    /// Runs kubectl with another kubeconfig.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn kubectl_as<A>(&self, kubeconfig: &Path, args: A, stdin: &str) -> Result<Output>
    where
        A: IntoIterator<Item: AsRef<OsStr>>,
    {
        self.tool(Tool::Kubectl, kubeconfig, args, stdin).await
    }

    /// Runs Helm as the administrator. A failed command is not an error here.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn helm<A>(&self, args: A) -> Result<Output>
    where
        A: IntoIterator<Item: AsRef<OsStr>>,
    {
        self.tool(Tool::Helm, &self.kubeconfig(), args, "").await
    }

    async fn tool<A>(&self, tool: Tool, kubeconfig: &Path, args: A, stdin: &str) -> Result<Output>
    where
        A: IntoIterator<Item: AsRef<OsStr>>,
    {
        let mut command = Command::new(self.binaries.path(tool));
        command.args(args).env("KUBECONFIG", kubeconfig);
        // kubectl's cache may be of another server that had the same port.
        command.env("KUBECACHEDIR", self.directory.join("kube-cache"));
        for kind in ["CACHE", "CONFIG", "DATA"] {
            command.env(format!("HELM_{kind}_HOME"), self.directory.join("helm"));
        }
        run(&mut command, stdin).await
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    // Fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
