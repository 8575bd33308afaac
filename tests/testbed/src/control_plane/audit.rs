//! The audit log of writes: a test of "one write and no more" asks the API server itself.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ControlPlane;

/// The audit policy: every request that is not a read, logged once when it is complete.
pub(super) fn policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted", "Panic"],
        "rules": [{"level": "None", "verbs": ["get", "list", "watch"]}, {"level": "Metadata"}],
    })
}

/// A request to change something, and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The user, such as `system:serviceaccount:multibond-system:controller`.
    pub user: String,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The plural of the kind, such as `hosts`.
    pub resource: String,
    /// The subresource, such as `status`; empty for the object itself.
    pub subresource: String,
    /// The namespace; empty for a cluster-wide object.
    pub namespace: String,
    /// The object's name; empty where the API server chose it.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// When the API server received it.
    pub at: Timestamp,
    /// The `jti` of the token, if it is a service account's. It distinguishes replicas.
    pub token: Option<String>,
}

impl ControlPlane {
    /// All writes so far, including refused ones, in the order of their answers. Dry runs are left out.
    ///
    /// # Errors
    /// If the control plane was started without [`Options::audit`](crate::Options::audit).
    pub fn writes(&self) -> Result<Vec<Write>> {
        read(&self.credentials.file("audit.log")).context("no audit log: Options::audit is needed for it")
    }
}

fn read(path: &Path) -> Result<Vec<Write>> {
    // A line without its end is still being written.
    let log = fs::read_to_string(path)?;
    let (lines, _) = log.rsplit_once('\n').unwrap_or_default();
    lines.lines().filter_map(|line| write(line).transpose()).collect()
}

fn write(line: &str) -> Result<Option<Write>> {
    let Event { verb, user, object_ref, response_status, request_uri, request_received_timestamp: at } =
        serde_json::from_str(line).context("the audit log has a line that is no audit event")?;
    if request_uri.contains("dryRun=") {
        return Ok(None);
    }
    let Object { resource, subresource, namespace, name } = object_ref;
    let User { username: user, extra } = user;
    let token = extra.credential.iter().find_map(|id| id.strip_prefix("JTI=")).map(str::to_owned);
    Ok(Some(Write { user, verb, resource, subresource, namespace, name, code: response_status.code, at, token }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Status,
    #[serde(rename = "requestURI")]
    request_uri: String,
    request_received_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
    #[serde(default)]
    extra: Extra,
}

#[derive(Default, Deserialize)]
struct Extra {
    #[serde(default, rename = "authentication.kubernetes.io/credential-id")]
    credential: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}
