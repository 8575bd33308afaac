//! Keys, tokens and kubeconfigs of one control plane.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The names in the API server's certificate: loopback, and its address in guests; the address of the `kubernetes`
/// Service for pods; and a name for clients behind any other address (`tls-server-name`).
const NAMES: [&str; 7] =
    [LOOPBACK, GUEST_LOOPBACK, "localhost", "10.96.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];

const LOOPBACK: &str = "127.0.0.1";

/// The address of this machine's loopback in a [`crate::Guest`].
pub(super) const GUEST_LOOPBACK: &str = "10.0.2.2";

/// The files that the components read, and what clients need.
#[derive(Debug)]
pub(super) struct Credentials {
    directory: PathBuf,
    certificate: String,
    admin_token: String,
}

impl Credentials {
    pub(super) fn create(directory: &Path) -> Result<Self> {
        let serving_key = KeyPair::generate()?;
        let certificate = CertificateParams::new(NAMES.map(str::to_owned))?.self_signed(&serving_key)?.pem();
        let service_accounts = KeyPair::generate()?;
        let service_account_key = service_accounts.serialize_pem();
        let admin_token = token(&service_account_key, "admin");
        let manager_token = token(&service_account_key, "controller-manager");
        let scheduler_token = token(&service_account_key, "scheduler");
        let credentials = Self { directory: directory.to_owned(), certificate, admin_token };
        credentials.write("api-server.crt", &credentials.certificate)?;
        credentials.write("api-server.key", &serving_key.serialize_pem())?;
        credentials.write("service-accounts.key", &service_account_key)?;
        credentials.write("service-accounts.pub", &service_accounts.public_key_pem())?;
        credentials.write(
            "tokens.csv",
            &format!(
                "{},admin,admin,system:masters\n\
                 {manager_token},system:kube-controller-manager,controller-manager\n\
                 {scheduler_token},system:kube-scheduler,scheduler\n",
                credentials.admin_token
            ),
        )?;
        credentials.write("controller-manager.token", &manager_token)?;
        credentials.write("scheduler.token", &scheduler_token)?;
        Ok(credentials)
    }

    /// The path of one of the files.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes the kubeconfigs of the administrator and of the components for a server on `port`.
    pub(super) fn write_kubeconfigs(&self, port: u16) -> Result<()> {
        self.write_kubeconfig("kubeconfig", port, &json!({"token": self.admin_token}))?;
        for component in ["controller-manager", "scheduler"] {
            let token = fs::read_to_string(self.file(&format!("{component}.token")))?;
            self.write_kubeconfig(&format!("{component}.kubeconfig"), port, &json!({"token": token}))?;
        }
        Ok(())
    }

    /// Writes a kubeconfig with this `user` entry. It contains its credentials instead of paths to them.
    pub(super) fn write_kubeconfig(&self, name: &str, port: u16, user: &Value) -> Result<PathBuf> {
        self.write(name, &self.kubeconfig(LOOPBACK, port, user)?)
    }

    /// The same for a client in a guest.
    pub(super) fn kubeconfig_in_guests(&self, port: u16, user: &Value) -> Result<String> {
        self.kubeconfig(GUEST_LOOPBACK, port, user)
    }

    fn kubeconfig(&self, host: &str, port: u16, user: &Value) -> Result<String> {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": {
                "server": format!("https://{host}:{port}"),
                "certificate-authority-data": BASE64_STANDARD.encode(&self.certificate),
            }}],
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "user"}}],
            "current-context": "testbed",
        });
        Ok(serde_json::to_string_pretty(&kubeconfig)?)
    }

    /// The `user` entry of an administrator who impersonates a user.
    pub(super) fn impersonated(&self, user: &str, groups: &[&str]) -> Value {
        json!({"token": self.admin_token, "as": user, "as-groups": groups})
    }

    /// Writes another file beside the credentials.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// A token derived from a secret key.
fn token(key: &str, purpose: &str) -> String {
    let digest = Sha256::new().chain_update(purpose).chain_update(key).finalize();
    BASE64_URL_SAFE_NO_PAD.encode(digest)
}
